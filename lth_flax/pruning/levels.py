"""Sparsity levels: which masks an experiment asks for, and how each is reached."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int

from lth_flax.pruning.select import Scope, groups_of
from lth_flax.types import Mask

Schedule = Literal["oneshot", "iterative"]
SCHEDULES: tuple[Schedule, ...] = ("oneshot", "iterative")


@dataclass(frozen=True)
class Level:
    """One sparsity level. `target_sparsity` names it in records.

    `fraction` is set where a round removes a share of the survivors instead of
    going to a total.
    """

    index: int
    target_sparsity: float
    fraction: float | None


def from_sparsities(sparsities: Sequence[float]) -> tuple[Level, ...]:
    """Levels at given target sparsities, in [0, 1) and increasing.

    Raises:
      ValueError: one is outside, or they do not increase.
    """
    values = [float(value) for value in sparsities]
    if not values:
        raise ValueError("levels must name at least one sparsity, such as 0.5,0.8")
    for value in values:
        if not 0 <= value < 1:
            raise ValueError(f"levels must be in [0, 1), found {value} (0.5 is 50%)")
    for before, after in zip(values, values[1:], strict=False):
        if after <= before:
            raise ValueError(f"levels must increase, found {after} after {before}")
    return tuple(Level(index, value, None) for index, value in enumerate(values, start=1))


def from_rate(prune_rate: float, rounds: int) -> tuple[Level, ...]:
    """`rounds` levels that each remove `prune_rate` of what the one before kept.

    Target sparsity after r rounds is 1 - (1 - prune_rate)^r, rounded to four
    decimals for its name (Frankle & Carbin, arXiv 1803.03635: a rate of 0.2).

    Raises:
      ValueError: a rate outside (0, 1), or no round.
    """
    if not 0 < prune_rate < 1:
        raise ValueError(f"prune_rate must be in (0, 1), found {prune_rate}")
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, found {rounds}")
    # Ten thousand names of four decimals are all there are.
    count = min(rounds, 10_000)
    targets = [round(1 - (1 - prune_rate) ** r, 4) for r in range(1, count + 1)]
    if targets[-1] >= 1 or len(set(targets)) < rounds:
        raise ValueError(
            f"{rounds} rounds at prune_rate {prune_rate} end closer than 0.0001 to sparsity 1: "
            "use fewer rounds"
        )
    return tuple(Level(r, target, prune_rate) for r, target in enumerate(targets, start=1))


def kept_counts(
    mask: Mask, level: Level, *, scope: Scope, schedule: Schedule, rounds: int = 1
) -> Int[np.ndarray, "rounds groups"]:
    """How many weights `level` keeps, after each round and in each group of the scope.

    From the network that wore `mask` (host arrays). One-shot starts from the dense mask every
    time, so a level given by its rate goes straight to its target there. In rounds, the share
    density^(k / rounds) of all prunable weights is kept after round k.
    """
    found = []
    for group in groups_of(mask, scope):
        size = sum(leaf.size for leaf in group)
        survivors = sum(int(np.count_nonzero(leaf)) for leaf in group)
        if schedule == "iterative" and level.fraction is not None:
            last = survivors - round(level.fraction * survivors)
            density = last / size
        else:
            last = size - round(level.target_sparsity * size)
            density = 1 - level.target_sparsity
        shares = (1 - density ** (number / rounds) for number in range(1, rounds))
        found.append([*(size - round(share * size) for share in shares), last])
    return np.array(found, np.int32).T
