"""Several ways to a mask in one table: costs, tests and their adjustment."""

import numpy as np
import pytest
from analysis_fakes import dense, record

from lth_flax.analysis.methods import lines_of, methods_figure, table, write_methods
from lth_flax.analysis.plot_style import arm_styles
from lth_flax.analysis.result import Options
from lth_flax.analysis.summary import summarize
from lth_flax.analysis.terminal import main_finding
from lth_flax.runs.methods import WAYS

LEVELS = (0.8, 0.9)
# How much worse than the first each is, in points, and what it cost.
OTHERS = {"snip": (3.0, 2, 100), "rigl": (0.0, 0, 100), "dense_equal_cost": (-1.0, 0, 300)}


def records():
    rng = np.random.default_rng(0)
    rows = []
    for seed in range(8):
        rows.append(dense(seed, 0.85, train_steps=100, mask_steps=0, dense_steps=100.0))
        for index, level in enumerate(LEVELS):
            base = 0.8 + 0.002 * rng.standard_normal()
            rows.append(
                record(
                    arm="ticket", seed=seed, target_sparsity=level, level=index + 1, accuracy=base,
                    train_steps=100, mask_steps=100 * (index + 1), dense_steps=120.0 + index,
                )
            )  # fmt: skip
            for arm, (worse, search, steps) in OTHERS.items():
                rows.append(
                    record(
                        arm=arm, seed=seed, target_sparsity=level, level=index + 1,
                        accuracy=base - worse / 100 + 0.002 * rng.standard_normal(),
                        train_steps=steps, mask_steps=search, dense_steps=steps * (1 - level),
                    )
                )  # fmt: skip
    return rows


@pytest.fixture(scope="module")
def found():
    rows = records()
    summary = summarize(rows, options=Options(treatment="ticket"))
    return summary, lines_of(summary, rows)


def test_scores_costs_and_gaps_are_those_of_the_records(found):
    _, lines = found
    by_place = {(line.method, line.target_sparsity): line for line in lines}
    assert by_place["ticket", 0.9].steps == 300
    assert by_place["ticket", 0.9].dense_steps == 121
    assert by_place["ticket", 0.9].gap is None
    assert by_place["snip", 0.8].steps == 102
    assert by_place["snip", 0.8].gap == pytest.approx(3, abs=0.3)
    assert by_place["dense_equal_cost", 0.8].gap == pytest.approx(-1, abs=0.3)
    assert by_place["dense", 0.0].score == pytest.approx(85)


def test_scores_are_those_of_the_rate_that_validation_chose():
    """Not of the rate with the best test score: that would choose on what is reported."""
    rows = []
    for rate, validation, tested in ((0.001, 0.6, 0.9), (0.01, 0.7, 0.5)):
        for seed in range(8):
            for arm, level in (("dense", 0.0), ("ticket", 0.8), ("snip", 0.8)):
                better = 0.01 * (arm == "ticket")
                for split, score in (("validation", validation), ("test", tested)):
                    rows.append(
                        record(
                            arm=arm, seed=seed, target_sparsity=level, level=int(level > 0),
                            split=split, accuracy=score + better, train_steps=10, mask_steps=0,
                            dense_steps=10.0, settings={"learning_rate": rate},
                        )
                    )  # fmt: skip
    summary = summarize(rows, options=Options(treatment="ticket"))
    scores = {line.method: line.score for line in lines_of(summary, rows)}
    assert scores == pytest.approx({"dense": 50, "ticket": 51, "snip": 50})


def test_p_values_are_adjusted_for_the_number_of_methods(found):
    _, lines = found
    p = {line.method: line.p for line in lines if line.p is not None}
    adjusted = {line.method: line.p_adjusted for line in lines if line.p is not None}
    assert set(p) == set(OTHERS)
    ranked = sorted(p, key=p.get)
    assert p[ranked[0]] == p[ranked[1]] == 2 / 2**8  # the smallest that eight seeds have
    # Holm by hand: the smallest by three, no later one below an earlier one.
    assert adjusted[ranked[0]] == pytest.approx(3 * p[ranked[0]])
    assert adjusted[ranked[1]] == pytest.approx(max(3 * p[ranked[0]], 2 * p[ranked[1]]))
    assert adjusted["rigl"] == max(p["rigl"], adjusted[ranked[1]])


def test_the_first_method_named_is_the_one_that_is_compared():
    rows = records()
    summary = summarize(rows, options=Options(treatment="rigl"))
    gaps = {line.method: line.gap for line in lines_of(summary, rows) if line.gap is not None}
    assert set(gaps) == {"ticket", "snip", "dense_equal_cost"}
    assert gaps["snip"] == pytest.approx(3, abs=0.3)


def test_one_table_and_one_figure(found, tmp_path):
    summary, lines = found
    text = table(lines, "ticket")
    assert text.splitlines()[0].split() == [
        "method", "80%", "90%", "steps", "dense", "steps", "ticket", "minus", "it", "p",
        "adjusted", "p",
    ]  # fmt: skip
    assert len(text.splitlines()) == 1 + 2 + len(OTHERS)
    figure = methods_figure(summary, lines)
    assert len(figure.axes) == 2
    assert len(figure.axes[0].lines) == 2 + len(OTHERS)
    (tmp_path / "report").mkdir()
    bare = tmp_path / "no report"
    bare.mkdir()
    assert write_methods(bare, summary, records(), draw=False) == text
    assert [file.name for file in bare.iterdir()] == ["methods.csv"]
    assert write_methods(tmp_path, summary, records()) == text
    rows = (tmp_path / "methods.csv").read_text().splitlines()
    assert rows[0] == "method,target_sparsity,score,steps,dense_steps,gap,p,p_adjusted"
    assert len(rows) == 1 + 1 + 2 * (1 + len(OTHERS))
    assert (tmp_path / "report" / "methods.png").stat().st_size > 10_000


def test_every_method_has_a_colour_of_its_own():
    arms = ["ticket", "random", "dense", "dense_equal_cost", "random_equal_cost", *WAYS]
    styles = arm_styles(arms)
    assert len({styles[arm]["color"] for arm in arms}) == len(set(arms))


def test_the_main_finding_is_adjusted_for_the_number_of_methods(found):
    summary, lines = found
    adjusted = {line.method: line.p_adjusted for line in lines if line.p_adjusted is not None}
    differ = [name for name in adjusted if adjusted[name] <= 0.05]
    assert "snip" in differ
    assert "rigl" not in differ
    of_methods = {**summary, "experiment": "compare_methods"}
    assert main_finding(of_methods).startswith(f"of {len(adjusted)} methods, ")
    assert "snip" in main_finding(of_methods)
    assert "rigl" not in main_finding(of_methods)
    assert main_finding(summary).endswith(summary["headline"]["verdict"])
