"""Masks in the state of an optimizer: the one place where training keeps them.

A transformation that keeps or changes a mask has a `PrunedState`. The mask is
thus an argument of a jitted step and not a constant in it, and is saved,
restored and donated with the rest.
"""

from collections import Counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lth_flax.errors import UserError
from lth_flax.pruning.masks import apply_mask, checked_mask, path_names
from lth_flax.types import Mask, Params

_OTHER_BASIS = ("GaLoreState",)
"""States whose moments are not those of single weights, by name: old releases lack them."""


class PrunedState(NamedTuple):
    """mask: which weights are kept. inner: the state of the optimizer within.

    frozen: whether pruned weights stay at the values that they have (0-d bool); None: they are
    zero.
    """

    mask: Mask
    inner: Any
    frozen: Any = None


def current_mask(opt_state: Any) -> Mask:
    """The mask that an optimizer's state holds, also where another transformation is around it.

    Raises:
      UserError: there is none, or there are several.
    """
    mask = pruned_state(opt_state).mask
    return checked_mask(mask, mask)


def masked(params: Params, opt_state: Any) -> Params:
    """The parameters that the loss sees, under the mask that an optimizer's state holds.

    Pruned weights are zero, or frozen; errors as `current_mask`.
    """
    state = pruned_state(opt_state)
    return apply_mask(params, state.mask, state.frozen)


def pruned_state(opt_state: Any) -> PrunedState:
    """The part of an optimizer's state that holds the mask; errors as `current_mask`."""
    found = [node for node in _nodes(opt_state) if isinstance(node, PrunedState)]
    if len(found) != 1:
        raise UserError(
            f"expected one mask in the optimizer's state, found {len(found) or 'none'}: "
            "wrap the whole optimizer, keep_pruned(optimizer, mask)"
        )
    return found[0]


def with_mask(opt_state: Any, mask: Mask, params: Params, frozen: Any = None) -> Any:
    """The state with another mask, and the moments of what it prunes zero.

    As if pruned weights had never had a gradient: for late rewinding.

    Args:
      params: a tree like the parameters that the state belongs to.
      frozen: whether pruned weights are, in place of what the state says.
    """
    pruned_state(opt_state)
    mask = checked_mask(mask, params)
    return jax.tree_util.tree_map(
        lambda node: (
            PrunedState(
                mask,
                mask_moments(node.inner, mask, params),
                node.frozen if frozen is None else frozen,
            )
            if isinstance(node, PrunedState)
            else node
        ),
        opt_state,
        is_leaf=lambda node: isinstance(node, PrunedState),
    )


def mask_moments(inner: Any, mask: Mask, params: Params) -> Any:
    """An optimizer's state with zeros wherever it has a value for a pruned weight.

    A value belongs to the parameter whose path its own path ends with, if it
    has that shape: so optax names moments, also where it puts other nodes in
    place of parameters that are frozen. What has another shape (the factors of
    Adafactor) belongs to no single weight, and stays.
    """
    masks = {
        path_names(path): (leaf, jnp.shape(param))
        for (path, param), leaf in zip(
            jax.tree_util.tree_leaves_with_path(params),
            jax.tree_util.tree_leaves(checked_mask(mask, params)),
            strict=True,
        )
    }

    def owners(path: tuple[Any, ...], leaf: Any) -> list[tuple[str, ...]]:
        """The parameters that a value may belong to."""
        names = path_names(path)
        ends = (names[first:] for first in range(len(names) + 1))
        return [end for end in ends if end in masks and masks[end][1] == jnp.shape(leaf)]

    # Where one parameter's path ends with another's, the tree of moments that holds
    # more of the parameters is meant.
    trees: Counter[tuple[str, ...]] = Counter()
    for path, leaf in jax.tree_util.tree_leaves_with_path(inner):
        names = path_names(path)
        trees.update(names[: len(names) - len(owner)] for owner in owners(path, leaf))

    def masked(path: tuple[Any, ...], leaf: Any) -> Any:
        if type(leaf).__name__ in _OTHER_BASIS:
            return leaf
        names = path_names(path)
        owner = max(
            owners(path, leaf),
            key=lambda owner: trees[names[: len(names) - len(owner)]],
            default=None,
        )
        return leaf if owner is None else apply_mask(leaf, masks[owner][0])

    return jax.tree_util.tree_map_with_path(
        masked, inner, is_leaf=lambda node: type(node).__name__ in _OTHER_BASIS
    )


def holds(tree: Any, kind: type) -> bool:
    """Whether a node of this type is anywhere in a tree."""
    return any(isinstance(node, kind) for node in _nodes(tree, kind))


def _nodes(tree: Any, kind: type = PrunedState) -> list[Any]:
    return jax.tree_util.tree_leaves(tree, is_leaf=lambda node: isinstance(node, kind))
