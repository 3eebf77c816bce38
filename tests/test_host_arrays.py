"""What is resident is in memory once: JAX on a CPU reads the host's own array."""

import jax
import numpy as np
import pytest

from lth_flax.data.text import build_vocabulary, encode, intern
from lth_flax.host_arrays import ALIGNMENT, aligned, aligned_empty
from lth_flax.training.replicates import Engine


@pytest.mark.parametrize("shape", [(), (1,), (7, 5), (1000, 30)])
@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.float64])
def test_a_copy_at_such_an_address_is_the_array(shape, dtype):
    odd = np.arange(np.prod(shape, dtype=int) + 1).astype(dtype)[1:].reshape(shape)
    found = aligned(odd)
    assert found.ctypes.data % ALIGNMENT == 0
    assert (found.shape, found.dtype) == (odd.shape, odd.dtype)
    np.testing.assert_array_equal(found, odd)
    assert aligned(found) is found
    assert aligned_empty(shape, dtype).ctypes.data % ALIGNMENT == 0


def test_devices_read_the_array_of_the_host_and_copy_what_lies_elsewhere():
    tokenized = intern(["a b c"] * 300)
    rows = np.arange(300)
    tokens = encode(tokenized, build_vocabulary(tokenized, rows, size=9), rows, length=30)
    odd = np.zeros(tokens.size + 1, np.int32)[1:]
    devices = tuple(jax.devices("cpu"))
    assert len(devices) == 2
    placed = Engine("map", devices, 2).place_shared({"tokens": tokens, "odd": odd})
    places = {
        name: {shard.data.unsafe_buffer_pointer() for shard in array.addressable_shards}
        for name, array in placed.items()
    }
    assert places["tokens"] == {tokens.ctypes.data}
    assert len(places["odd"]) == 1
    np.testing.assert_array_equal(placed["tokens"], tokens)
