"""Gradual pruning, SET and RigL in a loop that is not ours."""

import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lth_flax.errors import UserError
from lth_flax.pruning.densities import random_mask
from lth_flax.pruning.masks import apply_mask, full_mask
from lth_flax.training.changing_masks import changing, gradual, gradual_counts, rigl, set_
from lth_flax.training.mask_state import current_mask, with_mask

KEY = jax.random.key(3)


def problem(seed=0):
    """Two kernels and a bias, and a loss of them that masks nothing."""
    rng = np.random.default_rng(seed)
    params = {
        "first": jnp.asarray(rng.normal(size=(6, 8)), jnp.float32),
        "bias": jnp.asarray(rng.normal(size=8), jnp.float32),
        "second": jnp.asarray(rng.normal(size=(8, 5)), jnp.float32),
    }
    x = jnp.asarray(rng.normal(size=(16, 6)), jnp.float32)
    y = jnp.asarray(rng.normal(size=(16, 5)), jnp.float32)

    def loss(params):
        hidden = jnp.tanh(x @ params["first"] + params["bias"])
        return jnp.mean((hidden @ params["second"] - y) ** 2)

    return params, loss


def sparse(params, sparsity=0.7):
    return random_mask(full_mask(params), sparsity=sparsity, key=KEY)


METHODS = {
    "gradual": lambda tx, params: gradual(
        tx, full_mask(params), sparsity=0.7, start=4, end=34, every=3
    ),
    "set": lambda tx, params: set_(tx, sparse(params), key=KEY, every=5, end=40),
    "rigl": lambda tx, params: rigl(tx, sparse(params), every=5, end=40, drop=0.5),
}


def train(transformation, params, loss, steps):
    """(parameters, state, gradient) before the first step and after each."""

    @jax.jit
    def step(params, state):
        grads = jax.grad(loss)(params)
        updates, state = transformation.update(grads, state, params)
        return optax.apply_updates(params, updates), state, grads

    params = apply_mask(params, current_mask(transformation.init(params)))
    state = jax.jit(transformation.init)(params)
    yield params, state, None
    for _ in range(steps):
        params, state, grads = step(params, state)
        yield params, state, grads


OPTIMIZERS = {
    "decay, momentum, clipping": optax.chain(
        optax.clip_by_global_norm(0.1),
        optax.trace(0.9, nesterov=True),
        optax.add_decayed_weights(0.1),
        optax.scale(-0.05),
    ),
    "adamw": optax.adamw(1e-2, weight_decay=0.1),
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    "optimizer", ["decay, momentum, clipping", pytest.param("adamw", marks=pytest.mark.slow)]
)
def test_pruned_weights_and_their_moments_are_zero_after_every_one_of_50_steps(name, optimizer):
    start, loss = problem()
    total = 6 * 8 + 8 * 5
    masks = []
    transformation = METHODS[name](OPTIMIZERS[optimizer], start)
    for params, state, _ in train(transformation, start, loss, 50):
        mask = current_mask(state)
        for kernel in ("first", "second"):
            pruned = ~np.asarray(mask[kernel])
            assert (np.asarray(params[kernel])[pruned] == 0).all()
            assert np.isfinite(params[kernel]).all()
            moments = [m for m in jax.tree.leaves(state.pruned.inner) if m.shape == pruned.shape]
            assert moments
            for moment in moments:
                assert (np.asarray(moment)[pruned] == 0).all()
        masks.append(np.concatenate([np.ravel(mask["first"]), np.ravel(mask["second"])]))
    assert masks[-1].sum() == total - round(0.7 * total)
    changes = [step for step, (a, b) in enumerate(itertools.pairwise(masks)) if (a != b).any()]
    if name == "gradual":
        assert changes == [*range(7, 32, 3)]  # at 34 not even one more weight goes
        assert all((b <= a).all() for a, b in itertools.pairwise(masks))
    else:
        assert set(changes) <= set(range(5, 40, 5))
        assert len(changes) >= 5


def test_the_schedule_of_gradual_pruning_against_literal_numbers():
    full = {"w": np.ones((10, 10), bool)}
    # s_t = 0.8 (1 - (1 - (t - 10) / 40)^3): 0, 0.4625, 0.7, 0.7875, 0.8.
    counts = gradual_counts(full, 0.8, start=10, end=50, every=10)
    assert counts.tolist() == [[100], [54], [30], [21], [20]]
    # From 0.5: s_t = 0.9 - 0.4 (1 - (t - 10) / 40)^3 at 10, 26, 42 and 50.
    counts = gradual_counts(full, 0.9, start=10, end=50, every=16, initial_sparsity=0.5)
    assert counts.tolist() == [[50], [19], [10], [10]]

    rng = np.random.default_rng(0)
    params = {"w": jnp.asarray(rng.normal(size=(10, 10)), jnp.float32)}
    transformation = gradual(
        optax.sgd(0.0), full_mask(params), sparsity=0.8, start=10, end=50, every=10
    )
    history = list(train(transformation, params, lambda p: jnp.sum(p["w"] ** 2), 55))
    kept = [int(current_mask(state)["w"].sum()) for _, state, _ in history]
    assert kept == [100] * 21 + [54] * 10 + [30] * 10 + [21] * 10 + [20] * 5
    # What is left are the largest.
    smallest = np.sort(np.abs(np.asarray(params["w"]).ravel()))[80:]
    left = np.abs(np.asarray(history[-1][0]["w"]).ravel())
    np.testing.assert_array_equal(np.sort(left[left > 0]), smallest)


def test_gradual_pruning_tensor_by_tensor():
    params, loss = problem()
    transformation = gradual(
        optax.adam(1e-2), full_mask(params), sparsity=0.75, start=0, end=9, every=2, scope="tensor"
    )
    *_, (_, state, _) = train(transformation, params, loss, 10)
    kept = {name: int(leaf.sum()) for name, leaf in current_mask(state).items()}
    assert kept == {"first": 12, "bias": 1, "second": 10}


def regrown(mask, params, grow, number, among):
    """The next mask of one tensor, by sorting lists."""
    mask, params, grow = (np.asarray(a).ravel() for a in (mask, params, grow))
    worst = sorted(np.flatnonzero(mask), key=lambda i: (abs(params[i]), i))[:number]
    stay = mask.copy()
    stay[worst] = False
    candidates = np.flatnonzero(~stay if among == "stay" else ~mask)
    # Of equals the last: as everywhere, the first goes first.
    best = sorted(candidates, key=lambda i: (grow[i], i))[::-1][:number]
    stay[best] = True
    return stay


@pytest.mark.parametrize("drop", [0.3, 0.9])
def test_rigl_drops_the_smallest_and_grows_what_the_dense_gradient_ranks_first(drop):
    params, loss = problem()
    mask = sparse(params)
    transformation = rigl(optax.adam(1e-2), mask, every=4, end=20, drop=drop)
    history = list(train(transformation, params, loss, 24))
    grown = 0
    for step, (before, after) in enumerate(itertools.pairwise(history)):
        (params, state, _), (then, changed, grads) = before, after
        old, new = current_mask(state), current_mask(changed)
        for name in ("first", "second"):
            expected = np.asarray(old[name]).ravel()
            if step % 4 == 0 and 0 < step < 20:
                share = drop / 2 * (1 + math.cos(math.pi * step / 20))
                number = min(round(share * expected.sum()), int((~expected).sum()))
                dense = np.abs(np.asarray(grads[name]))
                assert (dense[~np.asarray(old[name])] > 0).any()  # not through the mask
                expected = regrown(old[name], params[name], dense.ravel(), number, "stay")
            np.testing.assert_array_equal(np.asarray(new[name]).ravel(), expected)
            entered = np.asarray(new[name]) & ~np.asarray(old[name])
            grown += entered.sum()
            assert (np.asarray(then[name])[entered] == 0).all()
            for moments in (changed.pruned.inner[0].mu, changed.pruned.inner[0].nu):
                assert (np.asarray(moments[name])[entered] == 0).all()
    assert grown > 5


@pytest.mark.slow
def test_set_drops_the_smallest_and_grows_others_at_random():
    start, loss = problem()
    mask = sparse(start)
    runs = []
    for key in (KEY, jax.random.key(4)):
        transformation = set_(optax.adam(1e-2), mask, key=key, every=4, end=20, drop=0.4)
        masks = []
        for params, state, _ in train(transformation, start, loss, 12):
            masks.append((jax.device_get(params), jax.device_get(current_mask(state))))
        for step in (4, 8):
            (values, old), (_, new) = masks[step], masks[step + 1]
            for name in ("first", "second"):
                number = round(0.4 * old[name].sum())
                order = np.argsort(np.where(old[name], np.abs(values[name]), np.inf).ravel())
                left = old[name] & ~new[name]
                assert set(np.flatnonzero(left)) == set(order[:number])
                assert (new[name] & ~old[name]).sum() == number
        runs.append(masks)
    assert (runs[0][5][1]["first"] == runs[0][8][1]["first"]).all()
    assert (runs[0][5][1]["first"] != runs[1][5][1]["first"]).any()


@pytest.mark.parametrize("name", ["set", "rigl"])
@pytest.mark.slow
def test_a_full_network_stays_full(name):
    params, loss = problem()
    method = {"set": partial(set_, key=KEY), "rigl": rigl}[name]
    transformation = method(optax.adam(1e-2), full_mask(params), every=1, end=9)
    for _, state, _ in train(transformation, params, loss, 9):
        assert all(leaf.all() for leaf in jax.tree.leaves(current_mask(state)))


def test_under_vmap_nothing_runs_between_the_changes():
    params, loss = problem()
    calls = []

    def change(mask, params, grads, step):
        # Of a row: a callback that is the same for all of them runs once.
        jax.debug.callback(lambda step, row: calls.append(int(step)), step, params["bias"])
        return mask

    transformation = changing(
        optax.adam(1e-2), full_mask(params), due=lambda step: step % 5 == 4, change=change
    )

    def one(params, state, steps):
        def body(step, carry):
            params, state = carry
            grads = jax.grad(loss)(params)
            updates, state = transformation.update(grads, state, params, step=step)
            return optax.apply_updates(params, updates), state

        return jax.lax.fori_loop(0, steps, body, (params, state))

    rows = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf, 3 * leaf]), params)
    state = jax.vmap(transformation.init)(rows)
    jax.block_until_ready(jax.jit(jax.vmap(one, (0, 0, None)))(rows, state, jnp.int32(12)))
    jax.effects_barrier()
    assert sorted(calls) == [4, 4, 4, 9, 9, 9]


def test_the_state_has_a_mask_like_any_other():
    params, _ = problem()
    transformation = METHODS["rigl"](optax.adam(1e-2), params)
    state = transformation.init(params)
    other = jax.tree.map(lambda leaf: ~leaf if leaf.ndim else leaf, current_mask(state))
    changed = with_mask(state, other, params)
    jax.tree.map(np.testing.assert_array_equal, current_mask(changed), other)


def test_bad_settings_are_one_line():
    params, _ = problem()
    mask = full_mask(params)
    with pytest.raises(UserError, match="start=5, end=4, every=1: expected steps"):
        gradual(optax.adam(1e-2), mask, sparsity=0.5, start=5, end=4, every=1)
    with pytest.raises(UserError, match="every=0"):
        rigl(optax.adam(1e-2), mask, every=0, end=4)
    with pytest.raises(UserError, match="needs the sparsity"):
        gradual(optax.adam(1e-2), mask, start=0, end=4, every=1)
    with pytest.raises(UserError, match=r"sparsity must be in \[0, 1\]"):
        gradual(optax.adam(1e-2), mask, sparsity=2, start=0, end=4, every=1)
    with pytest.raises(UserError, match=r"drop must be in \[0, 1\], found 2"):
        set_(optax.adam(1e-2), mask, key=KEY, every=1, end=4, drop=2)
    tx = METHODS["set"](optax.adam(1e-2), params)
    with pytest.raises(UserError, match="needs the parameters"):
        tx.update(params, tx.init(params))
    with pytest.raises(UserError, match="must be outermost"):
        optax.masked(tx, jax.tree.map(lambda leaf: leaf.ndim > 1, params)).init(params)
