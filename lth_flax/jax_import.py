"""Imports JAX and Flax, or ends the process with one line where they refuse a variable.

`JAX_ENABLE_X64=maybe` and the like end their import itself. For modules that commands start with,
before any other of ours; a program that has imported JAX by itself has heard of it there.
"""

from lth_flax.streams import fail

try:
    import flax  # noqa: F401
    import jax  # noqa: F401
except ValueError as _error:
    fail(f"{_error}: correct this variable of the environment, or unset it")
