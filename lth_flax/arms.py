"""The arms: what each gives the mask of a level to wear.

To add one, write a function and name it in `ARMS`; records, statistics and
figures know arms by name only.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from lth_flax.numerics import pinned
from lth_flax.pruning.masks import permute_within_tensors, sparsity
from lth_flax.pruning.scores import random as random_scores
from lth_flax.pruning.select import prune
from lth_flax.pruning.units import on_units
from lth_flax.randomness import key
from lth_flax.types import Mask, Params, UnitGroup


class Seed(NamedTuple):
    """What the arms of one seed share. `initialize(draw)` is its `draw`-th fresh network.

    groups: of units, where these are pruned as a whole; a mask is moved about by units then
      (`pruning.units.on_units`).
    """

    seed: int
    initial_params: Params
    initialize: Callable[[int], Params]
    groups: tuple[UnitGroup, ...] = ()


Arm = Callable[[Seed, Mask, int, int], tuple[Params, Mask]]
"""(seed, mask of the level, level, draw) -> initial parameters and mask."""


def ticket(seed: Seed, mask: Mask, level: int, draw: int) -> tuple[Params, Mask]:
    """The mask on the initialization that it was found from."""
    del level, draw
    return seed.initial_params, mask


def reinit(seed: Seed, mask: Mask, level: int, draw: int) -> tuple[Params, Mask]:
    """The same mask on a fresh initialization; a draw is one network at every level."""
    del level
    return seed.initialize(draw), mask


@pinned()
def shuffled(seed: Seed, mask: Mask, level: int, draw: int) -> tuple[Params, Mask]:
    """The original values, the mask permuted within each tensor: as its own, these masks nest.

    Of whole units, these are permuted within their layer and direction.
    """
    del level  # one permutation for all
    chosen = key(seed.seed, "shuffled mask", draw)
    return seed.initial_params, on_units(
        mask, seed.groups, lambda found: permute_within_tensors(found, chosen)
    )


@pinned()
def random(seed: Seed, mask: Mask, level: int, draw: int) -> tuple[Params, Mask]:
    """The original values, a random mask of the same size; masks of a seed nest over levels."""
    del level

    def drawn(found: Mask) -> Mask:
        scores = random_scores(found, key=key(seed.seed, "random mask", draw))
        full = jax.tree_util.tree_map(np.ones_like, found)
        return prune(scores, full, sparsity=sparsity(found))

    return seed.initial_params, on_units(mask, seed.groups, drawn)


ARMS: dict[str, Arm] = {
    "ticket": ticket,
    "reinit": reinit,
    "shuffled": shuffled,
    "random": random,
}
