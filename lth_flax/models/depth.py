"""Stacks of another depth, from the layers of one that is there."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from lth_flax.errors import UserError
from lth_flax.models.lstm import layer_names


def with_depth(tree: Mapping[str, Any], depth: int) -> dict[str, Any]:
    """Parameters, or a mask, of a stack of `depth` layers, made from those of another depth.

    Elastic tickets (Chen et al., arXiv 2103.16547): the same layers are repeated, or dropped, in
    weights and mask. Layer 0 reads the word vectors, and stays. Those above have one shape: in
    their order, again and again, they are the layers of the new stack, both directions together.
    So 2 layers become 0 1 1 1, and 4 become 0 1 2 3 1 2 or 0 1; what was made deeper is itself
    again when it is cut back. Embedding and head stay.

    Args:
      tree: in the public layout, "lstm_0", "lstm_1", ...

    Raises:
      UserError: fewer than one layer, none to repeat, or layers of several shapes.
    """
    names = layer_names(tree)
    first, *others = names
    if depth < 1 or (depth > 1 and not others):
        raise UserError(
            f"a stack of {len(names)} layer{'s' * (len(names) > 1)} cannot become one of {depth}: "
            "expected 1 layer or more, and of 1 layer there is none above the first to repeat"
        )
    if len({_shapes(tree[name]) for name in others}) > 1:
        raise UserError(
            "layers above the first have several shapes, as in a compact network: expected one, so "
            "that any can stand in the place of another"
        )
    order = [first, *(others[number % len(others)] for number in range(depth - 1))]
    rest = {name: part for name, part in tree.items() if name not in names}
    return {**rest, **{f"lstm_{number}": tree[name] for number, name in enumerate(order)}}


def _shapes(layer: Any) -> tuple[tuple[int, ...], ...]:
    return tuple(np.shape(leaf) for leaf in jax.tree_util.tree_leaves(layer))
