"""From flags to the devices: backend, engine, and what provenance says of the machine."""

import errno
import math
import os
import platform as host
import sys
import tempfile
import warnings
from collections.abc import Callable
from typing import Any

import jax

from lth_flax.config import Config
from lth_flax.cores import cores_here
from lth_flax.errors import UserError
from lth_flax.numerics import pin_process
from lth_flax.pruning.masks import full_mask
from lth_flax.runs import platforms
from lth_flax.training.host import prepare_cpu
from lth_flax.training.memory import footprint, free_bytes, rows_that_fit
from lth_flax.training.programs import Workload
from lth_flax.training.replicates import Engine, choose_mode
from lth_flax.training.steps import Recipe
from lth_flax.types import Params

ROWS_UNKNOWN = 64
"""Rows of a slice where the device does not say how much memory it has."""


def configure_jax(config: Config, devices: int | None = None) -> str:
    """Chooses the backend, the CPU's devices, numeric settings and the compilation cache.

    Args:
      devices: of the CPU; one per core if not given.

    Returns:
      which backend it is, and why.

    Raises:
      UserError: it is not there.
    """
    platforms.choose(config.platform)
    prepare_cpu(devices or cores_here())
    pin_process()
    jax.config.update("jax_default_matmul_precision", config.matmul_precision)
    if directory := _cache_directory(config):
        jax.config.update("jax_compilation_cache_dir", directory)
        # Without the cache a run is as good, only later: no reason for warnings.
        warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    return platforms.start(config.platform)


def _cache_directory(config: Config) -> str | None:
    """Where compiled programs are kept, if anywhere: nobody asked for the default.

    Raises:
      UserError: another was asked for, and cannot be used.
    """
    if not config.cache_dir:
        return None
    directory = os.path.expanduser(config.cache_dir)
    try:
        if directory.startswith("~"):
            raise OSError(errno.ENOENT, "no home directory is known here")
        os.makedirs(directory, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            return directory
    except OSError as error:
        reason = f"--cache_dir={config.cache_dir} cannot be used ({error.strerror})"
    if config.changed(["cache_dir"]):
        raise UserError(f"{reason}: give another, or an empty one for no cache")
    print(f"note: {reason}: compiled programs are not kept", file=sys.stderr)
    return None


def make_engine(
    config: Config, rows: int, recipe: Recipe, workload: Workload, initialize: Callable[[], Params]
) -> Engine:
    """The engine for tables of up to `rows` rows on the devices that are there.

    On a CPU a slice has one row per device. On an accelerator it has as many as
    the memory takes that is free there. Of the devices at most one for each row is used.
    """
    devices = tuple(jax.devices())[:rows]
    mode = choose_mode(config.replicates, devices[0].platform)
    wanted = config.rows_per_program
    if not wanted and mode == "map":
        wanted = len(devices)
    elif not wanted:
        wanted = min(rows, ROWS_UNKNOWN)
        free = free_bytes(devices)
        if free is not None:
            params = initialize()
            found = footprint(devices[0], mode, recipe, workload, params, full_mask(params))
            wanted = rows_that_fit(found, free=free, devices=len(devices), rows=rows)
    # A multiple of the number of devices: the last rows are padding.
    per_slice = math.ceil(min(wanted, rows) / len(devices)) * len(devices)
    known = devices[0].platform in ("cpu", "gpu", "cuda")
    return Engine(mode, devices, per_slice, donate=known, narrow=not known)


def peak_memory_bytes() -> int | None:
    """The most memory that this process has held at once, where the system says."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if host.system() == "Darwin" else 1024 * peak


def machine(config: Config) -> dict[str, Any]:
    """What the run ran on, for its provenance."""
    devices = jax.devices()
    return {
        "backend": devices[0].platform,
        "platform": platforms.start(config.platform),
        "devices": [str(device.device_kind) for device in devices],
        "system": f"{host.system()} {host.machine()}",
        "python": host.python_version(),
        "cores": cores_here(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }
