"""Pruned weights that are frozen at their initial values, in place of zero."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tables import outcomes_of
from test_replicates import REPLICATES, TASK, engine, make_work

from lth_flax.pruning.masks import full_mask
from lth_flax.training.loop import Trainer
from lth_flax.training.mask_state import current_mask, masked, with_mask
from lth_flax.training.optimizers import keep_pruned
from lth_flax.training.table import Span

RNG = np.random.default_rng(0)
PARAMS = {"w": jnp.asarray(RNG.normal(size=(4, 3)), jnp.float32), "b": jnp.zeros(3)}
MASK = {"w": jnp.asarray(RNG.random((4, 3)) < 0.5), "b": jnp.array(True)}
X, Y = jnp.asarray(RNG.normal(size=(16, 4)), jnp.float32), jnp.asarray(RNG.normal(size=(16, 3)))


def loss(params):
    return jnp.mean((jnp.tanh(X @ params["w"] + params["b"]) - Y) ** 2)


def train(optimizer, params, steps=8):
    state = optimizer.init(params)
    params = masked(params, state)

    @jax.jit
    def step(params, state):
        grads = jax.grad(loss)(params)
        updates, state = optimizer.update(grads, state, params)
        return masked(optax.apply_updates(params, updates), state), state

    for _ in range(steps):
        params, state = step(params, state)
    return params, state


@pytest.mark.parametrize(
    "optimizer", [optax.adamw(0.05, weight_decay=0.1), optax.sgd(0.1, momentum=0.9)]
)
def test_frozen_weights_keep_their_bits_and_are_seen(optimizer):
    params, state = train(keep_pruned(optimizer, MASK, frozen=True), PARAMS)
    pruned = ~np.asarray(MASK["w"])
    np.testing.assert_array_equal(params["w"][pruned], PARAMS["w"][pruned])
    assert (params["w"][~pruned] != PARAMS["w"][~pruned]).all()
    np.testing.assert_array_equal(current_mask(state)["w"], MASK["w"])
    for leaf in jax.tree.leaves(state.inner):
        if np.shape(leaf) == (4, 3):
            assert (np.asarray(leaf)[pruned] == 0).all()


def test_the_kept_weights_are_trained_as_if_the_others_were_constants():
    rows, columns = np.nonzero(np.asarray(MASK["w"]))

    def of_kept(kept):
        return loss({"w": PARAMS["w"].at[rows, columns].set(kept["w"]), "b": kept["b"]})

    optimizer = optax.sgd(0.1)
    kept = {"w": PARAMS["w"][rows, columns], "b": PARAMS["b"]}
    state = optimizer.init(kept)
    for _ in range(8):
        updates, state = optimizer.update(jax.grad(of_kept)(kept), state, kept)
        kept = optax.apply_updates(kept, updates)
    params, _ = train(keep_pruned(optimizer, MASK, frozen=True), PARAMS)
    np.testing.assert_allclose(params["w"][rows, columns], kept["w"], rtol=1e-5)
    np.testing.assert_allclose(params["b"], kept["b"], rtol=1e-5, atol=1e-7)


def test_networks_of_both_kinds_share_a_program():
    def trained(frozen):
        optimizer = keep_pruned(optax.adam(0.05), MASK, frozen=frozen)
        state = optimizer.init(PARAMS)
        params = masked(PARAMS, state)
        for _ in range(3):
            updates, state = optimizer.update(jax.grad(loss)(params), state, params)
            params = masked(optax.apply_updates(params, updates), state)
        return params

    both = jax.jit(jax.vmap(trained))(jnp.array([False, True]))
    for row, frozen in enumerate((None, True)):
        alone = jax.jit(lambda frozen=frozen: trained(frozen))()
        np.testing.assert_allclose(both["w"][row], alone["w"], rtol=1e-5, atol=1e-7)
    assert (np.asarray(both["w"][0])[~np.asarray(MASK["w"])] == 0).all()


def test_a_state_goes_on_frozen_under_another_mask():
    _, state = train(keep_pruned(optax.adam(0.05), MASK), PARAMS)
    other = {"w": ~MASK["w"], "b": jnp.array(True)}
    assert with_mask(state, other, PARAMS).frozen is None
    frozen = with_mask(state, other, PARAMS, frozen=jnp.array(True))
    np.testing.assert_array_equal(masked(PARAMS, frozen)["w"], PARAMS["w"])
    np.testing.assert_array_equal(
        masked(PARAMS, with_mask(state, other, PARAMS))["w"],
        np.where(np.asarray(MASK["w"]), 0, PARAMS["w"]),
    )


@pytest.mark.parametrize("start", [0, pytest.param(4, marks=pytest.mark.slow)])
def test_rows_of_both_kinds_share_a_table(start):
    one = REPLICATES[0]
    full = jax.tree.map(np.asarray, full_mask(one.params))
    rows = [one, replace(one, frozen=True), replace(one, mask=full, frozen=True)]
    trainer = Trainer(engine(), TASK, make_work(2))
    if start:  # what a dense run was by then
        (dense,) = outcomes_of(trainer, [replace(one, mask=full)], span=Span(keep=start))
        params, opt_state, _ = dense.kept
        rows = [replace(row, params=params, opt_state=opt_state) for row in rows]
    zero, frozen, whole = outcomes_of(trainer, rows, span=Span(start=start))
    pruned = 0
    for first, mask, a, b in zip(
        *map(jax.tree.leaves, (rows[0].params, one.mask, zero.params, frozen.params)), strict=True
    ):
        if np.ndim(mask):
            assert (a[~mask] == 0).all()
            np.testing.assert_array_equal(b[~mask], first[~mask])
            pruned += int((~mask).sum())
    assert pruned > 0
    # They are seen: the kept weights went elsewhere. Without pruned weights it is the dense run.
    assert (zero.params["head"]["bias"] != frozen.params["head"]["bias"]).any()
    (dense,) = outcomes_of(trainer, [replace(rows[2], frozen=False)], span=Span(start=start))
    jax.tree.map(np.testing.assert_array_equal, whole.params, dense.params)
