"""Descriptive tables of a run: accuracy per arm and level, density, what collapsed or diverged.

Plain dicts for JSON. Accuracies are percentages, sparsities and densities
fractions; a value that does not exist (an interval from one seed, the loss of
a diverged run) is None.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from lth_flax.analysis.statistics import Interval, t_interval
from lth_flax.records import Record, arm_order

ONE_CLASS_SHARE = 0.999

Cells = dict[tuple[str, float], list[Record]]


def cells_of(records: Iterable[Record]) -> Cells:
    """Records grouped by arm and level, arms in reading order, levels rising."""
    cells: Cells = {}
    for record in records:
        cells.setdefault((record.arm, round(record.target_sparsity, 9)), []).append(record)
    ordered = sorted(cells, key=lambda cell: (arm_order(cell[0]), cell[1]))
    return {cell: cells[cell] for cell in ordered}


def interval_json(interval: Interval) -> dict[str, Any]:
    """Mean, standard deviation and [low, high] of an interval over seeds."""
    bounds = None if interval.low is None else [interval.low, interval.high]
    return {
        "mean": finite(interval.mean),
        "sd": interval.sd,
        "interval": bounds,
        "n_seeds": interval.n,
    }


def finite(value: float) -> float | None:
    """The value, or None where JSON has no word for it."""
    return float(value) if math.isfinite(value) else None


def arm_table(records: Iterable[Record], confidence: float) -> list[dict[str, Any]]:
    """One entry per arm and level: accuracy over seeds, draws averaged within a seed first."""
    return [
        {
            "arm": arm,
            "target_sparsity": level,
            "achieved_sparsity": _mean(rows, "achieved_sparsity"),
            "achieved_sparsity_all": _mean(rows, "achieved_sparsity_all"),
            "draws": len({row.draw for row in rows}),
            **interval_json(t_interval(list(_seed_means(rows, "accuracy").values()), confidence)),
            "by_seed": [[seed, value] for seed, value in _seed_means(rows, "accuracy").items()],
            "balanced_accuracy": 100 * _mean(rows, "balanced_accuracy"),
            "loss": finite(_mean(rows, "loss")),
            "epoch": _mean(rows, "epoch"),
            "best_epoch": _mean(rows, "best_epoch"),
            "mask_steps": _mean(rows, "mask_steps"),
        }
        for (arm, level), rows in cells_of(records).items()
    ]


def _seed_means(rows: Sequence[Record], name: str) -> dict[int, float]:
    """Percentages by seed, draws averaged."""
    values: dict[int, list[float]] = {}
    for row in sorted(rows, key=lambda row: (row.seed, row.draw)):
        values.setdefault(row.seed, []).append(100 * getattr(row, name))
    return {seed: float(np.mean(of_seed)) for seed, of_seed in values.items()}


def _mean(rows: Sequence[Record], name: str) -> float:
    # In one order whatever that of the records: float sums depend on it.
    return float(np.mean(sorted(getattr(row, name) for row in rows)))


def density_table(records: Iterable[Record]) -> dict[str, Any]:
    """Per arm and level, the share kept of every matrix and gate: mean and least over runs.

    An arm with the masks of another (reinit has the ticket's) only names it.
    """
    tables: dict[str, list[dict[str, Any]]] = {}
    for (arm, level), rows in cells_of(records).items():
        names = sorted({name for row in rows for name in row.density})
        if not names or arm == "dense":
            continue
        values = {
            name: sorted(r.density[name] for r in rows if name in r.density) for name in names
        }
        tables.setdefault(arm, []).append(
            {
                "target_sparsity": level,
                "mean": {name: float(np.mean(values[name])) for name in names},
                "min": {name: values[name][0] for name in names},
            }
        )
    shown: dict[str, Any] = {}
    for arm, table in tables.items():
        twin = next((other for other in shown if shown[other] == table), None)
        shown[arm] = table if twin is None else {"same_as": twin}
    return shown


def name_rows(rows: Iterable[Record]) -> list[dict[str, Any]]:
    """What a reader needs to find a row again."""
    return [
        {
            "row_id": row.row_id,
            "arm": row.arm,
            "seed": row.seed,
            "draw": row.draw,
            "target_sparsity": row.target_sparsity,
            "accuracy": 100 * row.accuracy,
        }
        for row in rows
    ]


def collapsed(records: Sequence[Record]) -> dict[str, Any]:
    """Two kinds of collapse: a mask with no path from input to output, and one predicted class.

    The first is certain and no training can mend it; the second also happens
    to connected networks, where at least 99.9% of predictions are one class.
    """
    one_class = [row for row in records if _predicts_one_class(row)]
    return {
        "disconnected": name_rows(row for row in records if not row.connected),
        "one_class": name_rows(one_class),
    }


def _predicts_one_class(row: Record) -> bool:
    return max(row.predicted_shares, default=0) >= ONE_CLASS_SHARE


def nothing_learned(records: Sequence[Record], arms: Sequence[str], levels: Sequence[float]) -> str:
    """Why rows of these arms and levels can show no difference, or nothing where they can.

    So it is where all of them, or all dense networks that their masks came from,
    predict one class.
    """
    compared = [r for r in records if r.arm in arms and round(r.target_sparsity, 9) in levels]
    dense = [r for r in records if r.arm == "dense"]
    for rows, name in ((dense, "dense networks"), (compared, "networks compared")):
        if rows and all(map(_predicts_one_class, rows)):
            return f"all {len(rows)} {name} predict one class, so they have learned nothing"
    return ""


def diverged(records: Sequence[Record]) -> dict[str, Any]:
    """Runs whose loss became infinite or nan, and how the statistics treat them."""
    rows = [row for row in records if row.diverged_epoch is not None]
    named = name_rows(rows)
    for entry, row in zip(named, rows, strict=True):
        entry["diverged_epoch"] = row.diverged_epoch
    return {
        "count": len(rows),
        "rows": named,
        "treatment": (
            "kept in every table and test with the accuracy they have: leaving out "
            "runs that failed would flatter the arm that fails more"
        ),
    }
