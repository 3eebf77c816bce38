"""Printing never ends a command; what an encoding lacks is written plainly."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lth_flax import streams
from lth_flax.__main__ import PARTS, commands

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = """
import sys
from lth_flax.streams import unfailing
with unfailing():
    for _ in range(2000):
        print("ticket − reinit: 1 ± 2 … ≥ 3")
    print("a warning ±", file=sys.stderr)
    open("done", "w").close()
"""
FULL = "warning: output is lost (No space left on device), nothing else; files are written as ever"


def run(place, shell, code=PROGRAM, **variables):
    return subprocess.run(
        ["bash", "-c", shell.replace("PYTHON", '"$@"'), "bash", sys.executable, "-c", code],
        cwd=place, env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8",
                        **variables},
        capture_output=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("shell", "said"),
    [
        ("PYTHON >/dev/null", ["a warning ±"]),
        ("PYTHON >/dev/full", ["a warning ±", FULL]),  # once, however much is lost
        ("PYTHON 2>/dev/full >/dev/null", []),
        ("PYTHON >/dev/full 2>&1", []),
        ("PYTHON >&-", ["a warning ±"]),
        ("PYTHON 2>&- >/dev/null", []),
        ("PYTHON <&- >&- 2>&-", []),
        ("set -o pipefail; PYTHON | head -n 1 >/dev/null", ["a warning ±"]),
        ("set -o pipefail; PYTHON 2>&1 | head -n 1 >/dev/null", []),
    ],
)
def test_a_stream_that_takes_nothing_ends_nothing(tmp_path, shell, said):
    done = run(tmp_path, shell)
    assert done.stderr.decode().splitlines() == said
    assert done.returncode == 0
    assert (tmp_path / "done").exists()


@pytest.mark.parametrize(
    ("encoding", "line"),
    [
        ("utf-8", "ticket − reinit: 1 ± 2 … ≥ 3"),
        ("ascii", "ticket - reinit: 1 +- 2 ... ? 3"),
        ("cp1252", "ticket - reinit: 1 ± 2 … ? 3"),
        ("latin-1", "ticket - reinit: 1 ± 2 ... ? 3"),
    ],
)
def test_what_an_encoding_lacks_is_written_plainly(tmp_path, encoding, line):
    done = run(tmp_path, "PYTHON", PYTHONIOENCODING=encoding)
    assert done.returncode == 0
    assert done.stdout.decode(encoding).splitlines()[0] == line


def test_a_file_is_never_opened_where_stderr_was(tmp_path):
    code = """
import os
from lth_flax.streams import unfailing
with unfailing():
    with open("records", "w") as file:
        os.write(2, b"words of a library")
        file.write("1,2,3")
"""
    assert run(tmp_path, "PYTHON 2>&-", code).returncode == 0
    assert (tmp_path / "records").read_text() == "1,2,3"


def test_a_pipe_that_does_not_wait_loses_nothing(tmp_path):
    code = """
import os
os.set_blocking(1, False)
from lth_flax.streams import unfailing
with unfailing():
    print("x" * 300_000)
"""
    done = run(tmp_path, "PYTHON | (sleep 1; wc -c)", code)
    assert done.stdout.split() == [b"300001"], done.stderr


def test_a_command_whose_answer_is_what_it_prints_can_ask_what_was_lost(tmp_path):
    code = """
import sys
from lth_flax.streams import fail, lost_output, unfailing
with unfailing():
    print("answer")
    if reason := lost_output():
        fail(f"the answers cannot be written ({reason})")
    print(sys.stdin.read(), file=sys.stderr, end="")
"""
    done = run(tmp_path, "PYTHON >/dev/full", code)
    assert done.returncode == 2
    assert done.stderr == b"error: the answers cannot be written (No space left on device)\n"
    for shell in ("PYTHON <&- >&-", "set -o pipefail; PYTHON </dev/null | true"):
        done = run(tmp_path, shell, code)
        assert (done.returncode, done.stderr) == (0, b"")


def test_streams_that_others_put_in_place_stay(capsys):
    before = sys.stdout
    with streams.unfailing():
        assert sys.stdout is before
        print("here")
    assert capsys.readouterr().out == "here\n"


def lth_flax(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "lth_flax", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_package_lists_its_commands():
    done = lth_flax()
    assert done.returncode == 0
    for part in PARTS:
        for name, words in commands(part):
            assert len(words) > 20
            assert any(line.split() == [name, *words.split()] for line in done.stdout.splitlines())
    found = {name for name, _ in commands("experiments")}
    assert {"winning_ticket", "retrain_ticket", "sweep"} <= found
    assert "sweep_task" not in found  # a process of the sweep's, no command


@pytest.mark.parametrize(
    ("argument", "remedy"),
    [
        ("winning_ticket", "run python -m lth_flax.experiments.winning_ticket"),
        ("lth_flax.analysis.report", "run python -m lth_flax.analysis.report"),
        ("nonsense", "without, it lists the commands"),
    ],
)
def test_a_name_is_told_how_it_is_run(argument, remedy):
    done = lth_flax(argument, "--seeds=3")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(f"{argument!r}: {remedy}\n")
