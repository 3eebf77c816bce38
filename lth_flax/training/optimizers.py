"""Optimizers and learning-rate schedules, and the promise that pruned weights stay zero."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from lth_flax.pruning.masks import apply_mask, path_names
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


def keep_pruned(
    optimizer: optax.GradientTransformation, mask: Mask
) -> optax.GradientTransformation:
    """Wraps any optax optimizer so that pruned weights are, and stay, exactly zero.

    Gradients are masked on the way in, so moments of pruned weights stay zero
    under weight decay, momentum and clipping; updates are set on the way out so
    that `optax.apply_updates` lands on zero, also from a weight that was not.

    Example:
      tx = keep_pruned(optax.adamw(1e-3), mask)
      state = tx.init(params)
      updates, state = tx.update(grads, state, params)
    """

    def init(params: Params) -> optax.OptState:
        return optimizer.init(apply_mask(params, mask))

    def update(grads, state, params=None, **extra):
        if params is None:
            raise ValueError("keep_pruned needs the parameters: update(grads, state, params)")
        updates, state = optimizer.update(
            apply_mask(grads, mask), state, apply_mask(params, mask), **extra
        )
        updates = jax.tree_util.tree_map(
            lambda u, p, m: u if jnp.ndim(m) < jnp.ndim(p) else jnp.where(m, u, -p),
            updates,
            params,
            mask,
        )
        return updates, state

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
        lambda path, p: jnp.ndim(p) >= 2 and "embedding" not in path_names(path), params
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
