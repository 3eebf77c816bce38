"""How many rows fit: the arithmetic, and what a compiled program says of itself."""

import jax
import numpy as np
import pytest
from counting import row, trainer

from lth_flax.training.memory import Footprint, footprint, free_bytes, rows_that_fit


@pytest.mark.parametrize(
    ("free", "devices", "rows", "expected"),
    [
        (10_000, 1, 160, 54),  # 80% less 1,000 are 7,000: at most 70 rows of 100, in three slices
        (10_000, 1, 71, 36),  # two even slices, not 70 and 1
        (10_000, 1, 7, 7),
        (10_000, 4, 160, 160),  # 40 on each
        (10_000, 4, 5, 8),  # two on each, three of them padding
        (10, 2, 5, 2),  # too little for anything: one row each, and XLA has the last word
    ],
)
def test_slices_are_as_large_as_fits_and_even(free, devices, rows, expected):
    found = Footprint(per_row=100, shared=1_000)
    size = rows_that_fit(found, free=free, devices=devices, rows=rows)
    assert size % devices == 0
    assert size <= max(devices, 70 * devices)
    assert -(-rows // size) * size - rows < size
    assert size == expected


def test_a_program_says_what_a_row_takes():
    mine = trainer()
    one = row(0)
    device = jax.devices()[0]
    found = footprint(device, "vmap", mine.recipe, mine.workload, one.params, one.mask)
    shared = sum(a.nbytes for part in mine.workload.buckets for a in part.values())
    assert found.shared == shared
    # At the least: parameters twice, as trained and as of the best epoch.
    assert found.per_row >= 2 * sum(np.asarray(leaf).nbytes for leaf in one.params.values())


def test_a_device_that_does_not_say():
    class Silent:
        def memory_stats(self):
            return None

    class Says:
        def __init__(self, limit, used):
            self._stats = {"bytes_limit": limit, "bytes_in_use": used}

        def memory_stats(self):
            return self._stats

    assert free_bytes([Silent()]) is None
    assert free_bytes([Says(100, 20), Says(100, 50)]) == 50
