"""Whole units instead of single weights: their scores and masks, and which of them are needed.

Knows no network: a model states its units as data (`types.UnitGroup`). A mask of
units is a dict from the name of a group to a bool for each of its units, so that
`select.prune` and everything else that works on trees works on units too.
"""

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from lth_flax.errors import UserError
from lth_flax.pruning.masks import checked_mask, path_names
from lth_flax.types import Array, Mask, Params, UnitGroup, UnitPart

Groups = Sequence[UnitGroup]

UnitMask = Mapping[str, Any]
"""Name of a group -> bool [size], true where a unit is kept."""

Role = Literal["owned", "readers", "drive"]

KINDS = ("units", "features")
"""What may be pruned as a whole: hidden units, and features of the word vectors."""


def chosen_groups(groups: Groups, kinds: Sequence[str], mask: Mask) -> tuple[UnitGroup, ...]:
    """The groups of some kinds that have a prunable weight.

    Raises:
      UserError: there are none.
    """
    prunable = {path for path, leaf in _leaves(mask).items() if jnp.ndim(leaf)}
    found = tuple(
        group
        for group in groups
        if group.kind in kinds and any(part.path in prunable for part in _parts(group))
    )
    if not found:
        raise UserError(
            f"structure={','.join(kinds)}: the network has no such units with prunable weights"
        )
    return found


def unit_scores(scores: Params, groups: Groups, *, norm: float = 1.0) -> dict[str, Array]:
    """What whole units are worth, from what their weights are.

    Over all that is a unit's, its columns and the rows that read it, each weight once: the sum
    of the scores (of `scores.magnitude` the 1-norm), or the norm (sum |s|^p)^(1/p) for a `norm`
    p other than 1 (2: the 2-norm; infinity: the largest). Wen et al. (arXiv 1709.05027).

    Raises:
      UserError: a norm that is not above 0.
    """
    if not norm > 0:
        raise UserError(f"the norm of a unit must be above 0, found {norm}")
    flat = {path: jnp.asarray(leaf) for path, leaf in _leaves(scores).items()}
    reduce = jnp.max if np.isinf(norm) else jnp.sum
    found = {}
    for group in groups:
        shares = []
        for place, part in enumerate(_parts(group)):
            leaf = flat[part.path]
            for earlier in _parts(group)[:place]:
                if earlier.path == part.path and earlier.axis != part.axis:
                    leaf = _without_crossings(leaf, part, earlier, group.size)
            if norm != 1:
                leaf = jnp.abs(leaf) if np.isinf(norm) else jnp.abs(leaf) ** norm
            shares.append(_over_units(leaf, part, group.size, reduce))
        total = reduce(jnp.stack(shares), axis=0)
        found[group.name] = total if norm == 1 or np.isinf(norm) else total ** (1 / norm)
    return found


def units_of(mask: Mask, groups: Groups) -> dict[str, Array]:
    """Which units a mask keeps: those that have a weight left. Inverse to `expanded`."""
    flat = _leaves(mask)
    return {
        group.name: functools.reduce(
            operator.or_,
            [
                _over_units(jnp.asarray(flat[part.path]), part, group.size, jnp.any)
                for part in _parts(group)
                if jnp.ndim(flat[part.path])
            ],
        )
        for group in groups
    }


def expanded(kept: UnitMask, groups: Groups, mask: Mask) -> Mask:
    """The mask without the columns of pruned units and the rows that read them.

    What is not prunable stays: a 0-d leaf.
    """
    along = _kept_along(groups, kept, jnp)

    def leaf_mask(path: tuple[Any, ...], leaf: Any) -> Any:
        for axis, ours in enumerate(along(path_names(path), jnp.shape(leaf))):
            leaf = leaf & _beside(ours, axis, jnp.ndim(leaf))
        return leaf

    return jax.tree_util.tree_map_with_path(leaf_mask, mask)


def on_units(mask: Mask, groups: Groups, change: Callable[[Mask], Mask]) -> Mask:
    """The mask changed as one of units where there are groups, else as it is."""
    if not groups:
        return change(mask)
    full = jax.tree_util.tree_map(jnp.ones_like, mask)
    return expanded(change(units_of(mask, groups)), groups, full)


def needed_units(groups: Groups, links: Params) -> dict[str, np.ndarray]:
    """The units that the output depends on; the others can go, and nothing changes.

    A unit is *driven* if what drives it comes from outside (an entry of a bias, a word vector)
    or from a driven unit; where it is not, its output is zero throughout. It is *read* if an
    output, or a driven unit that is itself read, multiplies it: units that read only themselves
    or each other are not. Both are the least fixed point. A unit whose incoming weights are all
    pruned is driven still by its biases: its cell counts time.

    Args:
      groups: all groups of the network.
      links: like the parameters: true (not zero) where a weight or bias can be other than zero.
    """
    flat = {path: np.asarray(leaf) != 0 for path, leaf in _leaves(links).items()}
    driven = _reached(groups, flat, "drive", {g.name: np.ones(g.size, bool) for g in groups})
    return _reached(groups, flat, "readers", driven)


def taken(tree: Params, groups: Groups, kept: UnitMask) -> Params:
    """The parameters (or their mask) without the units that are not kept, as host arrays."""
    along = _kept_along(groups, kept)

    def smaller(path: tuple[Any, ...], leaf: Any) -> np.ndarray:
        array = np.asarray(leaf)
        for axis, ours in enumerate(along(path_names(path), array.shape)):
            array = np.compress(ours, array, axis)
        return array

    return jax.tree_util.tree_map_with_path(smaller, tree)


def given_back(small: Params, groups: Groups, kept: UnitMask, like: Params) -> Params:
    """The inverse of `taken`: the smaller parameters in their places, zeros in the others.

    Args:
      groups: those of the larger network; `kept` says which of its units the smaller has.
      like: arrays of the larger shapes.
    """
    along = _kept_along(groups, kept)

    def larger(path: tuple[Any, ...], leaf: Any, part: Any) -> np.ndarray:
        array = np.zeros(np.shape(leaf), np.asarray(part).dtype)
        array[np.ix_(*along(path_names(path), array.shape))] = part
        return array

    return jax.tree_util.tree_map_with_path(larger, like, small)


def links_of(mask: Mask, params: Params) -> Params:
    """True where a weight may be other than zero, now or after any training under the mask."""
    return jax.tree_util.tree_map(
        lambda m, p: np.broadcast_to(np.asarray(m), np.shape(p)), checked_mask(mask, params), params
    )


def _reached(
    groups: Groups, links: Mapping[tuple[str, ...], np.ndarray], role: Role, among: UnitMask
) -> dict[str, np.ndarray]:
    """Those `among` units whose parts of a role lead outside, or to a unit that is reached."""
    live = {group.name: np.zeros(group.size, bool) for group in groups}
    while True:
        new = {}
        along = _kept_along(groups, live)
        for group in groups:
            hit = np.zeros(group.size, bool)
            for part in getattr(group, role):
                leaf = links[part.path]
                for axis, ends in enumerate(along(part.path, leaf.shape)):
                    if axis != part.axis:
                        leaf = leaf & _beside(ends, axis, leaf.ndim)
                hit |= _over_units(leaf, part, group.size, np.any)
            new[group.name] = hit & among[group.name]
        if all(np.array_equal(new[name], live[name]) for name in live):
            return live
        live = new


def _leaves(tree: Any) -> dict[tuple[str, ...], Any]:
    return {path_names(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _parts(group: UnitGroup) -> tuple[UnitPart, ...]:
    return (*group.owned, *group.readers)


def _kept_along(
    groups: Groups, kept: UnitMask, xp: Any = np
) -> Callable[[tuple[str, ...], tuple[int, ...]], list[Any]]:
    """(path, shape) -> for each axis whether the unit of a position is kept; true without one."""
    places: dict[tuple[tuple[str, ...], int], list[tuple[int, UnitGroup]]] = {}
    for group in groups:
        for part in _parts(group):
            units = [(start, group) for start in part.starts]
            places.setdefault((part.path, part.axis), []).extend(units)

    def along(path: tuple[str, ...], shape: tuple[int, ...]) -> list[Any]:
        found = []
        for axis, size in enumerate(shape):
            pieces, end = [], 0
            for start, group in sorted(places.get((path, axis), []), key=lambda one: one[0]):
                pieces += [xp.ones(start - end, bool), xp.asarray(kept[group.name])]
                end = start + group.size
            found.append(xp.concatenate([*pieces, xp.ones(size - end, bool)]))
        return found

    return along


def _beside(vector: Any, axis: int, ndim: int) -> Any:
    return vector.reshape([-1 if a == axis else 1 for a in range(ndim)])


def _over_units(leaf: Any, part: UnitPart, size: int, reduce: Any) -> Any:
    """One number per unit: all that stands in its places in a parameter, reduced."""
    rest = tuple(axis for axis in range(leaf.ndim) if axis != part.axis)
    of_position = reduce(leaf, axis=rest)
    blocks = [of_position[start : start + size] for start in part.starts]
    return reduce(np.stack(blocks) if isinstance(leaf, np.ndarray) else jnp.stack(blocks), axis=0)


def _without_crossings(leaf: Array, one: UnitPart, other: UnitPart, size: int) -> Array:
    """Zero where both parts are of the same unit: a weight from a unit to itself."""
    matrix = jnp.moveaxis(leaf, (one.axis, other.axis), (-2, -1))
    units = np.arange(size)
    for row in one.starts:
        for column in other.starts:
            matrix = matrix.at[..., row + units, column + units].set(0)
    return jnp.moveaxis(matrix, (-2, -1), (one.axis, other.axis))
