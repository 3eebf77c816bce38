"""The edge to Ray: connects, hands out tasks, says what happens. Ray schedules and tries again.

Ray is imported when it is needed and nowhere else; its own words are kept from
the terminal. What is imported on a worker is this module, without JAX.
"""

import contextlib
import importlib.util
import logging
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from lth_flax import interrupt
from lth_flax.errors import UserError
from lth_flax.streams import stream

ANSWER_SECONDS = 10.0
"""A Ray that has not answered by then is not there."""

STOP_SECONDS = 6.0
"""That tasks have to save once a signal came; less than the patience of `interrupt`."""

POLL_SECONDS = 0.5
_HEADER = "--- task on "


class Job(NamedTuple):
    """What a worker needs to run a task; paths are absolute and on storage that all share."""

    name: str
    directory: str
    log: str
    experiment: str
    arguments: Sequence[str]
    cwd: str
    environment: Mapping[str, str]


class Resources(NamedTuple):
    """Of each task."""

    cpus: int
    gpus: float

    def __str__(self) -> str:
        cores = f"{self.cpus} core{'s' * (self.cpus != 1)}"
        gpus = f"{self.gpus:g} GPU{'s' * (self.gpus > 1)}" if self.gpus else "no GPU"
        return f"{cores} and {gpus}"


class Ended(NamedTuple):
    """How a task's process ended by itself; `line` is its last word."""

    status: int
    node: str
    seconds: float
    line: str


class ProcessDied(Exception):
    """A task's process was killed: Ray runs the task again, and it goes on from its checkpoint."""


# On the workers.


def run_job(job: Job, resources: Resources) -> Ended:
    """Runs the experiment's own command in a process below this worker, and waits.

    Raises:
      ProcessDied: it was killed.
    """
    node, started = platform.node(), time.monotonic()
    environment = {**os.environ, **job.environment}
    if 0 < resources.gpus < 1:  # JAX would take three quarters of the GPU for each
        share = f"{0.9 * resources.gpus:.3f}"
        environment.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", share)
    log = Path(job.log)
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "lth_flax.experiments.sweep_task",
        str(resources.cpus), job.directory, job.experiment, *job.arguments,
    ]  # fmt: skip
    with open(log, "ab") as output:
        output.write(f"{_HEADER}{node}\n".encode())
        output.flush()
        begin = output.tell()
        with subprocess.Popen(
            command,
            cwd=job.cwd,
            env=environment,
            stdin=subprocess.PIPE,  # ends with this worker, see sweep_task
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the sweep, which stops its tasks itself
        ) as process:
            try:
                # Ray cancels by KeyboardInterrupt, which does not wake a wait without a limit.
                while process.poll() is None:
                    time.sleep(0.1)
            except BaseException:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(2 * STOP_SECONDS)
                process.kill()
                raise
    status = process.returncode
    if status < 0 or status > 128:
        number = -status if status < 0 else status - 128
        raise ProcessDied(f"its process was ended by signal {number} on {node}")
    said = log.read_bytes()[begin:].decode("utf-8", errors="replace")
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    return Ended(status, node, time.monotonic() - started, (errors or lines or [""])[-1])


# On the machine of the sweep.


@contextlib.contextmanager
def connected(address: str | None, cores: int) -> Iterator[tuple[Any, Callable[[str], None]]]:
    """Ray, and how to write a line to the terminal while it is there.

    Args:
      address: of a cluster, "auto", or None for a Ray of this machine alone with so many `cores`.

    Raises:
      UserError: Ray is not installed, or does not answer.
    """
    if importlib.util.find_spec("ray") is None:
        raise UserError("a sweep needs Ray, which is not installed: pip install 'lth_flax[sweep]'")
    if address not in (None, "auto"):
        host, _, port = str(address).removeprefix("ray://").rpartition(":")
        if not (host and port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
            raise UserError(f"--ray_address={address} is no address: expected HOST:PORT, or auto")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Tasks without a GPU are told by --platform; Ray is not to hide devices and warn of it.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    local = {"address": "local", "num_cpus": cores, "include_dashboard": False}
    with _terminal_to_ourselves() as (output, errors):
        import ray

        logging.getLogger("ray").setLevel(logging.ERROR)  # importing it has set another
        silence = threading.Timer(ANSWER_SECONDS, _give_up, [address, errors])
        silence.daemon = True
        if address:
            silence.start()
        try:
            ray.init(
                **({"address": address} if address else local),
                log_to_driver=False,
                configure_logging=False,
                logging_level=logging.ERROR,
            )
        except (OSError, RuntimeError, ValueError, ImportError) as error:
            raise _no_answer(address, " ".join(str(error).split())[:200]) from None
        finally:
            silence.cancel()
        interrupt.install()  # Ray has put a handler of its own in place
        try:
            yield ray, lambda line: print(line, file=output, flush=True)
        finally:
            ray.shutdown()


def _no_answer(address: str | None, reason: str) -> UserError:
    if address is None:
        return UserError(f"Ray cannot start on this machine ({reason})")
    return UserError(
        f"--ray_address={address} does not answer ({reason}): expected HOST:PORT of a Ray that "
        "runs, as `ray start --head` prints it; one that asks for a token needs "
        "RAY_AUTH_MODE=token here, and as RAY_AUTH_TOKEN what `ray get-auth-token` prints there"
    )


def _give_up(address: str | None, errors: TextIO) -> None:
    """Ray's own connecting cannot be interrupted, and takes a minute to see a closed port."""
    reason = f"nothing within {ANSWER_SECONDS:g} seconds"
    print(f"error: {_no_answer(address, reason)}", file=errors, flush=True)
    os._exit(2)


@contextlib.contextmanager
def _terminal_to_ourselves() -> Iterator[tuple[TextIO, TextIO]]:
    """Inside, what Ray writes goes nowhere; the streams that this gives still reach the terminal.

    Ray also writes from C++, to the descriptors. It keeps logs of its own.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    output, errors = (
        stream(os.dup(number), like) for number, like in ((1, sys.stdout), (2, sys.stderr))
    )
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        for number in (1, 2):
            os.dup2(nowhere.fileno(), number)
    try:
        with contextlib.redirect_stderr(errors):  # what is said of a signal, or of a bug
            yield output, errors
    finally:
        sys.stdout.flush()
        for number, one in ((1, output), (2, errors)):
            one.flush()
            os.dup2(one.fileno(), number)
            one.close()


def describe_cluster(ray: Any, resources: Resources) -> str:
    """How large it is, and whether a task fits anywhere: a cluster may grow."""
    nodes = [
        (node["Resources"].get("CPU", 0), node["Resources"].get("GPU", 0))
        for node in ray.nodes()
        if node["Alive"]
    ]
    cpus, gpus = map(sum, zip(*nodes, strict=True))
    text = f"{len(nodes)} machine{'s' * (len(nodes) != 1)}, {cpus:g} cores, {gpus:g} GPUs"
    fits = any(cores >= resources.cpus and gpu >= resources.gpus for cores, gpu in nodes)
    return text if fits else f"{text}; none has {resources}: waiting for one that has"


def run_jobs(
    ray: Any,
    jobs: Sequence[Job],
    resources: Resources,
    *,
    max_retries: int,
    finished: int,
    say: Callable[[str], None],
) -> list[str]:
    """Runs all jobs; says when one begins, goes on elsewhere, and ends.

    Args:
      finished: tasks that were done before: they count in what is said.

    Returns:
      a line for each task that failed in spite of its retries, or by a bug.

    Raises:
      UserError: a task ended with exit status 2; the others save and stop.
      Interrupted: the sweep was told to stop; all tasks have saved and stopped.
    """
    remote = ray.remote(run_job).options(
        num_cpus=resources.cpus,
        num_gpus=resources.gpus,
        max_retries=max_retries,
        retry_exceptions=[ProcessDied],
    )
    before = {job.name: len(_places(job)) for job in jobs}
    said = dict(before)
    waiting = {remote.remote(job, resources): job for job in jobs}
    total, failed = len(jobs) + finished, list[str]()
    with interrupt.deferred():
        try:
            while waiting and not interrupt.requested():
                ready, _ = ray.wait(list(waiting), timeout=POLL_SECONDS)
                for job in waiting.values():
                    for number, place in enumerate(_places(job)[said[job.name] :], said[job.name]):
                        verb = "goes on" if number > before[job.name] else "begins"
                        say(f"{job.name} {verb} on {place}")
                        said[job.name] = number + 1
                for ref in ready:
                    job = waiting.pop(ref)
                    done, line = _result(ray, ref, job)
                    finished += done
                    failed += [] if done else [line]
                    running = sum(said[one.name] > before[one.name] for one in waiting.values())
                    rest = total - finished - len(failed) - running
                    say(f"{line} ({finished} of {total} done, {running} running, {rest} to do)")
            if waiting:
                raise interrupt.Interrupted(interrupt.received())
        finally:
            for ref in waiting:  # they save, and stop
                ray.cancel(ref)
            if waiting:
                ray.wait(list(waiting), num_returns=len(waiting), timeout=STOP_SECONDS)
    return failed


def _places(job: Job) -> list[str]:
    """The machines where a task began, one after the other, in this sweep and those before."""
    try:
        lines = Path(job.log).read_text(encoding="utf-8", errors="replace").splitlines(True)
    except OSError:
        return []
    whole = (line.strip() for line in lines if line.startswith(_HEADER) and line.endswith("\n"))
    return [line.removeprefix(_HEADER) for line in whole]


def _result(ray: Any, ref: Any, job: Job) -> tuple[bool, str]:
    """Whether a task is done, or failed for good, and what to say of it.

    Raises:
      UserError: its flags or files are wrong.
    """
    try:
        ended: Ended = ray.get(ref)
    except ray.exceptions.RayError as error:
        died = isinstance(error, ProcessDied)  # Ray's error is of both classes
        reason = str(getattr(error, "cause", error)) if died else type(error).__name__
        return False, f"{job.name} failed: {reason}, and all retries are spent; see {job.log}"
    if ended.status == 2:
        raise UserError(f"{job.name}: {ended.line.removeprefix('error: ')}")
    if ended.status:
        why = f"exit status {ended.status}, {ended.line}"
        return False, f"{job.name} failed: {why}; see {job.log}"
    return True, f"{job.name} is done on {ended.node} in {ended.seconds / 60:.1f} min"
