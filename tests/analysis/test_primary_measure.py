"""The primary measure: exact on curves that are linear in log density, whatever the grid."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from lth_flax.analysis.pairing import measure

LOW, HIGH = 0.5, 0.96


def mean_of(curve, low, high):
    """The mean over log density by quadrature; `curve` takes a sparsity."""
    start, stop = -np.log1p(-low), -np.log1p(-high)
    if stop == start:
        return curve(low)
    knots = np.linspace(start, stop, 20_001)
    values = np.array([curve(-np.expm1(-x)) for x in knots])
    return integrate.trapezoid(values, knots) / (stop - start)


@settings(max_examples=20, deadline=None)
@given(
    levels=st.sets(st.integers(1, 199), min_size=1, max_size=9),
    key=st.integers(0, 999),
)
def test_equals_quadrature_of_the_interpolated_curve(levels, key):
    levels = [level / 200 for level in sorted(levels)]
    found = measure(levels)
    inside = [level for level in levels if LOW <= level <= HIGH]
    assert (found is None) == (not inside)
    if found is None:
        return
    values = np.random.default_rng(key).normal(80, 5, len(levels))
    low, high = max(LOW, levels[0]), min(HIGH, levels[-1])
    assert found.range == (low, high)
    x = -np.log1p(-np.array(levels))
    expected = mean_of(lambda s: np.interp(-np.log1p(-s), x, values), low, high)
    assert found.weights @ values == pytest.approx(expected, abs=2e-3)
    assert found.weights.sum() == pytest.approx(1)
    assert (found.weights >= 0).all()


@settings(max_examples=60, deadline=None)
@given(
    bends=st.sets(st.integers(101, 191), max_size=3),
    more=st.sets(st.integers(1, 199), max_size=6),
    other=st.sets(st.integers(1, 199), max_size=6),
    key=st.integers(0, 999),
)
def test_does_not_depend_on_the_grid_that_a_piecewise_linear_curve_is_measured_on(
    bends, more, other, key
):
    """Two grids that both hold the bends of a curve and reach past both ends agree exactly."""
    bends = sorted(bend / 200 for bend in bends)
    knots = np.array([0.1, *bends, 0.99])
    heights = np.random.default_rng(key).normal(0, 3, len(knots))
    x = -np.log1p(-knots)

    def curve(level):
        return np.interp(-np.log1p(-level), x, heights)

    results = []
    for extra in (more, other):
        levels = sorted({0.1, 0.99, 0.7, *bends, *(one / 200 for one in extra)})
        results.append(measure(levels).weights @ np.array([curve(level) for level in levels]))
    assert results[0] == pytest.approx(results[1], abs=1e-12)


def test_by_hand():
    # Density 1/2, 1/4, 1/8: equal steps of log density; the trapezoid rule by hand.
    found = measure([0.5, 0.75, 0.875])
    np.testing.assert_allclose(found.weights, [0.25, 0.5, 0.25])
    assert found.range == (0.5, 0.875)
    # Both ends interpolated: 50% lies halfway from 0 to 75%, in log density.
    found = measure([0.0, 0.75, 0.875])
    np.testing.assert_allclose(found.weights, [0.125, 0.625, 0.25])
    np.testing.assert_allclose(found.ends, [[0.5, 0.5, 0], [0, 0, 1]])


def test_never_beyond_what_was_measured():
    assert measure([0.7, 0.9]).range == (0.7, 0.9)
    np.testing.assert_allclose(measure([0.9]).weights, [1.0])
    assert measure([0.1, 0.49]) is None
    assert measure([0.97, 0.98]) is None
    assert measure([]) is None
    # Nothing is left at sparsity 1: log density ends, and the level does not count.
    assert measure([0.5, 0.9, 1.0]).weights[2] == 0
    assert measure([0.5, 0.9, 1.0]).range == (0.5, 0.9)


def test_each_level_may_be_left_out():
    """A gap of a step at 95% alone: a mean over levels would take it for a sixth of everything."""
    levels = [0.5, 0.6, 0.7, 0.8, 0.9, 0.95]
    weights = measure(levels).weights
    assert weights[-1] == pytest.approx(0.5 * np.log(2) / np.log(10), rel=1e-9)
