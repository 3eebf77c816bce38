"""Pairing, intervals of every design, equivalence, Holm and reach, against SciPy and by hand."""

import dataclasses
import math

import numpy as np
import pytest
from analysis_fakes import from_array, pairs_of, record
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lth_flax.analysis import statistics as sta
from lth_flax.analysis.compare import design_of
from lth_flax.analysis.pairing import pair
from lth_flax.errors import UserError
from lth_flax.predictions import labels_name

LEVELS = [0.3, 0.5, 0.9, 0.98]


def test_every_value_is_in_its_place():
    values = np.random.default_rng(1).uniform(0.5, 1, (3, 3, 4))
    rows = from_array(values, LEVELS)
    np.random.default_rng(2).shuffle(rows)
    noise = [dataclasses.replace(row, accuracy=0.0, checkpoint="best") for row in rows]
    noise += [dataclasses.replace(row, accuracy=0.0, split="validation") for row in rows]
    noise += [record(arm="random", seed=9, accuracy=0.0)]
    found = pair(rows + noise)
    assert (found.levels, found.seeds, found.draws) == (tuple(LEVELS), (0, 1, 2), 2)
    np.testing.assert_allclose(found.test[:, :, 0], 100 * values)
    np.testing.assert_allclose(found.gaps, 100 * (values[:, 0] - values[:, 1:].mean(axis=1)))
    assert found.row_ids[1, 2, 0, 3] == "reinit/level=0.98/seed=1/draw=1/last"


def test_only_levels_of_both_arms_are_paired():
    rows = [record(target_sparsity=level) for level in (0.5, 0.7, 0.9)]
    rows += [record(arm="reinit", target_sparsity=level) for level in (0.0, 0.7, 0.9)]
    assert pair(rows).levels == (0.7, 0.9)


def test_the_seed_of_a_missing_cell_is_left_out_and_named():
    rows = from_array(np.full((3, 3, 2), 0.8), [0.5, 0.9])
    rows = [r for r in rows if (r.arm, r.seed, r.draw, r.target_sparsity) != ("reinit", 1, 1, 0.9)]
    found = pair(rows)
    assert found.seeds == (0, 2)
    assert found.dropped == ("seed 1 has no reinit draw 1 at 90%",)


def test_a_repeated_cell_is_refused():
    rows = [record(), record(row_id="again"), record(arm="reinit")]
    with pytest.raises(UserError, match="several ticket rows at 50%"):
        pair(rows)
    rows = [record(), record(arm="reinit"), record(arm="reinit", row_id="again")]
    with pytest.raises(UserError, match="several reinit rows at 50%"):
        pair(rows)


def test_rates_are_an_axis_and_validation_chooses():
    rows = []
    for rate, validation, test in ((0.001, 0.7, 0.9), (0.01, 0.8, 0.6)):
        for arm, lift in (("ticket", 0.0), ("reinit", 0.2 if rate == 0.001 else 0.0)):
            for split, accuracy in (("test", test), ("validation", validation + lift)):
                settings = {"learning_rate": rate}
                rows.append(
                    record(arm=arm, split=split, accuracy=accuracy, settings=settings,
                           row_id=f"{arm}{rate}{split}")
                )  # fmt: skip
    found = pair(rows)
    assert found.rates == (0.001, 0.01)
    # The ticket's best validation is at 0.01, the control's at 0.001, whatever test says.
    assert found.gaps == pytest.approx(np.array([[60 - 90]]))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-10, 10), min_size=2, max_size=12).filter(lambda v: np.std(v) > 1e-3))
def test_interval_and_equivalence_agree_with_scipy(values):
    found = sta.estimate(dict(enumerate(values)), 0.9)
    oracle = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert found.interval == pytest.approx((oracle.low, oracle.high))
    assert found.sd == pytest.approx(np.std(values, ddof=1))
    margin = 1.5
    close = sta.equivalence([found], margin, 0.05)
    above = stats.ttest_1samp(values, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(values, margin, alternative="less").pvalue
    assert close.p == pytest.approx(max(above, below))
    # TOST at 5% passes exactly where the 90% interval lies within the margin.
    assert close.smallest_margin_points == pytest.approx(max(abs(oracle.low), abs(oracle.high)))
    assert close.passes == (close.smallest_margin_points <= margin)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-10, 10), min_size=2, max_size=12).filter(lambda v: np.std(v) > 1e-3))
def test_the_jackknife_of_a_mean_is_its_t_interval(values):
    by_seed = dict(enumerate(values))
    without = [np.mean(values[:n] + values[n + 1 :]) for n in range(len(values))]
    plain, jackknifed = sta.estimate(by_seed), sta.estimate(by_seed, jackknife=without)
    assert jackknifed.interval == pytest.approx(plain.interval)
    # SciPy has the same as a resampling of one each.
    assert jackknifed.error == pytest.approx(stats.sem(values))


def test_splits_drawn_again_widen_every_interval():
    """Nadeau & Bengio: the variance of the mean is s^2 (1/n + n_test/n_train)."""
    values = [1.0, 2.0, 4.0, 5.0]
    s2, design = np.var(values, ddof=1), sta.Design("resplits", 0.25)
    found = sta.estimate(dict(enumerate(values)), 0.95, design)
    half = stats.t.ppf(0.975, 3) * math.sqrt(s2 * (1 / 4 + 0.25))
    assert found.interval == pytest.approx((3 - half, 3 + half))
    close = sta.equivalence([found], 6.0)
    assert close.p == pytest.approx(stats.t.sf((6 - 3) / math.sqrt(s2 / 2), 3))


def test_shared_texts_add_the_variance_over_texts():
    values = [1.0, 2.0, 4.0, 5.0]
    found = sta.estimate(dict(enumerate(values)), text_variance=0.3)
    assert found.error == pytest.approx(math.sqrt(np.var(values, ddof=1) / 4 + 0.3))


def test_variance_over_texts_needs_no_labels_of_two_classes():
    """Against labels: gaps per text by hand, weighted over two levels."""
    rng = np.random.default_rng(0)
    seeds, draws, texts, levels = 4, 2, 500, [0.5, 0.9]
    labels = rng.integers(2, size=texts)
    predictions = {}
    values = np.zeros((seeds, 1 + draws, len(levels)))
    right = np.zeros((seeds, 1 + draws, len(levels), texts))
    for seed, run, level in np.ndindex(values.shape):
        hit = rng.random(texts) < 0.7 + 0.05 * (run == 0) + 0.1 * labels
        classes = np.where(hit, labels, 1 - labels)
        arm = "ticket" if run == 0 else "reinit"
        name = f"{arm}/level={levels[level]:g}/seed={seed}/draw={max(run - 1, 0)}/last"
        predictions[name] = classes.astype(np.uint8)
        right[seed, run, level], values[seed, run, level] = hit, hit.mean()
    pairs = pair(from_array(values, levels))
    weights = np.array([0.3, 0.7])
    design = sta.Design("shared test set", texts=texts)
    found = pairs.gap(weights, 0.95, design, predictions)
    per_text = 100 * np.einsum("srlt,r,l->t", right, [1, -0.5, -0.5], weights) / seeds
    by_seed = pairs.gaps @ weights
    expected = np.var(by_seed, ddof=1) / seeds + np.var(per_text) / texts
    assert found.error == pytest.approx(math.sqrt(expected))
    assert found.error > pairs.gap(weights, 0.95, design).error  # unknown without predictions


def test_variance_over_texts_of_three_classes_is_that_of_what_is_right():
    rng = np.random.default_rng(1)
    seeds, texts = 4, 300
    labels = rng.integers(3, size=texts)
    predictions = {labels_name("imdb_reviews", seed): labels for seed in range(seeds)}
    right = np.zeros((seeds, 2, texts))
    for seed, run in np.ndindex(seeds, 2):
        hit = rng.random(texts) < 0.6 + 0.1 * (run == 0) + 0.1 * (labels == 1)
        right[seed, run] = hit
        name = f"{('ticket', 'reinit')[run]}/level=0.5/seed={seed}/draw=0/last"
        predictions[name] = np.where(hit, labels, (labels + 1) % 3).astype(np.uint8)
    rows = from_array(right.mean(axis=-1)[:, :, None], [0.5])
    pairs = pair([dataclasses.replace(row, dataset="imdb_reviews") for row in rows])
    design, weights = sta.Design("shared test set", texts=texts), np.ones(1)
    found = pairs.gap(weights, 0.95, design, predictions)
    gaps = 100 * (right[:, 0] - right[:, 1])
    expected = np.var(gaps.mean(axis=1), ddof=1) / seeds + np.var(gaps.mean(axis=0)) / texts
    assert found.error == pytest.approx(math.sqrt(expected))


def test_one_seed_and_equal_gaps():
    alone = sta.estimate({3: 1.5})
    assert alone == sta.Estimate(1.5, None, None, None, 1, ((3, 1.5),))
    assert sta.estimate({}).mean is None
    assert sta.equivalence([alone]) == sta.Equivalence(0.5, None, False, None)
    assert sta.equivalence([]) is None
    same = sta.estimate(dict.fromkeys(range(4), 0.25))
    assert (same.interval, same.sd) == ((0.25, 0.25), 0.0)
    assert sta.equivalence([same]) == sta.Equivalence(0.5, 0.0, True, 0.25)
    assert not sta.equivalence([sta.estimate(dict.fromkeys(range(4), 0.75))]).passes


def test_equivalence_is_as_weak_as_its_weakest_level():
    near = sta.estimate({0: 0.1, 1: 0.0, 2: -0.1})
    far = sta.estimate({0: 0.4, 1: 0.9, 2: 0.7})
    both = sta.equivalence([near, far])
    assert sta.equivalence([near]).passes
    assert not both.passes
    assert both.p == sta.equivalence([far]).p


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_what_its_definition_says(p_values):
    adjusted = sta.holm(p_values)
    ranked = sorted(range(len(p_values)), key=lambda n: p_values[n])
    for place, n in enumerate(ranked):
        so_far = [
            min(1.0, (len(p_values) - k) * p_values[m]) for k, m in enumerate(ranked[: place + 1])
        ]
        assert adjusted[n] == pytest.approx(max(so_far))


@pytest.mark.parametrize(
    ("seeds", "draws", "p"),
    [(8, 1, 0.0078125), (6, 1, 0.03125), (5, 1, 0.0625), (5, 2, 2 / 243), (1, 1, 1.0)],
)
def test_smallest_two_sided_p(seeds, draws, p):
    found = sta.reach(seeds, draws)
    assert found.smallest_p == pytest.approx(p)
    assert found.enough == (p <= 0.05)
    rng = np.random.default_rng(0)
    values = rng.normal(0, 0.01, (seeds, 1 + draws, 1)) + 5 * (np.arange(1 + draws) == 0)[:, None]
    assert pairs_of(values, (0.8,)).relabelled.smallest_p == pytest.approx(p)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(1, 9), st.floats(1e-4, 0.5))
def test_what_would_be_enough_is_the_least_that_is(seeds, draws, alpha):
    found = sta.reach(seeds, draws, alpha)
    assert sta.reach(found.seeds, draws, alpha).enough
    assert found.seeds == 1 or not sta.reach(found.seeds - 1, draws, alpha).enough
    assert sta.reach(seeds, found.draws, alpha).enough
    assert found.draws == 1 or not sta.reach(seeds, found.draws - 1, alpha).enough


def test_no_number_is_enough_for_less_than_sampling_can_show():
    assert sta.reach(8, 1, 1e-6) == sta.Reach(2 / 256, 1e-6, None, None)
    assert sta.reach(8, 0).seeds is None


@pytest.mark.parametrize(
    ("sd", "gap", "n"), [(1.0, 1.0, 10), (1.0, 0.5, 34), (2.0, 0.5, 128), (1.0, 0.2, 199)]
)
def test_seeds_needed_are_those_of_the_tables_of_the_paired_t_test(sd, gap, n):
    """n for 80% power at 5%, two-sided, as G*Power 3.1 has them."""
    assert sta.seeds_needed(sd, gap) == n


def test_seeds_needed_reach_alpha_and_end():
    assert sta.seeds_needed(0.01, 1.0) == 6  # one draw: five seeds never reach 5%
    assert sta.seeds_needed(0.01, 1.0, draws=2) == 4
    assert sta.seeds_needed(0.0, 1.0) == 6
    assert sta.seeds_needed(100.0, 0.1) is None


def splits(test, validation, **changes):
    """A row of each split with so many examples."""
    shares = {"validation_share": 0.1, "test_share": 0.2}
    return [
        record(split=split, examples=n, settings=shares, **changes)
        for split, n in (("test", test), ("validation", validation))
    ]


def test_the_design_is_what_records_say_or_else_what_their_sizes_say():
    said = design_of(splits(1158, 579, test_drawn=True, train_examples=4000))
    assert said == sta.Design("resplits", 1158 / 4000)
    assert design_of(splits(1158, 579, test_drawn=False, train_examples=4000)).texts == 1158
    # Tweets: a fifth and a tenth of one corpus. Reviews: 25,000 of their own.
    found = design_of(splits(1158, 579))
    assert (found.kind, round(found.test_over_train, 3)) == ("resplits", 0.286)
    assert design_of(splits(25_000, 2500)) == sta.Design("shared test set", texts=25_000)
    assert design_of([record()]) == sta.Design()
    # A perplexity below 100 is no share of examples.
    other = {"primary": "perplexity", "metrics": {"perplexity": 50.0}, "test_drawn": False}
    assert design_of(splits(1158, 579, **other)) == sta.Design()
