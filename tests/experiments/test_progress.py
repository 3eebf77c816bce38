"""A log hears of a run while a long table trains; a terminal has the bar."""

import pytest

from lth_flax.runs import progress
from lth_flax.runs.progress import QUIET_SECONDS, Progress


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
    found.end(8)
    clock[0] += 60
    found.begin("95.0%")
    found.advance(200)  # soon after: no line
    found.end(2)
    found.close()
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "90.0%: 40% of all steps after 10.0 min",
        "90.0%: 80% of all steps after 20.0 min",
        "90.0%: 8 of 10 replicates after 20.0 min",
        "95.0%: 10 of 10 replicates after 21.0 min",
    ]
    assert captured.err == ""


def test_a_terminal_has_a_bar_and_no_lines(clock, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    found = Progress(rows=10, steps=1000, bar=True)
    found.begin("90.0%")
    clock[0] += 2 * QUIET_SECONDS
    found.advance(500)
    found.end(10)
    found.close()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "90.0%" in captured.err
    assert "500/1.00k" in captured.err
