"""How XLA uses the cores of a machine: to be said before JAX starts its backend."""

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
    # compilation, and they gain nothing here: cuBLAS is as fast on these shapes.
    "--xla_gpu_enable_triton_gemm=false",
)
"""`python -m lth_flax.benchmarks.train_step --plain_xla` measures what they are worth."""


def prepare_cpu(devices: int) -> None:
    """As many CPU devices as given, and `XLA_FLAGS`.

    What the variable XLA_FLAGS of the environment says stays, and comes last, so that it wins.
    Where the backend has started already nothing is said: what there is is used.

    Raises:
      UserError: the variable has a flag that XLA does not know, which would end the process.
    """
    if backend_has_started():
        return
    said = os.environ.get("XLA_FLAGS", "")
    if set(said.split()) - set(XLA_FLAGS):
        _check(said)
    os.environ["XLA_FLAGS"] = flags_with(said)
    if getattr(jax.config, "jax_num_cpu_devices", None) != devices:  # else it is set already
        jax.config.update("jax_num_cpu_devices", devices)


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
