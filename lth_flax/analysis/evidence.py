"""What recorded runs say, read from their summaries: the evidence behind a verdict.

Accuracies and gains are in points, sparsities are shares of the prunable weights.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lth_flax.analysis.statistics import Interval, t_interval
from lth_flax.errors import UserError

MOST_BYTES = 2**26

Summary = dict[str, Any]
BySeed = dict[int, float]


@dataclass(frozen=True)
class Finding:
    """What a rule found: a verdict and the numbers behind it, in words."""

    verdict: str
    effect: str


class Missing(Exception):
    """A run that a rule needs has not been recorded."""


class Evidence:
    """The summaries of recorded runs, by the name of their directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def configurations(self, run: str) -> list[Summary]:
        """One summary for each configuration of a run.

        Raises:
          Missing: there is no such run.
          UserError: a summary cannot be read.
        """
        files = sorted(
            (self.directory / run).glob("summary*.json"),
            key=lambda file: (len(file.name), file.name),
        )
        if not files:
            raise Missing(run)
        return [_read(file) for file in files]

    def one(self, run: str) -> Summary:
        """The summary of a run of one configuration."""
        return self.configurations(run)[0]


def _read(file: Path) -> Summary:
    try:
        if file.stat().st_size > MOST_BYTES:
            raise UserError(f"{file} is larger than {MOST_BYTES} bytes: expected a summary")
        found = json.loads(file.read_text(encoding="utf-8"))
        found["checkpoints"][found["primary_checkpoint"]]["table"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise UserError(
            f"{file} is no summary: make it again with python -m lth_flax.analysis.report"
        ) from None
    return found


# Reading a summary.


def primary(summary: Summary) -> dict[str, Any]:
    return summary["checkpoints"][summary["primary_checkpoint"]]


def accuracies(summary: Summary, arm: str, level: float = 0.0) -> BySeed:
    """Test accuracy by seed, draws averaged; empty where the arm is not there."""
    for entry in primary(summary)["table"]:
        if entry["arm"] == arm and abs(entry["target_sparsity"] - level) < 1e-9:
            return {int(seed): float(value) for seed, value in entry["by_seed"]}
    return {}


def crossings(summary: Summary, kind: str, arm: str) -> tuple[BySeed, int]:
    """Breakdown or crater sparsity by seed, draws averaged, and how many curves never crossed."""
    values: dict[int, list[float]] = {}
    runs = primary(summary)[kind]["arms"].get(arm, [])
    for run in runs:
        values.setdefault(int(run["seed"]), []).append(float(run["sparsity"]))
    means = {seed: float(np.mean(some)) for seed, some in values.items()}
    return means, sum(run["censored"] for run in runs)


def minus(one: BySeed, other: BySeed) -> BySeed:
    """Paired differences over the seeds that both have."""
    return {seed: one[seed] - other[seed] for seed in sorted(one.keys() & other.keys())}


def averaged(parts: Sequence[BySeed]) -> BySeed:
    """By seed, the mean over parts, of the seeds that all have."""
    common = set.intersection(*(set(part) for part in parts)) if parts else set()
    return {seed: float(np.mean([part[seed] for part in parts])) for seed in sorted(common)}


def interval(values: BySeed) -> Interval:
    """Student's t over seeds.

    Raises:
      Missing: there is no value.
    """
    if not values:
        raise Missing("rows")
    return t_interval(list(values.values()))


def said(found: Interval, unit: str = "points") -> str:
    scale, digits = (100, 0) if unit == "%" else (1, 2)
    sign = "" if unit == "%" else "+"
    text = f"{scale * found.mean:{sign}.{digits}f}{'%' if unit == '%' else ' points'}"
    if found.low is None or found.high is None:
        return f"{text} (n = {found.n})"
    low, high = scale * found.low, scale * found.high
    return f"{text} ({low:{sign}.{digits}f} to {high:{sign}.{digits}f}, n = {found.n})"


def above(found: Interval, bound: float) -> bool:
    return found.low is not None and found.low > bound


def below(found: Interval, bound: float) -> bool:
    return found.high is not None and found.high < bound


def levels_of(summary: Summary, arm: str) -> list[float]:
    return sorted({e["target_sparsity"] for e in primary(summary)["table"] if e["arm"] == arm})
