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
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OWN = {"OPENBLAS_NUM_THREADS": "1"}  # what the package says where it is imported before numpy
SIGNALS = (signal.SIGHUP, signal.SIGINT)  # which may be ignored here, as under nohup
ASKING = threading.Lock()  # one question at a time

SERVER = """
import gc, json, os, runpy, signal, socket, sys, warnings
import flax, jax, jinja2, matplotlib.backends.backend_agg, matplotlib.figure, optax
import orbax.checkpoint, scipy.special
from jaxlib import xla_client
gc.freeze()
asking = socket.socket(fileno=int(sys.argv[1]))
while True:
    message, streams, _, _ = socket.recv_fds(asking, 1 << 20, 2)
    if not message:
        sys.exit()
    asked = json.loads(message)
    if isinstance(asked, int):
        pid, status = os.waitpid(asked, os.WNOHANG)
        asking.send(json.dumps(os.waitstatus_to_exitcode(status) if pid else None).encode())
        continue
    with warnings.catch_warnings(action="ignore"):  # of threads: none of Python's
        pid = os.fork()
    if not pid:
        break
    for stream in streams:
        os.close(stream)
    asking.send(str(pid).encode())
asking.close()
for number, stream in enumerate([os.open(os.devnull, os.O_RDONLY), *streams]):
    os.dup2(stream, number)
    os.close(stream)
for number in asked["ignored"]:
    signal.signal(number, signal.SIG_IGN)
sys.stdout.reconfigure(line_buffering=True)
os.chdir(asked["cwd"])
os.environ.clear()
os.environ.update(asked["environment"])
sys.path[:1] = [asked["cwd"], *asked["environment"]["PYTHONPATH"].split(os.pathsep)]
if asked["xla_flags"] and "XLA_FLAGS" not in os.environ:
    from lth_flax.training.host import flags_with
    os.environ["XLA_FLAGS"] = flags_with(asked["xla_flags"])
    xla_client.CompileOptions()  # reads the variable, once in a process
    del os.environ["XLA_FLAGS"]
sys.argv = asked["argv"]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def run(
    module, *arguments, cwd, timeout=600, quick=True, **variables
) -> subprocess.CompletedProcess[str]:
    """What `python -m module` printed, and its exit status; `variables` of the environment."""
    process = start(module, *arguments, cwd=cwd, quick=quick, **variables)
    out, err = process.communicate(timeout=timeout)
    return subprocess.CompletedProcess([module, *arguments], process.returncode, out, err)


def start(module, *arguments, cwd, root=ROOT, quick=True, **variables):
    """The same, as a `Popen` whose output can be read as it comes.

    It compiles as the tests do (`conftest.QUICK_FLAGS`), with `quick=False` or with variables as
    users do. `root` is where the package lies.
    """
    environment = {**os.environ, "PYTHONPATH": str(root), **variables}
    arguments = [module, *map(str, arguments)]
    if sys.platform == "linux" and _imported(environment) == _imported(_server()[1]):
        flags = os.environ.get("LTH_FLAX_TEST_XLA_FLAGS") if quick else None
        return _Forked(arguments, str(cwd), {**OWN, **environment}, flags)
    return subprocess.Popen(
        [sys.executable, "-u", "-m", *arguments], cwd=cwd, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


class _Forked:
    """As much of a `Popen` as the tests use."""

    returncode = None

    def __init__(self, argv, cwd, environment, xla_flags):
        asked = {
            "argv": argv, "cwd": cwd, "environment": environment, "xla_flags": xla_flags,
            "ignored": [number for number in SIGNALS if signal.getsignal(number) is signal.SIG_IGN],
        }  # fmt: skip
        ends = [os.pipe(), os.pipe()]
        self.pid = _ask(asked, [write for _, write in ends])
        for _, write in ends:
            os.close(write)
        self.stdout, self.stderr = (os.fdopen(read, encoding="utf-8") for read, _ in ends)

    def poll(self):
        if self.returncode is None:
            self.returncode = _ask(self.pid)
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def communicate(self, timeout=600):
        late = threading.Timer(timeout, self.send_signal, [signal.SIGKILL])
        late.start()
        with ThreadPoolExecutor(1) as pool:
            err = pool.submit(self.stderr.read)
            texts = self.stdout.read(), err.result()
        while self.poll() is None:
            time.sleep(0.01)
        assert not late.finished.is_set(), f"a command ran longer than {timeout} s"
        late.cancel()
        self.stdout.close()
        self.stderr.close()
        return texts


@functools.cache
def _server() -> tuple[socket.socket, dict[str, str]]:
    """What one asks the process that forks, and the environment in which it imported."""
    environment = dict(os.environ)
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(its.fileno())], env={**OWN, **environment}, cwd=ROOT,
        pass_fds=[its.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    its.close()
    atexit.register(process.wait)
    atexit.register(ours.close)  # without more to read it ends
    return ours, environment


def _imported(environment):
    """Of an environment, what may matter to an import."""
    left_out = "PYTEST_CURRENT_TEST", "PYTHONPATH"
    return {name: value for name, value in environment.items() if name not in left_out}


def _ask(words, streams=()):
    asking, _ = _server()
    with ASKING:
        socket.send_fds(asking, [json.dumps(words).encode()], streams)
        return json.loads(asking.recv(1000))
