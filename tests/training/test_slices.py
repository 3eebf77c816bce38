"""A row is made when its slice starts, and nothing of it stays when the slice has ended."""

import dataclasses
import gc
import weakref

import jax
import numpy as np
import pytest
from counting import row
from counting import trainer as counting_trainer
from tables import Given, outcomes_of
from test_checkpoints import trainer as checkpoints_trainer

from lth_flax.errors import UserError
from lth_flax.training.checkpoints import RECENT, Checkpoints
from lth_flax.training.loop import Hooks, Trainer
from lth_flax.training.programs import Programs
from lth_flax.training.replicates import Engine
from lth_flax.training.table import Replicate, Start

SLICES = RECENT + 2
MASK = {"w": np.array([True, False])}


def trainer():
    """One of its own: a trainer is compiled for masks of one shape, and the other has 0-d ones."""
    shared = checkpoints_trainer()
    return Trainer(shared.engine, shared.recipe, shared.workload)


def table():
    """Two rows for each slice."""
    return [
        Given({"w": np.array([0.5 + number, -0.25], np.float32)}, MASK, number % 3, 0.05)
        for number in range(2 * SLICES)
    ]


def test_rows_are_made_slice_by_slice_and_let_go(tmp_path):
    made, alive = [], []

    def replicate(number):
        def start():
            given = row(number % 3)
            made.append(number)
            alive.append(weakref.ref(given.params["count"]))
            return Start(given.params, given.mask)

        return Replicate(start, number % 3, 1.0)

    kept = Checkpoints(tmp_path, identity="a run", minutes=60)
    replicates = [replicate(number) for number in range(6)]
    slices = counting_trainer().train(replicates, hooks=Hooks(checkpoints=kept))
    assert made == []
    for number, finished in enumerate(slices):
        assert finished.rows == 2
        assert made == [0, *range(2 * number + 2)]  # the first one's shapes are looked at before
        gc.collect()
        assert [one() for one in alive] == [None] * len(alive)
    kept.close()


@pytest.mark.slow
def test_a_table_runs_in_the_smallest_slices_that_hold_it(monkeypatch):
    """Rows that are trained, padding included, under vmap with room for eight."""
    shared = counting_trainer()
    engine = Engine("vmap", tuple(jax.devices()[:1]), 8)
    large = Trainer(engine, shared.recipe, shared.workload)
    trained, train = [], Programs.train

    def spy(self, state, fixed, *arguments):
        trained.append(len(fixed.learning_rate))
        return train(self, state, fixed, *arguments)

    monkeypatch.setattr(Programs, "train", spy)
    rows = [row(number % 3, start=100 * (number % 3)) for number in range(10)]
    expected = outcomes_of(shared, rows)
    for total, sizes in ((3, {4}), (10, {8, 2}), (1, {1})):
        trained.clear()
        found = outcomes_of(large, rows[:total])
        assert set(trained) == sizes
        for one, other in zip(found, expected, strict=False):
            assert one.best_epoch == other.best_epoch
            jax.tree.map(np.testing.assert_allclose, one.params, other.params)
            jax.tree.map(np.testing.assert_allclose, one.outputs, other.outputs)


@pytest.mark.slow
def test_what_became_of_a_row_is_read_again_from_the_disk(tmp_path):
    kept = Checkpoints(tmp_path, identity="a run", minutes=60)
    replicates = [one.replicate() for one in table()]
    slices = list(trainer().train(replicates, hooks=Hooks(checkpoints=kept)))
    again = [outcome for finished in slices for outcome in finished.outcomes()]
    in_memory = outcomes_of(trainer(), table())
    assert len(again) == len(in_memory) == 2 * SLICES
    for one, other in zip(again, in_memory, strict=True):
        jax.tree.map(
            np.testing.assert_array_equal, dataclasses.asdict(one), dataclasses.asdict(other)
        )
    # Nothing but the last few slices is in memory: the others are really read.
    damaged = tmp_path / "finished" / "table_000_slice_0000" / "checkpoint.json"
    damaged.write_text("{}")
    slices[-1].outcomes()
    with pytest.raises(UserError, match="the same command trains that slice again") as refused:
        slices[0].outcome(0)
    assert "\n" not in str(refused.value)
    kept.close()


@pytest.mark.parametrize("keep_mask", [True, False])
def test_the_mask_of_a_row_comes_back_whether_training_keeps_it_or_not(keep_mask):
    one = trainer()
    free = Trainer(one.engine, one.recipe._replace(keep_mask=keep_mask), one.workload)
    for outcome in outcomes_of(free, table()[:2]):
        np.testing.assert_array_equal(outcome.mask["w"], MASK["w"])
        assert outcome.mask["w"].dtype == bool
        assert (outcome.params["w"] != 0).tolist() == [True, not keep_mask]
