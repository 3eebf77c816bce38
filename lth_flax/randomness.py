"""Where every random number comes from: (seed, purpose, counters), never global state."""

import jax
import jax.numpy as jnp
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
    "reshuffled values",
    "score examples",
    "changing mask",
)
"""Append only: a purpose's position is part of every draw that was ever recorded."""

GENERATOR = "threefry2x32"
"""Of JAX's keys; NumPy's numbers come from PCG64. Neither is left to their defaults."""


def key(seed: int, purpose: str, *counters: int) -> jax.Array:
    """A JAX key for one purpose of one seed, and of one epoch, draw or level if given."""
    # Threefry's key of a seed is its high and its low half. `jax.random.key` gives the same,
    # unless JAX_RANDOM_SEED_OFFSET or JAX_ENABLE_X64 make it another.
    halves = np.array([seed >> 32, seed & 0xFFFFFFFF], np.uint32)
    result = jax.random.wrap_key_data(jnp.asarray(halves), impl=GENERATOR)
    for counter in (PURPOSES.index(purpose), *counters):
        result = jax.random.fold_in(result, counter)
    return result


def generator(seed: int, purpose: str, *counters: int) -> np.random.Generator:
    """The same for NumPy."""
    entropy = np.random.SeedSequence([seed, PURPOSES.index(purpose), *counters])
    return np.random.Generator(np.random.PCG64(entropy))
