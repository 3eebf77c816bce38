"""Selection: scores and a mask in, a smaller mask out, with an exact count.

Of n surviving weights and a fraction p, exactly `round(p * n)` go (Python's
round, half to even, on the double-precision product), the lowest score first,
ties by (leaf order, flat index). A target sparsity s over N prunable weights
keeps exactly `N - round(s * N)`. Masks nest: what is pruned stays pruned, so a
target that is already passed removes nothing.

Nothing is sorted and nothing is stacked: the last score that goes is found bit by
bit, each time by counting the survivors below a candidate, and so is the last
position among equal scores. So the result is the same on the host, under `jit`
and under `vmap`, takes no memory beside scores and masks, and a fixed number of
passes over them.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt

from lth_flax.errors import UserError
from lth_flax.pruning.counts import rounded_share
from lth_flax.pruning.masks import checked_mask
from lth_flax.types import Mask, Params

Scope = Literal["global", "tensor"]
SCOPES: tuple[Scope, ...] = ("global", "tensor")


def prune(
    scores: Params,
    mask: Mask,
    *,
    fraction: float | None = None,
    sparsity: float | None = None,
    threshold: float | None = None,
    scope: Scope = "global",
) -> Mask:
    """Removes the lowest-scored surviving weights.

    Exactly one of three says how many:
      fraction: of the *surviving* weights, in [0, 1].
      sparsity: the share of *all* prunable weights removed afterwards, in [0, 1].
      threshold: every surviving weight whose score is below it; with
        `scores.magnitude` this is a fixed threshold on |w|.
    `scope` says over what: "global" ranks all prunable weights together,
    "tensor" prunes each parameter by the same share.

    Example:
      >>> scores, mask = {"w": jnp.array([[3.0, 1.0], [2.0, 1.0]])}, {"w": jnp.ones((2, 2), bool)}
      >>> prune(scores, mask, fraction=0.5)["w"].tolist()
      [[True, False], [True, False]]

    -0.0 equals 0.0, and NaN is above infinity, as for `jnp.sort`.

    Returns:
      a mask in the tree of the scores.

    Raises:
      UserError: an amount outside its range, none or several amounts, an
        unknown scope, or a mask that does not fit the scores; see `checked_mask`.
    """
    _check_amount(fraction, sparsity, threshold, scope)
    mask = checked_mask(mask, scores, of="scores")
    if threshold is not None:
        return jax.tree_util.tree_map(
            lambda score, kept: (
                jnp.asarray(kept) & ~(score < threshold) if jnp.ndim(kept) else kept
            ),
            scores,
            mask,
        )
    kept: list[Any] = []
    for group in groups_of(mask, scope):
        survivors, size = _count(group), sum(int(jnp.size(leaf)) for leaf in group)
        if fraction is not None:
            kept.append(survivors - rounded_share(fraction, survivors))
        else:
            assert sparsity is not None
            kept.append(size - round(float(sparsity) * size))
    return keep_highest(scores, mask, kept, scope=scope)


def keep_highest(
    scores: Params,
    mask: Mask,
    kept: Int[Array, " groups"] | Int[np.ndarray, " groups"] | Sequence[Int[Array, ""] | int],
    *,
    scope: Scope = "global",
) -> Mask:
    """Keeps so many of the surviving weights, those of the highest scores.

    For numbers that are values of a program, such as those of a row of a table; `prune` says
    how many that are. Ties and order are as there, and masks nest: a group that has fewer
    survivors keeps them.

    Args:
      kept: for each group of `groups_of(mask, scope)`.
    """
    leaves, tree = jax.tree_util.tree_flatten(checked_mask(mask, scores, of="scores"))
    score_leaves = jax.tree_util.tree_leaves(scores)
    prunable = [index for index, leaf in enumerate(leaves) if jnp.ndim(leaf)]
    groups = [prunable] if scope == "global" else [[index] for index in prunable]
    for group, number in zip(groups, kept, strict=True):
        masks = [jnp.asarray(leaves[index]) for index in group]
        removals = jnp.maximum(_count(masks) - number, 0)
        of_group = [jnp.asarray(score_leaves[index]) for index in group]
        for index, leaf in zip(group, _without_lowest(of_group, masks, removals), strict=True):
            leaves[index] = leaf
    return jax.tree_util.tree_unflatten(tree, leaves)


def groups_of(mask: Mask, scope: Scope) -> list[list[Any]]:
    """The prunable leaves of a mask that are ranked together: all, or each by itself."""
    leaves = [leaf for leaf in jax.tree_util.tree_leaves(mask) if jnp.ndim(leaf)]
    return [leaves] if scope == "global" else [[leaf] for leaf in leaves]


def _check_amount(fraction, sparsity, threshold, scope) -> None:
    given = {"fraction": fraction, "sparsity": sparsity, "threshold": threshold}
    named = {name: value for name, value in given.items() if value is not None}
    if len(named) != 1:
        raise UserError(f"give one of fraction, sparsity and threshold; found {named or 'none'}")
    for name, value in named.items():
        if name != "threshold" and not 0 <= value <= 1:
            raise UserError(f"{name} must be in [0, 1], found {value}")
        if name == "threshold" and np.isnan(value):
            raise UserError("threshold must be a number, found nan")
    if scope not in SCOPES:
        raise UserError(f"scope must be one of {', '.join(SCOPES)}; found {scope!r}")


def _count(masks: Sequence[Bool[Array, "..."]]) -> Int[Array, ""]:
    counts = [jnp.sum(mask, dtype=jnp.int32) for mask in masks]
    return sum(counts, jnp.int32(0))


@jax.jit
def _without_lowest(
    scores: Sequence[Float[Array, "..."]],
    masks: Sequence[Bool[Array, "..."]],
    removals: Int[Array, ""],
) -> list[Bool[Array, "..."]]:
    """Clears the `removals` lowest-scored set positions of `masks`, ties by position."""
    with jax.numpy_dtype_promotion("standard"):
        dtype = jnp.result_type(*scores)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        raise UserError(f"scores must be real numbers, found {dtype}")
    if dtype.kind == "b":
        dtype = jnp.dtype(jnp.uint8)
    ranks = [_rank(score.astype(dtype)) for score in scores]
    last = _largest(
        ranks[0].dtype,
        lambda rank: _count(_both(masks, [r < rank for r in ranks])) < removals,
    )
    below = [rank < last for rank in ranks]
    ties = _both(masks, [rank == last for rank in ranks])
    still = removals - _count(_both(masks, below))
    ends = np.cumsum([mask.size for mask in masks])
    positions = [
        jnp.arange(mask.size, dtype=jnp.uint32).reshape(mask.shape) + jnp.uint32(end - mask.size)
        for mask, end in zip(masks, ends, strict=True)
    ]
    cut = _largest(
        jnp.uint32,
        lambda position: _count(_both(ties, [p < position for p in positions])) < still,
        bits=int(ends[-1]).bit_length(),
    )
    gone = [
        low | (tie & (position <= cut) & (still > 0))
        for low, tie, position in zip(below, ties, positions, strict=True)
    ]
    return [mask & ~out for mask, out in zip(masks, gone, strict=True)]


def _both(some: Sequence[Array], others: Sequence[Array]) -> list[Array]:
    return [one & other for one, other in zip(some, others, strict=True)]


def _largest(
    dtype: Any, holds: Callable[[UInt[Array, ""]], Bool[Array, ""]], bits: int | None = None
) -> UInt[Array, ""]:
    """The largest number for which `holds` (which is true up to it), or 0, bit by bit."""
    bits = jnp.iinfo(dtype).bits if bits is None else bits

    def refine(step: Int[Array, ""], number: UInt[Array, ""]) -> UInt[Array, ""]:
        bit = jnp.left_shift(jnp.asarray(1, dtype), (bits - 1 - step).astype(dtype))
        return jnp.where(holds(number | bit), number | bit, number)

    return jax.lax.fori_loop(0, bits, refine, jnp.asarray(0, dtype))


def _rank(scores: Array) -> UInt[Array, "..."]:
    """Unsigned integers in the order of the scores."""
    bits = 8 * scores.dtype.itemsize
    unsigned = jnp.dtype(f"uint{bits}")
    sign = jnp.asarray(1 << (bits - 1), unsigned)
    pattern = jax.lax.bitcast_convert_type(scores, unsigned)
    if jnp.issubdtype(scores.dtype, jnp.unsignedinteger):
        return pattern
    if jnp.issubdtype(scores.dtype, jnp.integer):
        return pattern ^ sign
    # Negative floats are ordered by magnitude, backwards. -0.0 is told by its bits: a
    # comparison with zero takes the smallest floats for zero where they are flushed.
    pattern = jnp.where(pattern == sign, jnp.zeros_like(pattern), pattern)
    rank = jnp.where(pattern & sign != 0, ~pattern, pattern | sign)
    return jnp.where(jnp.isnan(scores), ~jnp.zeros_like(rank), rank)
