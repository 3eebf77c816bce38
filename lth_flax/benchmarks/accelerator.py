"""Is an accelerator right, and how fast? All that a GPU is to show, in nine minutes.

  python -m lth_flax.benchmarks.accelerator --json=experiments/benchmarks/accelerator.json
  python -m lth_flax.benchmarks.accelerator --parts=agree,cudnn

- agree: outputs and gradients by vmap, by map and on the CPU
- cudnn: 160 replicates of the tweets shape as one program, against PyTorch's cuDNN LSTM trained one
  after another (skipped without PyTorch or CUDA)
- throughput: rows of one program, 1 to 1,024, against row-steps per second
- memory: what a compiled program says that rows take, and what the device counted
- loop: the time loop unrolled, and with command buffers
- accuracy: of a small experiment over 8 seeds, by vmap, by map and on the CPU
- experiments: quickstart and tweets from the command to the report; texts are made up where
  --data_file names no CSV

Each part is a process of its own with a limit of its own: what it had found by then stands in the
result, and the others go on. Runs on a CPU too, where `--tiny` shows that it works.
"""

import lth_flax.jax_import  # noqa: F401, I001  (before JAX, whose refusals it says)

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax

from lth_flax.analysis.terminal import aligned
from lth_flax.benchmarks import accelerator_parts, timing
from lth_flax.runs import platforms
from lth_flax.training.host import prepare_cpu

LIMITS = {
    "agree": 50, "cudnn": 55, "throughput": 90, "memory": 50, "loop": 80, "accuracy": 85,
    "experiments": 100,
}  # fmt: skip
"""Seconds of each part, in the order in which they run."""

STARTING = 30
"""Seconds to find out what the machine is."""

UNROLLS = (1, 4)
COMMAND_BUFFERS = "--xla_gpu_enable_command_buffer=+WHILE"

Found = Mapping[str, Any]
Row = list[str]


# The process of a part.


def work(arguments: argparse.Namespace) -> None:
    """Does one part, and keeps what it finds in the file that it is given."""
    sizes = accelerator_parts.TINY if arguments.tiny else accelerator_parts.FULL
    more: dict[str, Any] = {}
    if arguments.part == "experiments":
        more = {"data_file": arguments.data_file}
    elif arguments.part == "loop":
        more = {"unroll": arguments.unroll}
    if arguments.part not in ("experiments", "accuracy"):  # these start commands
        platforms.choose("auto")
        prepare_cpu(1)
        jax.config.update("jax_default_matmul_precision", "highest")
    part = getattr(accelerator_parts, arguments.part)
    part(sizes, partial(timing.write_result, arguments.json), **more)


# What starts them.


def run(name: str, more: Sequence[str], *, seconds: float, flags: str = "") -> dict[str, Any]:
    """What a part found in so many seconds, and how it ended if not well."""
    with tempfile.TemporaryDirectory() as directory:
        file, said = Path(directory, "found.json"), Path(directory, "said.txt")
        module = "lth_flax.benchmarks.accelerator"
        command = [sys.executable, "-m", module, f"--part={name}", f"--json={file}", *more]
        environment = dict(os.environ)
        if flags:
            environment["XLA_FLAGS"] = f"{environment.get('XLA_FLAGS', '')} {flags}".strip()
        started = time.perf_counter()
        with said.open("w", encoding="utf-8") as errors:
            process = subprocess.Popen(
                command, stdout=errors, stderr=errors, env=environment, start_new_session=True
            )
            try:
                process.wait(timeout=max(seconds, 0))
            except subprocess.TimeoutExpired:
                pass
            finally:
                with contextlib.suppress(ProcessLookupError):  # with all that it started
                    os.killpg(process.pid, signal.SIGKILL)
            status = process.wait()
        result: dict[str, Any] = {"seconds": time.perf_counter() - started}
        if file.exists():
            result["found"] = json.loads(file.read_text(encoding="utf-8"))
        if status == -signal.SIGKILL:
            result["failed"] = f"stopped after {seconds:.0f} s: what it had found by then counts"
        elif status:
            lines = said.read_text(encoding="utf-8", errors="replace").split("\n")
            result["failed"] = next((line for line in reversed(lines) if line.strip()), "no word")
        return result


def run_loop(more: Sequence[str], *, seconds: float) -> dict[str, Any]:
    """Every unrolling, then command buffers with the best of them."""
    started = time.perf_counter()
    found: dict[str, Any] = {}

    def add(name: str, unroll: int, flags: str = "") -> None:
        left = seconds - (time.perf_counter() - started)
        result = run("loop", [*more, f"--unroll={unroll}"], seconds=left, flags=flags)
        found[name] = {"unroll": unroll, "flags": flags, **result}

    for unroll in UNROLLS:
        add(f"unroll {unroll}", unroll)
    if best := fastest(found):
        add(f"{best}, command buffers", found[best]["unroll"], COMMAND_BUFFERS)
        found["best"] = fastest(found)
    return {"seconds": time.perf_counter() - started, "found": found}


def fastest(variants: Found) -> str | None:
    """The name of the one whose steps take the least time, of those that were timed."""
    timed = [name for name, variant in variants.items() if "found" in variant]
    return min(timed, key=lambda name: step_of(variants[name]), default=None)


def step_of(variant: Found) -> float:
    """Milliseconds of a step and replicate."""
    return float(variant["found"]["milliseconds_per_step"]["median"])


# What is shown: the table of each part, its header first.


def table_of(name: str, found: Found) -> list[Row]:
    """The table of a part."""
    return [[name, found["skipped"]]] if "skipped" in found else list(TABLES[name](found))


def _agree(found: Found) -> Iterator[Row]:
    yield ["agree", "outputs", "gradients", "same classes", "agree"]
    for pair, one in found.items():
        yield [
            pair, f"{one['outputs']:.1e}", f"{one['gradients']:.1e}", f"{one['same_classes']:.1%}",
            _answer(one["agree"]),
        ]  # fmt: skip


def _cudnn(found: Found) -> Iterator[Row]:
    yield ["cudnn", "ms per step and replicate", "range", "times ours"]
    for who, ms in found["milliseconds_per_step"].items():
        times = f"{found['ratio']['median']:.1f}" if who == "cuDNN" else ""
        yield [who, f"{ms['median']:.4f}", f"{ms['least']:.4f} to {ms['most']:.4f}", times]


def _throughput(found: Found) -> Iterator[Row]:
    yield ["throughput", "row-steps per second", "range"]
    for rows, rate in sorted(found.items(), key=lambda item: int(item[0])):
        if isinstance(rate, str):
            yield [f"{int(rows):,} rows", rate, ""]
        else:
            spread = f"{rate['least']:,.0f} to {rate['most']:,.0f}"
            yield [f"{int(rows):,} rows", f"{rate['median']:,.0f}", spread]


def _memory(found: Found) -> Iterator[Row]:
    yield ["memory", "predicted MiB", "measured MiB", "measured / predicted"]
    for rows, one in sorted(found.items(), key=lambda item: int(item[0])):
        predicted, measured = one["predicted"], one["measured"]
        known = measured is not None
        yield [
            f"{int(rows):,} rows", f"{predicted / 2**20:,.0f}",
            f"{measured / 2**20:,.0f}" if known else "the device does not say",
            f"{measured / predicted:.2f}" if known else "",
        ]  # fmt: skip


def _loop(found: Found) -> Iterator[Row]:
    yield ["loop", "ms per step and replicate", "compiled in"]
    for name, one in found.items():
        if name != "best":
            cells = [one.get("failed", ""), ""]
            if "found" in one:
                cells = [f"{step_of(one):.4f}", f"{one['found']['seconds_to_compile']:.1f} s"]
            yield [f"{name} (best)" if name == found.get("best") else name, *cells]


def _accuracy(found: Found) -> Iterator[Row]:
    yield ["accuracy", "accuracy or difference", "standard error", "agree"]
    for way, mean in found["accuracy"].items():
        yield [way, f"{mean:.2%}", "", ""]
    for pair, one in found["differences"].items():
        yield [pair, f"{one['mean']:+.2%}", f"{one['standard_error']:.2%}", _answer(one["agree"])]


def _experiments(found: Found) -> Iterator[Row]:
    yield ["experiments", "seconds", "of which compiling", "dense accuracy"]
    for name in ("quickstart", "tweets"):
        if name in found:
            one = found[name]
            dense = one["accuracy"]["dense"]
            yield [name, f"{one['seconds']:.1f}", f"{one['spent']['compile']:.1f}", f"{dense:.1%}"]


def _answer(yes: bool) -> str:
    return "yes" if yes else "NO"


TABLES: Mapping[str, Callable[[Found], Iterator[Row]]] = {
    "agree": _agree, "cudnn": _cudnn, "throughput": _throughput, "memory": _memory, "loop": _loop,
    "accuracy": _accuracy, "experiments": _experiments,
}  # fmt: skip


def main() -> None:
    parser = timing.parser(__doc__)
    parser.add_argument("--parts", default=",".join(LIMITS), help="some of them, by name")
    parser.add_argument("--minutes", type=float, default=9.0, help="for all parts together")
    parser.add_argument("--data_file", help="the tweets' CSV; without it texts are made up")
    parser.add_argument("--tiny", action="store_true", help="everything as small as can be")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--unroll", type=int, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        work(arguments)
        return
    names = arguments.parts.split(",")
    if unknown := sorted(set(names) - set(LIMITS)):
        parser.error(f"--parts={unknown[0]}: expected some of {','.join(LIMITS)}")
    if arguments.data_file and not Path(arguments.data_file).is_file():
        parser.error(f"--data_file={arguments.data_file}: expected a file; leave it out for none")
    end = time.perf_counter() + 60 * arguments.minutes
    share = arguments.minutes / 9  # of the limits: more time is more for each
    more = ["--tiny"] * arguments.tiny
    if arguments.data_file:
        more.append(f"--data_file={arguments.data_file}")
    machine = run("machine", more, seconds=STARTING * max(share, 1))
    if "failed" in machine:
        raise SystemExit(f"error: no device can be used ({machine['failed']})")
    parts: dict[str, Any] = {}
    result = {"machine": machine["found"], "tiny": arguments.tiny, "parts": parts}
    for name in (name for name in LIMITS if name in names):
        seconds = min(LIMITS[name] * share, end - time.perf_counter())
        found = (
            run_loop(more, seconds=seconds) if name == "loop" else run(name, more, seconds=seconds)
        )
        parts[name] = found
        if "found" in found:
            print(aligned(table_of(name, found["found"])), flush=True)
        if "failed" in found:
            print(f"{name}: {found['failed']}", flush=True)
        print(flush=True)
        timing.write_result(arguments.json, result)


if __name__ == "__main__":
    main()
