"""Masks: which weights a pruned network still has.

A mask has the tree of its parameters. A leaf is a bool array of the
parameter's shape, True where the weight is kept, or a 0-d True where the
parameter is not prunable, so that an unpruned embedding costs nothing.
Functions here take the tree of one network; `jax.vmap` lifts `apply_mask` to a
stack of them. Every mask that comes in goes through `checked_mask`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool

from lth_flax.errors import UserError
from lth_flax.types import Array, Mask, Params

Prunable = Callable[[tuple[str, ...], Array], bool]
"""(path, parameter) -> whether its weights may be pruned."""


def path_names(path: tuple[Any, ...]) -> tuple[str, ...]:
    """A `jax.tree_util` key path as plain strings."""

    def name(key: Any) -> str:
        found = (getattr(key, kind) for kind in ("key", "name", "idx") if hasattr(key, kind))
        return str(next(found, key))

    return tuple(map(name, path))


def prunable_by_default(path: tuple[str, ...], leaf: Array) -> bool:
    """Whether a parameter is a kernel: what weight decay and pruning are for.

    Two or more dimensions, a name that does not end in bias, scale or embedding, and
    no embedding above it. Biases are never pruned (Frankle & Carbin, arXiv 1803.03635);
    those and the scales of attention and of `nn.scan` have two dimensions as well.
    """
    names = [name.lower() for name in path]
    if len(names) > 1 and names[-1] in ("value", "raw_value"):
        names.pop()  # the box around every parameter of Flax's nnx
    return (
        jnp.ndim(leaf) >= 2
        and not any(name.endswith("embedding") for name in names)
        and not any(name.endswith(("bias", "scale")) for name in names[-1:])
    )


def _matrix(path: tuple[str, ...], leaf: Array) -> bool:
    return prunable_by_default(path, leaf) or (
        jnp.ndim(leaf) == 2 and any(name.lower().endswith("embedding") for name in path)
    )


PRUNABLE: dict[str, Prunable] = {
    "kernels": prunable_by_default,
    "all": _matrix,
    "lstm": lambda path, leaf: prunable_by_default(path, leaf) and path[:1] != ("head",),
    "head": lambda path, leaf: prunable_by_default(path, leaf) and path[:1] == ("head",),
}
"""Rules by name. all: word vectors too, those of the output of a language model among them; the
last two are for networks whose output layer is called `head`."""


def full_mask(params: Params, prunable: Prunable | None = None) -> Mask:
    """The mask of the dense network: every weight kept.

    `prunable(path, leaf)` says which parameters later selections may prune;
    the default is `prunable_by_default`.

    Raises:
      UserError: nothing is prunable, or a scalar parameter was called prunable.
    """
    rule = prunable_by_default if prunable is None else prunable

    def leaf_mask(path, leaf):
        names = path_names(path)
        if not rule(names, leaf):
            return jnp.array(True)
        if jnp.ndim(leaf) == 0:
            raise UserError(f"{_shown(names)} is a scalar: a mask cannot prune it")
        return jnp.ones(jnp.shape(leaf), dtype=bool)

    mask = jax.tree_util.tree_map_with_path(leaf_mask, params)
    if not any(leaf.ndim for leaf in jax.tree_util.tree_leaves(mask)):
        raise UserError("no parameter is prunable: the rule refused every leaf")
    return mask


def checked_mask(mask: Mask, params: Params, *, of: str = "parameters") -> Mask:
    """The mask with bool leaves, in the tree of `params`.

    Any kinds of zeros and ones are taken. Trees are the same where their paths
    are: a mask of dicts fits parameters in a frozen dict or a dataclass. Under
    `jit` and `vmap` values cannot be looked at: whatever is not zero counts as one.

    Args:
      params: arrays of the shapes that are masked; the mask itself where there are no others.
      of: what `params` are, for errors.

    Raises:
      UserError: a leaf that is missing, is there without a parameter, has
        another shape, or holds something else than zeros and ones; a 0-d leaf
        that is not True, for it says "not prunable".
    """
    leaves = {path_names(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(mask)}
    like, tree = jax.tree_util.tree_flatten_with_path(params)
    shapes = {path_names(path): np.shape(leaf) for path, leaf in like}
    for path in shapes:
        if path not in leaves:
            raise UserError(
                f"the mask has no leaf {_shown(path)}: expected the tree of the {of}, "
                "with a 0-d True where nothing may be pruned"
            )
    for path in leaves:
        if path not in shapes:
            raise UserError(f"the mask has a leaf {_shown(path)}, which the {of} do not have")
    checked = []
    for path, shape in shapes.items():
        leaf = _checked_leaf(path, leaves[path])
        if jnp.ndim(leaf) and jnp.shape(leaf) != shape:
            raise UserError(
                f"the mask of {_shown(path)} has the shape {jnp.shape(leaf)}, expected that of "
                f"the {of}, {shape}, or a 0-d True where nothing may be pruned"
            )
        checked.append(leaf)
    return jax.tree_util.tree_unflatten(tree, checked)


def _checked_leaf(path: tuple[str, ...], leaf: Any) -> Any:
    array = leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)
    if not any(jnp.issubdtype(array.dtype, kind) for kind in (jnp.bool_, jnp.number)):
        raise _not_binary(path, type(leaf).__name__)
    traced = isinstance(array, jax.core.Tracer)
    if array.dtype != bool:
        if not traced:
            other = np.asarray((array != 0) & (array != 1))
            if other.any():
                raise _not_binary(path, np.asarray(array)[other].flat[0])
        array = array != 0
    if not traced and not array.ndim and not array:
        raise UserError(
            f"the mask of {_shown(path)} is a single False: expected an array of the "
            "parameter's shape, or a 0-d True where nothing may be pruned"
        )
    return array


def _not_binary(path: tuple[str, ...], found: Any) -> UserError:
    return UserError(f"the mask of {_shown(path)} must hold zeros and ones, found {found}")


def _shown(path: tuple[str, ...]) -> str:
    return "/".join(path) or "the only parameter"


def apply_mask(params: Params, mask: Mask, frozen: Bool[Array, ""] | bool | None = None) -> Params:
    """The parameters with every pruned weight exactly zero, or as it is where they are frozen.

    A selection, not a product: a pruned NaN or infinity becomes zero too.

    Args:
      frozen: whether pruned weights stay what they are, and only are not trained.

    Raises:
      UserError: a mask that does not fit; see `checked_mask`.
    """
    return jax.tree_util.tree_map(
        lambda p, m: jnp.where(seen(m, frozen), p, jnp.zeros_like(p)) if jnp.ndim(m) else p,
        params,
        checked_mask(mask, params),
    )


def seen(mask: Bool[Array, "..."], frozen: Bool[Array, ""] | bool | None) -> Bool[Array, "..."]:
    """Where a leaf of a mask lets a network have its weights; `frozen` as in `apply_mask`."""
    return mask if frozen is None else mask | frozen


def count_prunable(mask: Mask) -> int:
    """The number of prunable weights, kept or not."""
    leaves = jax.tree_util.tree_leaves(checked_mask(mask, mask))
    return sum(int(np.size(leaf)) for leaf in leaves if np.ndim(leaf))


def count_kept(mask: Mask) -> int:
    """The number of prunable weights that the mask keeps."""
    leaves = jax.tree_util.tree_leaves(checked_mask(mask, mask))
    return sum(int(np.count_nonzero(np.asarray(leaf))) for leaf in leaves if np.ndim(leaf))


def sparsity(mask: Mask) -> float:
    """The share of prunable weights that is removed, in [0, 1]."""
    total = count_prunable(mask)
    if total == 0:
        raise UserError("the mask has no prunable weight, so there is no share of them")
    return (total - count_kept(mask)) / total


def total_sparsity(params: Params, mask: Mask) -> float:
    """The share of *all* parameters that is removed, biases and embeddings included."""
    mask = checked_mask(mask, params)
    total = sum(int(np.size(leaf)) for leaf in jax.tree_util.tree_leaves(params))
    return (count_prunable(mask) - count_kept(mask)) / total


def density(
    mask: Mask, gates: Callable[[tuple[str, ...]], tuple[str, ...] | None] | None = None
) -> dict[str, float]:
    """The share of weights kept, per matrix, and per gate of those that have gates.

    Keys are paths: `head/kernel`, `lstm_0/forward/input_kernel` and
    `lstm_0/forward/input_kernel/i`, ... Magnitude criteria can empty one gate
    and cut a network that looks only half pruned, which the total hides.

    Args:
      gates: path -> the names of the blocks of a last axis (`tasks.ModelInfo`), if it has any.
    """
    result: dict[str, float] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(checked_mask(mask, mask)):
        if not np.ndim(leaf):
            continue
        names = path_names(path)
        kept = np.asarray(leaf)
        name = "/".join(names)
        result[name] = float(kept.mean())
        blocks = gates(names) if gates else None
        if blocks:
            for gate, part in zip(blocks, np.split(kept, len(blocks), axis=-1), strict=True):
                result[f"{name}/{gate}"] = float(part.mean())
    return result


def permute_within_tensors(mask: Mask, key: Array) -> Mask:
    """The mask shuffled inside each tensor: same density per tensor, other positions.

    The layerwise control of Frankle et al. (arXiv 2009.08576).
    """
    leaves, tree = jax.tree_util.tree_flatten(checked_mask(mask, mask))
    shuffled = [
        jax.random.permutation(jax.random.fold_in(key, index), leaf.reshape(-1)).reshape(leaf.shape)
        if leaf.ndim
        else leaf
        for index, leaf in enumerate(leaves)
    ]
    return jax.tree_util.tree_unflatten(tree, shuffled)
