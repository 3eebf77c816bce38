"""The commands: each module is one experiment and reads as its steps."""

import lth_flax.jax_import  # noqa: F401  (before any of them imports JAX)
