"""The five verdicts: each from made-up gaps, in their order, with what the sentence has to name."""

import dataclasses

import numpy as np
import pytest
from analysis_fakes import dense, from_array, pairs_of, record

from lth_flax.analysis.compare import compare, compared
from lth_flax.analysis.result import Options
from lth_flax.analysis.statistics import SEEDS_ALONE, Design
from lth_flax.analysis.terminal import reach_sentence

LEVELS = (0.4, 0.5, 0.8, 0.96)


def gaps(differences, *, draws=1, levels=(0.8,), tilt=None, spread=0.0):
    """A control of 80 points and tickets that differ by `differences` (points) per seed.

    tilt: what is added at each level.
    """
    rng = np.random.default_rng(0)
    runs = 80 + spread * rng.standard_normal((len(differences), 1 + draws, len(levels)))
    runs[:, 0] = 80 + np.asarray(differences, float)[:, None] + np.zeros(len(levels))
    runs[:, 0] += np.zeros(len(levels)) if tilt is None else np.asarray(tilt, float)
    return pairs_of(runs, levels)


def decide(pairs, design=SEEDS_ALONE, nothing_learned="", notes=(), **options):
    found = compare(pairs, design, Options(**options), nothing_learned=nothing_learned, notes=notes)
    assert found.verdict.sentence.lower().startswith(found.verdict.verdict)
    assert "nan" not in found.verdict.sentence
    return found


SEVEN = [2, 3, 2, 3, 2, 3, 2]
SMALL = [0.2, 0.3, 0.2, 0.3, 0.2, 0.3, 0.2]
NOISE = [0.1, -0.1, 0.1, -0.1, 0.0, 0.1, -0.1]


@pytest.mark.parametrize(
    ("differences", "verdict", "kind", "says"),
    [
        (SEVEN, "ticket better", "treatment", "+2.43 points"),
        ([-one for one in SEVEN], "control better", "control", "-2.43 points"),
        (SMALL, "ticket better", "treatment", "every level also tests as within ±0.5 points"),
        (NOISE, "equivalent within ±0.5 points", "equivalent", "at every level of the range"),
        (
            [3, -3, 3, -3, 1, 2],
            "cannot tell with 6 seeds",
            "unknown",
            "no difference shown at p = 0.05",
        ),
        ([3, 3, 3, 3, 3], "cannot tell with 5 seeds", "unknown", "6 seeds or 2 control draws each"),
        ([5], "cannot tell with 1 seed", "unknown", "no interval from one seed"),
    ],
)
def test_the_verdict_follows_the_stated_rule(differences, verdict, kind, says):
    found = decide(gaps(differences)).verdict
    assert (found.verdict, found.kind) == (verdict, kind)
    assert says in found.sentence


def test_five_seeds_and_one_draw_never_reach_two_sided_five_percent():
    assert decide(gaps([3] * 5)).primary.p == 0.0625
    assert decide(gaps([3] * 5, draws=2, spread=0.1)).verdict.kind == "treatment"


def test_it_depends_on_sparsity_where_both_directions_are_shown():
    found = decide(gaps([0.1, -0.1] * 4, levels=LEVELS, tilt=[0, -1, 0, 8])).verdict
    assert found.verdict == "depends on sparsity"
    assert "better at 96% and worse at 50%" in found.sentence
    assert found.story == (
        "Ticket better at 96%, worse at 50%, no difference shown at 40% and 80% "
        "(adjusted over 4 levels)."
    )
    # The mean alone would have said that the ticket is better.
    assert decide(gaps([0.1, -0.1] * 4, levels=LEVELS, tilt=[0, 0, 0, 8])).verdict.kind == (
        "treatment"
    )


def test_the_directions_have_half_of_alpha_each():
    """Seven seeds, two levels in opposite directions: each has p = 2/128, within 0.05/2."""
    pairs = gaps([0.1, -0.1, 0.1, -0.1, 0.1, -0.1, 0], levels=(0.5, 0.9), tilt=[-1, 8])
    found = decide(pairs)
    assert found.levels[0].p_control_better_adjusted == 2 / 128
    assert found.verdict.kind == "depends"
    assert found.levels[1].p_treatment_better_adjusted == 1 / 128
    assert [level.direction for level in found.levels] == ["worse", "better"]
    # 2/128 is within 0.03 and 1/128 within 0.01, and neither within half of it.
    strict = decide(pairs, alpha=0.03)
    assert strict.verdict.kind == "treatment"
    assert [level.direction for level in strict.levels] == [None, "better"]
    assert [level.direction for level in decide(pairs, alpha=0.01).levels] == [None, None]


def test_levels_shown_are_named_also_where_the_mean_is_not():
    found = decide(gaps([3, -3, 3, -3, 2, -2, 0], levels=LEVELS, tilt=[-20, 0, 0, 0])).verdict
    assert found.kind == "unknown"
    assert "adjusted over levels, the ticket is worse at 40%" in found.sentence
    assert found.story.startswith("Ticket worse at 40%, no difference shown at 50%, 80%")


def test_equivalence_is_asked_of_every_level_and_of_the_interpolated_ends():
    flat = decide(gaps(NOISE, levels=LEVELS))
    assert flat.verdict.kind == "equivalent"
    # One level is off, and cancelled in the mean by another: no equivalence.
    off = decide(gaps(NOISE, levels=(0.5, 0.75, 0.875), tilt=[0.7, -0.7, 0.7]))
    assert off.primary.gap.mean == pytest.approx(0, abs=0.1)
    assert not off.equivalence.passes
    # Measured at 90 and 98%: at 96% the curve is interpolated, and too far from zero.
    beyond = decide(gaps(NOISE, levels=(0.9, 0.98), tilt=[0, 4]))
    assert [level.in_range for level in beyond.levels] == [True, False]
    assert not beyond.equivalence.passes


def test_corrected_intervals_decide_on_equivalence():
    noise = [0.45, -0.45] * 4
    assert decide(gaps(noise)).verdict.kind == "equivalent"
    found = decide(gaps(noise), Design("resplits", 0.3))
    assert found.verdict.kind == "unknown"
    assert "interval corrected for re-splits" in found.verdict.sentence


def test_the_measure_is_told_without_each_level():
    found = decide(gaps(SEVEN, levels=LEVELS))
    assert [one.left_out for one in found.without] == [0.5, 0.8, 0.96]
    assert all(one.gap.mean == pytest.approx(np.mean(SEVEN)) for one in found.without)
    assert found.without[2].range == (0.5, 0.8)
    assert decide(gaps(SEVEN)).without == []  # without the only level nothing is left


def test_the_sentence_names_the_range_that_was_measured():
    sentence = decide(gaps(SEVEN, levels=(0.6, 0.9))).verdict.sentence
    assert "over 60% to 90% sparsity (measured at 60% and 90%)" in sentence
    found = decide(gaps([3] * 8, levels=(0.1, 0.99)))
    assert found.verdict.verdict == "cannot tell with 8 seeds"
    assert found.verdict.reason == "no level has a target sparsity from 50% to 96%"
    assert found.primary is None


def test_cannot_tell_says_how_many_seeds_the_spread_would_need():
    found = decide(gaps([3, -3, 3, -3, 1, 2]))
    sd = np.std([3, -3, 3, -3, 1, 2], ddof=1)
    assert found.seeds_needed == pytest.approx((1.96 + 0.84) ** 2 * sd**2 / 0.25 + 2, rel=0.02)
    assert f"about {found.seeds_needed} seeds (80% power)" in found.verdict.sentence


def test_margin_and_alpha_move_the_verdict():
    noise = [0.9, -0.9, 0.8, -0.8, 0.0, 0.1]
    assert decide(gaps(noise)).verdict.kind == "unknown"
    assert decide(gaps(noise), margin_points=2.0).verdict.verdict == "equivalent within ±2 points"
    assert decide(gaps(SEVEN), alpha=0.01).verdict.kind == "unknown"


def test_more_draws_are_named():
    sentence = decide(gaps([3, 3, 3, 3], draws=3, spread=0.1)).verdict.sentence
    assert "4 seeds and 3 control draws each" in sentence


def learned_rows(idle):
    """Tickets and controls at 80%, of which these arms predict one class."""
    rows = [dense(seed, 0.8, balanced_accuracy=0.79) for seed in range(4)]
    for arm in ("ticket", "reinit", "shuffled"):
        rows += [record(arm=arm, seed=seed) for seed in range(4)]
    return [
        dataclasses.replace(row, accuracy=0.55, balanced_accuracy=0.5, predicted_shares=(1.0, 0.0))
        if row.arm in idle
        else row
        for row in rows
    ]


@pytest.mark.parametrize(
    ("idle", "words"),
    [
        (("dense",), "all 4 dense networks have learned nothing"),
        (("ticket", "reinit"), "all 8 networks compared have learned nothing"),
    ],
)
def test_networks_that_learned_nothing_are_no_evidence(idle, words):
    """All at the accuracy of the majority class: equal, and no sign of equivalence."""
    found = compared(learned_rows(idle), "reinit", Options()).verdict
    assert (found.verdict, found.kind) == ("cannot tell with 4 seeds", "unknown")
    assert words in found.sentence


def test_an_arm_that_learned_nothing_is_named():
    found = compared(learned_rows(("reinit",)), "reinit", Options()).verdict
    assert "Reinit learned nothing at 50%." in found.sentence
    other = compared(learned_rows(("shuffled",)), "reinit", Options()).verdict
    assert "learned" not in other.sentence


def test_what_else_is_to_be_said_is_in_the_sentence():
    found = decide(gaps(SEVEN), notes=("Dense networks had not finished training: so and so",))
    assert found.verdict.sentence.endswith(". Dense networks had not finished training: so and so.")


def test_level_zero_is_reported_and_not_tested():
    values = np.random.default_rng(0).uniform(0.6, 0.9, (4, 2, 3))
    rows = from_array(values, [0.0, 0.5, 0.9])
    zero, *rest = compared(rows, "reinit", Options()).levels
    rows = from_array(values[:, :, 1:], [0.5, 0.9])
    assert rest == compared(rows, "reinit", Options()).levels
    assert zero.gap.mean == pytest.approx(100 * (values[:, 0, 0] - values[:, 1, 0]).mean())
    assert zero.p_treatment_better is None
    assert zero.direction is None


@pytest.mark.parametrize(
    ("draws", "seeds", "tests", "words"),
    [
        ({"reinit": 1}, 5, 1, ["5 seeds with 1 draw of reinit", "0.062", "6 seeds or 2 draws"]),
        ({"reinit": 3, "shuffled": 1}, 4, 1, ["1 draw of shuffled", "at best 0.12", "6 seeds"]),
        ({"reinit": 1}, 8, 1, []),
        # Holm's smallest: 12 times 2 / 2^8; 2 / 2^9 would be below 0.05 / 12. More draws there
        # cannot be: of reinit alone.
        (
            {"snip": 1, "rigl": 1},
            8,
            12,
            ["snip, rigl", "for 12 tests, at best 0.094: 9 seeds would"],
        ),
        ({"snip": 1}, 9, 12, []),
        ({}, 1, 0, []),
    ],
)
def test_a_command_that_cannot_reach_alpha_says_so(draws, seeds, tests, words):
    line = reach_sentence(draws, seeds, 0.05, tests)
    assert all(word in line for word in words)
    assert bool(line) == bool(words)
    assert "reinit" not in line or "reinit" in " ".join(words)


def test_one_level_is_no_range_and_one_point_is_singular():
    found = decide(gaps([3, -3, 3, -3, 1, 2]), margin_points=1.0).verdict
    assert " at 80% sparsity, with 6 seeds" in found.sentence
    assert "a gap of 1 point needs about" in found.sentence
