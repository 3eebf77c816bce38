"""The arms: what each puts the mask of a level on.

To add one, write a function and name it in `ARMS`; records, statistics and
figures know arms by name only.

Arms that say what of a ticket matters (`signs` to `trained_signs`) change the weights that a
mask may prune and nothing else: biases and word vectors are those of the ticket.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, NoReturn

import jax
import numpy as np

from lth_flax.errors import UserError
from lth_flax.matching import match_units, permute_mask
from lth_flax.numerics import pinned
from lth_flax.pruning.masks import permute_within_tensors, sparsity
from lth_flax.pruning.scores import random as random_scores
from lth_flax.pruning.select import prune
from lth_flax.pruning.units import on_units
from lth_flax.randomness import generator, key
from lth_flax.types import Mask, Params, UnitGroup


def _not_here(*_: Any) -> NoReturn:
    raise UserError(
        "this arm needs trained networks of its seed: give Family(trained=..., dense=...), or "
        "let find_tickets train it"
    )


class Family(NamedTuple):
    """The networks of one seed, as host arrays. What is not at hand is read when it is called.

    initial_params: theta_0, or the rewind point.
    initialize: draw -> its `draw`-th fresh network.
    trained: () -> the trained network that the mask of the level was found from.
    dense: draw -> the dense network that was trained from its `draw`-th fresh network, or with
      None from theta_0.
    model: what is known of the network (`tasks.ModelInfo`).
    groups: of units, where these are pruned as a whole; a mask is moved about by units then
      (`pruning.units.on_units`).
    """

    seed: int
    initial_params: Params
    initialize: Callable[[int], Params]
    trained: Callable[[], Params] = _not_here
    dense: Callable[[int | None], Params] = _not_here
    model: Any = None
    groups: tuple[UnitGroup, ...] = ()


Arm = Callable[[Family, Mask, int, int], tuple[Params, Mask]]
"""(networks of a seed, mask of the level, level, draw) -> initial parameters and mask."""


def ticket(family: Family, mask: Mask, level: int, draw: int) -> tuple[Params, Mask]:
    """The mask on the initialization that it was found from."""
    del level, draw
    return family.initial_params, mask


def reinit(family: Family, mask: Mask, level: int, draw: int) -> tuple[Params, Mask]:
    """The same mask on a fresh initialization; a draw is one network at every level."""
    del level
    return family.initialize(draw), mask


@pinned()
def shuffled(family: Family, mask: Mask, level: int, draw: int) -> tuple[Params, Mask]:
    """The original values, the mask permuted within each tensor: as its own, these masks nest.

    Of whole units, these are permuted within their layer and direction.
    """
    del level  # one permutation for all
    chosen = key(family.seed, "shuffled mask", draw)
    return family.initial_params, on_units(
        mask, family.groups, lambda found: permute_within_tensors(found, chosen)
    )


@pinned()
def random(family: Family, mask: Mask, level: int, draw: int) -> tuple[Params, Mask]:
    """The original values, a random mask of the same size; masks of a seed nest over levels."""
    del level

    def drawn(found: Mask) -> Mask:
        scores = random_scores(found, key=key(family.seed, "random mask", draw))
        full = jax.tree_util.tree_map(np.ones_like, found)
        return prune(scores, full, sparsity=sparsity(found))

    return family.initial_params, on_units(mask, family.groups, drawn)


def frozen(family: Family, mask: Mask, level: int, draw: int) -> tuple[Params, Mask]:
    """The ticket, its pruned weights frozen at their initial values in place of zero (1905.01067).

    Whoever trains it does not put the mask on; see `FROZEN`.
    """
    return ticket(family, mask, level, draw)


def signs(family: Family, mask: Mask, level: int, draw: int) -> tuple[Params, Mask]:
    """Fresh magnitudes with the original signs (Zhou et al., arXiv 1905.01067)."""
    del level
    return _weights(family, mask, _signed, family.initialize(draw), family.initial_params), mask


def trained_signs(family: Family, mask: Mask, level: int, draw: int) -> tuple[Params, Mask]:
    """Fresh magnitudes with the signs of the trained weights (arXiv 2504.05357)."""
    del level
    return _weights(family, mask, _signed, family.initialize(draw), family.trained()), mask


def constant(family: Family, mask: Mask, level: int, draw: int) -> tuple[Params, Mask]:
    """Original signs alone, of the size of the tensor's standard deviation (1905.01067)."""
    del level, draw

    def deviation(weights: np.ndarray) -> np.ndarray:
        return _signed(np.full_like(weights, np.std(weights, dtype=np.float64)), weights)

    return _weights(family, mask, deviation, family.initial_params), mask


def reshuffled(family: Family, mask: Mask, level: int, draw: int) -> tuple[Params, Mask]:
    """The original values of the kept weights, permuted among the kept places of each tensor.

    (Public code often permutes the pruned values in with them: that is nearly a fresh draw.)
    """
    del level
    rng = generator(family.seed, "reshuffled values", draw)

    def permuted(weights: np.ndarray, kept: np.ndarray) -> np.ndarray:
        result = weights.copy()
        result[kept] = rng.permutation(weights[kept])
        return result

    return _weights(family, mask, permuted, family.initial_params, mask), mask


def permuted_mask(family: Family, mask: Mask, level: int, draw: int) -> tuple[Params, Mask]:
    """A fresh initialization under the mask with its units permuted to fit (arXiv 2505.05143).

    The dense network of theta_0 is matched to the one that was trained from the fresh
    initialization; the mask goes where the units go.

    Raises:
      UserError: the model does not say what its units are.
    """
    del level
    check_arms(["permuted_mask"], family.model)
    groups = family.model.units(family.initial_params)
    matching = match_units(family.dense(None), family.dense(draw), groups)
    return family.initialize(draw), permute_mask(mask, groups, matching)


def _signed(sizes: np.ndarray, signs: np.ndarray) -> np.ndarray:
    return np.copysign(sizes, signs).astype(sizes.dtype)


def _weights(
    family: Family, mask: Mask, function: Callable[..., np.ndarray], *trees: Params
) -> Params:
    """The initial parameters, with new values wherever the mask may prune."""

    def leaf(original: Any, kept: Any, *values: Any) -> np.ndarray:
        arrays = [np.asarray(value) for value in values]
        return function(*arrays) if np.ndim(kept) else np.asarray(original)

    return jax.tree_util.tree_map(leaf, family.initial_params, mask, *trees)


ARMS: dict[str, Arm] = {
    "ticket": ticket,
    "reinit": reinit,
    "shuffled": shuffled,
    "random": random,
    "frozen": frozen,
    "signs": signs,
    "constant": constant,
    "reshuffled": reshuffled,
    "trained_signs": trained_signs,
    "permuted_mask": permuted_mask,
}

FRESH = frozenset({"reinit", "permuted_mask"})
"""Arms that start from a fresh initialization, and so at step 0 wherever the others rewind to."""

FROZEN = frozenset({"frozen"})
"""Arms whose pruned weights keep the values that they start with, and are not trained."""

MATCHED = frozenset({"permuted_mask"})
"""Arms that need the dense network of a fresh initialization trained."""


def check_arms(names: Iterable[str], model: Any) -> None:
    """Raises `UserError` for an arm that asks of a network what its model does not say."""
    for name in MATCHED.intersection(names):
        if getattr(model, "units", None) is None:
            raise UserError(
                f"the arm {name} needs to know the units of the network: expected "
                "Task(model=ModelInfo(units=...)); leave the arm out where there are none"
            )
