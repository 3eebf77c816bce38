"""Masks that change during training, as rows of a table."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tables import Given, outcomes_of

from lth_flax.pruning.densities import random_mask
from lth_flax.pruning.masks import apply_mask, full_mask
from lth_flax.randomness import key
from lth_flax.training import loop
from lth_flax.training.changing_masks import changing, gradual, gradual_counts, rigl, set_
from lth_flax.training.checkpoints import Checkpoints
from lth_flax.training.loop import Hooks, Stopped, Trainer
from lth_flax.training.mask_state import current_mask
from lth_flax.training.optimizers import make_optimizer, make_schedule
from lth_flax.training.programs import Workload
from lth_flax.training.replicates import Engine
from lth_flax.training.steps import Recipe, Row, gather, initial_state, train_step

RNG = np.random.default_rng(0)
BUCKET = {
    "x": RNG.normal(size=(30, 5)).astype(np.float32),
    "y": RNG.normal(size=(30, 3)).astype(np.float32),
}
PARTS = {"train": np.arange(20), "validation": np.arange(20, 25), "test": np.arange(25, 30)}
EPOCHS, STEPS = 4, 5  # of 4 examples each
TOTAL = 5 * 12 + 12 * 3


def residuals(params, batch):
    return jnp.tanh(batch["x"] @ params["first"] + params["bias"]) @ params["second"] - batch["y"]


def loss(params, batch, _key):
    return jnp.mean(jnp.sum(residuals(params, batch) ** 2, axis=-1) * batch["weight"])


def predict(params, batch):
    squares = jnp.sum(residuals(params, batch) ** 2, axis=-1)
    return {"loss": squares, "correct": -squares}


def init(seed):
    rng = np.random.default_rng(seed)
    return {
        "first": rng.normal(size=(5, 12)).astype(np.float32),
        "bias": np.zeros(12, np.float32),
        "second": rng.normal(size=(12, 3)).astype(np.float32),
    }


GRADUAL = {"start": 2, "end": 13, "every": 4}
WRAPS = {
    "gradual": lambda tx, mask, own: gradual(tx, mask, counts=own, **GRADUAL),
    "set": lambda tx, mask, own: set_(tx, mask, key=own, every=3, end=16),
    "rigl": lambda tx, mask, own: rigl(tx, mask, every=3, end=16, drop=0.5),
}
SPARSITIES = (0.5, 0.8, 0.9)


def row(name, number, sparsity):
    params = init(number)
    mask, own = jax.tree.map(np.asarray, full_mask(params)), ()
    if name == "gradual":
        own = gradual_counts(mask, sparsity, **GRADUAL)
    else:
        mask = random_mask(mask, sparsity=sparsity, key=key(number, "changing mask"))
        mask = jax.tree.map(np.asarray, mask)
        own = key(number, "changing mask", 1) if name == "set" else ()
    return Given(params, mask, number, 0.05, own=own)


def recipe(wrap):
    return Recipe(
        loss,
        predict,
        make_optimizer("adamw", weight_decay=0.1, clip_norm=1.0),
        make_schedule("cosine", total_steps=EPOCHS * STEPS),
        wrap=wrap,
    )


def trainer(wrap, mode="map"):
    members = {split: (part,) for split, part in PARTS.items()}
    work = Workload((BUCKET,), dict.fromkeys(range(3), members), EPOCHS, 4, (5,))
    devices = jax.devices()[: 2 if mode == "map" else 1]
    engine = Engine(mode, tuple(devices), 2 if mode == "map" else 3)
    return Trainer(engine, recipe(wrap), work)


@cache
def found(name, mode="map"):
    rows = [row(name, number, sparsity) for number, sparsity in enumerate(SPARSITIES)]
    return rows, outcomes_of(trainer(WRAPS[name], mode), rows)


def kept(mask):
    return sum(int(leaf.sum()) for leaf in jax.tree.leaves(mask) if leaf.ndim)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        pytest.param(name, mode, marks=() if (name, mode) == ("set", "map") else pytest.mark.slow)
        for name in WRAPS
        for mode in ("map", "vmap")
    ],
)
def test_rows_of_several_sparsities_share_a_table_and_end_exactly_as_sparse(name, mode):
    rows, outcomes = found(name, mode)
    for start, outcome, sparsity in zip(rows, outcomes, SPARSITIES, strict=True):
        assert kept(outcome.mask) == TOTAL - round(sparsity * TOTAL)
        assert any((outcome.mask[n] != start.mask[n]).any() for n in ("first", "second"))
        jax.tree.map(
            np.testing.assert_array_equal, outcome.params, apply_mask(outcome.params, outcome.mask)
        )


def test_the_mask_of_the_best_epoch_is_the_one_that_it_had():
    # Worse and worse: the first epoch is the best, and there gradual pruning has just begun.
    rows, _ = found("gradual")
    worse = trainer(WRAPS["gradual"])
    worse = Trainer(
        worse.engine, worse.recipe, worse.workload, score=partial(falling, iter(range(99)))
    )
    (outcome,) = outcomes_of(worse, rows[1:2])
    assert outcome.best_epoch == 1
    # After 5 steps one change of those at 2, 6, 10 and 13 lies behind: to the sparsity 0.
    assert kept(outcome.best_mask) == TOTAL
    assert kept(outcome.mask_of("last")) == TOTAL - round(0.8 * TOTAL)
    assert outcome.mask_of("best") is outcome.best_mask


def falling(numbers, _seed, _outputs):
    return -float(next(numbers))


@pytest.mark.parametrize("name", WRAPS)
@pytest.mark.parametrize("calls", [3, pytest.param(11, marks=pytest.mark.slow)])
def test_killed_and_resumed_it_ends_with_the_same_bytes(name, calls, tmp_path, monkeypatch):
    rows, whole = found(name)
    monkeypatch.setattr(loop, "MOST_STEPS", 1)
    some = rows[:2]

    def checkpoints():
        return Checkpoints(tmp_path, identity="changing", minutes=1e9)

    first, done = checkpoints(), []
    hooks = Hooks(on_steps=done.append, checkpoints=first, stop=lambda: len(done) == calls)
    with pytest.raises(Stopped):
        outcomes_of(trainer(WRAPS[name]), some, hooks=hooks)
    first.close()
    second = checkpoints()
    again = outcomes_of(trainer(WRAPS[name]), some, hooks=Hooks(checkpoints=second))
    second.close()
    for mine, theirs in zip(again, whole, strict=False):
        for one, two in ((mine.params, theirs.params), (mine.mask, theirs.mask),
                         (mine.best_mask, theirs.best_mask)):  # fmt: skip
            jax.tree.map(np.testing.assert_array_equal, one, two)


def test_under_vmap_an_update_of_the_mask_does_not_run_between_updates():
    calls = []

    def change(mask, params, grads, step):
        # Of a row: a callback that is the same for all of them runs once.
        jax.debug.callback(lambda step, row: calls.append(int(step)), step, params["bias"])
        return mask

    def wrap(tx, mask, own):
        return changing(tx, mask, due=lambda step: (step == 6) | (step == 13), change=change)

    rows = [row("rigl", number, 0.5) for number in range(3)]
    outcomes_of(trainer(wrap, "vmap"), rows)
    jax.effects_barrier()
    assert sorted(calls) == [6, 6, 6, 13, 13, 13]


@pytest.mark.slow
def test_what_rigl_grows_in_the_engine_is_ranked_by_the_dense_gradient_at_masked_parameters():
    start = row("rigl", 0, 0.8)
    task = recipe(WRAPS["rigl"])
    fixed = Row(key(0, "dropout"), jnp.float32(0.05))
    state = initial_state(task, start.params, start.mask, fixed, jnp.int32(3))
    batch = gather({name: jnp.asarray(a) for name, a in BUCKET.items()}, jnp.arange(20))
    after, _ = train_step(task, state, fixed, batch)
    dense = jax.grad(loss)(apply_mask(start.params, start.mask), batch, None)
    old, new = current_mask(state.opt_state), current_mask(after.opt_state)
    for name in ("first", "second"):
        was, now, size = (
            np.asarray(a).ravel() for a in (old[name], new[name], np.abs(dense[name]))
        )
        grown = now & ~was
        assert size[grown].min() >= size[~was & ~now].max()
        assert np.asarray(after.params[name]).ravel()[grown].tolist() == [0] * grown.sum()
    assert any((old[name] != new[name]).any() for name in ("first", "second"))
