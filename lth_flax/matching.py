"""Matching: which unit of one network does the work of which unit of another.

The units of a network can be permuted, and some negated, without any change of its outputs: in
an LSTM, negating the columns and the bias of gate g negates the cell and the output, which
negating the rows that read it undoes. So two networks are compared up to one *signed
permutation* per group of units. What a group owns and who reads it is stated by the model as
data (`types.UnitGroup`); nothing here knows of LSTMs.

Weight matching (Ainsworth et al., arXiv 2209.04836), with signs: a linear assignment per group,
repeated until nothing changes.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from lth_flax.errors import UserError
from lth_flax.pruning.masks import path_names
from lth_flax.types import Mask, Params, UnitGroup

MOST_PASSES = 50

Leaves = dict[tuple[str, ...], np.ndarray]


class SignedPermutation(NamedTuple):
    """Unit j becomes `sign[j]` times what unit `order[j]` was."""

    order: Int[np.ndarray, " units"]
    sign: Float[np.ndarray, " units"]


Matching = Mapping[str, SignedPermutation]
"""By the name of the group."""


class _Block(NamedTuple):
    """A run of entries along an axis of a parameter, one per unit; `flips` with the unit's sign."""

    path: tuple[str, ...]
    axis: int
    start: int
    size: int
    flips: bool


def permute_units(params: Params, groups: Sequence[UnitGroup], matching: Matching) -> Params:
    """The same network with its units in another order, and some negated: equal outputs."""
    leaves, rebuild = _leaves(params)
    return rebuild(_permuted(leaves, groups, matching))


def permute_mask(mask: Mask, groups: Sequence[UnitGroup], matching: Matching) -> Mask:
    """The mask of a network whose units are permuted: it follows the weights."""
    leaves, rebuild = _leaves(mask)
    unsigned = {
        name: one._replace(sign=np.ones(len(one.sign), bool)) for name, one in matching.items()
    }
    return rebuild(_permuted(leaves, groups, unsigned))


def match_units(params: Params, target: Params, groups: Sequence[UnitGroup]) -> Matching:
    """The signed permutations that take the units of `params` nearest to those of `target`.

    The gain of putting a unit in the place of another is the inner product of what it owns,
    plus the *size* of the inner product of what follows its sign (what drives it, and its
    readers). A first pass from the input on looks at what a group owns and does not read
    itself: input kernels and biases. Then groups are assigned in turn with all others held,
    until none moves, at most `MOST_PASSES` times. The recurrent kernel holds the permutation
    twice, so a pass may make things worse: the best one counts.

    Raises:
      UserError: the networks do not have the same shapes.
    """
    ours, theirs = (
        {path: np.asarray(leaf, np.float64) for path, leaf in _leaves(tree)[0].items()}
        for tree in (params, target)
    )
    if {p: leaf.shape for p, leaf in ours.items()} != {p: leaf.shape for p, leaf in theirs.items()}:
        raise UserError("two networks can be matched where they have the same shapes: these do not")
    now = {g.name: SignedPermutation(np.arange(g.size), np.ones(g.size)) for g in groups}
    best, most = dict(now), _agreement(ours, theirs, groups, now)
    for number in range(MOST_PASSES):
        before = dict(now)
        for group in groups:
            own = {part.path for part in group.readers}
            blocks = [b for b in _blocks(group) if number or b.path not in own]
            now[group.name] = _assigned(ours, theirs, groups, now, group, blocks)
        agreement = _agreement(ours, theirs, groups, now)
        if agreement > most:
            best, most = dict(now), agreement
        if number and all(_same(now[name], before[name]) for name in now):
            break
    return best


def _assigned(
    ours: Leaves,
    theirs: Leaves,
    groups: Sequence[UnitGroup],
    now: Matching,
    group: UnitGroup,
    blocks: Sequence[_Block],
) -> SignedPermutation:
    """The best assignment of one group, along these blocks, with all other axes as they are."""
    from scipy.optimize import linear_sum_assignment

    same, flips = np.zeros((2, group.size, group.size))
    for block in blocks:
        leaf = ours[block.path].copy()
        for other in groups:
            for held in _blocks(other):
                if held.path == block.path and held.axis != block.axis:
                    _move(leaf, held, now[other.name])
        here, there = (
            _entries(one, block).reshape(group.size, -1) for one in (leaf, theirs[block.path])
        )
        total = flips if block.flips else same
        total += there @ here.T
    places, order = linear_sum_assignment(same + np.abs(flips), maximize=True)
    return SignedPermutation(order, np.where(flips[places, order] < 0, -1.0, 1.0))


def _agreement(ours: Leaves, theirs: Leaves, groups: Sequence[UnitGroup], now: Matching) -> float:
    """The inner product of the permuted network with its target."""
    moved = _permuted(ours, groups, now)
    return float(sum(np.vdot(moved[path], theirs[path]) for path in moved))


def _permuted(leaves: Leaves, groups: Sequence[UnitGroup], matching: Matching) -> Leaves:
    moved = {path: leaf.copy() for path, leaf in leaves.items()}
    for group in groups:
        for block in _blocks(group):
            if block.path not in moved:
                raise UserError(f"the units {group.name} own {'/'.join(block.path)}: it is missing")
            if moved[block.path].ndim:
                _move(moved[block.path], block, matching[group.name])
    return moved


def _move(leaf: np.ndarray, block: _Block, by: SignedPermutation) -> None:
    """Puts the entries of one block of a parameter in their new places."""
    entries = _entries(leaf, block)
    moved = entries[by.order]
    entries[...] = (moved.T * by.sign.astype(leaf.dtype)).T if block.flips else moved


def _entries(leaf: np.ndarray, block: _Block) -> Float[np.ndarray, "units ..."]:
    """What each unit has in a block: a view."""
    return np.moveaxis(leaf, block.axis, 0)[block.start : block.start + block.size]


def _blocks(group: UnitGroup) -> Iterator[_Block]:
    drive = {(part.path, part.axis, start) for part in group.drive for start in part.starts}
    for parts, reads in ((group.owned, False), (group.readers, True)):
        for part in parts:
            for start in part.starts:
                flips = reads or (part.path, part.axis, start) in drive
                yield _Block(part.path, part.axis, start, group.size, flips)


def _same(one: SignedPermutation, other: SignedPermutation) -> bool:
    return np.array_equal(one.order, other.order) and np.array_equal(one.sign, other.sign)


def _leaves(tree: Any) -> tuple[Leaves, Any]:
    """The leaves of a tree by path, and what makes a tree of them again."""
    found, structure = jax.tree_util.tree_flatten_with_path(tree)
    leaves = {path_names(path): np.asarray(leaf) for path, leaf in found}

    def rebuild(changed: Leaves) -> Any:
        return jax.tree_util.tree_unflatten(structure, [changed[path] for path in leaves])

    return leaves, rebuild
