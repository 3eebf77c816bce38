"""Where jax 0.5.0 (the last that jax-metal takes) and newer releases differ."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import jax


def shard_map(function: Callable[..., Any], mesh: Any, in_specs: Any, out_specs: Any) -> Any:
    """`jax.shard_map` without its replication check, which a scan inside trips."""
    if hasattr(jax, "shard_map"):
        return jax.shard_map(
            function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
        )
    from jax.experimental.shard_map import shard_map as old_shard_map

    return old_shard_map(
        function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_rep=False
    )


def narrow_random_bits() -> AbstractContextManager[Any]:
    """What is traced inside draws random bits from 32-bit counters alone."""
    found: AbstractContextManager[Any] = jax.threefry_partitionable(False)
    return found


def option_context(name: str, value: Any) -> AbstractContextManager[Any]:
    """An option of JAX set in this thread alone, while the context lasts."""
    short = name.removeprefix("jax_")
    if not hasattr(jax, short):  # as jax.enable_x64 is not yet
        from jax import experimental

        return getattr(experimental, short)(value)
    found: AbstractContextManager[Any] = getattr(jax, short)(value)
    return found


def backend_has_started() -> bool:
    """Whether it is too late to choose devices and flags of XLA; no public name says so."""
    from jax._src import xla_bridge

    return bool(xla_bridge.backends_are_initialized())
