"""What is said to XLA before it starts, and that it changes no answer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lth_flax.training.host import XLA_FLAGS, flags_with

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("said", ["", "--xla_cpu_multi_thread_eigen=true", " ".join(XLA_FLAGS)])
def test_ours_come_first_and_once_so_that_the_users_win(said):
    found = flags_with(flags_with(said)).split()  # saying it twice changes nothing
    assert sorted(found) == sorted({*XLA_FLAGS, *said.split()})
    assert found[len(found) - len(said.split()) :] == said.split()


def test_flags_may_stand_in_a_file_as_xla_has_it(tmp_path):
    (tmp_path / "flags").write_text("--xla_a=1\n--xla_b\n")
    assert flags_with(str(tmp_path / "flags")).split() == [*XLA_FLAGS, "--xla_a=1", "--xla_b"]
    assert flags_with(str(tmp_path / "none")).split() == list(XLA_FLAGS)


def test_every_jax_that_we_run_on_knows_the_flags_and_makes_the_devices():
    code = (
        "from lth_flax.training.host import prepare_cpu; prepare_cpu(3); import jax; "
        "print(len(jax.devices('cpu')), float(jax.jit(lambda x: x @ x)(jax.numpy.eye(2)).sum()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": ""},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.stdout.split() == ["3", "2.0"], done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is of Linux")
def test_memory_that_a_program_frees_is_used_again():
    code = """
import ctypes, resource, threading
from lth_flax.training.host import keep_memory

if not hasattr(ctypes.CDLL(None), "mallopt"):
    raise SystemExit("another C library")
keep_memory()

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytes(50_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

found = []
thread = threading.Thread(target=lambda: found.extend(faults() for _ in range(4)))
thread.start()
thread.join()
print(5 * max(found[1:]) < found[0])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    if "another C library" in done.stderr:
        pytest.skip("mallopt is of glibc")
    assert done.stdout == "True\n", done.stderr
