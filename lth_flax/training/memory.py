"""How many rows of a table fit on a device: measured on the compiled program, not guessed."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from lth_flax.randomness import key
from lth_flax.training.programs import Workload, lower_training
from lth_flax.training.replicates import Engine, Mode
from lth_flax.training.steps import Recipe, Row, initial_state
from lth_flax.types import Mask, Params

SHARE = 0.8
"""Of the free memory that rows may take; the rest is for evaluation and fragmentation."""


class Footprint(NamedTuple):
    """Bytes that a program needs on one device: for each row, and once for all."""

    per_row: int
    shared: int


def footprint(
    device: jax.Device, mode: Mode, recipe: Recipe, workload: Workload, params: Params, mask: Mask
) -> Footprint:
    """Of training: one row of the largest bucket is compiled for `device` and asked."""
    engine = Engine(mode, (device,), 1)
    bucket = max(
        range(len(workload.buckets)),
        key=lambda number: sum(
            np.prod(a.shape[1:]) * a.dtype.itemsize for a in workload.buckets[number].values()
        ),
    )
    stacked = jax.tree_util.tree_map(lambda leaf: np.asarray(leaf)[None], params)
    fixed = Row(
        engine.place_rows([key(0, "dropout")]),
        engine.place_stacked(np.ones(1, np.float32)),
    )
    step = engine.place_stacked(np.zeros(1, np.int32))
    rowed = (engine.place_rows([mask]), fixed, step)
    state = jax.eval_shape(engine.lift(partial(initial_state, recipe)), stacked, rowed, ())
    examples = jax.tree_util.tree_map(
        lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype),
        dict(workload.buckets[bucket]),
    )
    compiled = lower_training(engine, recipe, workload, bucket, state, fixed, examples).compile()
    needs = compiled.memory_analysis()
    # Besides what the program holds: its own state, the best epoch's parameters, and which
    # examples are in the batches of an epoch.
    own = sum(_bytes(tree) for tree in (state, fixed, stacked))
    own += np.dtype(np.int32).itemsize * workload.batch_size * sum(workload.train_batches)
    shared = sum(
        leaf.nbytes for leaf in jax.tree_util.tree_leaves(list(map(dict, workload.buckets)))
    )
    return Footprint(int(needs.temp_size_in_bytes) + own, shared)


def rows_that_fit(needs: Footprint, *, free: int, devices: int, rows: int) -> int:
    """The largest slice, at most `rows` and at least one row per device.

    A multiple of the number of devices; slices of a table are made even, so that
    the last one is not mostly padding.

    Args:
      free: bytes free on the smallest device.
    """
    fit_on_one = max(1, int((SHARE * free - needs.shared) // max(needs.per_row, 1)))
    per_device = -(-rows // devices)
    slices = -(-per_device // fit_on_one)
    return devices * -(-per_device // slices)


def free_bytes(devices: Sequence[jax.Device]) -> int | None:
    """Free on the smallest device, or None where the backend does not say.

    What XLA may take counts, so XLA_PYTHON_CLIENT_PREALLOCATE and
    XLA_PYTHON_CLIENT_MEM_FRACTION are respected.
    """
    free = []
    for device in devices:
        stats: dict[str, Any] = device.memory_stats() or {}
        if "bytes_limit" not in stats:
            return None
        free.append(int(stats["bytes_limit"]) - int(stats.get("bytes_in_use", 0)))
    return min(free)


def _bytes(tree: Any) -> int:
    total = 0
    for leaf in jax.tree_util.tree_leaves(tree):
        size = int(np.prod(leaf.shape))
        # A key array has no size of its own.
        plain = not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.extended)
        total += size * (leaf.dtype.itemsize if plain else 16)
    return total
