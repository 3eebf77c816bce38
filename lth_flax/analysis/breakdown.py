"""Where an accuracy curve leaves the dense network behind.

Breakdown sparsity: the last level before accuracy stays more than 1 point
below the dense network of the same seed. Crater sparsity: the same, with half
of (dense minus majority class) in place of 1 point. Both are interpolated
linearly in sparsity between the two levels around the crossing.

Of a metric in other units than points (a perplexity) there is neither.

A curve that never breaks is censored: its value is the last level tested, to
be read as ">=". Where any is, there is no mean and no interval, but a median
and how many broke.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np

from lth_flax.analysis.result import CrossingGap, Crossings, CrossingTable, Options
from lth_flax.analysis.statistics import Design, estimate, mean_by_seed
from lth_flax.records import Record, arm_order

BREAKDOWN_POINTS = 1.0
_ROUNDING = 1e-9

Score = Callable[[Record], float]
_primary: Score = attrgetter("score")


@dataclass(frozen=True)
class Crossing:
    """A sparsity (fraction), or a lower bound of it where `censored`."""

    sparsity: float
    censored: bool


Runs = dict[str, dict[tuple[int, int], Crossing]]  # arm -> (seed, draw) -> crossing


def balanced(record: Record) -> float:
    """Balanced accuracy in percent."""
    return 100 * (record.balanced_accuracy or 0.0)


def chance(record: Record) -> float:
    """Balanced accuracy without any learning, in percent: one by the number of classes."""
    unused = int(record.settings.get("unused_classes", 0))
    return 100 / max(len(record.predicted_shares) - unused, 1)


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


def breakdowns(records: Iterable[Record], allowed_points: float = BREAKDOWN_POINTS) -> Runs:
    """Breakdown sparsity per arm, seed and draw; records of one split and checkpoint.

    A seed whose dense network does not beat the majority class by more than that has
    none: what has learned nothing has nothing to lose, and would seem unbreakable.
    """

    def allowed(dense: Record) -> float:
        learned = dense.score - dense.majority > allowed_points
        return allowed_points if learned else 0.0

    return _crossings(records, _primary, allowed)


def craters(records: Iterable[Record], score: Score = _primary) -> Runs:
    """Crater sparsity per arm, seed and draw; records of one split and checkpoint.

    Half of what the dense network has over the majority class is lost, or, with
    `score=balanced`, over chance. A seed whose dense network has nothing over it has none.
    """

    def allowed(dense: Record) -> float:
        floor = chance(dense) if score is balanced else dense.majority
        return (score(dense) - floor) / 2

    return _crossings(records, score, allowed)


def by_seed(runs: dict[tuple[int, int], Crossing]) -> dict[int, Crossing]:
    """Draws averaged within a seed; censored where any draw is."""
    means = mean_by_seed((seed, runs[seed, draw].sparsity) for seed, draw in sorted(runs))
    bounds = {seed for (seed, _), one in runs.items() if one.censored}
    return {seed: Crossing(mean, seed in bounds) for seed, mean in means.items()}


def crossing_table(
    runs: Runs, controls: Iterable[str], options: Options, design: Design
) -> CrossingTable:
    """What is reported of one kind of crossing."""
    confidence = options.confidence
    arms = {arm: _of_arm(runs[arm], confidence, design) for arm in sorted(runs, key=arm_order)}
    treated = by_seed(runs.get(options.treatment, {}))
    gaps = {}
    for control in controls:
        others = by_seed(runs.get(control, {}))
        both = sorted(treated.keys() & others.keys())
        values = {seed: treated[seed].sparsity - others[seed].sparsity for seed in both}
        censored = {
            "treatment": sum(treated[seed].censored for seed in both),
            "control": sum(others[seed].censored for seed in both),
        }
        broke = both and not any(censored.values())
        gaps[control] = CrossingGap(
            estimate(values, confidence, design) if broke else None,
            list(values.items()),
            censored,
        )
    return CrossingTable(arms, gaps)


def _of_arm(runs: dict[tuple[int, int], Crossing], confidence: float, design: Design) -> Crossings:
    seeds = by_seed(runs)
    broke = sum(not one.censored for one in runs.values())
    means = {seed: one.sparsity for seed, one in seeds.items()}
    return Crossings(
        [
            {"seed": seed, "draw": draw, "sparsity": one.sparsity, "censored": one.censored}
            for (seed, draw), one in sorted(runs.items())
        ],
        broke,
        float(np.median([one.sparsity for one in runs.values()])),
        estimate(means, confidence, design) if broke == len(runs) else None,
    )


def _crossings(
    records: Iterable[Record], score: Score, allowed_of: Callable[[Record], float]
) -> Runs:
    records = list(records)
    dense = {record.seed: record for record in records if record.arm == "dense"}
    flat = {r.arm for r in records} - {r.arm for r in records if r.target_sparsity > 0}
    curves: dict[tuple[str, int, int], dict[float, float]] = {}
    for record in records:
        # Of an arm that is at level 0 alone (a dense control) there is no curve.
        points = record.metric.unit == "points"
        if points and record.arm not in flat and record.seed in dense:
            run = (record.arm, record.seed, record.draw)
            drop = score(dense[record.seed]) - score(record)
            curves.setdefault(run, {0.0: 0.0})[record.target_sparsity] = drop
    found: Runs = {}
    for (arm, seed, draw), drops in sorted(curves.items()):
        allowed = allowed_of(dense[seed])
        if allowed > 0:
            levels = sorted(drops)
            found.setdefault(arm, {})[seed, draw] = crossing(
                levels, [drops[level] for level in levels], allowed
            )
    return found
