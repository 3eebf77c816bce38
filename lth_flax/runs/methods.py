"""Methods that find a mask during training, as rows of a table have them.

To add one, from outside the package too, write a function and pass it as `method`:

    def method(optimizer, mask, *, key, kept, steps):
        return ...  # an optax transformation whose state holds the mask

`mask` is that of the dense network, `key` the row's own, `kept` the number of weights that are
to be left in the end, and `steps` those of training. `training.changing_masks.changing` helps.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import jax
import numpy as np
from optax import GradientTransformation

from lth_flax.arms import Family, constant
from lth_flax.config import Config
from lth_flax.errors import UserError
from lth_flax.pruning.densities import Distribution, random_mask
from lth_flax.pruning.levels import Level, kept_counts
from lth_flax.pruning.masks import count_prunable
from lth_flax.pruning.scores import magnitude
from lth_flax.pruning.select import Scope, keep_highest
from lth_flax.training import changing_masks
from lth_flax.training.early_bird import draw_steps, early_bird
from lth_flax.training.supermask import initial_scores, stored_bytes, supermask
from lth_flax.types import Array, Mask, Params


class MaskRule(NamedTuple):
    """How the mask of a row changes.

    sparsities: (level's sparsity, steps of training) -> that of some steps, evenly over training;
      a step that computes more than its mask keeps counts as less sparse.
    begin: (theta_0, full mask, level, key) -> the weights and the mask to begin with, and what is
      the row's own: arrays that `wrap` gets as values of the program (host arrays).
    wrap: (optimizer, mask, the row's own) -> the optimizer under that mask.
    says: (theta_0, full mask) -> what records have in `search`.
    """

    begin: Callable[[Params, Mask, Level, Array], tuple[Params, Mask, Any]]
    wrap: Callable[[GradientTransformation, Mask, Any], GradientTransformation]
    sparsities: Callable[[float, int], Sequence[float]] = lambda sparsity, steps: [sparsity]
    says: Callable[[Params, Mask], Mapping[str, Any]] = lambda params, full: {}


def mask_rule(config: Config, levels: Sequence[Level], steps: int, per_epoch: int) -> MaskRule:
    """The rule of `--method`.

    Args:
      levels: that Early-Bird draws masks of.
      steps: of training; per_epoch: in an epoch.

    Raises:
      UserError: a setting that cannot be with so many steps.
    """
    assert config.method is not None
    make = config.function("method")
    if make not in METHODS.values():
        return _own(make, steps)
    found: MaskRule = make(config, levels, steps, per_epoch)
    return found


def _own(method: Callable[..., GradientTransformation], steps: int) -> MaskRule:
    def begin(params: Params, full: Mask, level: Level, key: Array) -> tuple[Params, Mask, Any]:
        total = count_prunable(full)
        kept = np.int32(total - round(level.target_sparsity * total))
        return params, full, (key, kept)

    def wrap(optimizer: GradientTransformation, mask: Mask, own: Any) -> GradientTransformation:
        return method(optimizer, mask, key=own[0], kept=own[1], steps=steps)

    return MaskRule(begin, wrap)


def _gradual(config: Config, levels: Sequence[Level], steps: int, per_epoch: int) -> MaskRule:
    del levels, per_epoch
    start, end = (round(share * steps) for share in (config.mask_start, config.mask_end))
    if not start <= end < steps:
        raise UserError(
            f"--mask_start={config.mask_start:g} and --mask_end={config.mask_end:g} of {steps} "
            "steps: expected mask_start <= mask_end < 1, so that training goes on with the mask"
        )
    when: dict[str, Any] = {
        "start": start, "end": end, "every": config.mask_every, "scope": config.scope,
    }  # fmt: skip

    def begin(params: Params, full: Mask, level: Level, key: Array) -> tuple[Params, Mask, Any]:
        del key
        first = min(config.initial_sparsity, level.target_sparsity)
        counts = changing_masks.gradual_counts(
            full, level.target_sparsity, initial_sparsity=first, **when
        )
        return params, full, counts

    def wrap(optimizer: GradientTransformation, mask: Mask, own: Any) -> GradientTransformation:
        return changing_masks.gradual(optimizer, mask, counts=own, **when)

    def sparsities(sparsity: float, steps: int) -> Sequence[float]:
        first = min(config.initial_sparsity, sparsity)
        left = 1 - np.clip((np.arange(steps) - start) / max(end - start, 1), 0, 1)
        return list(sparsity + (first - sparsity) * left**3)

    return MaskRule(begin, wrap, sparsities)


def _sparse(name: str) -> Callable[..., MaskRule]:
    """SET or RigL, which begin with a random sparse mask."""

    def make(config: Config, levels: Sequence[Level], steps: int, per_epoch: int) -> MaskRule:
        del levels, per_epoch
        when: dict[str, Any] = {
            "every": config.mask_every, "end": round(config.mask_end * steps), "drop": config.drop,
        }  # fmt: skip

        def begin(params: Params, full: Mask, level: Level, key: Array) -> tuple[Params, Mask, Any]:
            first, later = jax.random.split(key)
            mask = random_mask(
                full,
                sparsity=level.target_sparsity,
                key=first,
                distribution=cast(Distribution, config.distribution),
            )
            return params, mask, later

        def wrap(optimizer: GradientTransformation, mask: Mask, own: Any) -> GradientTransformation:
            if name == "rigl":
                return changing_masks.rigl(optimizer, mask, **when)
            return changing_masks.set_(optimizer, mask, key=own, **when)

        def sparsities(sparsity: float, steps: int) -> Sequence[float]:
            at = np.arange(steps)
            dense = (at > 0) & (at < when["end"]) & (at % config.mask_every == 0)
            # RigL ranks what grows by the gradient of all weights: a third of a dense step.
            return list(sparsity * np.where(dense & (name == "rigl"), 2 / 3, 1))

        return MaskRule(begin, wrap, sparsities)

    return make


def _early_bird(config: Config, levels: Sequence[Level], steps: int, per_epoch: int) -> MaskRule:
    draws = draw_steps(per_epoch, steps // per_epoch, config.early_bird_draws)
    targets = [level.target_sparsity for level in levels]

    def begin(params: Params, full: Mask, level: Level, key: Array) -> tuple[Params, Mask, Any]:
        del level, key
        table = [
            changing_masks.gradual_counts(
                full, sparsity, start=0, end=0, every=1, scope=cast(Scope, config.scope)
            )[0]
            for sparsity in targets
        ]
        return params, full, np.stack(table)

    def wrap(optimizer: GradientTransformation, mask: Mask, own: Any) -> GradientTransformation:
        return early_bird(
            optimizer,
            mask,
            counts=own,
            draws=draws,
            threshold=config.early_bird_distance,
            scope=cast(Scope, config.scope),
            keep_start=config.early_bird_start == "emergence",
        )

    return MaskRule(begin, wrap)


def _supermask(config: Config, levels: Sequence[Level], steps: int, per_epoch: int) -> MaskRule:
    del config, levels, steps, per_epoch

    def weights_of(params: Params, full: Mask) -> Params:
        """All of a tensor's of one size, with the signs of theta_0."""
        return constant(Family(0, params, lambda draw: params), full, 0, 0)[0]

    def begin(params: Params, full: Mask, level: Level, key: Array) -> tuple[Params, Mask, Any]:
        weights = weights_of(params, full)
        kept = kept_counts(full, level, scope="tensor", schedule="oneshot")[0]
        scores = initial_scores(full, key)
        mask = keep_highest(magnitude(scores), full, kept, scope="tensor")
        return weights, mask, (weights, jax.tree_util.tree_map(np.asarray, scores), kept)

    def wrap(optimizer: GradientTransformation, mask: Mask, own: Any) -> GradientTransformation:
        weights, scores, kept = own
        return supermask(optimizer, mask, weights=weights, scores=scores, kept=kept)

    def says(params: Params, full: Mask) -> Mapping[str, Any]:
        return stored_bytes(weights_of(params, full), full)

    # The gradient of every score is that of a weight, a third of a dense step.
    return MaskRule(begin, wrap, lambda sparsity, steps: [sparsity * 2 / 3], says)


METHODS: dict[str, Callable[..., MaskRule]] = {
    "early_bird": _early_bird,
    "gradual": _gradual,
    "set": _sparse("set"),
    "rigl": _sparse("rigl"),
    "supermask": _supermask,
}
"""Those of `--method`."""

_AT_ONCE: dict[str, Any] = {"mask_from": "initialization", "schedule": "oneshot"}

WAYS: dict[str, dict[str, Any]] = {
    "ticket": {"schedule": "iterative"},
    **{
        score: {**_AT_ONCE, "criterion": score}
        for score in ("random", "magnitude_init", "snip", "grasp", "synflow", "jacobian")
    },
    **{method: {"method": method, "schedule": "oneshot"} for method in METHODS},
}
"""Every way to a mask: its settings. A ticket is found by iterative magnitude pruning."""
