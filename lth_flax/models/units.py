"""The units of a stacked bidirectional LSTM classifier, as data: what each owns, who reads it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lth_flax.models.lstm import layer_names
from lth_flax.types import DIRECTIONS, GATES, UnitGroup, UnitPart


def units(params: Mapping[str, Any]) -> tuple[UnitGroup, ...]:
    """The features of the word vectors, then the units of every layer, forward before backward.

    Unit j of a layer and direction owns column j of each gate in both kernels and
    the bias; row j of its recurrent kernel, and its row in the input kernels of both
    directions of the next layer, or in the head, read it.

    Args:
      params: of a `BiLSTMClassifier`, in the public layout; only shapes are read. Widths
        may differ between layers and directions.
    """
    depth = len(layer_names(params))
    embedding = (UnitPart(("embedding", "embedding"), 1),)
    features = np.shape(params["embedding"]["embedding"])[1]
    groups = [UnitGroup("embedding", "features", features, embedding, _next(0, 0), embedding)]
    for layer in range(depth):
        before = 0
        for direction in DIRECTIONS:
            where = (f"lstm_{layer}", direction)
            size = np.shape(params[where[0]][direction]["recurrent_kernel"])[0]
            starts = tuple(gate * size for gate in range(len(GATES)))
            owned = (
                UnitPart((*where, "input_kernel"), 1, starts),
                UnitPart((*where, "recurrent_kernel"), 1, starts),
                UnitPart((*where, "bias"), 0, starts),
            )
            following = (
                _next(layer + 1, before)
                if layer + 1 < depth
                else (UnitPart(("head", "kernel"), 0, (before,)),)
            )
            groups.append(
                UnitGroup(
                    name="/".join(where),
                    kind="units",
                    size=size,
                    owned=owned,
                    readers=(UnitPart((*where, "recurrent_kernel"), 0), *following),
                    # Of gate g alone: what a step adds to the cell.
                    drive=tuple(part._replace(starts=(starts[2],)) for part in owned),
                )
            )
            before += size
    return tuple(groups)


def _next(layer: int, start: int) -> tuple[UnitPart, ...]:
    """The rows from `start` on of the input kernels of a layer."""
    return tuple(
        UnitPart((f"lstm_{layer}", direction, "input_kernel"), 0, (start,))
        for direction in DIRECTIONS
    )
