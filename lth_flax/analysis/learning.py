"""Learning curves per arm and level, and whether dense networks had finished training."""

from collections.abc import Sequence

import numpy as np

from lth_flax.analysis.result import LearningCurve, finite
from lth_flax.analysis.statistics import estimate
from lth_flax.records import CurvePoint, Metric, Record, arm_order, grouped, where

Runs = list[list[CurvePoint]]


def curves_of(records: Sequence[Record], points: Sequence[CurvePoint]) -> list[LearningCurve]:
    """Means over the runs that these records name; scored records of one checkpoint."""
    trained = {row.row_id: row.train_steps for row in records if row.arm == "dense"}
    epochs_trained = max((p.epoch for p in points if trained.get(p.row_id)), default=0)
    per_epoch = max(filter(None, trained.values())) // epochs_trained if epochs_trained else 0
    grouped = _runs(records, points)
    result = []
    for arm, level in sorted(grouped, key=lambda cell: (arm_order(cell[0]), cell[1])):
        runs = grouped[arm, level]
        epochs = sorted({point.epoch for run in runs for point in run})
        at = [[p for run in runs for p in run if p.epoch == epoch] for epoch in epochs]
        accuracy = [
            estimate(dict(enumerate(_values(some, "validation_accuracy", 100)))) for some in at
        ]
        result.append(
            LearningCurve(
                arm=arm,
                target_sparsity=level,
                n_runs=len(runs),
                epochs=epochs,
                steps=[per_epoch * epoch for epoch in epochs] if per_epoch else None,
                train_loss=[_mean(_values(some, "train_loss")) for some in at],
                validation_loss=[_mean(_values(some, "validation_loss")) for some in at],
                validation_accuracy=[one.mean for one in accuracy],
                validation_accuracy_low=[one.interval and one.interval[0] for one in accuracy],
                validation_accuracy_high=[one.interval and one.interval[1] for one in accuracy],
            )
        )
    return result


def unfinished(records: Sequence[Record], points: Sequence[CurvePoint], margin: float) -> str:
    """Whether dense networks had not finished training, in words; nothing where they had.

    So it is where their validation score still improved by more than `margin` (points, or the
    metric's unit) over the last fifth of the epochs, on average and beyond the noise of seeds.
    """
    metric = next((row.metric for row in records), Metric())
    dense = _runs(where(records, arm="dense"), points).get(("dense", 0.0), [])
    gains: dict[int, float] = {}
    last = span = 0
    for run in dense:
        scores = {p.epoch: _score(p, metric) for p in run}
        last = max(scores)
        span = max(1, round(last / 5))
        before, after = scores.get(last - span), scores[last]
        if before is not None and after is not None:
            gains[run[0].seed] = after - before if metric.higher_is_better else before - after
    found = estimate(gains)
    if found.mean is None or found.mean <= margin or not (found.interval is None or found.above(0)):
        return ""
    moved = "rose" if metric.higher_is_better else "fell"
    by = f"{found.mean:.1f} points" if metric.unit == "points" else f"{found.mean:.3g}"
    return (
        f"Dense networks had not finished training: validation {metric.name} still {moved} by "
        f"{by} over the last {span} of {last} epochs"
    )


def _score(point: CurvePoint, metric: Metric) -> float | None:
    """In the unit of `Record.score`."""
    of_first_edition = point.validation_score is None
    found = point.validation_accuracy if of_first_edition else point.validation_score
    return 100 * found if found is not None and metric.unit == "points" else found


def _runs(records: Sequence[Record], points: Sequence[CurvePoint]) -> dict[tuple[str, float], Runs]:
    """The points of the named runs by arm and level, epochs rising."""
    names = {row.row_id for row in records}
    ordered = sorted(points, key=lambda point: (point.row_id, point.epoch))
    runs = grouped((p for p in ordered if p.row_id in names), lambda point: point.row_id)
    return grouped(runs.values(), lambda run: (run[0].arm, run[0].target_sparsity))


def _values(points: Sequence[CurvePoint], name: str, scale: float = 1.0) -> list[float]:
    found = [getattr(point, name) for point in points]
    return [scale * value for value in found if value is not None]


def _mean(values: Sequence[float]) -> float | None:
    return finite(float(np.mean(values))) if values else None
