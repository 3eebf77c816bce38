"""Optimizers and learning-rate schedules, and the promise that pruned weights stay zero."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from lth_flax.errors import UserError
from lth_flax.pruning.masks import (
    apply_mask,
    checked_mask,
    path_names,
    prunable_by_default,
    seen,
)
from lth_flax.training.mask_state import PrunedState, holds, mask_moments
from lth_flax.types import Mask, Params

Optimizer = Callable[[Float[Array, ""]], optax.GradientTransformation]
"""A learning rate, which may be traced, -> the transformation. Its state must not
depend on the rate: so the rate can be a value per row of a table."""

Schedule = Callable[[Array], Float[Array, ""]]
"""Step -> the factor on the learning rate."""

OPTIMIZERS = ("adam", "adamw", "sgd")
ADAMW_WEIGHT_DECAY = 0.01
SGD_MOMENTUM = 0.9
SCHEDULES = ("constant", "cosine", "linear")

_TWO_SETS = (
    "lookahead has two sets of parameters: use optax.lookahead(keep_pruned(optimizer, mask), ...) "
    "and mask both sets"
)


def keep_pruned(
    optimizer: optax.GradientTransformation,
    mask: Mask,
    *,
    frozen: Bool[Array, ""] | bool | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Wraps any optax optimizer so that pruned weights are, and stay, exactly zero.

    Gradients are masked on the way in, so moments of pruned weights stay zero
    under weight decay, momentum and clipping; updates are set on the way out so
    that `optax.apply_updates` lands on zero, also from a weight that was not.
    (From a finite one: an update only adds, so it cannot remove a NaN. Call
    `apply_mask` before the first step where there may be one.)

    The mask is copied into the state by `init`; `mask_state.current_mask` reads it
    there. Wrap the whole optimizer: `keep_pruned(optax.chain(...), mask)`, and
    `keep_pruned(optax.multi_transform(...), mask)`. Around `optax.lookahead`, which has
    two sets of parameters, it is `optax.lookahead(keep_pruned(optimizer, mask), ...)`
    with `optax.LookaheadParams.init_synced(apply_mask(params, mask))`.

    With `frozen` pruned weights stay at the values that they start with, in place of zero
    (Zhou et al., arXiv 1905.01067): they are seen, and not trained. It may be traced: networks
    of both kinds share a program.

    Example:
      tx = keep_pruned(optax.adamw(1e-3), mask)
      state = tx.init(params)
      updates, state = tx.update(grads, state, params)

    Raises:
      UserError: a mask that does not fit the parameters (by `init`; see
        `masks.checked_mask`), `update` without parameters, or not outermost.
    """
    checked_mask(mask, mask)
    inner = optax.with_extra_args_support(optimizer)

    def init(params: Params) -> PrunedState:
        if holds(params, optax.MaskedNode):
            raise UserError(
                "keep_pruned must be outermost: keep_pruned(optax.multi_transform(...), mask) "
                "or keep_pruned(optax.masked(...), mask), not inside of these"
            )
        if isinstance(params, optax.LookaheadParams):
            raise UserError(_TWO_SETS)
        copied = jax.tree_util.tree_map(jnp.array, checked_mask(mask, params))
        held = None if frozen is None else jnp.array(frozen)
        state = inner.init(apply_mask(params, copied, held))
        if holds(state, optax.LookaheadState):
            raise UserError(_TWO_SETS)
        return PrunedState(copied, mask_moments(state, copied, params), held)

    def update(
        grads: Params, state: PrunedState, params: Params | None = None, **extra: Any
    ) -> tuple[Params, PrunedState]:
        if params is None:
            raise UserError("keep_pruned needs the parameters: update(grads, state, params)")
        mask = checked_mask(state.mask, params)
        checked_mask(mask, grads, of="gradients")
        updates, inner_state = inner.update(
            apply_mask(grads, mask), state.inner, apply_mask(params, mask, state.frozen), **extra
        )
        checked_mask(mask, updates, of="updates")
        updates = jax.tree_util.tree_map(
            partial(_of_kept, frozen=state.frozen), updates, params, mask
        )
        return updates, PrunedState(mask, mask_moments(inner_state, mask, params), state.frozen)

    return optax.GradientTransformationExtraArgs(init, update)


def weight_decay_of(name: str, given: float | None) -> float:
    """The weight decay of an optimizer: what is given, or its default.

    Raises:
      ValueError: `name` is adam, which has none.
    """
    if name == "adam" and given:
        raise ValueError(
            f"optimizer adam has no weight_decay, found {given:g}: use adamw, or leave it out"
        )
    return (ADAMW_WEIGHT_DECAY if name == "adamw" else 0.0) if given is None else given


def _of_kept(update: Array, param: Array, mask: Array, frozen: Array | None) -> Array:
    """The update, and where the weight is pruned what takes it to zero, or leaves it frozen."""
    if not jnp.ndim(mask):
        return update
    with jax.numpy_dtype_promotion("standard"):  # a narrower update could not undo the weight
        dtype = jnp.result_type(update, param)
    away = jnp.where(seen(mask, frozen), jnp.zeros_like(param), -param).astype(dtype)
    return jnp.where(mask, update.astype(dtype), away)


def make_optimizer(
    name: str,
    *,
    weight_decay: float | None = None,
    momentum: float | None = None,
    clip_norm: float | None = None,
    frozen: Callable[[tuple[str, ...]], bool] | None = None,
) -> Optimizer:
    """An optimizer by name, as a function of its learning rate.

    Args:
      name: one of `OPTIMIZERS`.
      weight_decay: decoupled, of kernels only (Loshchilov & Hutter, arXiv 1711.05101); default:
        0.01 for adamw, none for sgd. adam has none.
      momentum: of sgd alone; default: 0.9.
      clip_norm: the largest global norm of the gradient.
      frozen: path -> whether a parameter is never updated.

    Raises:
      ValueError: an unknown name, or a setting that this optimizer does not have.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}; found {name!r}")
    decay = weight_decay_of(name, weight_decay)
    if momentum is not None and name != "sgd":
        raise ValueError(
            f"optimizer {name} has no momentum, found {momentum:g}: use sgd, or leave it out"
        )
    trace = SGD_MOMENTUM if momentum is None else momentum

    def build(learning_rate: Float[Array, ""]) -> optax.GradientTransformation:
        parts = []
        if clip_norm is not None:
            parts.append(optax.clip_by_global_norm(clip_norm))
        parts.append(optax.trace(decay=trace) if name == "sgd" else optax.scale_by_adam())
        if decay:
            parts.append(optax.add_decayed_weights(decay, mask=_kernels))
        parts.append(optax.scale_by_learning_rate(learning_rate))
        optimizer = optax.chain(*parts)
        if frozen is None:
            return optimizer
        return optax.multi_transform(
            {"trained": optimizer, "frozen": optax.set_to_zero()},
            lambda params: jax.tree_util.tree_map_with_path(
                lambda path, _: "frozen" if frozen(path_names(path)) else "trained", params
            ),
        )

    return build


def _kernels(params: Params) -> Params:
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: prunable_by_default(path_names(path), leaf), params
    )


def make_schedule(
    name: str, *, total_steps: int, warmup_steps: int = 0, then_constant: bool = False
) -> Schedule:
    """The factor on the learning rate at each step of a run of `total_steps`.

    "constant", "cosine" (to zero) or "linear" (to zero), after a linear warm-up
    from zero over `warmup_steps`. With `then_constant` the factor is 1 after the last step,
    for fine-tuning.
    """
    if name not in SCHEDULES:
        raise ValueError(f"lr_schedule must be one of {', '.join(SCHEDULES)}; found {name!r}")
    decay_steps = max(total_steps - warmup_steps, 1)
    main = {
        "constant": optax.constant_schedule(1.0),
        "cosine": optax.cosine_decay_schedule(1.0, decay_steps),
        "linear": optax.linear_schedule(1.0, 0.0, decay_steps),
    }[name]
    parts, ends = [main], []
    if warmup_steps:
        parts, ends = [optax.linear_schedule(0.0, 1.0, warmup_steps), main], [warmup_steps]
    if then_constant:
        parts, ends = [*parts, optax.constant_schedule(1.0)], [*ends, total_steps]
    return optax.join_schedules(parts, ends) if ends else main
