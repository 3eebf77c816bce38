"""Where every random number comes from: (seed, purpose, counters), never global state."""

import jax
import numpy as np

PURPOSES = (
    "split",
    "batches",
    "bucket order",
    "initialization",
    "dropout",
    "random mask",
    "shuffled mask",
    "random scores",
    "reinitialization",
)
"""Append only: a purpose's position is part of every draw that was ever recorded."""


def key(seed: int, purpose: str, *counters: int) -> jax.Array:
    """A JAX key for one purpose of one seed, and of one epoch, draw or level if given."""
    result = jax.random.fold_in(jax.random.key(seed), PURPOSES.index(purpose))
    for counter in counters:
        result = jax.random.fold_in(result, counter)
    return result


def generator(seed: int, purpose: str, *counters: int) -> np.random.Generator:
    """The same for NumPy."""
    return np.random.default_rng([seed, PURPOSES.index(purpose), *counters])
