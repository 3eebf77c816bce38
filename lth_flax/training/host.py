"""How XLA uses the cores of a machine: to be said before JAX starts its backend."""

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path

import jax

from lth_flax.compat import backend_has_started
from lth_flax.errors import UserError

XLA_FLAGS = (
    # A row has one core. With a pool of threads that all rows share, the small products of an
    # LSTM wait for each other, and a row's bits could depend on how many cores there are.
    "--xla_cpu_multi_thread_eigen=false",
    # On a GPU, trying which of Triton's kernels is fastest for each product takes most of the
    # compilation. Many rows gain nothing by them; one row alone is a fifth faster, which pays
    # after some twenty thousand steps.
    "--xla_gpu_enable_triton_gemm=false",
)
"""`python -m lth_flax.benchmarks.train_step --plain_xla` measures what they are worth."""


def prepare_cpu(devices: int) -> None:
    """As many CPU devices as given, and `XLA_FLAGS`.

    What the variable XLA_FLAGS of the environment says stays, and comes last, so that it wins.
    Where the backend has started already nothing is said: what there is is used. And what the
    process frees it keeps: see `keep_memory`.

    Raises:
      UserError: the variable has a flag that XLA does not know, which would end the process.
    """
    keep_memory()
    if backend_has_started():
        return
    said = os.environ.get("XLA_FLAGS", "")
    if set(said.split()) - set(XLA_FLAGS):
        _check(said)
    os.environ["XLA_FLAGS"] = flags_with(said)
    if getattr(jax.config, "jax_num_cpu_devices", None) != devices:  # else it is set already
        jax.config.update("jax_num_cpu_devices", devices)


def keep_memory() -> None:
    """Tells glibc, where that is the C library, to use again what is freed; else does nothing.

    A call of a program allocates and frees all that lies between its inputs and outputs. Where
    that is more than 32 MB, as for reviews, glibc takes it from the system and gives it back each
    time, and the first touch of so many pages costs as much as what is computed in them.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another C library, or another system
        return
    for option, value in _KEPT.items():
        mallopt(option, value)


_KEPT = {
    -4: 0,  # M_MMAP_MAX: nothing is a mapping of its own
    -1: 2**31 - 1,  # M_TRIM_THRESHOLD: bytes that may lie free at the end of the heap
    # M_TOP_PAD: more than the heap of a thread can have, or an empty one is given back after all.
    -2: 2**27,
}
"""Parameters of `mallopt`, by their numbers in malloc.h."""


def _check(said: str) -> None:
    """XLA aborts at a flag that it does not know: here another process does so first."""
    done = subprocess.run(
        [sys.executable, "-c", "from jaxlib import xla_client; xla_client.CompileOptions()"],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"Unknown flags? in XLA_FLAGS.*|Couldn't interpret value.*", done.stderr)
    if done.returncode and found:
        raise UserError(
            f"XLA_FLAGS={said} cannot be used ({found.group().strip()}): expected flags that this "
            "XLA has; correct the variable, or unset it"
        )


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
