"""Masks: which weights a pruned network still has.

A mask has the tree of its parameters. A leaf is a bool array of the
parameter's shape, True where the weight is kept, or a 0-d True where the
parameter is not prunable, so that an unpruned embedding costs nothing.
Functions here take the tree of one network; `jax.vmap` lifts `apply_mask` to a
stack of them.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lth_flax.types import Array, Mask, Params

Prunable = Callable[[tuple[str, ...], Array], bool]
"""(path, parameter) -> whether its weights may be pruned."""

GATES = ("i", "f", "g", "o")
"""The order of the four gates in the last axis of an LSTM kernel."""

_GATED = ("input_kernel", "recurrent_kernel")


def path_names(path: tuple[Any, ...]) -> tuple[str, ...]:
    """A `jax.tree_util` key path as plain strings."""
    names = []
    for key in path:
        for attribute in ("key", "name", "idx"):
            if hasattr(key, attribute):
                names.append(str(getattr(key, attribute)))
                break
        else:
            names.append(str(key))
    return tuple(names)


def prunable_by_default(path: tuple[str, ...], leaf: Array) -> bool:
    """Every kernel: two or more dimensions, and not an `embedding`.

    Biases are never pruned (Frankle & Carbin, arXiv 1803.03635).
    """
    return jnp.ndim(leaf) >= 2 and "embedding" not in path


def _in_head(path: tuple[str, ...], leaf: Array) -> bool:
    return prunable_by_default(path, leaf) and path[0] == "head"


def _in_recurrent_layers(path: tuple[str, ...], leaf: Array) -> bool:
    return prunable_by_default(path, leaf) and path[0] != "head"


PRUNABLE: dict[str, Prunable] = {
    "kernels": prunable_by_default,
    "lstm": _in_recurrent_layers,
    "head": _in_head,
}
"""Rules by name; the last two are for networks whose output layer is called `head`."""


def full_mask(params: Params, prunable: Prunable | None = None) -> Mask:
    """The mask of the dense network: every weight kept.

    `prunable(path, leaf)` says which parameters later selections may prune;
    the default is `prunable_by_default`.

    Raises:
      ValueError: nothing is prunable, or a scalar parameter was called prunable.
    """
    rule = prunable_by_default if prunable is None else prunable

    def leaf_mask(path, leaf):
        names = path_names(path)
        if not rule(names, leaf):
            return jnp.array(True)
        if jnp.ndim(leaf) == 0:
            raise ValueError(f"{'/'.join(names)} is a scalar: a mask cannot prune it")
        return jnp.ones(jnp.shape(leaf), dtype=bool)

    mask = jax.tree_util.tree_map_with_path(leaf_mask, params)
    if not any(leaf.ndim for leaf in jax.tree_util.tree_leaves(mask)):
        raise ValueError("no parameter is prunable: the rule refused every leaf")
    return mask


def apply_mask(params: Params, mask: Mask) -> Params:
    """The parameters with every pruned weight exactly zero.

    A selection, not a product: a pruned NaN or infinity becomes zero too.
    """
    return jax.tree_util.tree_map(
        lambda p, m: p if jnp.ndim(m) < jnp.ndim(p) else jnp.where(m, p, jnp.zeros_like(p)),
        params,
        mask,
    )


def count_prunable(mask: Mask) -> int:
    """The number of prunable weights, kept or not."""
    return sum(int(leaf.size) for leaf in jax.tree_util.tree_leaves(mask) if np.ndim(leaf))


def count_kept(mask: Mask) -> int:
    """The number of prunable weights that the mask keeps."""
    leaves = jax.tree_util.tree_leaves(mask)
    return sum(int(np.count_nonzero(np.asarray(leaf))) for leaf in leaves if np.ndim(leaf))


def sparsity(mask: Mask) -> float:
    """The share of prunable weights that is removed, in [0, 1]."""
    total = count_prunable(mask)
    if total == 0:
        raise ValueError("the mask has no prunable weight, so its sparsity is not defined")
    return (total - count_kept(mask)) / total


def total_sparsity(params: Params, mask: Mask) -> float:
    """The share of *all* parameters that is removed, biases and embeddings included."""
    total = sum(int(np.size(leaf)) for leaf in jax.tree_util.tree_leaves(params))
    return (count_prunable(mask) - count_kept(mask)) / total


def overlap(mask: Mask, other: Mask) -> float:
    """The share of prunable positions on which two masks agree, in [0, 1]."""
    agree = jax.tree_util.tree_map(
        lambda a, b: int(np.count_nonzero(np.asarray(a) == np.asarray(b))) if np.ndim(a) else 0,
        mask,
        other,
    )
    return sum(jax.tree_util.tree_leaves(agree)) / count_prunable(mask)


def density(mask: Mask) -> dict[str, float]:
    """The share of weights kept, per matrix, and per gate of every LSTM kernel.

    Keys are paths: `head/kernel`, `lstm_0/forward/input_kernel` and
    `lstm_0/forward/input_kernel/i`, ... Magnitude criteria can empty one gate
    and cut a network that looks only half pruned, which the total hides.
    """
    result: dict[str, float] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(mask):
        if not np.ndim(leaf):
            continue
        names = path_names(path)
        kept = np.asarray(leaf)
        name = "/".join(names)
        result[name] = float(kept.mean())
        if names[-1] in _GATED:
            for gate, part in zip(GATES, np.split(kept, 4, axis=-1), strict=True):
                result[f"{name}/{gate}"] = float(part.mean())
    return result


def permute_within_tensors(mask: Mask, key: Array) -> Mask:
    """The mask shuffled inside each tensor: same density per tensor, other positions.

    The layerwise control of Frankle et al. (arXiv 2009.08576).
    """
    leaves, tree = jax.tree_util.tree_flatten(mask)
    shuffled = [
        jax.random.permutation(jax.random.fold_in(key, index), leaf.reshape(-1)).reshape(leaf.shape)
        if leaf.ndim
        else leaf
        for index, leaf in enumerate(leaves)
    ]
    return jax.tree_util.tree_unflatten(tree, shuffled)
