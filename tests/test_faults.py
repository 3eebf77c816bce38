"""Signals, a second writer, a disk that is full: one line, and what was there stays valid."""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kill_resume import RUN, check, finish, outputs, start, wait_for_training

from lth_flax.analysis.blocks import read_provenance
from lth_flax.errors import UserError
from lth_flax.files import remove_temporaries
from lth_flax.runs.workdir import check_identity, lock_work_dir

ROOT = Path(__file__).resolve().parents[1]

# Runs a command whose files may not grow past so many bytes.
LIMITED = """
import os, resource, sys
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def expected(place):
    """What a run leaves that nothing happened to; its programs are compiled for all others."""
    finish(start(place / "whole"))
    return outputs(place / "whole")


def one_line(stderr):
    lines = [line for line in stderr.splitlines() if line]
    assert len(lines) == 1, stderr
    return lines[0]


@contextlib.contextmanager
def inherited(signum, handler):
    """Inside, processes start with a signal ignored, or not."""
    before = signal.signal(signum, handler)
    yield
    signal.signal(signum, before)


@pytest.mark.exhaustive(sample=2)  # each takes three runs
@pytest.mark.parametrize(
    "signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGXCPU]
)
def test_a_signal_saves_says_how_to_go_on_and_ends_within_ten_seconds(place, expected, signum):
    with inherited(signum, signal.SIG_DFL):  # these tests may run under nohup themselves
        process = start(place / signum.name)
    wait_for_training(process)
    time.sleep(1.0)
    process.send_signal(signum)
    sent = time.monotonic()
    _, stderr = process.communicate(timeout=60)
    assert time.monotonic() - sent < 10
    assert process.returncode == 128 + signum
    line = one_line(stderr)
    assert signum.name in line
    assert "the same command continues" in line
    assert finish(start(place / signum.name)) == ""
    check(place / signum.name, expected)


@pytest.mark.slow
def test_under_nohup_a_closed_terminal_ends_nothing(place, expected):
    with inherited(signal.SIGHUP, signal.SIG_IGN):
        process = start(place / "nohup")
    wait_for_training(process)
    process.send_signal(signal.SIGHUP)
    assert finish(process) == ""
    check(place / "nohup", expected)


@pytest.mark.slow
def test_a_second_signal_ends_at_once(place, expected):
    process = start(place / "twice")
    wait_for_training(process)
    # Both are waiting before the process next runs: nothing can be saved between them.
    process.send_signal(signal.SIGSTOP)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    sent = time.monotonic()
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=60)
    assert time.monotonic() - sent < 5
    assert process.returncode in (128 + signal.SIGINT, 128 + signal.SIGTERM)
    finish(start(place / "twice"))
    check(place / "twice", expected)


@pytest.mark.slow
def test_the_second_of_two_processes_on_one_directory_is_refused(place, expected):
    first = start(place / "two")
    wait_for_training(first)
    second = start(place / "two")
    _, stderr = second.communicate(timeout=120)
    assert second.returncode == 2
    line = one_line(stderr)
    assert f"process {first.pid}" in line
    assert "in use" in line
    finish(first)
    check(place / "two", expected)


def test_a_lock_that_a_dead_process_left_is_none(tmp_path):
    (tmp_path / "lock").write_text("process 1 on another machine\n")
    with lock_work_dir(tmp_path) as held:
        with pytest.raises(UserError, match=f"process {os.getpid()}"):
            lock_work_dir(tmp_path)
        assert not held.closed
    lock_work_dir(tmp_path).close()


LEFT = [".flags.txt", ".provenance.json", "report/.report.html", "tickets/seed_0/.x"]


def test_what_a_killed_write_left_is_taken_away(tmp_path):
    left = [tmp_path / f"{name}.0123456789abcdef.tmp" for name in LEFT]
    mine = [tmp_path / name for name in ("report/.notes.tmp", "flags.txt", "report/.0123.tmp")]
    for file in (*left, *mine):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"half")
    remove_temporaries(tmp_path)
    assert not any(path.exists() for path in left)
    assert [path.read_bytes() for path in mine] == [b"half"] * len(mine)


@pytest.mark.slow
def test_a_run_begins_where_one_was_killed_that_wrote_its_first_file(place, expected):
    # There is a directory with nothing else in it.
    left = place / "early" / "run" / f"{LEFT[0]}.0123456789abcdef.tmp"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    finish(start(place / "early"))
    assert not left.exists()
    check(place / "early", expected)


def test_a_lock_that_cannot_be_is_one_line(tmp_path):
    (tmp_path / "lock").mkdir()
    with pytest.raises(UserError, match=r"lock: Is a directory\): give a directory"):
        lock_work_dir(tmp_path)


def test_a_lock_whose_holder_is_not_text(tmp_path):
    with open(tmp_path / "lock", "wb") as held:
        held.write(b"\xff\xfe\n")
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="in use"):
            lock_work_dir(tmp_path)


NOW = {"data": {"data fingerprint": "ours"}, "code": {"lth_flax.pruning.scores": "1"}}


@pytest.mark.parametrize(
    ("provenance", "words"),
    [
        ("[" * 100_000, None),
        ("[]", None),
        ("{}", None),
        ('{"identity": {"data": {"data fingerprint": "ours"}}}', None),
        ('{"finished": true}', "does not say what code"),
        ('{"data": {"fingerprint": "ours"}, "finished": true}', "does not say what code"),
        ('{"identity": {"data": {"data fingerprint": 5}}}', "does not say what code"),
        ('{"identity": [{}]}', "does not say what code"),
        (
            '{"identity": {"data": {"data fingerprint": "theirs"}, "more": {}}}',
            r"with other data fingerprint \(theirs there, ours now\): give another",
        ),
        ('{"identity": {"code": {}}}', r"with other code \(pruning.scores\): give another"),
    ],
)
def test_what_provenance_says_may_be_anything(tmp_path, provenance, words):
    (tmp_path / "provenance.json").write_text(provenance)
    before = read_provenance(tmp_path)
    if words is None:
        check_identity(tmp_path, before, NOW)
        return
    with pytest.raises(UserError, match=words):
        check_identity(tmp_path, before, NOW)


# The first file does not fit, or a checkpoint in the middle of training; and what lies between and
# after: `test_full_disk.py` has the writers at every size.
SIZES = [pytest.param(size, marks=pytest.mark.slow) for size in (1, 24)]
SIZES += [pytest.param(size, marks=pytest.mark.exhaustive) for size in (4, 12, 60, 150)]


@pytest.mark.parametrize("kilobytes", SIZES)
def test_a_full_disk_is_one_line_and_what_was_saved_still_counts(place, expected, kilobytes):
    """No file may grow past a limit: writes fail as on a full disk, each kind at its own size."""
    directory = place / f"full_{kilobytes}"
    directory.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(1024 * kilobytes), sys.executable, "-m", *RUN],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 2, done.stderr
    line = one_line(done.stderr)
    assert line.startswith("error: ")
    assert "File too large" in line
    assert not list(directory.rglob("*.tmp"))
    # With room again the same command goes on.
    finish(start(directory))
    check(directory, expected)
