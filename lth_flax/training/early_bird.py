"""Early-Bird tickets: masks that are drawn while a dense network trains, until they stay.

You et al. (arXiv 1909.11957) draw a mask every epoch and stop when the newest is within 0.1 of
each of the four before it. Their distance is the share of positions that differ; two independent
random masks of density rho differ in 2 rho (1 - rho) of them, so at high sparsity that is near
0.1 whatever the masks are. Here a distance is divided by what is expected of chance.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from lth_flax.errors import UserError
from lth_flax.pruning.masks import count_prunable
from lth_flax.pruning.scores import magnitude
from lth_flax.pruning.select import Scope, keep_highest
from lth_flax.training.mask_state import PrunedState
from lth_flax.training.optimizers import keep_pruned
from lth_flax.types import Mask, Params

OLDER = 4
"""Masks that the newest is compared with."""


class EarlyBirdState(NamedTuple):
    """A network in training under its own mask, and the masks that were drawn from it.

    pruned: the mask that it trains under, and the optimizer's state.
    step: how many updates there were.
    recent: the last four masks of every level, newest first: leaves [levels, 4, ...].
    newest: the newest mask, and from the draw at which it emerged on that one: [levels, ...].
    emerged: steps after which a level's mask emerged, or 0, [levels].
    distances: of each draw the largest distance to the four before it, as the share of positions
      that differ, and corrected for chance: [draws, levels, 2]; NaN before there are four.
    began: parameters and inner state at the step of `newest`, [levels, ...]; () if not kept.
    """

    pruned: PrunedState
    step: Int[Array, ""]
    recent: Mask
    newest: Mask
    emerged: Int[Array, " levels"]
    distances: Float[Array, "draws levels 2"]
    began: Any


def distance(
    mask: Mask, other: Mask, kept: Int[Array, ""] | int, total: int
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """How far two masks of `kept` of `total` weights are apart: as a share, and over chance.

    Of independent random masks the second is 1 on average.
    """
    differ = [
        jnp.sum(one != two, dtype=jnp.int32)
        for one, two in zip(*map(jax.tree_util.tree_leaves, (mask, other)), strict=True)
        if jnp.ndim(one)
    ]
    share = sum(differ, jnp.int32(0)) / total
    density = kept / total
    chance = 2 * density * (1 - density)
    return share, jnp.where(chance > 0, share / jnp.where(chance > 0, chance, 1.0), 0.0)


def early_bird(
    optimizer: optax.GradientTransformation,
    mask: Mask,
    *,
    counts: Int[Array, "levels groups"] | Sequence[Sequence[int]],
    draws: Sequence[int],
    threshold: float = 0.1,
    scope: Scope = "global",
    keep_start: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Trains under `mask` as it is, and draws masks on the way; see `EarlyBirdState`.

    Args:
      mask: of the network that trains, such as `masks.full_mask(params)`.
      counts: how many weights the masks of each level keep, in each group of the scope.
      draws: after which steps masks of the largest |w| are drawn, increasing.
      threshold: the chance-corrected distance within which the newest mask must be of each of the
        four before it.
      keep_start: whether parameters and optimizer of the step of emergence are kept.

    Raises:
      UserError: no draws, or as `keep_pruned`.
    """
    if not len(draws) or list(draws) != sorted(set(draws)) or draws[0] < 1:
        raise UserError(f"draws must be increasing steps from 1, found {list(draws)[:5]}")
    numbers = jnp.asarray(counts, jnp.int32)
    levels, at = len(numbers), jnp.asarray(np.asarray(draws, np.int32))
    keep = keep_pruned(optimizer, mask)

    def repeated(tree: Any, *axes: int) -> Any:
        return jax.tree_util.tree_map(
            lambda leaf: jnp.broadcast_to(leaf, (*axes, *jnp.shape(leaf))), tree
        )

    def init(params: Params) -> EarlyBirdState:
        pruned = keep.init(params)
        return EarlyBirdState(
            pruned,
            jnp.int32(0),
            _leaves(pruned.mask, lambda leaf: repeated(leaf, levels, OLDER)),
            _leaves(pruned.mask, lambda leaf: repeated(leaf, levels)),
            jnp.zeros(levels, jnp.int32),
            jnp.full((len(draws), levels, 2), jnp.nan, jnp.float32),
            repeated((params, pruned.inner), levels) if keep_start else (),
        )

    def update(
        grads: Params,
        state: EarlyBirdState,
        params: Params | None = None,
        *,
        step: Int[Array, ""] | None = None,
        **extra: Any,
    ) -> tuple[Params, EarlyBirdState]:
        updates, pruned = keep.update(grads, state.pruned, params, **extra)
        now = (state.step if step is None else step) + 1
        state = state._replace(pruned=pruned, step=state.step + 1)
        return updates, jax.lax.cond(
            jnp.any(at == now),
            lambda: draw(state, optax.apply_updates(params, updates), now),
            lambda: state,
        )

    def draw(state: EarlyBirdState, params: Params, now: Int[Array, ""]) -> EarlyBirdState:
        number = jnp.searchsorted(at, now)
        mask = state.pruned.mask
        total, scores = count_prunable(mask), magnitude(params)
        recent, found, began = state.recent, state.newest, state.began
        emerged, distances = state.emerged, state.distances
        for level in range(levels):
            new = keep_highest(scores, mask, numbers[level], scope=scope)
            older = [_at(recent, level, place) for place in range(OLDER)]
            apart = [distance(new, one, jnp.sum(numbers[level]), total) for one in older]
            largest = jnp.stack([jnp.max(jnp.stack(both)) for both in zip(*apart, strict=True)])
            largest = jnp.where(number >= OLDER, largest, jnp.nan)
            distances = distances.at[number, level].set(largest)
            open_ = emerged[level] == 0
            found = _set(found, new, open_, level)
            if keep_start:
                began = _set(began, (params, state.pruned.inner), open_, level)
            emerged = emerged.at[level].set(
                jnp.where(open_ & (largest[1] <= threshold), now, emerged[level])
            )
            for place, one in enumerate([new, *older[:-1]]):
                recent = _set(recent, one, jnp.bool_(True), level, place)
        return state._replace(
            recent=recent, newest=found, emerged=emerged, distances=distances, began=began
        )

    return optax.GradientTransformationExtraArgs(init, update)


def emergence(state: EarlyBirdState, level: int) -> tuple[Mask, dict[str, Any]]:
    """The mask of a level (host arrays), and what is to be said of it.

    From a state at the end of training: "emerged", the "step", and of each draw the largest
    "distances" to the four before it, as shares and "corrected" for chance, from the fifth on. A
    mask that never emerged is the last that was drawn.
    """
    mask = jax.tree_util.tree_map(
        lambda leaf, like: np.asarray(leaf)[level] if np.ndim(like) else np.asarray(like),
        state.newest,
        state.pruned.mask,
    )
    distances = np.asarray(state.distances)[OLDER:, level].astype(float)
    emerged = int(np.asarray(state.emerged)[level])
    return mask, {
        "emerged": emerged > 0,
        "step": emerged or None,
        "distances": [round(float(value), 6) for value in distances[:, 0]],
        "corrected": [round(float(value), 6) for value in distances[:, 1]],
    }


def draw_steps(steps_per_epoch: int, epochs: int, per_epoch: int) -> list[int]:
    """After which steps masks are drawn: so often per epoch, evenly, once a step at most."""
    numbers = range(1, epochs * per_epoch + 1)
    return sorted({-(-steps_per_epoch * number // per_epoch) for number in numbers})


def _leaves(mask: Mask, change: Any) -> Mask:
    """Of what is prunable; a 0-d leaf says that nothing is, and stays."""
    return jax.tree_util.tree_map(lambda leaf: change(leaf) if jnp.ndim(leaf) else leaf, mask)


def _at(masks: Mask, *where: int) -> Mask:
    return _leaves(masks, lambda leaf: leaf[where])


def _set(trees: Any, tree: Any, when: Bool[Array, ""], *where: int) -> Any:
    """Puts a tree at a place of the leading axes, when that is so."""
    return jax.tree_util.tree_map(
        lambda all_, one: (
            all_.at[where].set(jnp.where(when, one, all_[where])) if jnp.ndim(all_) else all_
        ),
        trees,
        tree,
    )
