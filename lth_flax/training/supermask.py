"""Supermasks: the mask is trained, and the weights never are (Ramanujan et al., arXiv 1911.13299).

Every weight has a score, and the mask keeps those of each tensor with the largest |score|. The
gradient goes straight through that choice (edge-popup): that of |score| is the gradient of the
masked weight times the weight, for the pruned ones too. As an optax transformation, in any loop:

    scores = initial_scores(full, key)
    optimizer = supermask(optax.sgd(0.1), full, weights=weights, scores=scores, kept=[100, 20])
    state = optimizer.init(weights)
    weights_now = apply_mask(weights, current_mask(state))

`optimizer` trains the scores. The updates put a weight where its score has come up, and take it
away where that went down; what no mask prunes stays as well.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Int

from lth_flax.pruning.masks import checked_mask
from lth_flax.pruning.scores import magnitude
from lth_flax.pruning.select import keep_highest
from lth_flax.training.mask_state import PrunedState
from lth_flax.types import Mask, Params


class SupermaskState(NamedTuple):
    """pruned: the mask, and the state of the scores' optimizer. scores: 0-d where none may go."""

    pruned: PrunedState
    scores: Params


def supermask(
    optimizer: optax.GradientTransformation,
    mask: Mask,
    *,
    weights: Params,
    scores: Params,
    kept: Int[Array, " tensors"] | Int[np.ndarray, " tensors"] | Sequence[int],
) -> optax.GradientTransformationExtraArgs:
    """Trains the scores of weights that stay as they are.

    Args:
      mask: which may be pruned, such as `masks.full_mask(weights)`; its values do not count.
      weights: in the paper all of one size in a tensor.
      scores: to begin with, such as `initial_scores(mask, key)`.
      kept: how many weights of each prunable tensor.

    Raises:
      UserError: a mask that does not fit the weights (by `init`).
    """
    inner = optax.with_extra_args_support(optimizer)

    def chosen(scores: Params) -> Mask:
        every = jax.tree_util.tree_map(jnp.ones_like, mask)
        return keep_highest(magnitude(scores), every, kept, scope="tensor")

    def init(params: Params) -> SupermaskState:
        checked_mask(mask, params)
        first = jax.tree_util.tree_map(jnp.array, scores)
        return SupermaskState(PrunedState(chosen(first), inner.init(first)), first)

    def update(
        grads: Params, state: SupermaskState, params: Params | None = None, **extra: Any
    ) -> tuple[Params, SupermaskState]:
        del params  # what they are is known: the weights under the mask
        before = checked_mask(state.pruned.mask, grads, of="gradients")
        slopes = jax.tree_util.tree_map(_slope, grads, weights, state.scores)
        steps, inner_state = inner.update(slopes, state.pruned.inner, state.scores, **extra)
        new = optax.apply_updates(state.scores, steps)
        after = chosen(new)

        def moved(weight: Array, was: Array, now: Array) -> Array:
            weight = jnp.asarray(weight)
            return jnp.where(was == now, jnp.zeros_like(weight), jnp.where(now, weight, -weight))

        updates = jax.tree_util.tree_map(moved, weights, before, after)
        return updates, SupermaskState(PrunedState(after, inner_state), new)

    return optax.GradientTransformationExtraArgs(init, update)


def _slope(grad: Array, weight: Array, score: Array) -> Array:
    if not jnp.ndim(score):
        return jnp.zeros_like(score)
    return jnp.where(score < 0, -grad, grad) * weight  # it is |score| that is compared


def initial_scores(mask: Mask, key: Array) -> Params:
    """Uniform in +-1 / sqrt(inputs of the tensor), as in the paper's code."""
    leaves, tree = jax.tree_util.tree_flatten(mask)

    def draw(number: int, leaf: Any) -> Array:
        if not np.ndim(leaf):
            return jnp.zeros((), jnp.float32)
        bound = 1 / np.sqrt(max(1, np.prod(leaf.shape[:-1])))
        chosen = jax.random.fold_in(key, number)
        return jax.random.uniform(chosen, leaf.shape, jnp.float32, -bound, bound)

    return jax.tree_util.tree_unflatten(tree, [draw(n, leaf) for n, leaf in enumerate(leaves)])


def stored_bytes(weights: Params, mask: Mask) -> dict[str, int]:
    """What keeping a supermask takes: a bit for each place of it, and the weights.

    Whoever draws the weights from their seed again needs the mask alone. Else a weight is a sign,
    of equal tensors once, and a tensor has one size of four bytes; the rest, which no mask prunes,
    is as it is. Beside it the dense network.
    """
    pairs = list(zip(*map(jax.tree_util.tree_leaves, (weights, mask)), strict=True))
    prunable = [np.asarray(weight) for weight, kept in pairs if np.ndim(kept)]
    distinct = {(one.shape, one.tobytes()): one.size for one in prunable}
    whole = sum(np.asarray(weight).nbytes for weight, _ in pairs)
    return {
        "mask_bytes": -(-sum(one.size for one in prunable) // 8),
        "sign_bytes": -(-sum(distinct.values()) // 8),
        "size_bytes": 4 * len(distinct),
        "rest_bytes": whole - sum(one.nbytes for one in prunable),
        "dense_bytes": whole,
    }
