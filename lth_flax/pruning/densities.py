"""Random sparse masks: how many weights of each tensor, and which.

For networks that are sparse from the start, such as those of SET and RigL.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from lth_flax.errors import UserError
from lth_flax.pruning.masks import checked_mask
from lth_flax.pruning.scores import random
from lth_flax.pruning.select import keep_highest
from lth_flax.types import Array, Mask

Distribution = Literal["uniform", "erdos_renyi"]
DISTRIBUTIONS: tuple[Distribution, ...] = ("uniform", "erdos_renyi")


def random_mask(
    mask: Mask, *, sparsity: float, key: Array, distribution: Distribution = "erdos_renyi"
) -> Mask:
    """A random mask that keeps exactly `N - round(sparsity * N)` of N prunable weights.

    Args:
      mask: says what is prunable (`masks.full_mask`); what it prunes counts as any other weight.
      sparsity: in [0, 1].
      key: draws which weights of each tensor.
      distribution: see `weights_per_tensor`.

    Raises:
      UserError: no such sparsity or distribution.
    """
    full = jax.tree_util.tree_map(jnp.ones_like, checked_mask(mask, mask))
    shapes = [leaf.shape for leaf in jax.tree_util.tree_leaves(full) if leaf.ndim]
    kept = weights_per_tensor(shapes, sparsity=sparsity, distribution=distribution)
    return keep_highest(random(full, key=key), full, kept, scope="tensor")


def weights_per_tensor(
    shapes: Sequence[Sequence[int]], *, sparsity: float, distribution: Distribution = "erdos_renyi"
) -> np.ndarray[Any, np.dtype[np.int32]]:
    """How many weights each tensor keeps, together exactly `N - round(sparsity * N)`.

    "uniform" gives every tensor the same density. "erdos_renyi" gives a kernel [n_in, n_out] a
    density proportional to (n_in + n_out) / (n_in * n_out) (Mocanu et al., arXiv 1707.04780),
    one of more dimensions that of the sum and the product of all of them (Evci et al., arXiv
    1911.11134), at most 1, scaled so that the total is met. The weights that rounding leaves
    over go to the largest remainders, the first tensor of equals.

    Example:
      >>> weights_per_tensor([(10, 10), (10, 40)], sparsity=0.8).tolist()
      [29, 71]
    """
    if not 0 <= sparsity <= 1:
        raise UserError(f"sparsity must be in [0, 1], found {sparsity}")
    if distribution not in DISTRIBUTIONS:
        raise UserError(
            f"distribution must be one of {', '.join(DISTRIBUTIONS)}; found {distribution!r}"
        )
    sizes = np.array([math.prod(shape) for shape in shapes], np.int64)
    total = int(sizes.sum()) - round(float(sparsity) * int(sizes.sum()))
    weights = np.array([sum(shape) for shape in shapes], np.float64)
    if distribution == "uniform":
        weights = sizes.astype(np.float64)
    # Tensors that would be more than full are full, and the others share the rest.
    capped = np.zeros(len(sizes), bool)
    while True:
        free = total - sizes[capped].sum()
        exact = np.where(capped, sizes, free * weights / max(weights[~capped].sum(), 1.0))
        over = ~capped & (exact > sizes)
        if not over.any():
            break
        capped |= over
    kept = np.floor(exact).astype(np.int64)
    order = np.argsort(-(exact - kept), kind="stable")
    open_ = [index for index in order if kept[index] < sizes[index]]
    kept[open_[: total - int(kept.sum())]] += 1
    return kept.astype(np.int32)
