"""One task of a sweep: an experiment's own command, pinned to its cores, that ends with its keeper.

  python -m lth_flax.experiments.sweep_task CORES DIRECTORY EXPERIMENT ARGUMENTS...

A process of its own below Ray's worker: an experiment wants the main thread's
signals, absl's flags and the choice of JAX's devices for itself. Its standard
input is a pipe from the worker that nothing is written to. When the worker
dies, however it dies, the pipe ends, and so does this process: it does not
train on, and hold the work directory, while the task is tried again elsewhere.
"""

import os
import runpy
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO

from lth_flax.cores import cores_here
from lth_flax.errors import UserError

WAIT_SECONDS = 30.0
"""For what a killed predecessor still holds."""


def main() -> None:
    cores, directory, experiment, *arguments = sys.argv[1:]
    threading.Thread(target=_end_with_keeper, daemon=True).start()
    held = take_cores(int(cores))
    wait_for_directory(Path(directory))
    sys.argv = [experiment, *arguments]
    runpy.run_module(f"lth_flax.experiments.{experiment}", run_name="__main__", alter_sys=True)
    del held


def _end_with_keeper() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


def take_cores(count: int, folder: Path | None = None) -> list[IO[str]]:
    """Pins this process to as many cores, none of which another task on this machine has.

    Ray counts cores but does not say which. Each is a file that is locked while
    the process lives: keep what this returns. Where too few are free, some are
    shared; where a system cannot pin, nothing is done.
    """
    if not hasattr(os, "sched_setaffinity"):
        return []
    import fcntl  # such a system has it

    folder = folder or Path(tempfile.gettempdir()) / f"lth_flax_cores_{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    cores = sorted(os.sched_getaffinity(0))
    count = min(count, cores_here())
    held: dict[int, IO[str]] = {}
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        for core in cores:
            if core not in held and len(held) < count:
                file = open(folder / str(core), "a", encoding="utf-8")  # noqa: SIM115 - kept open
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    held[core] = file
                except OSError:
                    file.close()
        if len(held) == count or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    rest = [core for core in cores if core not in held]
    os.sched_setaffinity(0, [*held, *rest[: count - len(held)]])
    return list(held.values())


def wait_for_directory(directory: Path) -> None:
    """Until no process writes there: one that was killed may take a moment to be gone."""
    # Not before the cores are taken: NumPy and JAX count them when they are imported.
    from lth_flax.runs.workdir import LOCK_FILE, lock_work_dir

    deadline = time.monotonic() + WAIT_SECONDS
    while (directory / LOCK_FILE).exists() and time.monotonic() < deadline:
        try:
            lock_work_dir(directory).close()
            return
        except UserError:
            time.sleep(0.1)


if __name__ == "__main__":
    main()
