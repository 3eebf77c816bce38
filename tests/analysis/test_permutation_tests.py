"""Permutation tests against brute force, SciPy, and their own promised error rates."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lth_flax.analysis import permutation as pm


def relabel(values: np.ndarray, **options) -> pm.Relabelled:
    """Of one learning rate; [seeds, runs] is one level."""
    values = values[:, :, None] if values.ndim == 2 else values
    return pm.relabel(values[:, :, None, :], **options)


def single(values: np.ndarray, **options) -> pm.PermutationTest:
    return pm.permutation_test(relabel(values, **options), np.ones(1))


def max_t(values: np.ndarray) -> pm.MaxTTest:
    return pm.step_down_max_t(relabel(values))


def gap_of(runs: np.ndarray, choice: tuple[int, ...]) -> np.ndarray:
    """Mean gap, the slow way: the chosen run minus the mean of the others, seed by seed."""
    gaps = []
    for of_seed, chosen in zip(runs, choice, strict=True):
        others = [run for index, run in enumerate(of_seed) if index != chosen]
        gaps.append(of_seed[chosen] - np.mean(others, axis=0))
    return np.mean(gaps, axis=0)


def relabellings(runs: np.ndarray) -> list[np.ndarray]:
    choices = itertools.product(range(runs.shape[1]), repeat=runs.shape[0])
    return [gap_of(runs, choice) for choice in choices]


def slow_max_t(runs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Westfall & Young's step-down algorithm, as the book has it."""
    drawn = np.array(relabellings(runs))
    drawn = drawn / drawn.std(axis=0)
    observed = drawn[0]
    own = np.array([(drawn[:, k] >= observed[k] - 1e-9).mean() for k in range(len(observed))])
    adjusted, remaining, floor = np.zeros(len(observed)), list(range(len(observed))), 0.0
    while remaining:
        top = max(remaining, key=lambda k: observed[k])
        floor = max(floor, (drawn[:, remaining].max(axis=1) >= observed[top] - 1e-9).mean())
        adjusted[top] = floor
        remaining.remove(top)
    return own, adjusted


@pytest.mark.parametrize(("seeds", "runs"), [(1, 2), (1, 4), (3, 2), (4, 3), (3, 4), (6, 2)])
@pytest.mark.parametrize("rounded", [False, True])
def test_equals_enumeration(seeds, runs, rounded):
    rng = np.random.default_rng(seeds * 10 + runs)
    values = rng.normal(80, 1, (seeds, runs))
    values = values.round() if rounded else values  # ties must count
    every = np.array(relabellings(values[:, :, None]))[:, 0]
    assert relabel(values).exact
    assert len(relabel(values).gaps) == runs**seeds
    found = single(values)
    assert found.gap == pytest.approx(gap_of(values, (0,) * seeds))
    assert found.p_greater == pytest.approx((every >= every[0] - 1e-9).mean(), abs=1e-12)
    assert found.p_less == pytest.approx((every <= every[0] + 1e-9).mean(), abs=1e-12)


def test_one_draw_is_the_paired_permutation_test_of_scipy():
    rng = np.random.default_rng(3)
    values = rng.normal(0, 1, (9, 2)) + [0.4, 0.0]
    for alternative, name in (("greater", "p_greater"), ("less", "p_less"), ("two-sided", "p")):
        oracle = stats.permutation_test(
            (values[:, 0], values[:, 1]),
            lambda a, b, axis: np.mean(a - b, axis=axis),
            permutation_type="samples",
            n_resamples=np.inf,
            alternative=alternative,
            vectorized=True,
        )
        assert getattr(single(values), name) == pytest.approx(oracle.pvalue)


@pytest.mark.parametrize(
    ("seeds", "draws", "p"), [(8, 1, 0.00390625), (4, 2, 1 / 81), (8, 3, 4**-8)]
)
def test_smallest_p_is_reached_by_perfect_separation(seeds, draws, p):
    values = np.random.default_rng(0).normal(0, 0.01, (seeds, 1 + draws))
    values[:, 0] += 5
    found = single(values)
    assert found.p_greater == pytest.approx(p, rel=1e-9)
    assert found.p == relabel(values).smallest_p == pytest.approx(2 * p, rel=1e-9)
    assert found.p_less == 1.0


def test_equal_runs_say_nothing():
    found = single(np.full((5, 3), 77.7))
    assert (found.p_greater, found.p_less, found.p) == (1.0, 1.0, 1.0)


def test_a_gap_of_rounding_alone_is_none():
    values = 100 * np.array([[0.1 + 0.2, 0.1], [0.1, 0.3]])
    assert 0 < abs((values[:, 0] - values[:, 1]).mean()) < 1e-13
    assert single(values).gap == 0.0
    # And where all are: 20/60 three times is not 1 to the last bit.
    same = np.array([[0.1 + 0.2, 0.3, 0.1 + 0.2], [0.3, 0.1 + 0.2, 0.3]])
    assert (single(same).p, max_t(same).p[0]) == (1.0, 1.0)


def test_monte_carlo_is_close_to_exact_and_repeats():
    values = np.random.default_rng(5).normal(0, 1, (7, 3)) + [0.5, 0, 0]
    exact = single(values)
    assert not relabel(values, exact_limit=1).exact
    assert len(relabel(values, exact_limit=1).gaps) == 100_000  # the real one among them
    drawn = single(values, exact_limit=1)
    error = np.sqrt(exact.p_greater * (1 - exact.p_greater) / 99_999)
    assert abs(drawn.p_greater - exact.p_greater) < 5 * error + 2e-5
    assert drawn == single(values, exact_limit=1)


def test_monte_carlo_p_is_never_zero():
    values = np.zeros((40, 2))
    values[:, 0] = 1
    assert single(values).p_greater == pytest.approx(1e-5)
    assert single(values).p == relabel(values).smallest_p == pytest.approx(2e-5)


@pytest.mark.parametrize("draws", [1, 3])
def test_size_under_the_null(draws):
    """The rejection rate at 5% is at most 5%, and not far below: exact, not just careful."""
    rng = np.random.default_rng(11)
    trials, rejected = 600, 0
    for _ in range(trials):
        seed_effect = rng.normal(0, 3, (5, 1))
        values = seed_effect + rng.standard_exponential((5, 1 + draws)) ** 2  # skewed on purpose
        rejected += single(values).p_greater <= 0.05
    nominal = np.floor(0.05 * (1 + draws) ** 5) / (1 + draws) ** 5
    low, high = stats.binom.interval(0.999, trials, nominal)
    assert low <= rejected <= high


def test_max_t_controls_the_familywise_error():
    rng = np.random.default_rng(13)
    trials, wrong = 400, 0
    for _ in range(trials):
        shared = rng.normal(0, 1, (5, 3, 1))
        values = shared + rng.normal(0, 1, (5, 3, 6))
        values[:, 0, :2] += 6  # two levels with a real gap; the other four are null
        wrong += bool((max_t(values).p_adjusted[2:] <= 0.05).any())
    assert wrong <= stats.binom.ppf(0.999, trials, 0.05)


@settings(max_examples=40, deadline=None)
@given(
    seeds=st.integers(1, 4),
    runs=st.integers(2, 4),
    levels=st.integers(1, 5),
    key=st.integers(0, 99),
)
def test_max_t_equals_the_slow_algorithm(seeds, runs, levels, key):
    values = np.random.default_rng(key).normal(0, 1, (seeds, runs, levels)) * np.arange(
        1, levels + 1
    )
    found = max_t(values)
    own, adjusted = slow_max_t(values)
    np.testing.assert_allclose(found.p, own, atol=1e-12)
    np.testing.assert_allclose(found.p_adjusted, adjusted, atol=1e-12)
    assert (found.p_adjusted >= found.p - 1e-12).all()


def test_one_level_is_the_single_test():
    values = np.random.default_rng(2).normal(0, 1, (6, 3, 1))
    alone = single(values[:, :, 0])
    found = max_t(values)
    assert found.p_adjusted[0] == found.p[0] == pytest.approx(alone.p_greater)
    assert max_t(-values).p[0] == pytest.approx(alone.p_less)


def test_levels_without_variance_take_no_part():
    values = np.random.default_rng(4).normal(0, 1, (5, 2, 3)) - np.array([1.0, 0.0])[:, None]
    still = values.copy()
    still[:, :, 1] = 88.8
    found = max_t(still)
    without = max_t(values[:, :, [0, 2]])
    assert (found.p[1], found.p_adjusted[1]) == (1.0, 1.0)
    np.testing.assert_allclose(found.p_adjusted[[0, 2]], without.p_adjusted)
    assert (max_t(np.ones((3, 2, 2))).p_adjusted == 1).all()


@settings(max_examples=40, deadline=None)
@given(key=st.integers(0, 999), shift=st.floats(-50, 50), scale=st.floats(0.01, 100))
def test_p_values_do_not_depend_on_unit_seed_effects_or_order(key, shift, scale):
    rng = np.random.default_rng(key)
    values = rng.normal(0, 1, (5, 3))
    base = single(values)
    moved = values * scale + shift + rng.normal(0, 5, (5, 1))
    moved = moved[rng.permutation(5)][:, [0, 2, 1]]
    other = single(moved)
    assert (other.p_greater, other.p_less) == (base.p_greater, base.p_less)
    assert other.gap == pytest.approx(base.gap * scale, abs=1e-8)


def slow_own_rates(test: np.ndarray, validation: np.ndarray) -> np.ndarray:
    """Gaps [relabellings, levels], every arm at the best rate of its mean, one at a time."""
    seeds, runs, rates, levels = test.shape
    result = []
    for choice in itertools.product(range(runs), repeat=seeds):
        gaps = []
        for level in range(levels):
            arms = []
            for mine in (True, False):
                cells = [
                    (seed, run)
                    for seed in range(seeds)
                    for run in range(runs)
                    if (run == choice[seed]) == mine
                ]
                scores = [np.mean([validation[s, r, k, level] for s, r in cells])
                          for k in range(rates)]  # fmt: skip
                best = int(np.argmax(scores))
                arms.append(np.mean([test[s, r, best, level] for s, r in cells]))
            gaps.append(arms[0] - arms[1])
        result.append(gaps)
    return np.array(result)


@pytest.mark.parametrize(("seeds", "runs", "rates"), [(4, 2, 3), (3, 3, 2), (2, 4, 4)])
def test_rates_are_chosen_again_in_every_relabelling(seeds, runs, rates):
    rng = np.random.default_rng(seeds)
    test, validation = rng.normal(80, 1, (2, seeds, runs, rates, 3))
    expected = slow_own_rates(test, validation)
    np.testing.assert_allclose(pm.relabel(test, validation).gaps, expected, atol=1e-9)
    drawn = pm.relabel(test, validation, exact_limit=1).gaps
    np.testing.assert_allclose(drawn[0], expected[0], atol=1e-9)
    # Each one drawn is one of them all.
    assert all(np.abs(expected - row).max(axis=1).min() < 1e-9 for row in drawn[:50])


def test_several_rates_need_validation():
    with pytest.raises(ValueError, match="validation"):
        pm.relabel(np.zeros((3, 2, 2, 1)))
