"""The engine: what is written for one replicate, run for all rows of a table.

On a CPU every core is a device of its own and works on one row at a time
(`map`); on an accelerator the rows are a batch axis (`vmap`), split over the
devices. Either way the row axis is sharded over a mesh and rows never talk, so
the compiled program has no collectives, and under `map` a row's bits do not
depend on its neighbours. A table runs as slices, the last one padded. Under
`map` they have one size, so that nothing is compiled twice. Under `vmap`, where
a program takes hundreds of rows, there are a few: a table of eight rows does
not run as one of 432.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lth_flax.compat import narrow_random_bits, shard_map
from lth_flax.host_arrays import aligned

Mode = Literal["map", "vmap"]
MODES = ("auto", "map", "vmap")

_ROWS = PartitionSpec("rows")
_SHARED = PartitionSpec()


def choose_mode(replicates: str, platform: str) -> Mode:
    """`auto` is `map` on a CPU, where vmap is slower, and `vmap` on anything else."""
    if replicates == "auto":
        return "map" if platform == "cpu" else "vmap"
    if replicates not in MODES:
        raise ValueError(f"replicates must be one of {', '.join(MODES)}; found {replicates!r}")
    return "map" if replicates == "map" else "vmap"


@dataclass(frozen=True)
class Engine:
    """Lifts functions of one replicate to slices of rows.

    mode: how the rows of one device are run.
    devices: what the row axis is split over.
    rows: of a slice at most, a multiple of the number of devices.
    donate: whether a lifted function may overwrite its first argument.
    narrow: whether random bits are drawn without 64-bit integers, which Metal lacks: other
      draws of dropout than elsewhere.
    """

    mode: Mode
    devices: tuple[jax.Device, ...]
    rows: int
    donate: bool = True
    narrow: bool = False

    def __post_init__(self) -> None:
        if self.rows % len(self.devices):
            raise ValueError(f"{self.rows} rows do not divide over {len(self.devices)} devices")

    @cached_property
    def mesh(self) -> Mesh:
        return Mesh(np.array(self.devices), ("rows",))

    def lift(self, function: Callable[..., Any], *, donate: bool = False) -> Any:
        """`function(state, *rowed, *shared)` of one row -> jitted `lifted(state, rowed, shared)`.

        Every leaf of `state`, of `rowed` and of the result has a leading axis,
        the rows of a slice; `shared` is the same for all. With `donate`, the
        buffers of `state` are reused for the result.
        """

        def local(state: Any, rowed: tuple[Any, ...], shared: tuple[Any, ...]) -> Any:
            def one(row: tuple[Any, ...]) -> Any:
                with narrow_random_bits() if self.narrow else nullcontext():
                    return function(*row, *shared)

            rows = (state, *rowed)
            if jax.tree_util.tree_leaves(rows)[0].shape[0] == 1:  # one row here: no loop at all
                result = one(jax.tree_util.tree_map(lambda leaf: leaf[0], rows))
                return jax.tree_util.tree_map(lambda leaf: leaf[None], result)
            return jax.lax.map(one, rows) if self.mode == "map" else jax.vmap(one)(rows)

        sharded = shard_map(local, self.mesh, (_ROWS, _ROWS, _SHARED), _ROWS)
        return jax.jit(sharded, donate_argnums=(0,) if donate and self.donate else ())

    def place_rows(self, trees: Sequence[Any]) -> Any:
        """One tree per row -> one tree with a leading row axis, spread over the devices."""
        stacked = jax.tree_util.tree_map(lambda *leaves: _stack(leaves), *trees)
        return self.place_stacked(stacked)

    def place_stacked(self, tree: Any) -> Any:
        """A tree that has its row axis already, spread over the devices."""
        return jax.device_put(tree, NamedSharding(self.mesh, _ROWS))

    def place_shared(self, tree: Any) -> Any:
        """On every device. CPUs share it with the host: who gives it does not write to it again."""
        if self.devices[0].platform == "cpu":
            tree = jax.tree_util.tree_map(aligned, tree)
        return jax.device_put(tree, NamedSharding(self.mesh, _SHARED))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Rows that a slice may have, increasing; programs are compiled for those that occur.

        Under `map` a row's bits are not to depend on how long its table is, so there is one.
        """
        size, smaller = len(self.devices), []
        while self.mode == "vmap" and size < self.rows:
            smaller.append(size)
            size *= 2
        return (*smaller, self.rows)

    def slices(self, total: int) -> Iterator[tuple[list[int], int]]:
        """Row numbers of each slice, and how many of them are real: the last row pads.

        All but the last are full, which has the smallest size that holds what is left.
        """
        for start in range(0, total, self.rows):
            real = min(self.rows, total - start)
            size = next(size for size in self.sizes if size >= real)
            yield [min(start + row, total - 1) for row in range(size)], real


def _stack(leaves: Sequence[Any]) -> Any:
    if jax.dtypes.issubdtype(leaves[0].dtype, jax.dtypes.prng_key):
        return jnp.stack(leaves)
    return np.stack([np.asarray(leaf) for leaf in leaves])
