"""A run that goes on from its middle is the run that never stopped there."""

import dataclasses
from functools import cache

import jax
import numpy as np
import pytest
from tables import outcomes_of
from test_replicates import BUCKETS, MODEL, REPLICATES, TASK, bits, engine, make_work

from lth_flax.pruning.masks import full_mask
from lth_flax.training import loop
from lth_flax.training.checkpoints import Checkpoints
from lth_flax.training.loop import Hooks, Stopped, Trainer
from lth_flax.training.mask_state import current_mask
from lth_flax.training.optimizers import make_optimizer
from lth_flax.training.steps import Recipe, Row, continued_state, initial_state
from lth_flax.training.table import Span

DENSE = [
    dataclasses.replace(row, mask=jax.tree.map(np.asarray, full_mask(row.params)))
    for row in REPLICATES[:3]
]
STEPS = 2 * (3 + 3)  # two epochs; 11 and 10 texts in batches of four
assert len(BUCKETS) == 2


@cache
def trainer():
    return Trainer(engine(), TASK, make_work(2))


def continued(row, kept):
    return dataclasses.replace(row, params=kept.params, opt_state=kept.opt_state)


@pytest.mark.parametrize("step", [1, 5, 6, 7, 11])
def test_a_dense_run_that_goes_on_from_any_step_ends_with_the_same_bits(step):
    whole = outcomes_of(trainer(), DENSE)
    kept = outcomes_of(trainer(), DENSE, span=Span(keep=step))
    for one, theirs in zip(kept, whole, strict=True):
        assert bits(one) == bits(theirs)
    rows = [continued(row, one.kept) for row, one in zip(DENSE, kept, strict=True)]
    for after, one in zip(outcomes_of(trainer(), rows, span=Span(start=step)), whole, strict=True):
        jax.tree.map(np.testing.assert_array_equal, after.params, one.params)
        assert [curve.epoch for curve in after.curves] == [c + 1 for c in range(step // 6, 2)]
        # An epoch that was begun late has another mean training loss; validation knows no cut.
        for mine, theirs in zip(after.curves, one.curves[step // 6 :], strict=True):
            assert mine.validation_loss == theirs.validation_loss
        last = [name for name in one.outputs if name[0] == "last"]
        for name in last:
            jax.tree.map(
                np.testing.assert_array_equal, dict(after.outputs[name]), dict(one.outputs[name])
            )


def test_kept_at_the_start_is_the_start_and_at_the_end_the_end():
    first, last = (outcomes_of(trainer(), DENSE, span=Span(keep=step)) for step in (0, STEPS))
    for row, begin, end in zip(DENSE, first, last, strict=True):
        jax.tree.map(np.testing.assert_array_equal, begin.kept.params, row.params)
        jax.tree.map(np.testing.assert_array_equal, end.kept.params, end.params)


def test_more_epochs_than_the_workload_has_go_on_with_new_data_orders():
    whole = outcomes_of(trainer(), DENSE, span=Span(epochs=3))
    kept = outcomes_of(trainer(), DENSE, span=Span(keep=STEPS))
    rows = [continued(row, one.kept) for row, one in zip(DENSE, kept, strict=True)]
    after = outcomes_of(trainer(), rows, span=Span(start=STEPS, epochs=3))
    for mine, theirs in zip(after, whole, strict=True):
        jax.tree.map(np.testing.assert_array_equal, mine.params, theirs.params)
        assert mine.curves == theirs.curves[2:]


def test_a_fresh_optimizer_at_a_later_step_has_that_steps_learning_rate():
    # The cosine is over 12 steps: at a start one step from its end little can move.
    moved = []
    for start in (0, 11):
        (row,) = outcomes_of(trainer(), DENSE[:1], span=Span(start=start, epochs=2))
        pairs = zip(jax.tree.leaves(row.params), jax.tree.leaves(DENSE[0].params), strict=True)
        moved.append(max(float(np.abs(a - b).max()) for a, b in pairs))
    assert 0 < moved[1] < 0.1 * moved[0]


@pytest.mark.parametrize(
    "span", [Span(start=STEPS), Span(start=-1), Span(keep=13), Span(3, keep=2)]
)
def test_a_span_outside_the_run_is_refused(span):
    with pytest.raises(ValueError, match="does not lie in a run of 12 steps"):
        outcomes_of(trainer(), DENSE, span=span)


@pytest.mark.parametrize("frozen", [None, lambda path: "embedding" in path])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_moments_of_pruned_weights_are_zero_and_those_of_others_stay(optimizer, frozen):
    task = Recipe(
        TASK.loss_fn, TASK.predict_fn, make_optimizer(optimizer, frozen=frozen), TASK.schedule
    )
    row = REPLICATES[0]
    fixed = Row(jax.random.key(0), np.float32(0.1))
    dense = initial_state(task, row.params, DENSE[0].mask, fixed, np.int32(4))
    ones = jax.tree.map(np.ones_like, dense.opt_state)
    state = initial_state(task, row.params, row.mask, fixed, np.int32(4))
    after = continued_state(state, ones)
    jax.tree.map(np.testing.assert_array_equal, current_mask(after.opt_state), row.mask)
    jax.tree.map(np.testing.assert_array_equal, after.params, state.params)
    assert after.step == 4
    masked = {leaf.shape: leaf for leaf in jax.tree.leaves(row.mask) if np.ndim(leaf)}
    seen = 0
    for leaf in jax.tree.leaves(after.opt_state.inner):
        if np.shape(leaf) in masked:
            seen += 1
            kept = [m for m in jax.tree.leaves(row.mask) if np.shape(m) == np.shape(leaf)]
            assert any(np.array_equal(leaf, m.astype(np.float32)) for m in kept)
        else:
            np.testing.assert_array_equal(leaf, np.ones_like(leaf))
    kernels = sum(np.ndim(leaf) > 0 for leaf in jax.tree.leaves(row.mask))
    assert seen == kernels * (2 if optimizer == "adamw" else 1)
    assert MODEL.num_layers == 1


@pytest.mark.parametrize("calls", [1, 4, 5, 9])
def test_interrupted_before_or_after_the_kept_step_it_ends_the_same(tmp_path, monkeypatch, calls):
    monkeypatch.setattr(loop, "MOST_STEPS", 1)
    span = Span(start=2, keep=7)
    whole = outcomes_of(trainer(), DENSE[:2], span=span)

    def checkpoints():
        return Checkpoints(tmp_path, identity="rewinding", minutes=1e9)

    first, done = checkpoints(), []
    hooks = Hooks(on_steps=done.append, checkpoints=first, stop=lambda: len(done) == calls)
    with pytest.raises(Stopped):
        outcomes_of(trainer(), DENSE[:2], hooks=hooks, span=span)
    first.close()
    second = checkpoints()
    again = outcomes_of(trainer(), DENSE[:2], hooks=Hooks(checkpoints=second), span=span)
    second.close()
    for mine, theirs in zip(again, whole, strict=True):
        assert bits(mine) == bits(theirs)
        jax.tree.map(np.testing.assert_array_equal, mine.kept, theirs.kept)
