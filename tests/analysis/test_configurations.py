"""Configurations side by side: against brute force, known slopes and tables done by hand."""

import itertools
import json
import random

import numpy as np
import pytest
from analysis_fakes import record
from lth_flax.analysis.configurations import comparable, compare_configurations
from lth_flax.analysis.factor_test import EXACT_LIMIT, factor_test, sign_flip_p

from lth_flax.errors import UserError

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


def test_breakdown_by_hand_and_its_slope_over_depth(grid):
    found = compare_configurations(grid)
    assert found["factors"] == {"num_layers": [2, 4, 8], "learning_rate": [0.001, 0.01]}
    assert found["complete"]
    expected = {2: 0.65, 4: 0.575, 8: 0.5375}
    for one in found["configurations"]:
        assert one["breakdown"]["pruned"]["mean"] == pytest.approx(expected[one["num_layers"]])
    (test,) = [
        t
        for t in found["tests"]
        if (t["factor"], t["outcome"]) == ("num_layers", "breakdown sparsity of pruned")
    ]
    x, y = np.array([1.0, 2.0, 3.0]), 100 * np.array([0.65, 0.575, 0.5375])
    assert test["slope"]["mean"] == pytest.approx(np.polyfit(x, y, 1)[0])
    # All three seeds are alike, so only relabellings that keep them alike reach the spread.
    assert test["p"] == pytest.approx(1 / 36)
    (other,) = [
        t
        for t in found["tests"]
        if (t["factor"], t["outcome"]) == ("learning_rate", "breakdown sparsity of pruned")
    ]
    assert other["p"] == 1.0
    assert other["slope"]["mean"] == pytest.approx(0.0)


def test_whatever_the_order_of_the_records_the_bytes_are_the_same(grid):
    before = json.dumps(compare_configurations(grid), allow_nan=False)
    mixed = list(grid)
    random.Random(0).shuffle(mixed)
    assert json.dumps(compare_configurations(mixed), allow_nan=False) == before


def test_the_average_is_over_configurations(grid):
    average = compare_configurations(grid)["average"]["pruned"]
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
    chosen = compare_configurations(made)["chosen_rates"]
    assert [c["learning_rate"] for c in chosen["chosen"]] == [0.001, 0.001]
    assert chosen["means"] == pytest.approx([60, 60])


def test_seeds_that_miss_a_configuration_are_left_out_of_its_tests(grid):
    some = [r for r in grid if not (r.seed == 2 and r.settings["num_layers"] == 8)]
    tests = compare_configurations(some)["tests"]
    assert {t["factor"]: t["seeds"] for t in tests}["num_layers"] == [0, 1]
    holes = [
        r
        for r in grid
        if not (r.settings["num_layers"] == 8 and r.settings["learning_rate"] == 0.01)
    ]
    found = compare_configurations(holes)
    assert not found["complete"]
    assert {t["factor"] for t in found["tests"]} == {"num_layers", "learning_rate"}


def test_records_of_different_things_are_no_grid(grid):
    other = [record(**{**vars(r), "dataset": "other"}) for r in grid]
    assert comparable(grid)
    assert not comparable([*grid, *other])
    assert not comparable(grid[:6])
    with pytest.raises(UserError, match="no grid of configurations"):
        compare_configurations([*grid, *other])


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
    (one,) = compare_configurations(made)["configurations"]
    (level,) = one["retraining"]
    assert level["gain"]["mean"] == pytest.approx(6.5)
    assert level["over_dense"]["mean"] == pytest.approx(-3.5)
    assert level["over_dense_retrained"]["mean"] == pytest.approx(-5.5)
    assert level["gain_over_dense_gain"]["mean"] == pytest.approx(4.5)
    assert level["gain"]["p_two_sided"] == 2 / 16
    assert "dense_retrained" not in one["breakdown"]


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
    found = factor_test(outcomes, range(1, values + 1), "num_layers")
    assert found["exact"]
    assert found["p"] == pytest.approx(expected)


def test_many_relabellings_are_sampled_and_agree_with_what_is_known():
    # Five alike values are exchangeable: p is uniform; ordered ones reach the least p there is.
    rng = np.random.default_rng(0)
    assert EXACT_LIMIT < 24**7
    ordered = np.arange(4.0) + 0.001 * rng.normal(size=(8, 4))
    found = factor_test(ordered, (1, 2, 4, 8), "num_layers")
    assert not found["exact"]
    assert found["p"] == 1 / 20_001
    ps = [factor_test(rng.normal(size=(8, 4)), (1, 2, 4, 8), "epochs")["p"] for _ in range(40)]
    assert 0.3 < np.mean(ps) < 0.7


def test_a_slope_is_per_doubling_or_per_tenfold():
    line = np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    assert factor_test(line, (2, 4, 8), "num_layers")["slope"]["mean"] == pytest.approx(1.0)
    rates = factor_test(line, (0.001, 0.01, 0.1), "learning_rate")
    assert rates["slope"]["mean"] == pytest.approx(1.0)
    assert rates["per"] == "per tenfold"
    assert factor_test(line, (0.0, 0.01, 0.1), "learning_rate")["slope"] is None


def test_flipping_signs_by_hand():
    assert sign_flip_p([1.0, 1.0, 1.0]) == 2 / 8
    assert sign_flip_p([1.0, -1.0]) == 1.0
    assert sign_flip_p([3.0, 1.0]) == 0.5
    assert sign_flip_p([]) is None
