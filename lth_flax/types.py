"""Names for what the modules hand to each other."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

GATES = ("i", "f", "g", "o")
"""The order of the four gates in the last axis of an LSTM kernel."""

DIRECTIONS = ("forward", "backward")
"""In which a layer reads."""

READOUTS = ("final", "last_position")
"""What a classifier's head may read; see `models.classifier`."""

Array = jax.Array
Params = Any
"""A pytree of float arrays: one network's parameters."""

Mask = Any
"""The tree of its parameters; a leaf is a bool array of the parameter's shape,
or a 0-d bool array where the parameter is not prunable."""

Batch = Mapping[str, Array]
"""Arrays with one leading axis, the examples. `weight` is 1 for a real example
and 0 for one that only fills up the batch."""

LossFn = Callable[[Params, Batch, Array], Array]
"""(params, batch, key) -> scalar: what training makes small."""


class UnitPart(NamedTuple):
    """Where the units of a group have their share of one parameter.

    Unit j stands at `start + j` along `axis`, for each of `starts`: one per block, such as
    the gates i, f, g, o of an LSTM kernel, in that order.
    """

    path: tuple[str, ...]
    axis: int
    starts: tuple[int, ...] = (0,)


class UnitGroup(NamedTuple):
    """Units that are alike, such as those of one layer and direction: what each owns, who reads it.

    A model states this of its parameters; pruning, compaction and matching work from it alone.

    name: "lstm_0/forward".
    kind: "units", or "features" of the word vectors.
    size: how many there are.
    owned: what computes a unit: its columns of kernels and its entries of biases.
    readers: what multiplies a unit's output: its rows of later kernels, and of its own
      recurrent kernel. The reader of an entry is the unit of another group (or of this one)
      that owns it along another axis; where nobody does, it is the network's output.
    drive: the part of what is owned without which the output is exactly zero: an LSTM
      unit's columns and bias of the gate g, for with them at zero its cell stays empty.
    """

    name: str
    kind: str
    size: int
    owned: tuple[UnitPart, ...]
    readers: tuple[UnitPart, ...]
    drive: tuple[UnitPart, ...]


Units = Callable[[Params], tuple[UnitGroup, ...]]
"""Parameters (only shapes are read) -> the groups of units of a network."""
