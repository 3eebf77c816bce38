"""Selection: scores and a mask in, a smaller mask out, with an exact count.

Of n surviving weights and a fraction p, exactly `round(p * n)` go (Python's
round, half to even, on the double-precision product), the lowest score first,
ties by (leaf order, flat index). A target sparsity s over N prunable weights
keeps exactly `N - round(s * N)`. Masks nest: what is pruned stays pruned, so a
target that is already passed removes nothing.

Counts of known trees are computed on the host: in float32, 0.3 x 95 rounds the
wrong way. Where the number of survivors is traced, a table of counts that was
built on the host is indexed. So the result is the same on the host, under
`jit` and under `vmap`.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

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

    Raises:
      ValueError: an amount outside its range, none or several amounts, an
        unknown scope, or scores that do not match the mask.
    """
    _check_amount(fraction, sparsity, threshold, scope)
    mask_leaves, tree = jax.tree_util.tree_flatten(mask)
    score_leaves = jax.tree_util.tree_leaves(scores)
    same: bool = jax.tree_util.tree_structure(scores) == jax.tree_util.tree_structure(mask)  # type: ignore
    if not same:
        raise ValueError(f"scores and mask are different trees; the mask is {tree}")
    prunable = [index for index, leaf in enumerate(mask_leaves) if jnp.ndim(leaf)]
    for index in prunable:
        if jnp.shape(score_leaves[index]) != jnp.shape(mask_leaves[index]):
            raise ValueError(
                f"scores of leaf {index} have shape {jnp.shape(score_leaves[index])}, "
                f"its mask has {jnp.shape(mask_leaves[index])}: they must be equal"
            )
    if threshold is not None:
        for index in prunable:
            below = jnp.asarray(score_leaves[index]) < threshold
            mask_leaves[index] = jnp.asarray(mask_leaves[index]) & ~below
        return jax.tree_util.tree_unflatten(tree, mask_leaves)

    groups = [prunable] if scope == "global" else [[index] for index in prunable]
    for group in groups:
        flat_scores = jnp.concatenate([jnp.ravel(score_leaves[index]) for index in group])
        flat_mask = jnp.concatenate([jnp.ravel(mask_leaves[index]) for index in group])
        kept = _keep_highest(flat_scores, flat_mask, _removals(flat_mask, fraction, sparsity))
        sizes = [jnp.size(mask_leaves[index]) for index in group]
        parts = jnp.split(kept, np.cumsum(sizes)[:-1].tolist())
        for index, part in zip(group, parts, strict=True):
            mask_leaves[index] = part.reshape(jnp.shape(mask_leaves[index]))
    return jax.tree_util.tree_unflatten(tree, mask_leaves)


def _check_amount(fraction, sparsity, threshold, scope) -> None:
    given = {"fraction": fraction, "sparsity": sparsity, "threshold": threshold}
    named = {name: value for name, value in given.items() if value is not None}
    if len(named) != 1:
        raise ValueError(f"give one of fraction, sparsity and threshold; found {named or 'none'}")
    for name, value in named.items():
        if name != "threshold" and not 0 <= value <= 1:
            raise ValueError(f"{name} must be in [0, 1], found {value}")
        if name == "threshold" and np.isnan(value):
            raise ValueError("threshold must be a number, found nan")
    if scope not in SCOPES:
        raise ValueError(f"scope must be one of {', '.join(SCOPES)}; found {scope!r}")


def _removals(
    mask: Bool[Array, " n"], fraction: float | None, sparsity: float | None
) -> Int[Array, ""]:
    """How many of the survivors go, for every possible number of survivors: then look it up."""
    size = mask.shape[0]
    survivors = np.arange(size + 1)
    if fraction is not None:
        # np.rint rounds half to even, as Python's round does.
        table = np.rint(float(fraction) * survivors)
    else:
        assert sparsity is not None
        table = np.maximum(survivors - (size - round(float(sparsity) * size)), 0)
    return jnp.asarray(table.astype(np.int32))[jnp.sum(mask, dtype=jnp.int32)]


def _keep_highest(
    scores: Float[Array, " n"], mask: Bool[Array, " n"], removals: Int[Array, ""]
) -> Bool[Array, " n"]:
    """Clears the `removals` lowest-scored set positions of `mask`, ties by position."""
    position = jnp.arange(mask.shape[0], dtype=jnp.int32)
    # Two sort keys, not +inf for the pruned ones: a survivor may score +inf itself.
    pruned_last = jnp.where(mask, jnp.int32(0), jnp.int32(1))
    _, _, order = jax.lax.sort((pruned_last, scores, position), num_keys=2, is_stable=True)
    removed = jnp.zeros_like(mask).at[order].set(position < removals)
    return mask & ~removed
