"""What recorded runs say: the evidence behind a verdict, read from their records.

Only seeds that nobody had seen when the rules were fixed count as evidence.
"""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lth_flax.analysis.blocks import read_block
from lth_flax.analysis.breakdown import Crossing
from lth_flax.analysis.compare import design_of
from lth_flax.analysis.grid import best_rates
from lth_flax.analysis.merge import differing, split_groups
from lth_flax.analysis.seed_scores import SeedScores
from lth_flax.analysis.statistics import Design, Estimate, estimate
from lth_flax.parts import records_file
from lth_flax.predictions import Predictions
from lth_flax.records import Record, where

FIRST_SEED = 100
"""Seeds from here on were unseen when the rules were fixed."""


@dataclass(frozen=True)
class Finding:
    """What a rule found: a verdict, the numbers behind it in words, and how many networks."""

    verdict: str
    effect: str
    n: int | None = None


class Missing(Exception):
    """What a rule needs has not been recorded."""


class TooFew(Exception):
    """A rule needs more seeds, levels or networks than there are; it says which."""


@dataclass(frozen=True)
class Run:
    """The records of one directory: a group for each configuration."""

    name: str
    groups: Sequence[Sequence[Record]]
    predictions: Predictions | None = None

    @property
    def design(self) -> Design:
        return design_of(self.groups[0])

    def scores(self, rows: Iterable[Record]) -> SeedScores:
        """The scores of rows of one arm and level."""
        return SeedScores.of(rows, self.predictions)

    def at_best_rates(self) -> dict[int, list[Record]]:
        """By depth the test rows where dense networks have the best validation accuracy."""
        return {int(depth): scored(group) for depth, group in best_rates(self.groups).items()}

    def one_depth(self) -> list[Record]:
        """All rows of the shallowest networks: they differ in learning rate at most."""
        settings = [dict(group[0].settings) for group in self.groups]
        apart = [{n: v for n, v in one.items() if n != "learning_rate"} for one in settings]
        first = min(apart, key=lambda one: (one["num_layers"], one["epochs"]))
        pairs = zip(self.groups, apart, strict=True)
        return [row for group, one in pairs if one == first for row in group]


class Evidence:
    """Recorded runs, by the name of their directory."""

    def __init__(self, directory: Path, first_seed: int = FIRST_SEED) -> None:
        self.directory, self.first_seed = directory, first_seed
        self._read = functools.cache(self._load)

    def run(self, *names: str) -> Run:
        """The first of these runs that is recorded.

        Raises:
          Missing: none is.
          UserError: its records cannot be read.
        """
        for name in names:
            if found := self._read(name):
                return found
        raise Missing(names[0])

    def _load(self, name: str) -> Run | None:
        if not records_file(self.directory / name):
            return None
        block = read_block(self.directory / name)
        rows = [row for row in block.records if row.seed >= self.first_seed]
        return Run(name, split_groups(rows), block.predictions) if rows else None


def scored(rows: Sequence[Record]) -> list[Record]:
    """The test rows at the last epoch."""
    return where(rows, split="test", checkpoint="last")


def same_but(one: Run, other: Run, *names: str) -> None:
    """Two runs that are compared may differ in these alone.

    Raises:
      TooFew: they differ in more.
    """
    more = sorted(differing(one.groups[0][0], other.groups[0][0]).keys() - set(names))
    if more:
        raise TooFew(f"{one.name} and {other.name} differ in {', '.join(more)}")


def need(number: int, least: int, what: str) -> None:
    """Raises `TooFew` where there are fewer."""
    if number < least:
        raise TooFew(f"{least} {what} are needed, {number} are here")


@dataclass(frozen=True)
class Bound:
    """A mean sparsity over seeds, of which some may be lower bounds.

    An unbroken seed counts as the last level for "at least"; "below" cannot be told with one.
    """

    estimate: Estimate
    censored: int

    @classmethod
    def of(cls, crossings: dict[int, Crossing], design: Design) -> "Bound":
        values = {seed: one.sparsity for seed, one in crossings.items()}
        censored = sum(one.censored for one in crossings.values())
        return cls(estimate(values, design=design), censored)

    def at_least(self, level: float) -> bool:
        """Whether the lower bound of the mean is."""
        return self.estimate.interval is not None and self.estimate.interval[0] >= level

    def below(self, level: float) -> bool:
        """Whether the upper bound of the mean is."""
        return not self.censored and self.estimate.below(level)

    def __str__(self) -> str:
        if not self.censored:
            return said(self.estimate, "%")
        values = [value for _, value in self.estimate.by_seed]
        later = " or later" * (2 * self.censored >= len(values))  # then the median is a bound, too
        low = (
            self.estimate.interval and f"; the mean at least {100 * self.estimate.interval[0]:.1f}%"
        )
        return (
            f"{100 * np.median(values):.1f}%{later} (the median; in {self.censored} of "
            f"{len(values)} seeds a network never did{low or ''})"
        )


def said(over_seeds: Estimate, unit: str = "points") -> str:
    """A mean with its interval and n: points as they are, "%" of a share."""
    scale, digits, sign, end = (100, 1, "", "%") if unit == "%" else (1, 2, "+", f" {unit}")
    if over_seeds.mean is None:
        return "nothing"
    text = f"{scale * over_seeds.mean:{sign}.{digits}f}{end}"
    if over_seeds.interval is None:
        return f"{text} (n = {over_seeds.n_seeds})"
    low, high = (scale * bound for bound in over_seeds.interval)
    return f"{text} ({low:{sign}.{digits}f} to {high:{sign}.{digits}f}, n = {over_seeds.n_seeds})"
