"""What the tests promise, by simulation: size, power, the fifth verdict, coverage of intervals.

The slow tier tries a sample of what the exhaustive tier tries in full.
"""

import numpy as np
import pytest
from analysis_fakes import pairs_of
from scipy import stats

from lth_flax.analysis import statistics as sta
from lth_flax.analysis.compare import compare, directions
from lth_flax.analysis.pairing import measure
from lth_flax.analysis.permutation import permutation_test, relabel, step_down_max_t
from lth_flax.analysis.result import Options

LEVELS = (0.4, 0.5, 0.8, 0.9, 0.95, 0.98)
WEIGHTS = measure(LEVELS).weights
TIERS = [
    pytest.param(600, marks=pytest.mark.slow),
    pytest.param(10_000, marks=pytest.mark.exhaustive),
]


def runs_of(rng, seeds, draws, rates=1, gap=0.0):
    """Percentages [seeds, runs, rates, levels]: skewed, seeds differ, levels correlate."""
    shape = (seeds, 1 + draws, rates, len(LEVELS))
    values = 80 + rng.normal(0, 2, (seeds, 1, 1, 1)) + rng.normal(0, 1, (seeds, 1 + draws, 1, 1))
    values = values - rng.standard_exponential(shape) ** 1.5 * np.linspace(0.3, 2, len(LEVELS))
    values[:, 0] += gap
    return values


def most(trials, rate=0.05):
    """10,000 trials: at most 5.6% of a promise of 5%; fewer: what that many may show."""
    return 0.056 * trials if trials == 10_000 else stats.binom.ppf(0.9999, trials, rate)


@pytest.mark.parametrize("trials", TIERS)
@pytest.mark.parametrize(("seeds", "draws"), [(8, 1), (5, 2)])
def test_size_of_the_primary_test(trials, seeds, draws):
    rng = np.random.default_rng(seeds)
    rejected = sum(
        permutation_test(relabel(runs_of(rng, seeds, draws)), WEIGHTS).p <= 0.05
        for _ in range(trials)
    )
    assert rejected <= most(trials)
    assert rejected >= 0.02 * trials  # exact, not just careful


@pytest.mark.parametrize("trials", TIERS)
def test_size_where_each_arm_stands_at_its_own_rate(trials):
    """Validation goes with test accuracy, so the choice favours what it chose."""
    rng = np.random.default_rng(3)
    rejected = 0
    for _ in range(trials):
        test = runs_of(rng, 6, 2, rates=4)
        validation = test + rng.normal(0, 0.5, test.shape)
        rejected += permutation_test(relabel(test, validation), WEIGHTS).p <= 0.05
    assert rejected <= most(trials)
    assert rejected >= 0.02 * trials


@pytest.mark.parametrize("trials", TIERS)
def test_a_level_is_wrongly_shown_in_at_most_alpha(trials):
    """Max-T at alpha/2 per direction, also beside levels with a real gap."""
    rng = np.random.default_rng(5)
    null = wrong = 0
    for _ in range(trials):
        values = runs_of(rng, 7, 1)
        found = directions(relabel(values), np.ones(len(LEVELS), bool))
        null += min(adjusted.min() for _, adjusted in found.values()) <= 0.025
        values[:, 0, :, -2:] += 12
        wrong += step_down_max_t(relabel(values)).p_adjusted[:-2].min() <= 0.05
    assert null <= most(trials)
    assert wrong <= most(trials)


@pytest.mark.parametrize("trials", TIERS)
def test_depends_on_sparsity_is_seldom_false(trials):
    """Never more often than alpha/2 where the ticket is better everywhere, alpha where nowhere."""
    rng = np.random.default_rng(7)
    counts = {0.0: 0, 2.0: 0}
    for gap in counts:
        for _ in range(trials):
            found = directions(relabel(runs_of(rng, 8, 1, gap=gap)), np.ones(len(LEVELS), bool))
            counts[gap] += all(adjusted.min() <= 0.025 for _, adjusted in found.values())
    assert counts[0.0] <= most(trials) / 2
    assert counts[2.0] <= most(trials, 0.025) / (2 if trials == 10_000 else 1)


@pytest.mark.slow
def test_verdicts_under_the_null_and_power_at_the_n_used():
    """All five verdicts on 400 experiments: no difference, and a gap of one sd of a run."""
    rng = np.random.default_rng(9)
    kinds = {}
    for gap in (0.0, 2.0):
        found = [
            compare(
                pairs_of(runs_of(rng, 8, 2, gap=gap)[:, :, 0], LEVELS), sta.SEEDS_ALONE, Options()
            ).verdict.kind
            for _ in range(400)
        ]
        kinds[gap] = {kind: found.count(kind) / 400 for kind in set(found)}
    null = kinds[0.0]
    false = sum(null.get(kind, 0) for kind in ("treatment", "control", "depends"))
    assert false <= stats.binom.ppf(0.9999, 400, 0.05) / 400
    assert kinds[2.0].get("treatment", 0) >= 0.8
    assert kinds[2.0].get("control", 0) == 0


def test_power_is_what_seeds_needed_says():
    """The paired t test at that n finds the gap in about 80 of 100 experiments."""
    rng = np.random.default_rng(11)
    n = sta.seeds_needed(1.0, 0.8)
    samples = rng.normal(0.8, 1.0, (4000, n))
    found = np.mean(stats.ttest_1samp(samples, 0, axis=1).pvalue <= 0.05)
    assert 0.78 <= found <= 0.84
    less = rng.normal(0.8, 1.0, (4000, n - 1))
    assert np.mean(stats.ttest_1samp(less, 0, axis=1).pvalue <= 0.05) < 0.81


def resplit_gaps(rng, seeds, size=120, share=2 / 9):
    """Error of a nearest-mean rule on one feature minus on three, over re-splits of one corpus."""
    labels = np.arange(size) % 2
    features = rng.normal(0, 1, (size, 3)) + 0.7 * labels[:, None] * np.array([1, 0.5, 0.5])
    gaps = []
    for _ in range(seeds):
        order = rng.permutation(size)
        test, train = np.split(order, [round(share * size)])
        means = [features[train][labels[train] == k].mean(axis=0) for k in (0, 1)]
        wrong = []
        for used in (slice(0, 1), slice(0, 3)):
            nearer = [((features[test] - m)[:, used] ** 2).sum(axis=1) for m in means]
            wrong.append(np.mean((nearer[1] < nearer[0]) != labels[test]))
        gaps.append(100 * (wrong[0] - wrong[1]))
    return gaps


@pytest.mark.parametrize(
    "trials",
    [
        pytest.param(1000, marks=pytest.mark.slow),
        pytest.param(10_000, marks=pytest.mark.exhaustive),
    ],
)
def test_corrected_intervals_cover_on_simulated_resplits(trials):
    """The plain t interval misses the truth far too often; the corrected one does not."""
    rng = np.random.default_rng(13)
    truth = np.mean([resplit_gaps(rng, 1)[0] for _ in range(20_000)])
    design = sta.Design("resplits", (2 / 9) / (7 / 9))
    covered = dict.fromkeys(("plain", "corrected"), 0)
    for _ in range(trials):
        values = dict(enumerate(resplit_gaps(rng, 8)))
        for name, kind in (("plain", sta.SEEDS_ALONE), ("corrected", design)):
            low, high = sta.estimate(values, 0.95, kind).interval
            covered[name] += low <= truth <= high
    assert covered["plain"] / trials < 0.87
    assert 0.92 <= covered["corrected"] / trials <= 0.985


@pytest.mark.slow
def test_shared_test_texts_are_covered_too():
    """The truth is the gap over all texts; seeds see the same sample of them."""
    rng = np.random.default_rng(19)
    all_chances = rng.beta(4, 1, 2_000_000)
    all_lifts = rng.normal(0.02, 0.12, len(all_chances))
    truth = np.clip(all_lifts, -all_chances, 1 - all_chances).mean()
    rng = np.random.default_rng(17)
    texts, seeds, trials = 300, 6, 1500
    covered = dict.fromkeys(("plain", "texts"), 0)
    for _ in range(trials):
        chance = rng.beta(4, 1, texts)[:, None]
        lift = np.clip(rng.normal(0.02, 0.12, texts)[:, None], -chance, 1 - chance)
        first = rng.random((texts, seeds)) < chance + lift
        second = rng.random((texts, seeds)) < chance
        gap = (first.astype(float) - second).mean(axis=1)
        values = dict(enumerate((first.astype(float) - second).mean(axis=0)))
        for name, extra in (("plain", 0.0), ("texts", np.var(gap) / texts)):
            low, high = sta.estimate(values, text_variance=extra).interval
            covered[name] += low <= truth <= high
    assert covered["plain"] < covered["texts"]
    assert covered["texts"] / trials >= 0.93
