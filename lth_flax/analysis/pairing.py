"""Treatment and control of the same seeds, as arrays, and the measure over sparsity levels.

Accuracies are in percent. The primary measure is the mean gap over [50%, 96%]
sparsity of curves that are linear between levels in log density: linear in
every run's curve, and exact on piecewise linear curves whatever the grid.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float

from lth_flax.analysis.permutation import (
    Relabelled,
    at_rates,
    chosen_rates,
    relabel,
    split_means,
)
from lth_flax.analysis.seed_scores import Part, SeedScores
from lth_flax.analysis.statistics import Design, Estimate
from lth_flax.analysis.words import level_name
from lth_flax.errors import UserError
from lth_flax.predictions import Predictions, labels_name
from lth_flax.records import Metric, Record, where

PRIMARY_SPARSITY = (0.5, 0.96)
_SAME_LEVEL = 1e-9


def rate_of(record: Record) -> float:
    """Its learning rate; 0 where the settings do not say."""
    return float(record.settings.get("learning_rate", 0.0))


@dataclass(frozen=True)
class Measure:
    """A mean of a curve over `range`, as weights of its levels.

    ends: at the two ends of the range, the weights that interpolate the curve there.
    """

    range: tuple[float, float]
    weights: Float[np.ndarray, " levels"]
    ends: Float[np.ndarray, "2 levels"]


def measure(
    levels: Sequence[float], bounds: tuple[float, float] = PRIMARY_SPARSITY
) -> Measure | None:
    """The primary measure of curves at these rising levels.

    The range is `bounds`, or what of it was measured: ends are interpolated, never
    extrapolated. None where no level lies within `bounds`.
    """
    low, high = bounds
    usable = [level for level in levels if level < 1]  # log density ends there
    if not any(low - _SAME_LEVEL <= level <= high + _SAME_LEVEL for level in usable):
        return None
    x = -np.log1p(-np.array(usable))
    start, stop = max(low, usable[0]), min(high, usable[-1])
    first, last = np.clip(-np.log1p([-start, -stop]), x[0], x[-1])
    knots = np.unique([first, *x[(x > first) & (x < last)], last])
    # Row k: the weights that interpolate a curve at knot k.
    at_knots = np.array([np.interp(knots, x, unit) for unit in np.eye(len(x))]).T
    steps = np.diff(knots)
    if len(steps):
        shares = (np.append(steps, 0) + np.append(0, steps)) / (2 * steps.sum())
    else:
        shares = np.ones(1)
    unused = np.zeros((3, len(levels) - len(usable)))
    found = np.hstack([np.vstack([shares @ at_knots, at_knots[0], at_knots[-1]]), unused])
    return Measure((start, stop), found[0], found[1:])


@dataclass(frozen=True)
class Pairs:
    """Runs of the same seeds: run 0 is the treatment, the others are draws of its control.

    `dropped` names, in words, the seeds that are not here because a cell of
    theirs is missing. Scores in percent or the metric's unit, with their sign turned where
    lower is better: a gap says how much better. `rates` are learning rates, one or several.
    """

    treatment: str
    control: str
    levels: tuple[float, ...]
    seeds: tuple[int, ...]
    rates: tuple[float, ...]
    test: Float[np.ndarray, "seeds runs rates levels"]
    validation: Float[np.ndarray, "seeds runs rates levels"] | None
    row_ids: np.ndarray
    dropped: tuple[str, ...] = ()
    metric: Metric = Metric()
    dataset: str = ""

    @property
    def draws(self) -> int:
        """Draws of the control per seed."""
        return self.test.shape[1] - 1

    @cached_property
    def relabelled(self) -> Relabelled:
        """Gaps per level under every relabelling, rates chosen in each."""
        return relabel(self.test, self.validation)

    @cached_property
    def chosen(self) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the rates of treatment and control at each level."""
        if self.validation is None or len(self.rates) == 1:
            none = np.zeros(len(self.levels), int)
            return none, none
        treated, controls = split_means(self.validation)
        return chosen_rates(treated), chosen_rates(controls)

    @cached_property
    def gaps(self) -> Float[np.ndarray, "seeds levels"]:
        """Treatment minus the mean of the control's draws, each at its own rate."""
        treated, controls = (rates[None] for rates in self.chosen)  # the same for every seed
        return at_rates(self.test[:, 0], treated) - at_rates(
            self.test[:, 1:].mean(axis=1), controls
        )

    @cached_property
    def _without_a_seed(self) -> Float[np.ndarray, "seeds levels"]:
        """Mean gaps without each seed in turn, the rates chosen anew."""
        means = []
        for number in range(len(self.seeds)):
            keep = np.arange(len(self.seeds)) != number
            rest = replace(
                self,
                seeds=self.seeds[:number] + self.seeds[number + 1 :],
                test=self.test[keep],
                validation=None if self.validation is None else self.validation[keep],
                row_ids=self.row_ids[keep],
            )
            means.append(rest.gaps.mean(axis=0))
        return np.array(means)

    def scores(
        self, weights: Float[np.ndarray, " levels"], predictions: Predictions | None = None
    ) -> SeedScores:
        """The weighted gap over levels, by seed."""
        values = self.gaps @ weights
        by_seed = dict(zip(self.seeds, map(float, values), strict=True))
        if not predictions:
            return SeedScores(by_seed)
        signs = [1.0] + [-1 / self.draws] * self.draws
        cells = [
            (weights[level] * sign, (run, self.chosen[min(run, 1)][level], level))
            for level in np.flatnonzero(weights)
            for run, sign in enumerate(signs)
        ]
        parts = {
            seed: [
                Part(weight, row_ids[cell], labels_name(self.dataset, seed), predictions)
                for weight, cell in cells
            ]
            for seed, row_ids in zip(self.seeds, self.row_ids, strict=True)
        }
        return SeedScores(by_seed, parts)

    def gap(
        self,
        weights: Float[np.ndarray, " levels"],
        confidence: float,
        design: Design,
        predictions: Predictions | None = None,
    ) -> Estimate:
        """The weighted mean gap over levels; its interval by jackknife over seeds."""
        left_out = self._without_a_seed @ weights if len(self.seeds) > 1 else None
        return self.scores(weights, predictions).estimate(confidence, design, left_out)


Cell = tuple[int, int, float, float]
"""(seed, run, rate, level); run 0 is the treatment."""


def pair(
    records: Iterable[Record],
    treatment: str = "ticket",
    control: str = "reinit",
    *,
    checkpoint: str = "last",
) -> Pairs:
    """Pairs two arms by seed, over the levels and learning rates where both were run.

    Every seed needs one treatment and the same draws of the control at each, and where several
    rates were run a validation score of each: one that lacks a cell is left out, and named in the
    result. `UserError` where a cell is there twice.
    """
    by_split: dict[str, dict[Cell, Record]] = {"test": {}, "validation": {}}
    for record in where(records, checkpoint=checkpoint):
        if record.arm not in (treatment, control):
            continue
        run = 0 if record.arm == treatment else 1 + record.draw
        level = round(record.target_sparsity, 9)
        cell = (record.seed, run, rate_of(record), level)
        if record.arm == treatment and record.draw or cell in by_split[record.split]:
            raise UserError(
                f"seed {record.seed} has several {record.arm} rows at {level_name(level)}; "
                "one was expected (are these records of several experiments?)"
            )
        by_split[record.split][cell] = record
    cells, chooses = by_split["test"], by_split["validation"]
    both = [[cell for cell in cells if (cell[1] == 0) == first] for first in (True, False)]
    rates, levels = (sorted(set.intersection(*({cell[axis] for cell in arm} for arm in both)))
                     for axis in (2, 3))  # fmt: skip
    runs = [0, *sorted({run for _, run, _, _ in cells if run})]
    several = len(rates) > 1
    needed = {"": cells} | ({"validation score of ": chooses} if several else {})
    seeds, dropped = [], []
    for seed in sorted({seed for seed, *_ in cells}):
        of_seed = itertools.product(needed, levels, rates, runs)
        missing = next((c for c in of_seed if (seed, c[3], c[2], c[1]) not in needed[c[0]]), None)
        if missing is None:
            seeds.append(seed)
            continue
        what, level, _, run = missing
        who = f"{control} draw {run - 1}" if run else treatment
        dropped.append(f"seed {seed} has no {what}{who} at {level_name(level)}")

    shape = (len(seeds), len(runs), len(rates), len(levels))
    grid = list(itertools.product(seeds, runs, rates, levels))
    metric = next((record.metric for record in cells.values()), Metric())
    sign = 1 if metric.higher_is_better else -1

    def scores(of: Mapping[Cell, Record]) -> Float[np.ndarray, "seeds runs rates levels"]:
        return np.array([sign * of[cell].score for cell in grid], float).reshape(shape)

    row_ids = np.array([f"{cells[cell].row_id}/{checkpoint}" for cell in grid], object)
    return Pairs(
        treatment,
        control,
        tuple(levels),
        tuple(seeds),
        tuple(rates),
        scores(cells),
        scores(chooses) if several else None,
        row_ids.reshape(shape),
        tuple(dropped),
        metric,
        next((record.dataset for record in cells.values()), ""),
    )
