"""Configurations side by side: against brute force, known slopes and tables done by hand."""

import itertools
import json
import random
from dataclasses import replace

import numpy as np
import pytest
from analysis_fakes import record

from lth_flax.analysis.grid import best_rates, slope
from lth_flax.analysis.merge import comparable, split_groups
from lth_flax.analysis.permutation import FACTOR_EXACT_LIMIT, factor_permutation
from lth_flax.analysis.result import Options
from lth_flax.analysis.retraining import sign_flip_p
from lth_flax.analysis.seed_scores import SeedScores
from lth_flax.analysis.statistics import SEEDS_ALONE, holm
from lth_flax.analysis.summary import summarize

LEVELS = (0.5, 0.8)


def rows(layers, rate, seed, dense, pruned, epochs=5, arm="pruned"):
    """Records of one seed in one configuration: dense and one arm at two levels."""
    settings = {"num_layers": layers, "learning_rate": rate, "epochs": epochs, "hidden": 8}
    made = []
    for name, level, accuracy in (("dense", 0.0, dense), *zip((arm,) * 2, LEVELS, pruned)):  # noqa: B905
        for split in ("test", "validation"):
            made.append(
                record(
                    row_id=f"{name}/{level}/{layers}/{rate}/{seed}", arm=name, seed=seed,
                    target_sparsity=level, accuracy=accuracy, split=split, settings=settings,
                )
            )  # fmt: skip
    return made


@pytest.fixture
def grid():
    """Depth moves breakdown by a known amount; the rate moves nothing."""
    made = []
    for layers, rate, seed in itertools.product((2, 4, 8), (0.001, 0.01), range(3)):
        # Dense 80%. At 50% no drop; at 80% a drop of 2, 4 or 8 points: the curve crosses
        # 1 point at 0.5 + 0.3 / drop.
        made += rows(layers, rate, seed, 0.8, (0.8, 0.8 - layers / 100))
    return made


def last(configuration):
    return configuration["checkpoints"]["last"]


def factor_test(found, factor, outcome):
    (test,) = [t for t in found["factor_tests"] if (t["factor"], t["outcome"]) == (factor, outcome)]
    return test


def test_breakdown_by_hand_and_its_slope_over_depth(grid):
    found = summarize(grid)
    assert found["factors"] == {"num_layers": [2, 4, 8], "learning_rate": [0.001, 0.01]}
    assert found["complete"]
    expected = {2: 0.65, 4: 0.575, 8: 0.5375}
    for one in found["configurations"]:
        arm = last(one)["breakdown"]["arms"]["pruned"]
        assert arm["sparsity"]["mean"] == pytest.approx(expected[one["factors"]["num_layers"]])
    test = factor_test(found, "num_layers", "breakdown sparsity of pruned")
    x, y = np.array([1.0, 2.0, 3.0]), 100 * np.array([0.65, 0.575, 0.5375])
    assert test["slope"]["mean"] == pytest.approx(np.polyfit(x, y, 1)[0])
    # All three seeds are alike, so only relabellings that keep them alike reach the spread.
    assert test["p"] == pytest.approx(1 / 36)
    other = factor_test(found, "learning_rate", "breakdown sparsity of pruned")
    assert other["p"] == 1.0
    assert other["slope"]["mean"] == pytest.approx(0.0)


def test_the_tests_of_an_experiment_are_one_family(grid):
    found = summarize(grid)
    tests = [*found["factor_tests"], found["chosen_rates"]["test"]]
    assert [t["p_adjusted"] for t in tests] == holm([t["p"] for t in tests])
    # 1/36 alone is below 0.05, and not among so many.
    assert len(tests) > 2
    assert all(t["sentence"].startswith("No sign that") for t in tests)
    assert found["headline"]["verdict"] == "no effect shown"


def test_an_effect_that_stands_is_said_as_one():
    made = []
    for layers, seed in itertools.product((2, 4), range(9)):
        drop = 0.02 if layers == 2 else 0.08
        made += rows(layers, 0.001, seed, 0.8 + 0.001 * seed, (0.8 + 0.001 * seed, 0.8 - drop))
    found = summarize(made)
    test = factor_test(found, "num_layers", "breakdown sparsity of pruned")
    assert test["p_adjusted"] <= 0.05
    assert test["sentence"].startswith("Depth moves breakdown sparsity of pruned")
    assert found["headline"]["kind"] == "factor"


def test_a_curve_that_never_breaks_leaves_no_slope(grid):
    unbroken = [
        record(**{**vars(r), "accuracy": 0.8})
        if r.settings["num_layers"] == 2 and r.seed == 0
        else r
        for r in grid
    ]
    found = summarize(unbroken)
    test = factor_test(found, "num_layers", "breakdown sparsity of pruned")
    assert test["slope"] is None
    assert factor_test(found, "num_layers", "dense accuracy")["slope"] is not None
    one = last(found["configurations"][0])["breakdown"]["arms"]["pruned"]
    assert (one["sparsity"], one["broke"]) == (None, 2)


def test_whatever_the_order_of_the_records_the_bytes_are_the_same(grid):
    before = json.dumps(summarize(grid), allow_nan=False)
    mixed = list(grid)
    random.Random(0).shuffle(mixed)
    assert json.dumps(summarize(mixed), allow_nan=False) == before


def test_the_average_is_over_configurations(grid):
    average = summarize(grid)["average"]["pruned"]
    assert [entry["target_sparsity"] for entry in average] == [0.5, 0.8]
    assert average[1]["mean"] == pytest.approx(80 - (2 + 4 + 8) / 3)


def test_the_rate_is_chosen_on_validation_and_scored_on_test():
    made = []
    for layers, seed in itertools.product((2, 4), range(3)):
        # Better on validation, worse on test: the first rate has to be taken.
        for rate, validation, test in ((0.001, 0.9, 0.6), (0.01, 0.7, 0.8)):
            for r in rows(layers, rate, seed, 0.5, (0.5, 0.5)):
                accuracy = validation if r.split == "validation" else test
                made.append(record(**{**vars(r), "accuracy": accuracy}))
    chosen = summarize(made)["chosen_rates"]
    assert [c["learning_rate"] for c in chosen["chosen"]] == [0.001, 0.001]
    assert chosen["test"]["means"] == pytest.approx([60, 60])
    best = best_rates(split_groups(made))
    assert {depth: rows[0].settings["learning_rate"] for depth, rows in best.items()} == {
        2: 0.001,
        4: 0.001,
    }


def rates_grid():
    """Tickets win by 8 points at the low rate, lose by 1 at the high one, which is better."""
    made = []
    for rate, seed, arm in itertools.product(
        (0.001, 0.01), range(8), ("dense", "ticket", "reinit")
    ):
        settings = {"num_layers": 2, "learning_rate": rate, "epochs": 5}
        for split, level in itertools.product(("test", "validation"), (0.5, 0.9)):
            accuracy = 0.7 if rate == 0.001 else 0.8
            if arm == "ticket":
                accuracy += 0.08 if rate == 0.001 else -0.01
            made.append(
                record(row_id=f"{arm}/{rate}/{seed}/{level}", arm=arm, seed=seed, split=split,
                       target_sparsity=0.0 if arm == "dense" else level,
                       accuracy=accuracy + 0.0001 * seed, settings=settings)
            )  # fmt: skip
    return [r for r in made if r.arm != "dense" or r.row_id.endswith("0.5")]


def test_arms_are_compared_at_each_rate_and_each_at_its_own():
    found = summarize(rates_grid())
    verdicts = [
        last(one)["comparisons"]["reinit"]["verdict"]["verdict"] for one in found["configurations"]
    ]
    assert verdicts == ["ticket better", "control better"]
    (own,) = found["own_rates"]
    comparison = own["comparisons"]["reinit"]
    # Reinit is best at 0.01 with 80%, the ticket too, with 79%.
    assert [level["treatment_rate"] for level in comparison["levels"]] == [0.01, 0.01]
    assert comparison["primary"]["gap"]["mean"] == pytest.approx(-1)
    assert comparison["verdict"]["verdict"] == "control better"
    assert "chosen again in every relabelling" in comparison["verdict"]["sentence"]
    assert found["headline"]["where"] == "at its own learning rate"


@pytest.mark.parametrize("at_best", [False, True])
def test_a_seed_that_lacks_a_score_to_choose_by_is_left_out_and_named(at_best):
    made = rates_grid()
    gone = next(r for r in made if r.split == "validation" and r.arm == "reinit" and r.seed == 3)
    # Of the row itself there may be another score, at the best epoch.
    rest = [r for r in made if r is not gone] + [replace(gone, checkpoint="best")] * at_best
    (own,) = summarize(rest)["own_rates"]
    comparison = own["comparisons"]["reinit"]
    assert comparison["seeds"] == [0, 1, 2, 4, 5, 6, 7]
    assert comparison["seeds_left_out"] == [
        f"seed 3 has no validation score of reinit draw 0 at {100 * gone.target_sparsity:g}%"
    ]


def test_the_interval_at_own_rates_leaves_a_seed_out_with_the_choice():
    rng = np.random.default_rng(0)
    made = [
        record(**{**vars(r), "accuracy": r.accuracy + 0.03 * rng.standard_normal()})
        for r in rates_grid()
    ]
    (own,) = summarize(made)["own_rates"]
    gap = own["comparisons"]["reinit"]["primary"]["gap"]

    def again(seeds):
        some = [r for r in made if r.seed in seeds]
        return summarize(some)["own_rates"][0]["comparisons"]["reinit"]["primary"]["gap"]["mean"]

    assert gap["mean"] == pytest.approx(again(range(8)))
    without = [again(set(range(8)) - {seed}) for seed in range(8)]
    assert gap["error"] == pytest.approx(np.sqrt(7 / 8 * np.sum((without - np.mean(without)) ** 2)))


@pytest.mark.parametrize("at_best", [False, True])
def test_without_validation_there_is_nothing_to_choose_by(at_best):
    made = rates_grid()
    # Of the best epoch they are no use: the last one is compared.
    others = [replace(r, checkpoint="best") for r in made if r.split == "validation"] * at_best
    found = summarize([*(r for r in made if r.split == "test"), *others])
    assert (found["own_rates"], found["chosen_rates"]) == ([], None)
    assert len(found["configurations"]) == 2


def test_seeds_that_miss_a_configuration_are_left_out_of_its_tests(grid):
    some = [r for r in grid if not (r.seed == 2 and r.settings["num_layers"] == 8)]
    tests = summarize(some)["factor_tests"]
    assert {t["factor"]: t["seeds"] for t in tests}["num_layers"] == [0, 1]
    holes = [
        r
        for r in grid
        if not (r.settings["num_layers"] == 8 and r.settings["learning_rate"] == 0.01)
    ]
    found = summarize(holes)
    assert not found["complete"]
    assert {t["factor"] for t in found["factor_tests"]} == {"num_layers", "learning_rate"}


def test_a_gap_has_the_name_of_what_is_compared():
    some = [
        row
        for rate, seed, arm in itertools.product((0.001, 0.01), range(3), ("random", "snip"))
        for row in rows(2, rate, seed, 0.9, (0.8, 0.7), arm=arm)
        if row.arm != "dense" or arm == "snip"
    ]
    found = summarize(some, options=Options(treatment="random"))["factor_tests"]
    names = {test["outcome"] for test in found}
    assert {name for name in names if "gap" in name} == {"gap of random over snip"}


def test_records_of_different_things_are_no_grid(grid):
    other = [record(**{**vars(r), "dataset": "other"}) for r in grid]
    assert comparable(grid)
    assert not comparable([*grid, *other])
    assert not comparable(grid[:6])
    assert summarize([*grid, *other])["factor_tests"] == []


def test_the_best_rate_has_the_lowest_perplexity():
    shape = {"primary": "perplexity", "higher_is_better": False}
    made = [
        replace(row, metrics={"perplexity": perplexity}, **shape)
        for rate, perplexity in ((0.001, 90.0), (0.01, 300.0))
        for row in rows(2, rate, 0, 0.8, (0.8, 0.7))
    ]
    ((depth, best),) = best_rates(split_groups(made)).items()
    assert (depth, best[0].settings["learning_rate"]) == (2, 0.001)


def test_gains_of_retraining_by_hand():
    made = []
    for seed in range(4):
        settings = {"num_layers": 2, "learning_rate": 0.1, "epochs": 5}
        for arm, level, accuracy in (
            ("dense", 0.0, 0.8), ("dense_retrained", 0.0, 0.82), ("pruned", 0.5, 0.7),
            ("retrained", 0.5, 0.75 + 0.01 * seed),
        ):  # fmt: skip
            made.append(
                record(row_id=f"{arm}{seed}", arm=arm, seed=seed, target_sparsity=level,
                       accuracy=accuracy, settings=settings)
            )  # fmt: skip
    (one,) = summarize(made)["configurations"]
    (level,) = last(one)["retraining"]
    means = {
        "gain": 6.5, "over_dense": -3.5, "over_dense_retrained": -5.5, "gain_over_dense_gain": 4.5,
    }  # fmt: skip
    for kind, mean in means.items():
        assert level[kind]["estimate"]["mean"] == pytest.approx(mean)
    assert level["gain"]["p_two_sided"] == 2 / 16
    assert "dense_retrained" not in last(one)["breakdown"]["arms"]


@pytest.mark.parametrize(("seeds", "values"), [(3, 3), (5, 2), (2, 4)])
def test_p_is_that_of_all_relabellings(seeds, values):
    rng = np.random.default_rng(seeds)
    outcomes = rng.normal(size=(seeds, values)) + np.arange(values)

    def spread(table):
        return np.var(table.mean(axis=0))

    orders = list(itertools.permutations(range(values)))
    every = [
        spread(np.array([row[list(order)] for row, order in zip(outcomes, some, strict=True)]))
        for some in itertools.product(orders, repeat=seeds)
    ]
    expected = np.mean(np.array(every) >= spread(outcomes) - 1e-12)
    p, relabellings, exact = factor_permutation(outcomes)
    assert exact
    assert relabellings == len(orders) ** (seeds - 1)
    assert p == pytest.approx(expected)


def test_many_relabellings_are_sampled_and_agree_with_what_is_known():
    # Five alike values are exchangeable: p is uniform; ordered ones reach the least p there is.
    rng = np.random.default_rng(0)
    assert FACTOR_EXACT_LIMIT < 24**7
    ordered = np.arange(4.0) + 0.001 * rng.normal(size=(8, 4))
    assert factor_permutation(ordered) == (1 / 20_001, 20_000, False)
    ps = [factor_permutation(rng.normal(size=(8, 4)))[0] for _ in range(40)]
    assert 0.3 < np.mean(ps) < 0.7


def test_a_slope_is_per_doubling_or_per_tenfold():
    def per(values, factor):
        scores = {v: SeedScores({0: y, 1: y}) for v, y in zip(values, (1.0, 2.0, 3.0), strict=True)}
        return slope(scores, factor, 0.95, SEEDS_ALONE)

    assert per((2, 4, 8), "num_layers").mean == pytest.approx(1.0)
    assert per((0.001, 0.01, 0.1), "learning_rate").mean == pytest.approx(1.0)
    assert per((0.0, 0.01, 0.1), "learning_rate") is None


def test_flipping_signs_by_hand():
    assert sign_flip_p([1.0, 1.0, 1.0]) == 2 / 8
    assert sign_flip_p([1.0, -1.0]) == 1.0
    assert sign_flip_p([3.0, 1.0]) == 0.5
    assert sign_flip_p([2.0]) == 1.0
    assert sign_flip_p([]) is None
