"""Descriptive tables of a run: scores per arm and level, classes, density, what collapsed.

Scores are percentages, sparsities and densities fractions.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from lth_flax.analysis.breakdown import balanced, chance
from lth_flax.analysis.pairing import rate_of
from lth_flax.analysis.result import Cell, Classes, finite
from lth_flax.analysis.seed_scores import SeedScores
from lth_flax.analysis.statistics import Design, Estimate, estimate
from lth_flax.analysis.words import level_name
from lth_flax.predictions import Predictions, labels_name
from lth_flax.records import Record, arm_order, grouped, where

ONE_CLASS_SHARE = 0.999

Cells = dict[tuple[str, float], list[Record]]
Labels = Callable[[str, int], np.ndarray | None]
"""(data set, seed) -> the labels of its test split, where they are known."""


def cells_of(records: Iterable[Record]) -> Cells:
    """Records grouped by arm and level, arms in reading order, levels rising."""
    cells = grouped(records, lambda record: (record.arm, round(record.target_sparsity, 9)))
    ordered = sorted(cells, key=lambda cell: (arm_order(cell[0]), cell[1]))
    return {cell: cells[cell] for cell in ordered}


def at_own_rates(records: Iterable[Record], checkpoint: str = "last") -> list[Record]:
    """Of every arm and level the test rows at the learning rate whose mean validation score is
    best, of equal ones the smallest; all of them where there is no validation score.
    """
    rows = where(records, checkpoint=checkpoint)
    chooses = cells_of(where(rows, split="validation"))

    def validated(of_rate: Sequence[Record]) -> float:
        mean = round(float(np.mean(sorted(row.score for row in of_rate))), 9)
        return mean if of_rate[0].higher_is_better else -mean

    found = []
    for cell, tested in cells_of(where(rows, split="test")).items():
        rates = grouped(chooses.get(cell, []), rate_of)
        best = max(sorted(rates), key=lambda rate: validated(rates[rate]), default=None)
        found += [row for row in tested if best is None or rate_of(row) == best]
    return found


def arm_table(
    records: Iterable[Record],
    confidence: float,
    design: Design,
    predictions: Predictions | None = None,
) -> list[Cell]:
    """One cell per arm and level."""
    predictions = predictions or {}
    # Read from the file once for all rows of a seed.
    labels = functools.cache(lambda *of: predictions.get(labels_name(*of)))
    return [
        Cell(
            arm=arm,
            target_sparsity=level,
            achieved_sparsity=_mean(rows, "achieved_sparsity"),
            achieved_sparsity_all=_mean(rows, "achieved_sparsity_all"),
            draws=len({row.draw for row in rows}),
            score=_score(SeedScores.of(rows, predictions), confidence, design),
            balanced_accuracy=_balanced(rows),
            loss=finite(_mean(rows, "loss")),
            epoch=_mean(rows, "epoch"),
            best_epoch=_mean(rows, "best_epoch"),
            mask_steps=_mean(rows, "mask_steps"),
            one_class_share=float(np.mean([predicts_one_class(row) for row in rows])),
            classes=_classes(rows, predictions, labels),
        )
        for (arm, level), rows in cells_of(records).items()
    ]


def _score(scores: SeedScores, confidence: float, design: Design) -> Estimate:
    """Where predictions are not known, sampling the texts adds the most that it can."""
    extra = scores.text_variance(design)
    if extra is None:
        extra = design.of_accuracy(float(np.mean(list(scores.by_seed.values()))))
    return estimate(scores.by_seed, confidence, design, text_variance=extra)


def _mean(rows: Sequence[Record], name: str) -> float:
    # In one order whatever that of the records: float sums depend on it.
    return float(np.mean(sorted(getattr(row, name) for row in rows)))


def _balanced(rows: Sequence[Record]) -> float | None:
    values = [row.balanced_accuracy for row in rows]
    return None if None in values else 100 * _mean(rows, "balanced_accuracy")


def _classes(rows: Sequence[Record], predictions: Predictions, labels: Labels) -> Classes | None:
    """Confusion matrix, recall and F1 of the mean network; None where a network has none."""
    found = [_confusion(row, predictions, labels(row.dataset, row.seed)) for row in rows]
    tables = [table for table in found if table is not None]
    if len(tables) < len(rows) or len({table.shape for table in tables}) != 1:
        return None
    mean = np.sort(np.array(tables), axis=0).mean(axis=0)
    hits, true, predicted = np.diag(mean), mean.sum(axis=1), mean.sum(axis=0)
    present = true > 0
    recall = [100 * h / t if t else None for h, t in zip(hits, true, strict=True)]
    f1 = np.divide(200 * hits, true + predicted, out=np.zeros(len(hits)), where=present)
    return Classes(
        [[float(share) for share in row] for row in mean],
        [None if one is None else float(one) for one in recall],
        [float(one) if there else None for one, there in zip(f1, present, strict=True)],
        float(f1[present].mean()),
    )


def _confusion(
    row: Record, predictions: Predictions, labels: np.ndarray | None
) -> np.ndarray | None:
    """Shares of texts by true (row) and predicted class (column).

    Counted where predictions and labels are there. Of two classes the record is enough: by
    the shares p of the true and q of the predicted classes, p0 r0 = (accuracy + q0 - p1) / 2.
    """
    classes = len(row.predicted_shares)
    predicted = predictions.get(f"{row.row_id}/{row.checkpoint}")
    if labels is not None and predicted is not None and len(labels) == len(predicted):
        table = np.zeros((classes, classes))
        np.add.at(table, (labels.astype(int), predicted.astype(int)), 1 / len(labels))
        return table
    if classes < 2 or sum(row.predicted_shares[2:]) > 0:
        return None
    accuracy, q0 = row.score / 100, row.predicted_shares[0]
    for p0 in (row.majority / 100, 1 - row.majority / 100):
        hits = np.array([accuracy + q0 - (1 - p0), accuracy - q0 + (1 - p0)]) / 2
        true = np.array([p0, 1 - p0])
        fits = (hits > -1e-9).all() and (hits < true + 1e-9).all() and (true > 0).all()
        if fits and abs((hits / true).mean() - (row.balanced_accuracy or 0.0)) < 1e-6:
            table = np.zeros((classes, classes))
            table[0, :2], table[1, :2] = (hits[0], p0 - hits[0]), (1 - p0 - hits[1], hits[1])
            return np.clip(table, 0, 1)
    return None


def density_table(records: Iterable[Record]) -> dict[str, Any]:
    """Per arm and level, the share kept of every matrix and gate: mean and least over runs.

    An arm with the masks of another (reinit has the ticket's) only names it.
    """
    tables: dict[str, list[dict[str, Any]]] = {}
    for (arm, level), rows in cells_of(row for row in records if row.arm != "dense").items():
        names = sorted({name for row in rows for name in row.density})
        kept = {name: sorted(r.density[name] for r in rows if name in r.density) for name in names}
        if kept:
            entry = {
                "target_sparsity": level,
                "mean": {name: float(np.mean(shares)) for name, shares in kept.items()},
                "min": {name: shares[0] for name, shares in kept.items()},
            }
            tables.setdefault(arm, []).append(entry)
    shown: dict[str, Any] = {}
    for arm, table in tables.items():
        twin = next((other for other in shown if shown[other] == table), None)
        shown[arm] = table if twin is None else {"same_as": twin}
    return shown


def diagnostics_table(records: Iterable[Record]) -> list[dict[str, Any]]:
    """Per arm and level, what records say of masked networks: means over places and runs."""
    found = []
    for (arm, level), rows in cells_of(records).items():
        values: dict[str, list[float]] = {}
        for row in rows:
            for name, value in row.diagnostics.items():
                if np.isfinite(value):
                    values.setdefault(name.partition("/")[0], []).append(value)
        if values:
            means = {name: float(np.mean(some)) for name, some in sorted(values.items())}
            found.append({"arm": arm, "target_sparsity": level, "mean": means})
    return found


# What failed.


def name_rows(rows: Iterable[Record], *more: str) -> list[dict[str, Any]]:
    """What a reader needs to find a row again, and `more` of its columns."""
    names = ("row_id", "arm", "seed", "draw", "target_sparsity")
    return [
        {name: getattr(row, name) for name in names}
        | {"accuracy": row.score}
        | {name: getattr(row, name) for name in more}
        for row in rows
    ]


def collapsed(records: Sequence[Record]) -> dict[str, list[dict[str, Any]]]:
    """Two kinds of collapse: a mask with no path from input to output, and one predicted class.

    The first is certain and no training can mend it; the second also happens
    to connected networks, where at least 99.9% of predictions are one class.
    """
    return {
        "disconnected": name_rows(row for row in records if not row.connected),
        "one_class": name_rows(row for row in records if predicts_one_class(row)),
    }


def predicts_one_class(row: Record) -> bool:
    """Whether all but one in a thousand of its predictions are."""
    return max(row.predicted_shares, default=0) >= ONE_CLASS_SHARE


def learned(row: Record) -> bool:
    """Whether a network does more than guess: a point of balanced accuracy above chance.

    Without predicted classes it is a point above the most frequent one; where there are no
    classes nobody can tell, and it counts as having learned.
    """
    if not row.predicted_shares:
        return row.majority_accuracy is None or row.score > row.majority + 1
    return not predicts_one_class(row) and balanced(row) > chance(row) + 1


def nothing_learned(records: Sequence[Record], arms: Sequence[str], levels: Sequence[float]) -> str:
    """Why rows of these arms and levels can show no difference, or nothing where they can.

    So it is where all of them, or all dense networks that their masks came from,
    have learned nothing.
    """
    compared = [r for r in records if r.arm in arms and round(r.target_sparsity, 9) in levels]
    dense = [r for r in records if r.arm == "dense"]
    for rows, name in ((dense, "dense networks"), (compared, "networks compared")):
        if rows and not any(map(learned, rows)):
            return f"all {len(rows)} {name} have learned nothing (no more than guessing)"
    return ""


def idle_arms(records: Sequence[Record], arms: Sequence[str]) -> str:
    """Which of these arms have learned nothing at which levels, in words; nothing where all did."""
    idle = [
        (arm, level_name(level))
        for (arm, level), rows in cells_of(records).items()
        if arm in arms and level > 0 and not any(map(learned, rows))
    ]
    text = "; ".join(
        f"{arm} learned nothing at {', '.join(level for _, level in levels)}"
        for arm, levels in grouped(idle, lambda one: one[0]).items()
    )
    return text[:1].upper() + text[1:]


def diverged(records: Sequence[Record]) -> dict[str, Any]:
    """Runs whose loss became infinite or nan, and how the statistics treat them."""
    rows = [row for row in records if row.diverged_epoch is not None]
    return {
        "count": len(rows),
        "rows": name_rows(rows, "diverged_epoch"),
        "treatment": (
            "kept in every table and test with the accuracy they have: leaving out "
            "runs that failed would flatter the arm that fails more"
        ),
    }
