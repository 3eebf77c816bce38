"""A log hears of a run while a long table trains; a terminal has the bar."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from lth_flax.runs import progress, run
from lth_flax.runs.progress import QUIET_SECONDS, Progress
from lth_flax.runs.results import Entry


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress, "perf_counter", lambda: now[0])
    return now


def test_a_log_has_a_line_for_a_table_and_no_silence_within(clock, capsys):
    found = Progress(rows=10, steps=1000, bar=False)
    found.begin("90.0%")
    for _ in range(8):
        clock[0] += QUIET_SECONDS / 4
        found.advance(100)
    found.finished(8)
    found.end()
    clock[0] += 60
    found.begin("95.0%")
    found.advance(200)  # soon after: no line
    found.finished(2)
    found.end()
    found.close()
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "90.0%: 40% of all steps after 10.0 min",
        "90.0%: 80% of all steps after 20.0 min",
        "90.0%: 8 of 10 replicates after 20.0 min",
        "95.0%: 10 of 10 replicates after 21.0 min",
    ]
    assert captured.err == ""


@pytest.mark.parametrize(
    ("arms", "levels", "name"),
    [
        ("dense", [0.0], "dense"),
        ("ticket", [0.5], "50.0%"),
        ("ticket reinit", [0.5, 0.9], "2 levels"),
        ("snip", [0.5, 0.9], "snip, 2 levels"),
    ],
)
def test_a_table_is_named_by_its_levels_and_whose_they_are(arms, levels, name):
    entries = [Entry(arm, None, target_sparsity=x) for arm in arms.split() for x in levels]
    assert run._table_name(entries) == name


def test_a_terminal_has_a_bar_and_no_lines(clock, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    found = Progress(rows=10, steps=1000, bar=True)
    found.begin("90.0%")
    clock[0] += 2 * QUIET_SECONDS
    found.advance(500)
    found.finished(10)
    found.end()
    found.close()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "90.0%:  50% |" in captured.err
    assert "10 of 10 replicates" in captured.err


def screen(output):
    """The lines that a terminal shows after this output, and every state that its lines had."""
    lines, states, column = [""], set(), 0
    for character in output:
        if character == "\n":
            lines, column = [*lines, ""], 0
        elif character == "\r":
            column = 0
        elif character == "\x1b":
            raise AssertionError("nothing here needs more than a carriage return")
        else:
            lines[-1] = lines[-1][:column].ljust(column) + character + lines[-1][column + 1 :]
            column += 1
        if character in "\r\n":
            states |= {line.rstrip() for line in lines}
    return [line.rstrip() for line in lines if line.strip()], states


RUN = """
import sys
from lth_flax.runs.progress import Progress
from lth_flax.streams import fail, unfailing
with unfailing():
    found = Progress(rows=4, steps=400, bar=True)
    print("synthetic: 2,800 train texts")
    found.begin("dense")
    found.advance(100)
    print("a warning from elsewhere", file=sys.stderr)
    found.finished(1)
    found.end()
    found.begin("50.0%")
    found.advance(200)
    print("two", "words", flush=True)
    if "fail" in sys.argv:
        fail("the disk is full")
    found.close()
    print("the answer")
"""


def on_terminal(columns, *arguments):
    """What `RUN` writes to a terminal of that width, and its exit status."""
    reader, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, *arguments], stdout=terminal, stderr=terminal, stdin=terminal,
        env={**os.environ, "PYTHONPATH": str(root), "PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    os.close(terminal)
    output = b""
    while True:
        try:
            part = os.read(reader, 65536)
        except OSError:  # Linux: the other end is closed
            break
        if not part:
            break
        output += part
    os.close(reader)
    return output.decode(), process.wait(timeout=60)


@pytest.mark.parametrize("ending", [[], ["fail"]])
def test_nothing_is_printed_into_the_bar(ending):
    output, status = on_terminal(100, *ending)
    assert status == (2 if ending else 0)
    lines, states = screen(output)
    last = "error: the disk is full" if ending else "the answer"
    said = ["synthetic: 2,800 train texts", "a warning from elsewhere", "two words", last]
    assert lines == said
    bars = states - set(said) - {""}
    whole = r"(\S+: )?\s*\d+% \|.*\| .*steps/s, .* left, [014] of 4 replicates"
    assert len(bars) >= 3
    assert not [bar for bar in bars if not re.fullmatch(whole, bar)]


def test_a_terminal_without_a_width_has_lines():
    output, status = on_terminal(0)
    assert status == 0
    lines, _ = screen(output)
    assert "dense: 1 of 4 replicates after 0.0 min" in lines
