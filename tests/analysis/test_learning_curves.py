"""Learning curves are means over runs, and unfinished training is named."""

import dataclasses

import pytest
from analysis_fakes import dense, record

from lth_flax.analysis.learning import curves_of, unfinished
from lth_flax.records import CurvePoint


def points(row, accuracies):
    return [
        CurvePoint(row.row_id, row.arm, row.seed, row.draw, row.target_sparsity, epoch, 1 / epoch,
                   2 / epoch, accuracy)
        for epoch, accuracy in enumerate(accuracies, start=1)
    ]  # fmt: skip


def test_curves_are_means_over_runs_in_steps_of_their_own():
    rows = [dense(seed, epoch=2, train_steps=40) for seed in (0, 1)]
    rows += [record(seed=seed, mask_steps=3) for seed in (0, 1)]
    curves = [p for n, row in enumerate(rows) for p in points(row, (0.5 + 0.1 * n, 0.8))]
    first, ticket = curves_of(rows, curves[::-1])
    assert (first.arm, ticket.arm, ticket.target_sparsity) == ("dense", "ticket", 0.5)
    assert first.validation_accuracy == pytest.approx([55, 80])
    assert ticket.validation_accuracy == pytest.approx([75, 80])
    assert first.train_loss == pytest.approx([1.0, 0.5])
    # Two epochs of dense training are 40 steps; what found the mask took three.
    assert (first.epochs, first.steps, first.n_runs) == ([1, 2], [20, 40], 2)
    # t(0.975, 1) = 12.706; the two runs lie 10 points apart.
    assert first.validation_accuracy_high[0] == pytest.approx(55 + 12.7062 * 5, abs=1e-3)


def test_curves_of_other_configurations_are_not_mixed_in():
    rows = [dense(0), dense(0, row_id="dense/seed=0/num_layers=4")]
    curves = points(rows[0], (0.5,)) + points(rows[1], (0.9,))
    (found,) = curves_of(rows[:1], curves)
    assert found.validation_accuracy == [50.0]
    assert found.steps is None


@pytest.mark.parametrize(
    ("accuracies", "words"),
    [
        ((0.5, 0.6, 0.7, 0.8, 0.9), "rose by 10.0 points over the last 1 of 5 epochs"),
        ((0.5, 0.9, 0.9, 0.9, 0.903), ""),  # within the margin
        ((0.9, 0.8, 0.7, 0.6, 0.5), ""),
    ],
)
def test_training_that_still_rises_is_not_finished(accuracies, words):
    rows = [dense(seed) for seed in range(3)]
    curves = [p for row in rows for p in points(row, [a + 0.001 * row.seed for a in accuracies])]
    found = unfinished(rows, curves, 0.5)
    assert words in found
    assert bool(found) == bool(words)


def test_a_language_model_that_still_falls_is_not_finished():
    """Lower is better there, and accuracies are unknown."""
    shape = {"primary": "perplexity", "higher_is_better": False, "metrics": {"perplexity": 90.0}}
    rows = [dense(seed, **shape) for seed in range(3)]

    def curves(scores):
        return [
            dataclasses.replace(p, validation_accuracy=None, validation_score=score + p.seed)
            for row in rows
            for p, score in zip(points(row, (None,) * 5), scores, strict=True)
        ]

    said = "validation perplexity still fell by 12 over the last 1 of 5 epochs"
    assert said in unfinished(rows, curves((200, 150, 120, 112, 100)), 0.5)
    assert unfinished(rows, curves((200, 150, 100, 99.9, 99.8)), 0.5) == ""
    assert unfinished(rows, curves((100, 100, 100, 100, 112)), 0.5) == ""


def test_a_balanced_accuracy_is_in_points_too():
    shape = {"primary": "balanced_accuracy", "metrics": {"balanced_accuracy": 0.7}}
    rows = [dense(seed, **shape) for seed in range(3)]
    curves = [
        dataclasses.replace(p, validation_accuracy=None, validation_score=score + 0.001 * p.seed)
        for row in rows
        for p, score in zip(points(row, (None,) * 5), (0.5, 0.6, 0.65, 0.7, 0.75), strict=True)
    ]
    said = "validation balanced_accuracy still rose by 5.0 points over the last 1 of 5 epochs"
    assert said in unfinished(rows, curves, 0.5)


def test_noise_between_seeds_is_no_sign_of_unfinished_training():
    rows = [dense(seed) for seed in range(4)]
    curves = [p for row in rows for p in points(row, (0.7, 0.7 + 0.03 * (-1) ** row.seed + 0.01))]
    assert unfinished(rows, curves, 0.5) == ""
    assert unfinished(rows, [], 0.5) == ""
