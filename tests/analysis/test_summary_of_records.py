"""The summary: right numbers, the same bytes in any order, and nothing that breaks on odd data."""

import dataclasses
import json
import math

import numpy as np
import pytest
from analysis_fakes import dense, from_array, plausible_run, record

from lth_flax.analysis.summary import summarize, summary_text
from lth_flax.analysis.terminal import diverged_sentence
from lth_flax.errors import UserError

LEVELS = [0.5, 0.9, 0.98]


def entry(summary, arm, level, checkpoint="last"):
    table = summary["checkpoints"][checkpoint]["table"]
    return next(e for e in table if (e["arm"], e["target_sparsity"]) == (arm, level))


def test_table_holds_means_over_seeds_of_means_over_draws():
    values = np.array([[[0.8], [0.7], [0.6]], [[0.9], [0.5], [0.7]]])
    found = summarize(from_array(values, [0.5]))
    reinit = entry(found, "reinit", 0.5)
    assert reinit["mean"] == pytest.approx(62.5)
    assert reinit["by_seed"] == [[0, pytest.approx(65)], [1, pytest.approx(60)]]
    assert (reinit["n_seeds"], reinit["draws"]) == (2, 2)
    # Two seeds: t(0.975, 1) = 12.7062, sd = 5 / sqrt 2, so half is 12.7062 * 2.5.
    assert reinit["interval"] == pytest.approx([62.5 - 31.7655, 62.5 + 31.7655], abs=1e-3)
    gap = found["checkpoints"]["last"]["comparisons"]["reinit"]["primary"]
    assert gap["by_seed"] == [[0, pytest.approx(15)], [1, pytest.approx(30)]]
    assert gap["p_treatment_better"] == pytest.approx(1 / 9)


def test_any_order_of_records_gives_the_same_bytes():
    rows = plausible_run(seeds=3, levels=3)
    text = summary_text(summarize(rows))
    for key in range(3):
        np.random.default_rng(key).shuffle(rows)
        assert summary_text(summarize(rows)) == text
    assert json.loads(text)["headline"]["control"] == "reinit"


def test_best_checkpoint_stands_beside_the_last():
    rows = plausible_run(seeds=2, levels=2)
    found = summarize(rows)
    assert list(found["checkpoints"]) == ["last", "best"]
    last, best = (entry(found, "dense", 0.0, name)["mean"] for name in ("last", "best"))
    assert best - last == pytest.approx(0.4)
    verdict = found["checkpoints"]["last"]["comparisons"]["reinit"]["verdict"]
    assert found["headline"] == {"control": "reinit", **verdict}


def test_level_zero_is_reported_and_not_tested():
    values = np.random.default_rng(0).uniform(0.6, 0.9, (4, 2, 3))
    with_zero = summarize(from_array(values, [0.0, 0.5, 0.9]))
    without = summarize(from_array(values[:, :, 1:], [0.5, 0.9]))
    zero, *rest = with_zero["checkpoints"]["last"]["comparisons"]["reinit"]["levels"]
    assert zero["target_sparsity"] == 0
    assert zero["mean"] == pytest.approx(100 * (values[:, 0, 0] - values[:, 1, 0]).mean())
    assert zero["p_treatment_better"] is None
    assert rest == without["checkpoints"]["last"]["comparisons"]["reinit"]["levels"]


@pytest.mark.parametrize(
    "keep",
    [
        lambda r: r.arm == "dense",
        lambda r: r.arm == "ticket",
        lambda r: r.arm == "reinit",
        lambda r: r.arm != "ticket",
        lambda r: r.arm != "dense",
        lambda r: r.arm in ("dense", "ticket", "random"),
        lambda r: r.seed == 0,
        lambda r: r.seed == 0 and r.arm == "dense" and r.checkpoint == "best",
        lambda r: not (r.seed == 1 and r.arm == "reinit"),
    ],
)
def test_missing_arms_seeds_and_checkpoints_work(keep):
    found = summarize([row for row in plausible_run(seeds=2, levels=2) if keep(row)])
    text = summary_text(found)  # fails on NaN or infinity
    assert json.loads(text) == json.loads(json.dumps(found))
    comparisons = next(iter(found["checkpoints"].values()))["comparisons"]
    assert (found["headline"] is None) == (not comparisons)


def test_an_incomplete_seed_is_left_out_and_named():
    rows = [r for r in plausible_run(seeds=3, levels=2) if (r.seed, r.arm) != (1, "shuffled")]
    found = summarize(rows)["checkpoints"]["last"]["comparisons"]
    assert found["shuffled"]["seeds"] == [0, 2]
    assert found["shuffled"]["seeds_left_out"] == ["seed 1 has no shuffled draw 0 at 29%"]
    assert found["reinit"]["seeds"] == [0, 1, 2]


def test_collapsed_and_diverged_rows_are_named_and_kept():
    rows = from_array(np.full((2, 2, 1), 0.8), [0.9])
    rows[0] = dataclasses.replace(rows[0], connected=False, accuracy=0.5)
    rows[1] = dataclasses.replace(
        rows[1], predicted_shares=(0.0005, 0.9995), loss=math.nan, diverged_epoch=2, accuracy=0.5
    )
    found = summarize(rows)
    collapsed = found["checkpoints"]["last"]["collapsed"]
    assert [row["row_id"] for row in collapsed["disconnected"]] == [rows[0].row_id]
    assert [row["row_id"] for row in collapsed["one_class"]] == [rows[1].row_id]
    assert found["diverged"]["count"] == 1
    assert found["diverged"]["rows"][0]["row_id"] == rows[1].row_id
    assert found["diverged"]["rows"][0]["diverged_epoch"] == 2
    said = diverged_sentence(found)
    assert f"1 network ({rows[1].row_id} in epoch 2)" in said
    assert "kept in every table" in said
    assert diverged_sentence(summarize(rows[2:])) == ""
    assert entry(found, "ticket", 0.9)["mean"] == pytest.approx(65)
    assert entry(found, "reinit", 0.9)["mean"] == pytest.approx(65)
    assert entry(found, "reinit", 0.9)["loss"] is None
    assert "nan" not in summary_text(found).lower().replace("financial", "")


def test_density_is_summarized_and_shared_masks_are_said_once():
    rows = [
        record(arm=arm, seed=seed, density={"head/kernel": share})
        for arm, shares in (("ticket", (0.2, 0.4)), ("reinit", (0.2, 0.4)), ("random", (0.0, 0.5)))
        for seed, share in enumerate(shares)
    ]
    density = summarize(rows)["density"]
    assert density["ticket"][0]["mean"]["head/kernel"] == pytest.approx(0.3)
    assert density["random"][0]["min"] == {"head/kernel": 0.0}
    assert density["reinit"] == {"same_as": "ticket"}


def test_options_reach_the_statistics():
    rows = plausible_run(seeds=4, levels=4)
    found = summarize(rows, margin=3.0, alpha=0.01, primary_sparsity=(0.2, 0.6))
    one = found["checkpoints"]["last"]["comparisons"]["reinit"]
    assert one["primary"]["levels"] == [0.29, 0.4959]
    assert one["verdict"]["verdict"] == "equivalent within ±3 points"
    assert found["options"]["margin_points"] == 3.0


def test_unusable_records_are_refused():
    with pytest.raises(UserError, match="no record of the test split"):
        summarize([record(split="validation")])
    with pytest.raises(UserError, match="differ in num_layers"):
        summarize([record(), record(seed=1, settings={**record().settings, "num_layers": 4})])


def test_majority_and_examples_are_of_the_test_split():
    rows = [dense(seed, 0.9, majority_accuracy=share) for seed, share in ((0, 0.5), (1, 0.6))]
    rows += [dense(0, 0.9, split="validation", majority_accuracy=0.9, examples=7)]
    found = summarize(rows)
    assert found["majority_accuracy"] == pytest.approx(55)
    assert found["examples"] == [1000]


@pytest.mark.parametrize(
    ("idle", "words"),
    [
        (("dense",), "all 4 dense networks predict one class"),
        (("ticket", "reinit"), "all 8 networks compared predict one class"),
        (("ticket",), ""),
        (("shuffled",), ""),
    ],
)
def test_networks_that_learned_nothing_are_no_evidence(idle, words):
    """All at the accuracy of the majority class: equal, and no sign of equivalence."""
    rows = [dense(seed, 0.55) for seed in range(4)]
    for arm in ("ticket", "reinit", "shuffled"):
        rows += [record(arm=arm, seed=seed, accuracy=0.55) for seed in range(4)]
    rows = [
        dataclasses.replace(row, predicted_shares=(1.0, 0.0)) if row.arm in idle else row
        for row in rows
    ]
    headline = summarize(rows)["headline"]
    if words:
        assert headline["verdict"] == "cannot tell with 4 seeds"
        assert words in headline["sentence"]
    else:
        assert headline["verdict"] == "equivalent within ±0.5 points"
