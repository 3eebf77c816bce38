"""The summary: right numbers, the same bytes in any order, and nothing that breaks on odd data."""

import dataclasses
import json
import math

import numpy as np
import pytest
from analysis_fakes import dense, from_array, plausible_run, record
from hypothesis import given, settings
from hypothesis import strategies as st

from lth_flax.analysis.result import Options, summary_text
from lth_flax.analysis.summary import summarize
from lth_flax.analysis.terminal import diverged_sentence
from lth_flax.errors import UserError
from lth_flax.predictions import labels_name

LEVELS = [0.5, 0.9, 0.98]


def only(summary):
    """The one configuration that there is."""
    (one,) = summary["configurations"]
    return one


def comparisons(summary, checkpoint="last"):
    return only(summary)["checkpoints"][checkpoint]["comparisons"]


def entry(summary, arm, level, checkpoint="last"):
    table = only(summary)["checkpoints"][checkpoint]["table"]
    return next(e for e in table if (e["arm"], e["target_sparsity"]) == (arm, level))


def test_table_holds_means_over_seeds_of_means_over_draws():
    values = np.array([[[0.8], [0.7], [0.6]], [[0.9], [0.5], [0.7]]])
    found = summarize(from_array(values, [0.5]))
    assert entry(found, "reinit", 0.5)["draws"] == 2
    reinit = entry(found, "reinit", 0.5)["score"]
    assert reinit["mean"] == pytest.approx(62.5)
    assert reinit["by_seed"] == [[0, pytest.approx(65)], [1, pytest.approx(60)]]
    assert reinit["n_seeds"] == 2
    # Two seeds: t(0.975, 1) = 12.7062, sd = 5 / sqrt 2, so half is 12.7062 * 2.5.
    assert reinit["interval"] == pytest.approx([62.5 - 31.7655, 62.5 + 31.7655], abs=1e-3)
    primary = comparisons(found)["reinit"]["primary"]
    assert primary["gap"]["by_seed"] == [[0, pytest.approx(15)], [1, pytest.approx(30)]]
    assert primary["p_treatment_better"] == pytest.approx(1 / 9)
    assert primary["p"] == primary["smallest_p"] == pytest.approx(2 / 9)


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
    assert list(only(found)["checkpoints"]) == ["last", "best"]
    last, best = (entry(found, "dense", 0.0, name)["score"] for name in ("last", "best"))
    assert best["mean"] - last["mean"] == pytest.approx(0.4)
    verdict = comparisons(found)["reinit"]["verdict"]
    del verdict["reason"]
    assert found["headline"] == {"where": "", "control": "reinit", **verdict}


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
    compared = next(iter(only(found)["checkpoints"].values()))["comparisons"]
    assert (found["headline"] is None) == (not compared)


def test_an_incomplete_seed_is_left_out_and_named():
    rows = [r for r in plausible_run(seeds=3, levels=2) if (r.seed, r.arm) != (1, "shuffled")]
    found = comparisons(summarize(rows))
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
    collapsed = only(found)["checkpoints"]["last"]["collapsed"]
    assert [row["row_id"] for row in collapsed["disconnected"]] == [rows[0].row_id]
    assert [row["row_id"] for row in collapsed["one_class"]] == [rows[1].row_id]
    assert only(found)["diverged"]["count"] == 1
    assert only(found)["diverged"]["rows"][0]["row_id"] == rows[1].row_id
    assert only(found)["diverged"]["rows"][0]["diverged_epoch"] == 2
    said = diverged_sentence(only(found))
    assert f"1 network ({rows[1].row_id} in epoch 2)" in said
    assert "kept in every table" in said
    assert diverged_sentence(only(summarize(rows[2:]))) == ""
    assert entry(found, "ticket", 0.9)["score"]["mean"] == pytest.approx(65)
    assert entry(found, "reinit", 0.9)["score"]["mean"] == pytest.approx(65)
    assert entry(found, "reinit", 0.9)["loss"] is None
    assert "nan" not in summary_text(found).lower().replace("financial", "")


def test_density_is_summarized_and_shared_masks_are_said_once():
    rows = [
        record(arm=arm, seed=seed, density={"head/kernel": share})
        for arm, shares in (("ticket", (0.2, 0.4)), ("reinit", (0.2, 0.4)), ("random", (0.0, 0.5)))
        for seed, share in enumerate(shares)
    ]
    density = only(summarize(rows))["density"]
    assert density["ticket"][0]["mean"]["head/kernel"] == pytest.approx(0.3)
    assert density["random"][0]["min"] == {"head/kernel": 0.0}
    assert density["reinit"] == {"same_as": "ticket"}


def test_options_reach_the_statistics():
    rows = plausible_run(seeds=4, levels=4)
    options = Options(margin_points=3.0, alpha=0.01, primary_sparsity=(0.2, 0.6))
    found = summarize(rows, options=options)
    one = comparisons(found)["reinit"]
    assert one["range"] == [0.29, 0.6]
    assert [level["in_range"] for level in one["levels"]] == [True, True, False, False]
    assert one["verdict"]["verdict"] == "equivalent within ±3 points"
    assert found["options"]["margin_points"] == 3.0


def test_records_without_a_test_row_are_refused():
    with pytest.raises(UserError, match="no record of the test split"):
        summarize([record(split="validation")])


def test_records_of_different_things_are_configurations_of_their_own():
    rows = plausible_run(seeds=2, levels=1) + plausible_run(seeds=2, levels=1, dataset="other")
    found = summarize(rows)
    assert [one["name"] for one in found["configurations"]] == [
        "dataset other",
        "dataset synthetic",
    ]
    assert (found["factors"], found["factor_tests"], found["own_rates"]) == ({}, [], [])
    assert all(one["checkpoints"]["last"]["comparisons"] for one in found["configurations"])


def test_majority_and_examples_are_of_the_test_split():
    rows = [dense(seed, 0.9, majority_accuracy=share) for seed, share in ((0, 0.5), (1, 0.6))]
    rows += [dense(0, 0.9, split="validation", majority_accuracy=0.9, examples=7)]
    found = only(summarize(rows))
    assert found["majority_accuracy"] == pytest.approx(55)
    assert found["examples"] == [1000]


def test_intervals_are_of_the_design_of_the_records():
    rows = plausible_run(seeds=4, levels=2, test_drawn=True, train_examples=2000)
    drawn, plain = summarize(rows), summarize(plausible_run(seeds=4, levels=2))
    assert only(drawn)["variance"]["kind"] == "resplits"
    assert only(drawn)["variance"]["test_over_train"] == 0.5
    for arm, level in (("ticket", 0.29), ("dense", 0.0)):
        wide, narrow = (entry(one, arm, level)["score"] for one in (drawn, plain))
        # (1/4 + 1/2) / (1/4) = 3 times the variance.
        assert wide["error"] == pytest.approx(narrow["error"] * 3**0.5)
    shared = summarize(plausible_run(seeds=4, levels=2, test_drawn=False))
    found = entry(shared, "ticket", 0.29)["score"]
    plain = entry(plain, "ticket", 0.29)["score"]
    share = found["mean"] / 100
    sampling = 100**2 * share * (1 - share) / 1000
    assert found["error"] == pytest.approx((plain["error"] ** 2 + sampling) ** 0.5)


def test_the_confusion_matrix_of_two_classes_follows_from_a_record():
    """40 of 100 texts are of class 0; 30 of them and 45 of the others are recognized."""
    row = record(
        accuracy=0.75,
        balanced_accuracy=(0.75 + 0.75) / 2,
        predicted_shares=(0.45, 0.55),
        majority_accuracy=0.6,
    )
    classes = entry(summarize([row]), "ticket", 0.5)["classes"]
    assert np.array(classes["confusion"]) == pytest.approx(np.array([[0.3, 0.1], [0.15, 0.45]]))
    assert classes["recall"] == pytest.approx([75, 75])
    # 2 * 30 / (40 + 45) and 2 * 45 / (60 + 55).
    assert classes["f1"] == pytest.approx([100 * 60 / 85, 100 * 90 / 115])
    assert classes["macro_f1"] == pytest.approx(50 * (60 / 85 + 90 / 115))
    # The majority may be class 0 just as well: balanced accuracy tells.
    other = dataclasses.replace(row, balanced_accuracy=(0.65 / 2 + 0.425 / 0.6 - 0.1) / 2)
    assert entry(summarize([other]), "ticket", 0.5)["classes"] is None  # no such network


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 4))
def test_confusion_is_counted_where_predictions_and_labels_are(key, classes):
    rng = np.random.default_rng(key)
    labels = np.append(np.arange(classes), rng.integers(classes, size=40)).astype(np.uint8)
    predicted = np.where(rng.random(len(labels)) < 0.6, labels, rng.integers(classes))
    table = np.zeros((classes, classes))
    for true, guess in zip(labels, predicted, strict=True):
        table[true, guess] += 1 / len(labels)
    shares = np.bincount(predicted, minlength=classes) / len(labels)
    truth = np.bincount(labels, minlength=classes) / len(labels)
    row = record(
        accuracy=float(np.trace(table)),
        balanced_accuracy=float((np.diag(table) / truth).mean()),
        predicted_shares=tuple(map(float, shares)),
        majority_accuracy=float(truth.max()),
    )
    predictions = {
        f"{row.row_id}/last": predicted.astype(np.uint8),
        labels_name(row.dataset, row.seed): labels,
    }
    counted = entry(summarize([row], predictions=predictions), "ticket", 0.5)["classes"]
    assert np.array(counted["confusion"]) == pytest.approx(table)
    if classes == 2:  # what the record alone says is the same
        solved = entry(summarize([row]), "ticket", 0.5)["classes"]
        assert np.array(solved["confusion"]) == pytest.approx(table, abs=1e-9)
