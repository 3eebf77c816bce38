"""What the records say about one arm against another: gaps, intervals, equivalence, a verdict.

Records hold fractions; from `paired_gaps` on, accuracies and gaps are in
percentage points. The unit of every test and interval is the seed; several
draws of a control are averaged within a seed, except in the permutation test,
which is over the draws themselves (`permutation`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

from lth_flax.analysis.permutation import (
    MaxTTest,
    PermutationTest,
    permutation_test,
    step_down_max_t,
)
from lth_flax.errors import UserError
from lth_flax.records import Record

__all__ = [
    "Equivalence",
    "Interval",
    "MaxTTest",
    "PairedGaps",
    "PermutationTest",
    "equivalence",
    "paired_gaps",
    "permutation_test",
    "primary_test",
    "step_down_max_t",
    "t_interval",
]

PRIMARY_SPARSITY = (0.5, 0.96)
_SAME_LEVEL = 1e-9


@dataclass(frozen=True)
class PairedGaps:
    """Treatment and control of the same seeds, in percentage points of accuracy.

    `dropped` names, in words, the seeds that are not here because a cell of
    theirs is missing.
    """

    treatment: str
    control: str
    levels: tuple[float, ...]
    seeds: tuple[int, ...]
    treated: Float[np.ndarray, "seeds levels"]
    controls: Float[np.ndarray, "seeds levels draws"]
    dropped: tuple[str, ...] = ()

    @property
    def draws(self) -> int:
        """Draws of the control per seed."""
        return self.controls.shape[2]

    @property
    def gaps(self) -> Float[np.ndarray, "seeds levels"]:
        """Treatment minus the mean of the control's draws."""
        return self.treated - self.controls.mean(axis=2)

    @property
    def runs(self) -> Float[np.ndarray, "seeds runs levels"]:
        """The 1 + d runs of each seed, the treatment first."""
        return np.concatenate([self.treated[:, None], self.controls.transpose(0, 2, 1)], axis=1)

    def where(self, levels: Sequence[int]) -> "PairedGaps":
        """The same for some of the levels, by index."""
        return PairedGaps(
            self.treatment,
            self.control,
            tuple(self.levels[index] for index in levels),
            self.seeds,
            self.treated[:, levels],
            self.controls[:, levels],
            self.dropped,
        )

    def primary(self, bounds: tuple[float, float] = PRIMARY_SPARSITY) -> "PairedGaps":
        """The levels of the primary test: target sparsity within `bounds`, both included."""
        low, high = bounds
        inside = [
            index
            for index, level in enumerate(self.levels)
            if low - _SAME_LEVEL <= level <= high + _SAME_LEVEL
        ]
        return self.where(inside)


@dataclass(frozen=True)
class Interval:
    """A mean over seeds with Student's t interval; no interval from one seed."""

    mean: float
    sd: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided t tests (Schuirmann, 1987) that the mean lies within +-`margin` points.

    `smallest_margin` is the smallest one that would pass; `p` is the larger
    of the two one-sided p-values. Both are None from one seed, which passes nothing.
    """

    margin: float
    p: float | None
    passes: bool
    smallest_margin: float | None


def level_name(sparsity: float) -> str:
    """A level as people say it.

    >>> level_name(0.488)
    '48.8%'
    """
    return f"{round(100 * sparsity, 1):g}%" if sparsity < 0.99 else f"{round(100 * sparsity, 2):g}%"


def paired_gaps(
    records: Iterable[Record],
    treatment: str = "ticket",
    control: str = "reinit",
    *,
    checkpoint: str = "last",
    split: str = "test",
    metric: str = "accuracy",
    incomplete: str = "refuse",
) -> PairedGaps:
    """Pairs two arms by seed, over the levels where both were run.

    Every (seed, level) needs one treatment and the same draws of the control.
    A missing cell is a `UserError` that names it; with `incomplete="drop"`
    that seed is left out instead, and named in the result.
    """
    treated: dict[tuple[int, float], float] = {}
    controls: dict[tuple[int, float, int], float] = {}
    for record in records:
        if record.checkpoint != checkpoint or record.split != split:
            continue
        value = 100 * getattr(record, metric)
        level = round(record.target_sparsity, 9)
        if record.arm == treatment:
            if (record.seed, level) in treated:
                raise _repeated(record, "runs")
            treated[record.seed, level] = value
        elif record.arm == control:
            if (record.seed, level, record.draw) in controls:
                raise _repeated(record, f"rows of draw {record.draw}")
            controls[record.seed, level, record.draw] = value
    levels = sorted({key[1] for key in treated} & {key[1] for key in controls})
    draws = sorted({key[2] for key in controls})
    seeds, dropped = [], []
    for seed in sorted({key[0] for key in treated} | {key[0] for key in controls}):
        missing = _first_missing(seed, levels, draws, treated, controls, treatment, control)
        if missing is None:
            seeds.append(seed)
            continue
        if incomplete != "drop":
            raise UserError(f"{missing}; finish the run, or leave that seed out")
        dropped.append(missing)
    shape = (len(seeds), len(levels), len(draws))
    return PairedGaps(
        treatment,
        control,
        tuple(levels),
        tuple(seeds),
        np.array([[treated[s, v] for v in levels] for s in seeds]).reshape(shape[:2]),
        np.array([[[controls[s, v, d] for d in draws] for v in levels] for s in seeds]).reshape(
            shape
        ),
        tuple(dropped),
    )


def _repeated(record: Record, what: str) -> UserError:
    return UserError(
        f"seed {record.seed} has several {record.arm} {what} at "
        f"{level_name(record.target_sparsity)}; one was expected "
        "(are these records of several experiments?)"
    )


def _first_missing(
    seed: int,
    levels: list[float],
    draws: list[int],
    treated: dict[tuple[int, float], float],
    controls: dict[tuple[int, float, int], float],
    treatment: str,
    control: str,
) -> str | None:
    for level in levels:
        if (seed, level) not in treated:
            return f"seed {seed} has no {treatment} at {level_name(level)}"
        for draw in draws:
            if (seed, level, draw) not in controls:
                return f"seed {seed} has no {control} draw {draw} at {level_name(level)}"
    return None


def primary_test(
    gaps: PairedGaps, bounds: tuple[float, float] = PRIMARY_SPARSITY
) -> PermutationTest | None:
    """The test stated before the run: mean gap over levels within `bounds`, run labels permuted.

    None where no level lies there, or no seed is complete.
    """
    inside = gaps.primary(bounds)
    if not inside.levels or not inside.seeds:
        return None
    return permutation_test(inside.runs.mean(axis=2))


def t_interval(values: Sequence[float] | np.ndarray, confidence: float = 0.95) -> Interval:
    """Student's t interval of the mean of independent values, here one per seed."""
    array = np.asarray(values, float)
    n, mean = len(array), float(array.mean())
    if n < 2:
        return Interval(mean, None, None, None, n)
    sd = float(array.std(ddof=1))
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * sd / np.sqrt(n)
    return Interval(mean, sd, float(mean - half), float(mean + half), n)


def equivalence(
    values: Sequence[float] | np.ndarray, margin: float = 0.5, alpha: float = 0.05
) -> Equivalence:
    """Tests that the mean gap over seeds is within +-`margin` (unit of the values)."""
    array = np.asarray(values, float)
    n = len(array)
    if n < 2:
        return Equivalence(margin, None, False, None)
    mean = float(array.mean())
    error = float(array.std(ddof=1)) / np.sqrt(n)
    smallest = float(abs(mean) + stats.t.ppf(1 - alpha, n - 1) * error)
    if error == 0:
        p = 0.0 if abs(mean) < margin else 1.0
    else:
        p = float(stats.t.sf((margin - abs(mean)) / error, n - 1))
    return Equivalence(margin, p, smallest <= margin, smallest)
