"""Pairing, intervals, equivalence and the verdict, against SciPy and numbers done by hand."""

import dataclasses

import numpy as np
import pytest
from analysis_fakes import from_array, record
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lth_flax.analysis import statistics as sta
from lth_flax.analysis.verdict import decide
from lth_flax.errors import UserError

LEVELS = [0.3, 0.5, 0.9, 0.98]


def gaps_like(differences, *, draws=1, spread=0.0, levels=(0.8,)) -> sta.PairedGaps:
    """A control of 80 points and tickets that differ by `differences` (points), per seed."""
    rng = np.random.default_rng(0)
    controls = np.full((len(differences), len(levels), draws), 80.0)
    controls += spread * rng.standard_normal(controls.shape)
    treated = 80 + np.asarray(differences, float)[:, None] * np.ones(len(levels))
    seeds = tuple(range(len(differences)))
    return sta.PairedGaps("ticket", "reinit", tuple(levels), seeds, treated, controls)


def test_paired_gaps_puts_every_value_in_its_place():
    values = np.random.default_rng(1).uniform(0.5, 1, (3, 3, 4))
    rows = from_array(values, LEVELS)
    np.random.default_rng(2).shuffle(rows)
    noise = [dataclasses.replace(row, accuracy=0.0, checkpoint="best") for row in rows]
    noise += [dataclasses.replace(row, accuracy=0.0, split="validation") for row in rows]
    noise += [record(arm="random", seed=9, accuracy=0.0)]
    found = sta.paired_gaps(rows + noise)
    assert (found.levels, found.seeds, found.draws) == (tuple(LEVELS), (0, 1, 2), 2)
    np.testing.assert_allclose(found.treated, 100 * values[:, 0])
    np.testing.assert_allclose(found.controls, 100 * values[:, 1:].transpose(0, 2, 1))
    np.testing.assert_allclose(found.gaps, 100 * (values[:, 0] - values[:, 1:].mean(axis=1)))
    np.testing.assert_allclose(found.runs, 100 * values)
    assert found.primary().levels == (0.5, 0.9)


def test_only_levels_of_both_arms_are_paired():
    rows = [record(target_sparsity=level) for level in (0.5, 0.7, 0.9)]
    rows += [record(arm="reinit", target_sparsity=level) for level in (0.0, 0.7, 0.9)]
    assert sta.paired_gaps(rows).levels == (0.7, 0.9)


def test_a_missing_cell_is_named_or_its_seed_left_out():
    rows = from_array(np.full((3, 3, 2), 0.8), [0.5, 0.9])
    rows = [r for r in rows if (r.arm, r.seed, r.draw, r.target_sparsity) != ("reinit", 1, 1, 0.9)]
    with pytest.raises(UserError, match="seed 1 has no reinit draw 1 at 90%"):
        sta.paired_gaps(rows)
    found = sta.paired_gaps(rows, incomplete="drop")
    assert found.seeds == (0, 2)
    assert found.dropped == ("seed 1 has no reinit draw 1 at 90%",)


def test_a_repeated_cell_is_refused():
    rows = [record(), record(row_id="again"), record(arm="reinit")]
    with pytest.raises(UserError, match="several ticket runs at 50%"):
        sta.paired_gaps(rows)
    rows = [record(), record(arm="reinit"), record(arm="reinit", row_id="again")]
    with pytest.raises(UserError, match="several reinit rows of draw 0"):
        sta.paired_gaps(rows)


def test_primary_test_averages_the_levels_within_bounds():
    values = np.random.default_rng(3).uniform(0.7, 0.9, (4, 3, 4))
    found = sta.primary_test(sta.paired_gaps(from_array(values, LEVELS)))
    inside = 100 * values[:, :, [1, 2]].mean(axis=2)
    assert found is not None
    assert found.gap == pytest.approx((inside[:, 0] - inside[:, 1:].mean(axis=1)).mean())
    assert found.relabellings == 81
    assert sta.primary_test(sta.paired_gaps(from_array(values, [0.1, 0.2, 0.3, 0.99]))) is None


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-10, 10), min_size=2, max_size=12).filter(lambda v: np.std(v) > 1e-3))
def test_interval_and_equivalence_agree_with_scipy(values):
    found = sta.t_interval(values, 0.9)
    oracle = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high))
    assert found.sd == pytest.approx(np.std(values, ddof=1))
    margin = 1.5
    close = sta.equivalence(values, margin, 0.05)
    above = stats.ttest_1samp(values, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(values, margin, alternative="less").pvalue
    assert close.p == pytest.approx(max(above, below))
    # TOST at 5% passes exactly where the 90% interval lies within the margin.
    assert close.smallest_margin == pytest.approx(max(abs(oracle.low), abs(oracle.high)))
    assert close.passes == (close.smallest_margin <= margin)


def test_one_seed_and_equal_gaps():
    alone = sta.t_interval([1.5])
    assert (alone.mean, alone.sd, alone.low, alone.high, alone.n) == (1.5, None, None, None, 1)
    assert sta.equivalence([0.0]) == sta.Equivalence(0.5, None, False, None)
    assert sta.equivalence([0.25] * 4) == sta.Equivalence(0.5, 0.0, True, 0.25)
    assert not sta.equivalence([0.75] * 4).passes
    same = sta.t_interval([0.25] * 4)
    assert (same.low, same.high, same.sd) == (0.25, 0.25, 0.0)


@pytest.mark.parametrize(
    ("differences", "verdict", "says"),
    [
        ([2, 3, 2, 3, 2], "ticket better", "+2.40 points"),
        ([-2, -3, -2, -3, -2], "control better", "-2.40 points"),
        ([0.2, 0.3, 0.2, 0.3, 0.2], "ticket better", "it also tests as within ±0.5 points"),
        ([0.1, -0.1, 0.1, -0.1, 0.0], "equivalent within ±0.5 points", "both one-sided t tests"),
        ([3, -3, 3, -3, 1], "cannot tell with 5 seeds", "neither direction reaches p = 0.05"),
        ([3, 3, 3], "cannot tell with 3 seeds", "smallest p is 0.12"),
        ([5], "cannot tell with 1 seed", "no interval from one seed"),
    ],
)
def test_the_verdict_follows_the_stated_rule(differences, verdict, says):
    found = decide(gaps_like(differences))
    assert found.verdict == verdict
    assert says in found.sentence
    assert found.sentence.lower().startswith(verdict)
    assert "nan" not in found.sentence


def test_more_draws_reach_significance_with_fewer_seeds():
    assert decide(gaps_like([3, 3, 3], draws=2, spread=0.1)).verdict == "ticket better"
    assert "3 seeds and 2 control draws each" in decide(gaps_like([3, 3, 3], draws=2)).sentence


def test_margin_and_alpha_move_the_verdict():
    assert decide(gaps_like([0.9, -0.9, 0.8, -0.8])).verdict.startswith("cannot tell")
    loose = decide(gaps_like([0.9, -0.9, 0.8, -0.8]), margin=2.0)
    assert loose.verdict == "equivalent within ±2 points"
    assert decide(gaps_like([2, 3, 2, 3, 2]), alpha=0.01).verdict.startswith("cannot tell")


def test_no_level_in_the_primary_range_cannot_tell():
    found = decide(gaps_like([3] * 8, levels=(0.1, 0.99)))
    assert found.verdict == "cannot tell with 8 seeds"
    assert found.reason == "no level has a target sparsity from 50% to 96%"
