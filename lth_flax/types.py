"""Names for what the modules hand to each other."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

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
