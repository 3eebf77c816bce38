"""How XLA uses the cores of a machine: to be said before JAX starts its backend."""

import os
from pathlib import Path

import jax

XLA_FLAGS = (
    # A row has one core. With a pool of threads that all rows share, the small products of an
    # LSTM wait for each other, and a row's bits could depend on how many cores there are.
    "--xla_cpu_multi_thread_eigen=false",
    # One pass over the gates writes all that the backward loop needs of them.
    "--xla_backend_extra_options=xla_cpu_use_multi_output_fusion",
)
"""`python -m lth_flax.benchmarks.train_step --plain_xla` measures what they are worth."""


def cores_here() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare_cpu(devices: int) -> None:
    """As many CPU devices as given, and `XLA_FLAGS` for one row per core.

    What the variable XLA_FLAGS of the environment says stays, and comes last, so that it wins.
    Without effect where the backend has started already.
    """
    os.environ["XLA_FLAGS"] = flags_with(os.environ.get("XLA_FLAGS", ""))
    if getattr(jax.config, "jax_num_cpu_devices", None) != devices:  # else it is set already
        jax.config.update("jax_num_cpu_devices", devices)


def flags_with(said: str) -> str:
    """The variable XLA_FLAGS of a process that computes, given what the environment says.

    What does not begin with a dash names a file of flags, for XLA too.
    """
    if said.strip() and not said.lstrip().startswith("-"):
        try:
            said = Path(said).read_text(encoding="utf-8")
        except (OSError, ValueError):
            said = ""  # as XLA takes it
    theirs = said.split()
    return " ".join([*(flag for flag in XLA_FLAGS if flag not in theirs), *theirs])
