"""Runs commands of the package as `python -m` does, each in a process of its own.

Half of what a small command takes is imports of JAX, Flax, Orbax and Matplotlib. Here one process
has them imported, and nothing of ours, and forks for each command. JAX reads its variables as it is
imported, so a command with another environment has an interpreter started for it, as everywhere
but on Linux.
"""

import atexit
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OWN = {"OPENBLAS_NUM_THREADS": "1"}  # what the package says where it is imported before numpy

SERVER = """
import gc, json, os, runpy, sys, warnings
import flax, jax, jinja2, matplotlib.backends.backend_agg, matplotlib.figure, optax
import orbax.checkpoint, scipy.special
gc.freeze()
for line in sys.stdin:
    asked = json.loads(line)
    if isinstance(asked, int):
        pid, status = os.waitpid(asked, os.WNOHANG)
        print(json.dumps(os.waitstatus_to_exitcode(status) if pid else None), flush=True)
        continue
    with warnings.catch_warnings(action="ignore"):  # of threads: none of Python's
        pid = os.fork()
    if not pid:
        break
    print(pid, flush=True)
else:
    sys.exit()
for number, name in enumerate(asked["streams"]):
    os.dup2(os.open(name, os.O_RDWR | os.O_CREAT), number)
os.chdir(asked["cwd"])
os.environ.clear()
os.environ.update(asked["environment"])
sys.argv = asked["argv"]
sys.path[:1] = [asked["cwd"], *asked["environment"]["PYTHONPATH"].split(os.pathsep)]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def run(module, *arguments, cwd, timeout=600, **variables) -> subprocess.CompletedProcess[str]:
    """What `python -m module` printed, and its exit status; `variables` of the environment."""
    process = start(module, *arguments, cwd=cwd, **variables)
    out, err = process.communicate(timeout=timeout)
    return subprocess.CompletedProcess([module, *arguments], process.returncode, out, err)


def start(module, *arguments, cwd, root=ROOT, **variables):
    """The same, to be waited for by `communicate`; `root` is where the package lies.

    With variables it is a `Popen`, whose output can be read as it comes.
    """
    environment = {**os.environ, "PYTHONPATH": str(root), **variables}
    arguments = [module, *map(str, arguments)]
    if sys.platform == "linux" and _imported(environment) == _imported(_server()[1]):
        return _Forked(arguments, str(cwd), {**OWN, **environment})
    return subprocess.Popen(
        [sys.executable, "-m", *arguments], cwd=cwd, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


class _Forked:
    """As much of a `Popen` as the tests use."""

    returncode = None

    def __init__(self, argv, cwd, environment):
        self._place = tempfile.TemporaryDirectory()
        self._files = [Path(self._place.name) / name for name in ("out", "err")]
        streams = [os.devnull, *map(str, self._files)]
        self.pid = _ask({"argv": argv, "cwd": cwd, "environment": environment, "streams": streams})

    def communicate(self, timeout=600):
        deadline = time.monotonic() + timeout
        while (status := _ask(self.pid)) is None:
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                raise TimeoutError(f"a command ran longer than {timeout} s")
            time.sleep(0.02)
        self.returncode = status
        texts = [file.read_text() for file in self._files]
        self._place.cleanup()
        return texts


@functools.cache
def _server() -> tuple[subprocess.Popen, dict[str, str]]:
    """The process that forks, and the environment in which it imported."""
    environment = dict(os.environ)
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER], env={**OWN, **environment}, text=True, cwd=ROOT,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    atexit.register(process.communicate)  # without more to read it ends
    return process, environment


def _imported(environment):
    """Of an environment, what may matter to an import."""
    left_out = "PYTEST_CURRENT_TEST", "PYTHONPATH"
    return {name: value for name, value in environment.items() if name not in left_out}


def _ask(words):
    process, _ = _server()
    print(json.dumps(words), file=process.stdin, flush=True)
    return json.loads(process.stdout.readline())
