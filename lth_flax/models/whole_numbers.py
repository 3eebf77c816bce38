"""Lengths and token ids from anywhere: checked where they are known, clipped where they are traced.

Under `jit`, `vmap` and `grad` the values are not known, and JAX itself would read a wrong one
in silence: a gather clamps it or answers NaN, a comparison in 8 bits wraps.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from lth_flax.errors import UserError


def checked_lengths(lengths: Any, *, batch: int, time: int) -> Int[Array, " batch"]:
    """The numbers of real steps of the texts of a batch, as int32 in [0, time].

    Any type of number is taken, as long as the numbers are whole. Traced ones
    cannot be looked at: they are rounded down and clipped, NaN to zero.

    Raises:
      UserError: not one length per text; or, where they are concrete, one that
        is no whole number, negative, or longer than `time`.
    """
    if np.shape(lengths) != (batch,):
        raise UserError(
            f"lengths must have one number for each of the {batch} texts, "
            f"found the shape {np.shape(lengths)}"
        )
    numbers = _as_numbers(lengths, "lengths", "numbers", (jnp.integer, jnp.floating))
    if isinstance(numbers, np.ndarray):
        wrong = ~((numbers >= 0) & (numbers <= time) & (numbers == np.floor(numbers)))
        if wrong.any():
            text = int(np.argmax(wrong))
            raise UserError(
                f"lengths[{text}] is {numbers[text]}: expected a whole number of steps between 0 "
                f"and {time}, the padded time"
            )
    return _clipped(numbers, time)


def checked_tokens(
    tokens: Any, *, vocabulary_size: int, real: Bool[Array, "time batch"]
) -> Int[Array, "time batch"]:
    """Token ids [batch, time] as int32 in [0, vocabulary_size), time first, the layout of layers.

    Zero in the padding, whatever stood there. Traced ids cannot be looked at: they are clipped.

    Raises:
      UserError: ids of another shape than `real` or not of an integer type; or,
        where they are concrete, one outside the vocabulary at a real position.
    """
    numbers = _as_numbers(tokens, "token ids", "integers", (jnp.integer,))
    if numbers.shape != real.shape[::-1]:
        raise UserError(f"token ids have the shape {numbers.shape}, expected {real.shape[::-1]}")
    if isinstance(numbers, np.ndarray) and not isinstance(real, jax.core.Tracer):
        wrong = np.asarray(real).T & ((numbers < 0) | (numbers >= vocabulary_size))
        if wrong.any():
            text, step = (int(index) for index in np.argwhere(wrong)[0])
            raise UserError(
                f"token id {numbers[text, step]} at step {step} of text {text} is not in the "
                f"vocabulary: expected 0 to {vocabulary_size - 1}"
            )
    # Transposed first: XLA on a CPU computes what a lookup reads for every element of a vector
    # anew, and with a transposed condition in it the lookup took six times as long.
    return jnp.where(real, _clipped(numbers, vocabulary_size - 1).T, 0)


def _as_numbers(values: Any, what: str, expected: str, kinds: tuple[Any, ...]) -> Any:
    """A wide array of NumPy where the values are known, a tracer where they are not."""
    numbers = values if isinstance(values, jax.core.Tracer) else np.asarray(values)
    if not numbers.size:  # an empty list is of floats
        return np.zeros(numbers.shape, np.int64)
    if not any(jnp.issubdtype(numbers.dtype, kind) for kind in kinds):
        raise UserError(f"{what} must be {expected}, found {numbers.dtype}")
    if isinstance(numbers, jax.core.Tracer):
        return numbers
    whole = jnp.issubdtype(numbers.dtype, jnp.integer)
    return numbers.astype(np.int64 if whole else np.float64)


def _clipped(numbers: Any, highest: int) -> Int[Array, "..."]:
    array = jnp.asarray(numbers)
    if jnp.issubdtype(array.dtype, jnp.floating):
        array = jnp.nan_to_num(array.astype(jnp.float32))
    elif array.dtype.itemsize < 4:  # too narrow for the bound
        array = array.astype(jnp.int32)
    return jnp.clip(array, 0, highest).astype(jnp.int32)
