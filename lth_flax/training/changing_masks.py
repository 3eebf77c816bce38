"""Masks that change during training, as optax transformations: gradual pruning, SET, RigL.

Each wraps any optimizer, like `keep_pruned`, and is outermost. Two lines put it into any loop:

    optimizer = rigl(optax.adam(1e-3), mask, every=100, end=7500)
    state = optimizer.init(apply_mask(params, mask))

`mask_state.current_mask(state)` is the mask as it stands. The parameters are masked after each
`optax.apply_updates`; the loss is that of these parameters, and its gradient is taken at them,
*not* through a mask: the gradient of pruned weights is what RigL ranks.

At a step at which the mask changes, it is chosen from the parameters and the gradient that
`update` gets. The optimizer takes its step with the weights that are in the mask before and
after; those that left it are zero, and those that entered start at zero with zero moments.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Int

from lth_flax.errors import UserError
from lth_flax.pruning.masks import apply_mask, checked_mask
from lth_flax.pruning.scores import magnitude, random
from lth_flax.pruning.select import Scope, groups_of, keep_highest
from lth_flax.training.mask_state import PrunedState
from lth_flax.training.optimizers import keep_pruned
from lth_flax.types import Mask, Params

Change = Callable[[Mask, Params, Params, Int[Array, ""]], Mask]
"""(mask, parameters under it, their dense gradient, step) -> the next mask."""


class ChangingState(NamedTuple):
    """step: how many updates there were. pruned: the mask, and the optimizer's state."""

    step: Int[Array, ""]
    pruned: PrunedState


def changing(
    optimizer: optax.GradientTransformation,
    mask: Mask,
    *,
    due: Callable[[Int[Array, ""]], Bool[Array, ""]],
    change: Change,
) -> optax.GradientTransformationExtraArgs:
    """An optimizer under a mask that changes at the steps that are due.

    `update(grads, state, params, step=...)` takes the step from whoever counts it: under `vmap`
    one number for all, so that nothing but the due steps pays for a change. Without it the state
    counts, and a mapped condition computes both of its branches.

    Args:
      mask: to begin with.
      due: step, from 0 -> whether the mask changes there.
      change: gives the next mask.

    Raises:
      UserError: as `keep_pruned`.
    """

    def init(params: Params) -> ChangingState:
        return ChangingState(jnp.int32(0), keep_pruned(optimizer, mask).init(params))

    def update(
        grads: Params,
        state: ChangingState,
        params: Params | None = None,
        *,
        step: Int[Array, ""] | None = None,
        **extra: Any,
    ) -> tuple[Params, ChangingState]:
        if params is None:
            raise UserError("this optimizer needs the parameters: update(grads, state, params)")
        now = state.step if step is None else step
        before = checked_mask(state.pruned.mask, params)
        checked_mask(before, grads, of="gradients")
        after = jax.lax.cond(
            due(now),
            lambda: checked_mask(change(before, apply_mask(params, before), grads, now), params),
            lambda: before,
        )
        both = jax.tree_util.tree_map(jnp.logical_and, before, after)
        updates, pruned = keep_pruned(optimizer, both).update(
            grads, PrunedState(both, state.pruned.inner), params, **extra
        )
        return updates, ChangingState(state.step + 1, PrunedState(after, pruned.inner))

    return optax.GradientTransformationExtraArgs(init, update)


def gradual(
    optimizer: optax.GradientTransformation,
    mask: Mask,
    *,
    start: int,
    end: int,
    every: int,
    sparsity: float | None = None,
    initial_sparsity: float = 0.0,
    scope: Scope = "global",
    counts: Int[Array, "changes groups"] | Int[np.ndarray, "changes groups"] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Gradual magnitude pruning (Zhu & Gupta, arXiv 1710.01878).

    At step t from `start` to `end` the sparsity is s1 + (s0 - s1) (1 - (t - t0) / (t1 - t0))^3.
    The smallest |w| go every `every` steps, and at `end`; masks nest. Afterwards the mask stays:
    leave a quarter of training or more for that.

    Args:
      mask: to begin with, `masks.full_mask(params)`.
      sparsity: s1, exactly reached at `end`; initial_sparsity: s0.
      scope: "global" ranks all weights together, "tensor" prunes each tensor alike.
      counts: in place of both sparsities, the table of `gradual_counts`.

    Raises:
      UserError: not 0 <= start <= end, or every < 1.
    """
    if counts is None:
        if sparsity is None:
            raise UserError("gradual needs the sparsity that it ends with, or counts")
        counts = gradual_counts(
            mask, sparsity, start=start, end=end, every=every,
            initial_sparsity=initial_sparsity, scope=scope,
        )  # fmt: skip
    _check_steps(start, end, every)
    table = jnp.asarray(counts)

    def due(step: Int[Array, ""]) -> Bool[Array, ""]:
        on = ((step - start) % every == 0) | (step == end)
        return (step >= start) & (step <= end) & on

    def change(mask: Mask, params: Params, grads: Params, step: Int[Array, ""]) -> Mask:
        del grads
        number = (step - start + every - 1) // every
        return keep_highest(magnitude(params), mask, table[number], scope=scope)

    return changing(optimizer, mask, due=due, change=change)


def gradual_counts(
    mask: Mask,
    sparsity: float,
    *,
    start: int,
    end: int,
    every: int,
    initial_sparsity: float = 0.0,
    scope: Scope = "global",
) -> Int[np.ndarray, "changes groups"]:
    """How many weights `gradual` keeps after each change, for each group of the scope.

    `N - round(s_t * N)` of N weights, in double precision. A table that a program gets as a
    value lets networks of several sparsities share the program.

    Example:
      >>> gradual_counts({"w": np.ones((10, 10), bool)}, 0.8, start=0, end=4, every=2).tolist()
      [[100], [30], [20]]
    """
    _check_steps(start, end, every)
    for value in (sparsity, initial_sparsity):
        if not 0 <= value <= 1:
            raise UserError(f"sparsity must be in [0, 1], found {value}")
    sizes = [sum(int(np.size(leaf)) for leaf in group) for group in groups_of(mask, scope)]
    rows = []
    for step in [*range(start, end, every), end]:
        left = 1 - (step - start) / (end - start) if end > start else 0.0
        now = sparsity + (initial_sparsity - sparsity) * left**3
        rows.append([size - round(now * size) for size in sizes])
    return np.array(rows, np.int32)


def set_(
    optimizer: optax.GradientTransformation,
    mask: Mask,
    *,
    key: Array,
    every: int,
    end: int,
    drop: float = 0.3,
) -> optax.GradientTransformationExtraArgs:
    """Sparse evolutionary training (Mocanu et al., arXiv 1707.04780).

    Every `every` steps before `end`, the share `drop` of each tensor's weights with the smallest
    |w| goes, and as many of those that were pruned grow at random.

    Args:
      mask: to begin with, such as `densities.random_mask(full_mask(params), ...)`.
      key: draws what grows, with the step folded in.
    """

    def grow(mask: Mask, grads: Params, step: Int[Array, ""]) -> Params:
        del grads
        return random(mask, key=jax.random.fold_in(key, step))

    return _regrowing(optimizer, mask, grow, lambda step: jnp.float32(drop), every, end, drop)


def rigl(
    optimizer: optax.GradientTransformation,
    mask: Mask,
    *,
    every: int,
    end: int,
    drop: float = 0.3,
) -> optax.GradientTransformationExtraArgs:
    """RigL (Evci et al., arXiv 1911.11134).

    Every `every` steps before `end` (three quarters of training in the paper), the share
    drop / 2 (1 + cos(pi t / end)) of each tensor's weights with the smallest |w| goes, and as
    many of those now pruned grow, the ones with the largest |gradient|: one that was just dropped
    stays where its gradient is among these.

    The paper takes no step of the optimizer where the mask changes; here the weights that stay
    take it, so that as many steps are as much training for every method.

    Args:
      mask: to begin with, such as `densities.random_mask(full_mask(params), ...)`.
    """

    def grow(mask: Mask, grads: Params, step: Int[Array, ""]) -> Params:
        del mask, step
        return magnitude(grads)

    def share(step: Int[Array, ""]) -> Array:
        return drop / 2 * (1 + jnp.cos(jnp.pi * step.astype(jnp.float32) / end))

    return _regrowing(optimizer, mask, grow, share, every, end, drop, regrow=True)


def _regrowing(
    optimizer: optax.GradientTransformation,
    mask: Mask,
    grow: Callable[[Mask, Params, Int[Array, ""]], Params],
    share: Callable[[Int[Array, ""]], Array],
    every: int,
    end: int,
    drop: float,
    *,
    regrow: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Drops the smallest weights of each tensor and grows as many, the highest that `grow` scores.

    With `regrow`, those that were just dropped may be among them.
    """
    _check_steps(0, end, every)
    if not 0 <= drop <= 1:
        raise UserError(f"drop must be in [0, 1], found {drop}")

    def due(step: Int[Array, ""]) -> Bool[Array, ""]:
        return (step > 0) & (step < end) & (step % every == 0)

    def change(mask: Mask, params: Params, grads: Params, step: Int[Array, ""]) -> Mask:
        kept = _per_tensor(mask, lambda leaf: jnp.sum(leaf, dtype=jnp.int32))
        free = _per_tensor(mask, lambda leaf: jnp.sum(~leaf, dtype=jnp.int32))
        # No more than can grow: a full tensor stays as it is.
        swapped = [
            jnp.minimum(jnp.round(share(step) * number).astype(jnp.int32), most)
            for number, most in zip(kept, free, strict=True)
        ]
        stay = keep_highest(
            magnitude(params),
            mask,
            [number - gone for number, gone in zip(kept, swapped, strict=True)],
            scope="tensor",
        )
        candidates = jax.tree_util.tree_map(
            lambda leaf: ~leaf if jnp.ndim(leaf) else leaf, stay if regrow else mask
        )
        grown = keep_highest(grow(mask, grads, step), candidates, swapped, scope="tensor")
        return jax.tree_util.tree_map(jnp.logical_or, stay, grown)

    return changing(optimizer, mask, due=due, change=change)


def _per_tensor(mask: Mask, of: Callable[[Any], Array]) -> Sequence[Array]:
    return [of(jnp.asarray(leaf)) for (leaf,) in groups_of(mask, "tensor")]


def _check_steps(start: int, end: int, every: int) -> None:
    if not 0 <= start <= end or every < 1:
        raise UserError(
            f"start={start}, end={end}, every={every}: expected steps with 0 <= start <= end, "
            "and every from 1"
        )
