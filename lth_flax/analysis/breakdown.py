"""Where an accuracy curve leaves the dense network behind.

Breakdown sparsity: the last level before accuracy stays more than 1 point
below the dense network of the same seed. Crater sparsity: the same, with half
of (dense minus majority class) in place of 1 point. Both are interpolated
linearly in sparsity between the two levels around the crossing.

A curve that never breaks is censored: its value is the last level tested, to
be read as ">=". In a paired difference that bound stands in for the value, so
a difference with one censored curve is itself a bound, pulled towards zero,
and one with two is zero.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from lth_flax.analysis.statistics import Interval, t_interval
from lth_flax.records import Record

BREAKDOWN_POINTS = 1.0
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Crossing:
    """A sparsity (fraction), or a lower bound of it where `censored`."""

    sparsity: float
    censored: bool


@dataclass(frozen=True)
class Difference:
    """Treatment minus control in crossing sparsity, per seed, as a fraction.

    `by_seed` pairs seeds with differences. The counts say in how many seeds
    the curve of the treatment, or any of the control's draws, was censored.
    """

    by_seed: tuple[tuple[int, float], ...]
    interval: Interval | None
    censored_treatment: int
    censored_control: int


Crossings = dict[str, dict[tuple[int, int], Crossing]]  # arm -> (seed, draw) -> crossing


def crossing(levels: Sequence[float], drops: Sequence[float], allowed: float) -> Crossing:
    """Where the drop below dense begins to stay above `allowed`.

    `levels` rise; `drops` and `allowed` share a unit. A curve that is above
    `allowed` from its first level on has crossed at that level.

    >>> crossing([0.0, 0.5, 0.9], [0.0, 0.5, 2.5], allowed=1.0)
    Crossing(sparsity=0.6, censored=False)
    """
    held = [index for index, drop in enumerate(drops) if drop <= allowed + _ROUNDING]
    if not held:
        return Crossing(float(levels[0]), False)
    last = held[-1]
    if last == len(levels) - 1:
        return Crossing(float(levels[-1]), True)
    share = max(0.0, allowed - drops[last]) / (drops[last + 1] - drops[last])
    return Crossing(float(levels[last] + share * (levels[last + 1] - levels[last])), False)


def breakdowns(records: Iterable[Record], allowed_points: float = BREAKDOWN_POINTS) -> Crossings:
    """Breakdown sparsity per arm, seed and draw; records of one split and checkpoint.

    A seed whose dense network does not beat the majority class by more than that has
    none: what has learned nothing has nothing to lose, and would seem unbreakable.
    """

    def allowed(dense: Record) -> float:
        learned = 100 * (dense.accuracy - dense.majority_accuracy) > allowed_points
        return allowed_points if learned else 0.0

    return _crossings(records, allowed)


def craters(records: Iterable[Record]) -> Crossings:
    """Crater sparsity per arm, seed and draw; records of one split and checkpoint.

    A seed whose dense network does not beat the majority class has none.
    """
    return _crossings(records, lambda dense: 50 * (dense.accuracy - dense.majority_accuracy))


def compare(crossings: Crossings, treatment: str, control: str, confidence: float) -> Difference:
    """Paired differences over the seeds that have both arms; draws averaged within a seed."""
    treated, controls = _by_seed(crossings, treatment), _by_seed(crossings, control)
    seeds = sorted(treated.keys() & controls.keys())
    by_seed = tuple((seed, _mean(treated[seed]) - _mean(controls[seed])) for seed in seeds)
    values = [difference for _, difference in by_seed]
    return Difference(
        by_seed,
        t_interval(values, confidence) if values else None,
        sum(any(one.censored for one in treated[seed]) for seed in seeds),
        sum(any(one.censored for one in controls[seed]) for seed in seeds),
    )


def _crossings(records: Iterable[Record], allowed_of: Callable[[Record], float]) -> Crossings:
    records = list(records)
    dense = {record.seed: record for record in records if record.arm == "dense"}
    flat = {r.arm for r in records} - {r.arm for r in records if r.target_sparsity > 0}
    curves: dict[tuple[str, int, int], dict[float, float]] = {}
    for record in records:
        # Of an arm that is at level 0 alone (a dense control) there is no curve.
        if record.arm not in flat and record.seed in dense:
            run = (record.arm, record.seed, record.draw)
            drop = 100 * (dense[record.seed].accuracy - record.accuracy)
            curves.setdefault(run, {0.0: 0.0})[record.target_sparsity] = drop
    found: Crossings = {}
    for (arm, seed, draw), drops in sorted(curves.items()):
        allowed = allowed_of(dense[seed])
        if allowed > 0:
            levels = sorted(drops)
            found.setdefault(arm, {})[seed, draw] = crossing(
                levels, [drops[level] for level in levels], allowed
            )
    return found


def _by_seed(crossings: Crossings, arm: str) -> dict[int, list[Crossing]]:
    grouped: dict[int, list[Crossing]] = {}
    for (seed, _), one in sorted(crossings.get(arm, {}).items()):
        grouped.setdefault(seed, []).append(one)
    return grouped


def _mean(crossings: list[Crossing]) -> float:
    return float(np.mean([one.sparsity for one in crossings]))
