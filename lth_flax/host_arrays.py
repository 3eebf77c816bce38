"""Host arrays that JAX on a CPU takes as they are, where of others every device has a copy."""

import math

import numpy as np
import numpy.typing as npt

ALIGNMENT = 64
"""Bytes that the address has to be a multiple of."""


def aligned_empty(shape: tuple[int, ...], dtype: npt.DTypeLike) -> np.ndarray:
    """`numpy.empty`, at such an address."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def aligned(array: np.ndarray) -> np.ndarray:
    """The array, or a copy of it at such an address; what is no array of NumPy stays."""
    if not isinstance(array, np.ndarray) or array.ctypes.data % ALIGNMENT == 0:
        return array
    copy = aligned_empty(array.shape, array.dtype)
    copy[...] = array
    return copy
