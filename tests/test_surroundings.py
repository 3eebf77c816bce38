"""`winning_ticket` under what people's machines put around it: the same records, or one line.

Environment variables, streams, locales, homes and directories. Whatever they are, the command
ends with the records and the figure that it leaves without them, or with one line and status 2
before anything is written.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lth_flax.records import read_records

ROOT = Path(__file__).resolve().parents[1]
RUN = [
    "-m", "lth_flax.experiments.winning_ticket", "--synthetic_size=200", "--hidden_size=4",
    "--embedding_size=4", "--batch_size=32", "--epochs=1", "--num_seeds=2", "--dense_only",
    "--learning_rate=0.02", "--max_shapes=1",
]  # fmt: skip
OURS = ("JAX_", "XLA_", "FLAX_", "MPL", "MATPLOTLIB", "PYTHON", "LC_", "LANG", "OMP_")

ALONE = {}
"""Nothing but what every process has."""

VARIABLES = {
    "a notebook's backend": {"MPLBACKEND": "module://matplotlib_inline.backend_inline"},
    "no such backend": {"MPLBACKEND": "nonsense"},
    "no place for matplotlib": {"MPLCONFIGDIR": "/proc/nowhere"},
    "usetex": {"MATPLOTLIBRC": b"text.usetex: True\n"},
    "a style": {
        "MATPLOTLIBRC": b"figure.facecolor: red\nsavefig.bbox: tight\nsavefig.dpi: 20\n"
        b"svg.fonttype: none\nbackend: TkAgg\nfont.size: 30\n"
    },
    "a matplotlibrc that is none": {"MATPLOTLIBRC": b"nonsense: 1\nfont.size: big \xe4\n"},
    "64 bits": {"JAX_ENABLE_X64": "1"},
    "no jit": {"JAX_DISABLE_JIT": "1"},
    "cpu": {"JAX_PLATFORMS": "cpu"},
    "no platform": {"JAX_PLATFORMS": ""},
    "other devices": {"JAX_NUM_CPU_DEVICES": "3"},
    "other devices by XLA": {"XLA_FLAGS": "--xla_force_host_platform_device_count=5"},
    "a file of flags that is not there": {"XLA_FLAGS": "/no/such/file"},
    "nans raise": {"JAX_DEBUG_NANS": "1"},
    "promotion": {
        "JAX_NUMPY_RANK_PROMOTION": "raise", "JAX_NUMPY_DTYPE_PROMOTION": "strict"
    },
    "another generator": {"JAX_DEFAULT_PRNG_IMPL": "rbg"},
    "no transfers": {"JAX_TRANSFER_GUARD": "disallow"},
    "leaks": {"JAX_CHECK_TRACER_LEAKS": "1"},
    "no GPU": {"CUDA_VISIBLE_DEVICES": "-1"},
    "frozen dictionaries": {"FLAX_RETURN_FROZENDICT": "1"},
    "no place for JAX's cache": {"JAX_COMPILATION_CACHE_DIR": "/proc/nowhere"},
    "ASCII": {"PYTHONIOENCODING": "ascii"},
    "Windows": {"PYTHONIOENCODING": "cp1252"},
    "the C locale": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "POSIX": {"LC_ALL": "POSIX"},
    "warnings raise": {"PYTHONWARNINGS": "error"},
    "no docstrings": {"PYTHONOPTIMIZE": "2"},
    "unbuffered": {"PYTHONUNBUFFERED": "1"},
    "a strange terminal": {"COLUMNS": "0", "LINES": "x", "TERM": "dumb"},
    "a time zone": {"TZ": "Nowhere/Nothing"},
    "no home": {"HOME": None},
    "a home that is not there": {"HOME": "/nonexistent"},
    "no temporary directory": {"TMPDIR": "/nonexistent"},
    "no XDG": {"XDG_CACHE_HOME": "/proc/nowhere", "XDG_CONFIG_HOME": "/proc/nowhere"},
}  # fmt: skip

REFUSED = {
    "a platform that is not there": ({"JAX_PLATFORMS": "nonsense"}, "JAX_PLATFORMS=nonsense"),
    "a platform that JAX knows": ({"JAX_PLATFORMS": "tpu"}, "JAX_PLATFORMS=tpu"),
    "a platform without its plugin": ({"JAX_PLATFORM_NAME": "gpu"}, "JAX_PLATFORM_NAME=gpu"),
    "neither true nor false": ({"JAX_ENABLE_X64": "maybe"}, "JAX_ENABLE_X64"),
    "no number": ({"JAX_NUM_CPU_DEVICES": "many"}, "jax_num_cpu_devices"),
    "no precision": ({"JAX_DEFAULT_MATMUL_PRECISION": "nonsense"}, "nonsense"),
    "Flax's own": ({"FLAX_PROFILE": "maybe"}, "FLAX_PROFILE"),
    "a flag that XLA does not have": ({"XLA_FLAGS": "--nonsense=1"}, "XLA_FLAGS=--nonsense=1"),
    "no value of XLA": ({"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=perhaps"}, "perhaps"),
}

SHELL = {
    "head": "COMMAND | head -n 1",
    "a reader that is gone": "COMMAND 2>&1 | true",
    "a full disk behind stdout": "COMMAND >/dev/full",
    "a full disk behind stderr": "COMMAND 2>/dev/full",
    "full disks": "COMMAND >/dev/full 2>/dev/full",
    "no stdout": "COMMAND >&-",
    "no stderr": "COMMAND 2>&-",
    "no streams": "COMMAND <&- >&- 2>&-",
    "a directory that is gone": "mkdir gone; cd gone; rmdir ../gone; COMMAND",
    "few files": "ulimit -n 64; COMMAND",
    "a mask": "umask 077; COMMAND",
    "a small stack": "ulimit -s 512; COMMAND",
}
STARTED = (
    "import sys; import jax; jax.config.update('jax_platforms', 'cpu'); jax.devices(); "
    "from lth_flax import cli; from lth_flax.config import Config; "
    "from lth_flax.experiments import winning_ticket; "
    "winning_ticket.main(cli.parse(Config, sys.argv[1:]))"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("surroundings")


def run(place, name, variables=ALONE, shell="COMMAND", code=None):
    """The finished command and its work directory."""
    here = place / name.replace(" ", "_")
    here.mkdir()
    environment = {n: v for n, v in os.environ.items() if not n.startswith(OURS)}
    environment["PYTHONPATH"] = str(ROOT)
    for variable, value in variables.items():
        environment.pop(variable, None)
        if isinstance(value, bytes):
            (here / "matplotlibrc").write_bytes(value)
            value = str(here / "matplotlibrc")
        if value is not None:
            environment[variable] = value
    work, cache = here / "run", place / "cache"
    arguments = [*(["-c", code, *RUN[2:]] if code else RUN), f"--work_dir={work}"]
    done = subprocess.run(
        ["bash", "-c", shell.replace("COMMAND", '"$@"'), "bash", sys.executable, *arguments,
         f"--cache_dir={cache}"],
        cwd=here, env=environment, capture_output=True, text=True, errors="replace", check=False,
        timeout=600,
    )  # fmt: skip
    return done, work


def outputs(work):
    return [
        (work / name).read_bytes()
        for name in ("records.csv", "curves.csv", "report/learning.png", "report/learning.svg")
    ]


@pytest.fixture(scope="module")
def expected(place):
    done, work = run(place, "plain")
    assert (done.returncode, done.stderr) == (0, "")
    return outputs(work)


def check(done, work, expected):
    assert "Traceback" not in done.stderr
    if done.returncode:
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert not work.exists()
    else:
        assert outputs(work) == expected


@pytest.mark.exhaustive(sample=2)
@pytest.mark.parametrize("name", VARIABLES)
def test_variables(place, expected, name):
    done, work = run(place, name, VARIABLES[name])
    check(done, work, expected)
    assert done.returncode == 0, done.stderr


@pytest.mark.exhaustive(sample=2)
@pytest.mark.parametrize("name", SHELL)
def test_streams_and_limits(place, expected, name):
    done, work = run(place, name, shell=SHELL[name])
    check(done, work, expected)


@pytest.mark.slow
def test_where_jax_has_started_it_uses_what_is_there_and_says_so(place, expected):
    done, work = run(place, "started", code=STARTED)
    assert (done.returncode, done.stderr) == (0, "")
    # The same networks; in other last bits, as XLA was started with other flags.
    rows = [
        {record.row_id for record in read_records(p / "records.csv")}
        for p in (work, place / "plain" / "run")
    ]
    assert rows[0] == rows[1]
    machine = json.loads((work / "provenance.json").read_text(encoding="utf-8"))["machine"]
    assert machine["xla_flags"] == ""
    assert len(machine["devices"]) == 1


@pytest.mark.exhaustive(sample=1)
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_one_line_that_names_it(place, name):
    variables, word = REFUSED[name]
    done, work = run(place, name, variables)
    assert done.returncode == 2
    check(done, work, None)
    assert word in done.stderr


@pytest.mark.exhaustive(sample=1)
@pytest.mark.parametrize(
    ("variables", "shell"),
    [
        ({"MPLBACKEND": "nonsense"}, "COMMAND --help"),
        ({"PYTHONIOENCODING": "ascii"}, "COMMAND --help"),
        ({"PYTHONOPTIMIZE": "2"}, "COMMAND --help"),
        ({"HOME": None}, "COMMAND --help"),
        ({}, "set -o pipefail; COMMAND --help | head -n 2"),
        ({}, "COMMAND --help >&-"),
        ({}, "COMMAND --help 2>&-"),
    ],
)
def test_help_is_always_there(tmp_path, variables, shell):
    done, _ = run(tmp_path, "help", variables, shell)
    assert (done.returncode, done.stderr) == (0, "")
    if ">&-" not in shell.replace("2>&-", ""):
        assert done.stdout
