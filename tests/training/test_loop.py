"""A table end to end, on a task whose every answer is known beforehand."""

import jax
import numpy as np
from counting import EPOCHS, SCRIPT, STEPS, column, row, trainer
from tables import outcomes_of

from lth_flax.training.loop import Hooks
from lth_flax.training.programs import Programs

TABLE = [row(0), row(1, start=100), row(2), row(0, start=200), row(1)]


def test_the_best_epoch_is_the_earliest_with_the_highest_validation_accuracy():
    outcomes = outcomes_of(trainer(), TABLE)
    assert [outcome.best_epoch for outcome in outcomes] == [2, 4, 2, 1, 2]
    for outcome, one in zip(outcomes, TABLE, strict=True):
        start = int(one.params["count"][0])
        counts = [start + STEPS * epoch for epoch in range(1, EPOCHS + 1)]
        assert [curve.epoch for curve in outcome.curves] == [1, 2, 3, 4]
        accuracies = [curve.validation_score for curve in outcome.curves]
        assert accuracies == SCRIPT[counts].tolist()
        assert accuracies.index(max(accuracies)) + 1 == outcome.best_epoch
        assert float(outcome.params["count"][0]) == start + EPOCHS * STEPS
        # Scored is the network of that epoch, not the last one under its name.
        for (checkpoint, _), output in outcome.outputs.items():
            epoch = EPOCHS if checkpoint == "last" else outcome.best_epoch
            assert (output["count"] == start + STEPS * epoch).all()
        assert outcome.diverged_epoch is None


def test_every_example_is_scored_once_in_the_order_of_the_members():
    for outcome, one in zip(outcomes_of(trainer(), TABLE), TABLE, strict=True):
        assert sorted(outcome.outputs) == [
            ("best", "test"),
            ("best", "validation"),
            ("last", "test"),
            ("last", "validation"),
        ]
        for (_, split), output in outcome.outputs.items():
            expected = column("id", one.seed, split)
            np.testing.assert_array_equal(output["id"], expected)
            # Also where a prediction is more than a number.
            np.testing.assert_array_equal(output["pair"], np.stack([expected, -expected], axis=1))


def test_what_was_scored_is_not_scored_again(monkeypatch):
    splits, predict = [], Programs.predict

    def spy(self, params, members):
        sizes = [len(part) for part in members[0]]
        splits.extend(name for name in ("validation", "test") if sizes == sizes_of(name))
        return predict(self, params, members)

    def sizes_of(split):
        return [len(part) for part in trainer().workload.members[0][split]]

    monkeypatch.setattr(Programs, "predict", spy)
    first, second = outcomes_of(trainer(), [row(0), row(1, start=100)])
    assert (first.best_epoch, second.best_epoch) == (2, EPOCHS)  # one is better than its last
    # Each epoch on validation, the last and the best on test.
    assert splits == ["validation"] * EPOCHS + ["test"] * 2


def test_losses_are_means_over_examples_not_over_batches():
    still = [row(0, start=5, rate=0.0), row(1, start=-2, rate=0.0), row(2, rate=0.0)]
    for outcome, one in zip(outcomes_of(trainer(), still), still, strict=True):
        start = float(one.params["count"][0])
        for curve in outcome.curves:
            train = column("x", one.seed, "train").mean(dtype=np.float64) - start
            validation = column("x", one.seed, "validation").mean(dtype=np.float64) - start
            np.testing.assert_allclose(curve.train_loss, train, rtol=1e-5)
            np.testing.assert_allclose(curve.validation_loss, validation, rtol=1e-5)


def test_a_row_that_diverges_says_so_and_leaves_the_others_alone():
    # The sum of the 16 losses of an epoch is at most 16 * 11 steps of this rate in the second
    # one, 3.26e38, and at least 16 * 12 in the third: more than the largest float32, 3.4e38.
    bad = [row(1, start=float("nan")), row(1, rate=1.85e36)]
    broken = outcomes_of(trainer(), [TABLE[0], *bad, TABLE[2]])
    whole = outcomes_of(trainer(), [TABLE[0], TABLE[1], TABLE[1], TABLE[2]])
    assert [outcome.diverged_epoch for outcome in broken] == [None, 1, 3, None]
    for here, there in ((broken[0], whole[0]), (broken[3], whole[3])):
        assert here.curves == there.curves
        assert here.best_epoch == there.best_epoch
        jax.tree.map(
            np.testing.assert_array_equal,
            (here.params, dict(here.outputs)),
            (there.params, dict(there.outputs)),
        )
    assert np.isnan(broken[1].params["count"]).all()
    assert [len(outcome.curves) for outcome in broken] == [EPOCHS] * 4


def test_progress_counts_the_steps_of_real_rows():
    done = []
    outcomes_of(trainer(), TABLE[:3], hooks=Hooks(on_steps=done.append))
    # Three rows in slices of two: what only fills up the last slice is not counted.
    assert sum(done) == 3 * EPOCHS * STEPS


def test_no_rows_are_no_outcomes():
    assert outcomes_of(trainer(), []) == []
