"""Breakdown and crater sparsity on curves small enough to do by hand."""

import pytest
from analysis_fakes import dense, record
from hypothesis import given
from hypothesis import strategies as st

from lth_flax.analysis.breakdown import (
    Crossing,
    balanced,
    breakdowns,
    by_seed,
    craters,
    crossing,
    crossing_table,
)
from lth_flax.analysis.result import Options
from lth_flax.analysis.statistics import SEEDS_ALONE, Design

LEVELS = [0.0, 0.5, 0.8, 0.9]


@pytest.mark.parametrize(
    ("drops", "sparsity", "censored"),
    [
        ([0, 0, 0, 0], 0.9, True),
        ([0, 0.5, 0.5, 2.5], 0.825, False),  # a quarter of the way from 0.5 to 2.5
        ([0, 0, 2, 4], 0.65, False),
        ([0, 5, 0, 5], 0.82, False),  # it recovers once: only staying below counts
        ([0, 5, 5, 0.9], 0.9, True),
        ([0, 1.0, 3, 3], 0.5, False),  # exactly 1 point is not more than 1 point
        ([-2, -1, 1.5, 5], 0.74, False),
        ([3, 3, 3, 3], 0.0, False),
    ],
)
def test_crossing_by_hand(drops, sparsity, censored):
    found = crossing(LEVELS, drops, 1.0)
    assert found.sparsity == pytest.approx(sparsity)
    assert found.censored is censored


@given(st.lists(st.floats(-5, 50), min_size=4, max_size=4), st.floats(0.1, 20))
def test_crossing_lies_between_the_levels_around_it(drops, allowed):
    found = crossing(LEVELS, drops, allowed)
    assert LEVELS[0] <= found.sparsity <= LEVELS[-1]
    assert found.censored == (drops[-1] <= allowed + 1e-9)
    more = crossing(LEVELS, drops, allowed + 1)
    assert more.sparsity >= found.sparsity - 1e-12


def curve(arm, accuracies, seed=0, draw=0):
    return [
        record(arm=arm, seed=seed, draw=draw, target_sparsity=level, accuracy=accuracy)
        for level, accuracy in zip([0.5, 0.8, 0.9], accuracies, strict=True)
    ]


def test_breakdown_and_crater_per_arm_and_seed():
    rows = [dense(0, 0.90, majority_accuracy=0.50), *curve("ticket", [0.90, 0.895, 0.60])]
    rows += curve("reinit", [0.90, 0.88, 0.50]) + curve("reinit", [0.90, 0.90, 0.90], draw=1)
    broken = breakdowns(rows)
    # Dense 90: the ticket loses 0.5 at 80% and 30 at 90%, so 1 point at 0.8 + 0.1 * 0.5 / 29.5.
    assert broken["ticket"][0, 0].sparsity == pytest.approx(0.8 + 0.1 * 0.5 / 29.5)
    assert broken["reinit"][0, 0].sparsity == pytest.approx(0.65)
    assert broken["reinit"][0, 1] == Crossing(0.9, True)
    # Half of 90 - 50 is 20 points.
    crater = craters(rows)
    assert crater["ticket"][0, 0].sparsity == pytest.approx(0.8 + 0.1 * 19.5 / 29.5)
    assert crater["reinit"][0, 0].sparsity == pytest.approx(0.8 + 0.1 * 18 / 38)


def table_of(rows, design=SEEDS_ALONE):
    return crossing_table(breakdowns(rows), ["reinit"], Options(), design)


def test_where_every_curve_breaks_there_are_means_and_a_paired_difference():
    rows = []
    for seed, end in ((0, 0.60), (1, 0.80)):
        rows += [dense(seed, 0.90), *curve("ticket", [0.90, 0.90, end], seed)]
        rows += curve("reinit", [0.90, 0.88, 0.50], seed)
        rows += curve("reinit", [0.90, 0.86, 0.50], seed, draw=1)
    found = table_of(rows)
    control = (0.65 + 0.575) / 2
    expected = [0.8 + 0.1 / 30 - control, 0.8 + 0.1 / 10 - control]
    gap = found.differences["reinit"].gap
    assert [seed for seed, _ in gap.by_seed] == [0, 1]
    assert [value for _, value in gap.by_seed] == pytest.approx(expected)
    assert found.arms["ticket"].sparsity.mean == pytest.approx(0.8 + (0.1 / 30 + 0.01) / 2)
    assert (found.arms["reinit"].broke, len(found.arms["reinit"].runs)) == (4, 4)
    wide = table_of(rows, Design("resplits", 0.5)).differences["reinit"].gap
    assert wide.error == pytest.approx(gap.error * 2**0.5)


def test_where_one_never_breaks_there_is_a_median_and_no_interval():
    rows = []
    for seed, end in ((0, 0.60), (1, 0.90), (2, 0.90)):
        rows += [dense(seed, 0.90), *curve("ticket", [0.90, 0.90, end], seed)]
        rows += curve("reinit", [0.90, 0.88, 0.50], seed)
    found = table_of(rows)
    ticket = found.arms["ticket"]
    assert (ticket.sparsity, ticket.broke, ticket.median) == (None, 1, 0.9)
    assert found.arms["reinit"].sparsity.mean == pytest.approx(0.65)
    difference = found.differences["reinit"]
    assert difference.gap is None
    assert difference.censored_seeds == {"treatment": 2, "control": 0}


def test_a_seed_with_one_unbroken_draw_is_a_bound():
    rows = [dense(0, 0.90), *curve("reinit", [0.90, 0.88, 0.50])]
    rows += curve("reinit", [0.90, 0.90, 0.90], draw=1)
    assert by_seed(breakdowns(rows)["reinit"]) == {0: Crossing(pytest.approx(0.775), True)}


def test_a_crater_in_balanced_accuracy_is_halfway_to_chance():
    """Dense 70% balanced of two classes: half of 20 points, lost halfway from 80 to 90%."""
    rows = [dense(0, 0.9, balanced_accuracy=0.7, majority_accuracy=0.8)]
    for level, value in ((0.5, 0.7), (0.8, 0.7), (0.9, 0.5)):
        rows.append(record(arm="pruned", target_sparsity=level, balanced_accuracy=value))
    assert craters(rows, balanced)["pruned"][0, 0].sparsity == pytest.approx(0.85)
    # A class that no text has does not move chance.
    shares, settings = (0.4, 0.6, 0.0), {"unused_classes": 1}
    third = [
        record(**{**vars(row), "predicted_shares": shares, "settings": settings}) for row in rows
    ]
    assert craters(third, balanced)["pruned"][0, 0].sparsity == pytest.approx(0.85)


def test_without_dense_or_signal_there_is_none():
    assert breakdowns(curve("ticket", [0.9, 0.9, 0.9])) == {}
    rows = [dense(0, 0.5, majority_accuracy=0.55), *curve("ticket", [0.5, 0.5, 0.5])]
    assert craters(rows) == {}
    assert table_of(rows[1:]).differences["reinit"].gap is None


def test_an_arm_with_its_own_level_zero_uses_it():
    rows = [dense(0, 0.90), *curve("reinit", [0.80, 0.80, 0.80])]
    assert breakdowns(rows)["reinit"][0, 0].sparsity == pytest.approx(0.05)
    rows += [record(arm="reinit", target_sparsity=0.0, accuracy=0.85)]
    assert breakdowns(rows)["reinit"][0, 0] == Crossing(0.0, False)
