"""Arrays of which every seed has its own version: held once, with a small table for each.

Seeds that draw their own test split number words in their own way. A copy of the texts for each
would grow with the number of seeds; here texts are held once, and a table per vocabulary leads from
their numbers to its own. On the device it is the same: an example is looked up when it is read.
"""

from typing import Any

import jax
import numpy as np


@jax.tree_util.register_pytree_node_class
class Views:
    """As an array of all versions, one after the other: row v * M + m is row m of version v.

    Indexed by whole numbers and arrays of them, on the host and in a compiled function.

    Args:
      values: [M, ...], common to all versions.
      count: of versions.
      table: [count, numbers], what each version has in place of a whole number of `values`; None:
        all have the values themselves.
    """

    def __init__(self, values: Any, count: int, table: Any = None) -> None:
        self._values, self._count, self._table = values, count, table

    @property
    def shape(self) -> tuple[int, ...]:
        """That of all versions together."""
        first, *rest = self._values.shape
        return (self._count * first, *rest)

    @property
    def ndim(self) -> int:
        return len(self._values.shape)

    @property
    def dtype(self) -> Any:
        return (self._values if self._table is None else self._table).dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> Any:
        size = max(len(self._values), 1)
        rows = np.asarray(rows) if np.isscalar(rows) else rows
        found = self._values[rows % size]
        if self._table is None:
            return found
        version = rows // size
        for _ in range(self.ndim - 1):
            version = version[..., None]
        return self._table[version, found]

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        """All versions, in full."""
        return np.asarray(self[np.arange(len(self))], dtype)

    def tree_flatten(self) -> tuple[tuple[Any, Any], int]:
        return (self._values, self._table), self._count

    @classmethod
    def tree_unflatten(cls, count: int, children: tuple[Any, Any]) -> "Views":
        values, table = children
        return cls(values, count, table)
