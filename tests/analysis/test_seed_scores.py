"""What texts that seeds share add to intervals, against what is right of every text."""

import math

import numpy as np
import pytest
from analysis_fakes import record

from lth_flax.analysis import claim_rules as rules
from lth_flax.analysis.compare import design_of
from lth_flax.analysis.evidence import Run
from lth_flax.analysis.merge import split_groups
from lth_flax.analysis.seed_scores import SeedScores, mean_of, weighted
from lth_flax.analysis.summary import summarize
from lth_flax.analysis.tables import arm_table
from lth_flax.predictions import labels_name

TEXTS, SEEDS = 600, 6


class Networks:
    """Made-up networks on one test set: which texts each has right, their rows and predictions."""

    def __init__(self):
        self.random = np.random.default_rng(0)
        self.labels = self.random.integers(2, size=TEXTS)
        self.hard = self.random.random(TEXTS)  # what networks share, so texts matter
        names = (labels_name("imdb_reviews", seed) for seed in range(100, 100 + SEEDS))
        self.rows, self.predictions = [], dict.fromkeys(names, self.labels)

    def add(self, arm, level, share, draws=1, **settings):
        """One network a seed and draw; returns what is right, [seeds, texts], draws averaged."""
        settings = {"num_layers": 2, "learning_rate": 0.001, "epochs": 2} | settings
        hit = np.zeros((SEEDS, draws, TEXTS))
        for seed, draw in np.ndindex(SEEDS, draws):
            noise = 0.2 * self.random.normal(size=TEXTS)
            hit[seed, draw] = right = self.hard + noise < share + 0.01 * self.random.normal()
            name = "/".join(map(str, (arm, level, seed, draw, *settings.values())))
            fixed = {
                "arm": arm, "target_sparsity": level, "seed": 100 + seed, "draw": draw,
                "row_id": name, "settings": settings, "dataset": "imdb_reviews",
                "test_drawn": False, "train_examples": 4000,
            }  # fmt: skip
            test = record(**fixed, accuracy=right.mean(), examples=TEXTS)
            self.rows += [test, record(**fixed, accuracy=right.mean(), split="validation")]
            self.predictions[f"{name}/last"] = np.where(right, self.labels, 1 - self.labels)
        return hit.mean(axis=1)

    @property
    def run(self):
        return Run("some_run", split_groups(self.rows), self.predictions)


def error_of(contrast):
    """Standard error of the mean of [seeds, texts], in points: over seeds and over texts."""
    by_seed, by_text = 100 * contrast.mean(axis=1), 100 * contrast.mean(axis=0)
    return math.sqrt(np.var(by_seed, ddof=1) / len(by_seed) + np.var(by_text) / len(by_text))


def interval(contrast):
    """As the page of claims says it."""
    n, quantile = len(contrast), {6: 2.57058, 8: 2.36462}[len(contrast)]  # t of n - 1
    mean, half = 100 * contrast.mean(), quantile * error_of(contrast)
    return f"{mean:+.2f} points ({mean - half:+.2f} to {mean + half:+.2f}, n = {n})"


@pytest.fixture
def retrained():
    made = Networks()
    right = {"dense": made.add("dense", 0.0, 0.8)}
    right["dense_retrained"] = made.add("dense_retrained", 0.0, 0.85)
    for level in (0.7, 0.8, 0.9):
        right["pruned", level] = made.add("pruned", level, 0.6)
        right["retrained", level] = made.add("retrained", level, 0.8 - level / 10)
    return made, right


def test_gains_of_training_on_hold_the_sampling_of_texts(retrained):
    made, right = retrained
    found = summarize(made.rows, predictions=made.predictions)["configurations"][0]
    for level in found["checkpoints"]["last"]["retraining"]:
        after = right["retrained", level["target_sparsity"]]
        gain = after - right["pruned", level["target_sparsity"]]
        expected = {
            "gain": gain,
            "over_dense": after - right["dense"],
            "over_dense_retrained": after - right["dense_retrained"],
            "gain_over_dense_gain": gain - right["dense_retrained"] + right["dense"],
        }
        for kind, contrast in expected.items():
            estimate = level[kind]["estimate"]
            assert estimate["mean"] == pytest.approx(100 * contrast.mean())
            assert estimate["error"] == pytest.approx(error_of(contrast))


def test_c8_averages_levels_text_by_text(retrained):
    made, right = retrained
    gains = [right["retrained", v] - right["pruned", v] for v in (0.7, 0.8, 0.9)]
    contrast = np.mean(gains, axis=0) - right["dense_retrained"] + right["dense"]
    assert interval(contrast) in rules.helps(made.run, band="above 60%").effect


@pytest.fixture
def cut():
    """Two runs of one network on 32 and 400 tokens."""
    made = [Networks(), Networks()]
    right = [
        one.add("dense", 0.0, share, max_length=length, keep="start")
        for one, share, length in zip(made, (0.6, 0.9), (32, 400), strict=True)
    ]
    return made, right


def test_c10_pairs_texts_across_two_runs(cut):
    made, right = cut
    found = rules.cost_of_cutting(*(one.run for one in made))
    assert interval(right[1] - right[0]) in found.effect


def test_texts_in_another_order_are_not_paired(cut):
    """As where a run cuts them at another length: the variances are added then."""
    made, right = cut
    order = np.random.default_rng(1).permutation(TEXTS)
    moved = {name: classes[order] for name, classes in made[1].predictions.items()}
    made[1].predictions.update(moved)
    gap, over_texts = right[1] - right[0], [100 * one.mean(axis=0) for one in right]
    error = math.sqrt(
        np.var(100 * gap.mean(axis=1), ddof=1) / SEEDS + sum(map(np.var, over_texts)) / TEXTS
    )
    assert error > error_of(gap)
    low = 100 * gap.mean() - 2.5706 * error
    assert f"({low:+.2f} to " in rules.cost_of_cutting(*(one.run for one in made)).effect


def test_c3a_c8c_c9_and_q1_hold_the_sampling_of_texts(monkeypatch):
    monkeypatch.setitem(globals(), "SEEDS", 8)
    made = Networks()
    two, six = (made.add("dense", 0.0, share, num_layers=n) for n, share in ((2, 0.7), (6, 0.9)))
    assert interval(six - two) in rules.six_over_two(made.run).effect

    made = Networks()
    dense = made.add("dense", 0.0, 0.9)
    longer = made.add("dense_retrained", 0.0, 0.92)
    gains = {}
    for level in (0.4, 0.5, 0.6):
        before = made.add("pruned", level, 0.9 - 0.1 * level)
        gains[level] = made.add("retrained", level, 0.9) - before
    for level, gain in gains.items():
        said = f"{interval(gain)} at {level:.0%}"
        assert said in rules.often_hurts(made.run).effect
        assert said in rules.slowest_gains(made.run).effect
        left = f"{interval(gain - longer + dense)} without the dense network's"
        assert left in rules.slowest_gains(made.run).effect

    ways = Networks(), Networks()
    right = [
        one.add("ticket", 0.9, share, max_length=0)
        for one, share in zip(ways, (0.9, 0.7), strict=True)
    ]
    gap = right[0] - right[1]
    mean, half = 100 * gap.mean(), 2.36462 * error_of(gap)
    effect = rules.iterative_over_oneshot(*(one.run for one in ways)).effect
    assert f"{mean:+.2f} points" in effect
    assert f"interval {mean - half:+.2f} to {mean + half:+.2f};" in effect


def test_an_accuracy_has_the_variance_of_its_texts_or_the_most_that_it_can_be():
    made = Networks()
    right = made.add("ticket", 0.5, 0.7, draws=2)
    rows = [row for row in made.rows if row.split == "test"]
    design, (cell,) = design_of(rows), arm_table(rows, 0.95, design_of(rows), made.predictions)
    assert cell.score.mean == pytest.approx(100 * right.mean())
    assert cell.score.error == pytest.approx(error_of(right))
    (unknown,) = arm_table(rows, 0.95, design)
    p = right.mean()
    over_seeds = np.var(100 * right.mean(axis=1), ddof=1) / SEEDS
    assert unknown.score.error == pytest.approx(math.sqrt(over_seeds + 1e4 * p * (1 - p) / TEXTS))
    assert unknown.score.error > cell.score.error
    # As many seeds say one class for all texts as say the other: other texts change nothing.
    for row in rows:
        made.predictions[f"{row.row_id}/last"] = np.full(TEXTS, row.seed % 2)
    (constant,) = arm_table(rows, 0.95, design, made.predictions)
    assert constant.score.error == pytest.approx(math.sqrt(over_seeds))


def test_slopes_of_accuracy_and_of_gaps_hold_the_sampling_of_texts():
    made, depths = Networks(), (2, 4, 8)
    dense = [made.add("dense", 0.0, 0.8 - 0.01 * d, num_layers=d) for d in depths]
    gaps = [
        made.add("ticket", 0.9, 0.8 - 0.01 * d, num_layers=d)
        - made.add("reinit", 0.9, 0.75 - 0.02 * d, draws=2, num_layers=d)
        for d in depths
    ]
    found = {
        test["outcome"]: test["slope"]
        for test in summarize(made.rows, predictions=made.predictions)["factor_tests"]
    }
    # Per doubling, of three values one doubling apart: half of the last less the first.
    assert found["dense accuracy"]["error"] == pytest.approx(error_of((dense[2] - dense[0]) / 2))
    gap = found["gap of ticket over reinit"]
    assert gap["error"] == pytest.approx(error_of((gaps[2] - gaps[0]) / 2))
    assert gap["mean"] == pytest.approx(50 * (gaps[2] - gaps[0]).mean())


def test_sums_are_over_the_seeds_that_all_have():
    one, other = SeedScores({1: 2.0, 2: 3.0}), SeedScores({2: 1.0, 3: 5.0})
    assert (one - other).by_seed == {2: 2.0}
    assert mean_of([one, other]).by_seed == {2: 2.0}
    assert weighted([(3.0, one)]).by_seed == {1: 6.0, 2: 9.0}
    assert (one - SeedScores({})).by_seed == {}


def test_texts_are_nothing_where_they_are_not_shared_or_not_known():
    made = Networks()
    made.add("dense", 0.0, 0.8)
    shared = design_of(made.rows)
    tests = [row for row in made.rows if row.split == "test"]
    scores = SeedScores.of(tests, made.predictions)
    # Of one accuracy the labels are needed: a share of what is right.
    by_text = 100 * np.mean([made.predictions[f"{r.row_id}/last"] == made.labels for r in tests], 0)
    assert scores.text_variance(shared) == pytest.approx(np.var(by_text) / TEXTS)
    assert SeedScores.of(tests).text_variance(shared) is None
    assert scores.text_variance(design_of([record()])) is None
    assert (scores - SeedScores.of(tests)).text_variance(shared) is None
    # Labels of one seed serve all; without any, a single accuracy has none, a difference has.
    known, labels = scores.text_variance(shared), made.predictions
    for seed in range(101, 100 + SEEDS):
        del labels[labels_name("imdb_reviews", seed)]
    assert scores.text_variance(shared) == pytest.approx(known)
    del labels[labels_name("imdb_reviews", 100)]
    assert scores.text_variance(shared) is None
    made.predictions.pop(f"{tests[0].row_id}/last")
    assert scores.text_variance(shared) is None
