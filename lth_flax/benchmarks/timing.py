"""Timing several contestants in turns, so that a busy moment of the machine meets them all."""

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from lth_flax.cores import cores_here
from lth_flax.files import write_text_atomic


def interleave(
    contestants: Mapping[str, Callable[[], None]], *, rounds: int
) -> dict[str, list[float]]:
    """Seconds of each call, round by round, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, call in contestants.items():
            started = time.perf_counter()
            call()
            if number:
                seconds[name].append(time.perf_counter() - started)
    return seconds


class Workers:
    """Processes that work at the same time when told to: a line in, a line back.

    Args:
      module: below `lth_flax.benchmarks`; answers "done" to each line of standard input.
      arguments: of each process.
      needs: what to ask a user whose process ended.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[Sequence[str]],
        *,
        env: Mapping[str, str] | None = None,
        needs: str = "see what it said above",
    ) -> None:
        self._needs = needs
        self._workers = [
            subprocess.Popen(
                [sys.executable, "-m", f"lth_flax.benchmarks.{module}", *one],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, **(env or {})},
            )
            for one in arguments
        ]

    def run(self, steps: int) -> None:
        """`steps` steps in every process."""
        for worker in self._workers:
            assert worker.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it has ended: its silence says so
                worker.stdin.write(f"{steps}\n")
                worker.stdin.flush()
        for worker in self._workers:
            assert worker.stdout is not None
            if worker.stdout.readline() != "done\n":
                self.close()
                raise SystemExit(f"error: a process of the benchmark ended: {self._needs}")

    def close(self) -> None:
        """Ends them."""
        for worker in self._workers:
            worker.communicate()


def parser(doc: str | None, *, rounds: int | None = None) -> argparse.ArgumentParser:
    """What all benchmarks are asked; how many rounds, where contestants take turns."""
    found = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    if rounds:
        found.add_argument("--rounds", type=int, default=rounds)
    found.add_argument("--json", help="where the result goes")
    return found


def winning_ticket(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Seconds and peak bytes of the command, in a process of its own, and its `provenance`.

    The work directory is one of the flags.
    """
    command = [sys.executable, "-m", "lth_flax.experiments.winning_ticket", "--noprogress"]
    started = time.perf_counter()
    process = subprocess.Popen(
        command + [f"--{name}={value}" for name, value in flags.items()],
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise SystemExit("error: a process of the benchmark ended: see what it said above")
    return {
        "seconds": seconds,
        "peak_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        "provenance": json.loads(Path(flags["work_dir"], "provenance.json").read_text("utf-8")),
    }


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median with the smallest and the largest, and how many."""
    return {
        "median": statistics.median(values),
        "least": min(values),
        "most": max(values),
        "n": len(values),
    }


def ratios(slow: Sequence[float], fast: Sequence[float]) -> dict[str, float]:
    """How often `fast` fits into `slow`, round by round."""
    return summary([s / f for s, f in zip(slow, fast, strict=True)])


def matrix_product() -> tuple[Callable[[], None], float]:
    """A square f32 product with all cores, and its floating point operations."""
    size = 2048
    matrix = jnp.ones((size, size), jnp.float32)
    product = jax.jit(lambda x: jnp.dot(x, x))
    return lambda: product(matrix).block_until_ready(), 2.0 * size**3


def describe_machine() -> dict[str, Any]:
    """What a reader needs to compare numbers with their own."""
    model = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        pass
    return {
        "processor": model,
        "cores": cores_here(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "jax": jax.__version__,
        "backend": jax.devices()[0].platform,
    }


def write_result(path: str | None, result: Mapping[str, Any]) -> None:
    """As JSON, where a path is given."""
    if path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_text_atomic(Path(path), json.dumps(result, indent=1, sort_keys=True) + "\n")
