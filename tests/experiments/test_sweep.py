"""Sweeps: what they are made of, and a real one whose processes are killed in the middle."""

import importlib.util
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import commands
import pytest

from lth_flax import cli
from lth_flax.analysis import report
from lth_flax.config import Config, SweepConfig, settings_of
from lth_flax.data.dataset import build_dataset
from lth_flax.data.sources import load_source
from lth_flax.errors import UserError
from lth_flax.experiments import sweep, sweep_ray, sweep_task
from lth_flax.experiments.sweep import Cell, Task, cells_of, plan, seed_blocks
from lth_flax.experiments.sweep_ray import Job, Resources, run_job
from lth_flax.experiments.sweep_task import take_cores, wait_for_directory

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ("records.csv", "curves.csv", "predictions.npz")

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is in the extra sweep"
)


# Planning. ----------------------------------------------------------------------------


def as_text(name, text):
    return text


def test_a_grid_is_every_combination_the_last_flag_first():
    cells = cells_of(["num_layers=2,4", "optimizer=adam,sgd"], as_text)
    assert [cell.values for cell in cells] == [
        (("num_layers", layers), ("optimizer", optimizer))
        for layers, optimizer in itertools.product(["2", "4"], ["adam", "sgd"])
    ]
    assert cells[1].name == "num_layers=2,optimizer=sgd"
    assert cells_of([], as_text) == [Cell("", ())]


def test_a_value_is_a_name_of_one_directory():
    (one, other) = cells_of(["dataset=a/../b,a%2Fb"], as_text)
    assert "/" not in one.name + other.name
    assert one.name != other.name


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        (["num_layers"], ["--grid=num_layers", "NAME=VALUE"]),
        (["=2,4"], ["NAME=VALUE"]),
        (["num_layers="], ["NAME=VALUE"]),
        (["num_layers=2,,4"], ["num_layers=2,,4", "NAME=VALUE"]),
        (["num_layers=2", "num_layers=4"], ["num_layers twice"]),
        (["epochs=2,3,2"], ["2 twice"]),
    ],
)
def test_grids_that_cannot_be(grid, words):
    with pytest.raises(UserError) as refused:
        cells_of(grid, as_text)
    assert all(word in str(refused.value) for word in words)


@pytest.mark.parametrize(
    ("seeds", "size", "expected"),
    [
        (range(4), 2, [range(2), range(2, 4)]),
        (range(3, 8), 2, [range(3, 5), range(5, 7), range(7, 8)]),
        (range(2), 5, [range(2)]),
    ],
)
def test_blocks_hold_every_seed_once(seeds, size, expected):
    assert seed_blocks(seeds, size) == expected


def test_a_task_is_a_cell_and_a_block():
    tasks = plan(cells_of(["num_layers=2,4"], as_text), seed_blocks(range(4), 2))
    assert [task.name for task in tasks] == [
        f"num_layers={layers}/seeds_{seeds}" for layers in (2, 4) for seeds in ("0_2", "2_4")
    ]
    # The last value of a flag counts: what was given comes first.
    assert tasks[3].arguments(["--num_layers=3"]) == [
        "--num_layers=3", "--num_layers=4", "--seeds=2:4",
    ]  # fmt: skip
    (alone,) = plan(cells_of([], as_text), [range(5)])
    assert alone == Task("seeds_0_5", Cell("", ()), range(5))


def test_no_flag_has_a_name_that_reads_as_switched_off():
    # flags.txt has --nox for x that is off, and what reads it knows no flags.
    assert not [name for name in settings_of(SweepConfig) if name.startswith("no")]


def test_resources_are_said():
    assert str(Resources(1, 0.0)) == "1 core and no GPU"
    assert str(Resources(4, 0.5)) == "4 cores and 0.5 GPU"


# A task on its worker; without Ray. -------------------------------------------------------


@pytest.mark.slow
def test_a_task_that_has_a_bug_ends_with_its_last_word(tmp_path):
    log = tmp_path / "logs" / "task.txt"
    job = Job("task", str(tmp_path / "run"), str(log), "no_such", [], str(ROOT), {})
    for _ in range(2):  # the log grows, the last word is of now
        ended = run_job(job, Resources(1, 0.0))
        assert ended.status == 1
        assert "no_such" in ended.line
    assert log.read_text().count("--- task on") == 2


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin")
def test_tasks_take_cores_that_no_other_has(tmp_path, monkeypatch):
    before = os.sched_getaffinity(0)
    monkeypatch.setattr(sweep_task, "WAIT_SECONDS", 0.0)
    held, taken = [], []
    try:
        for _ in range(len(before) + 1):
            held.append(take_cores(1, tmp_path))
            taken.append(os.sched_getaffinity(0))
            os.sched_setaffinity(0, before)
        assert sorted(map(tuple, taken[:-1])) == [(core,) for core in sorted(before)]
        assert held[-1] == []  # none is left: it shares one
        assert len(taken[-1]) == 1
        held[0][0].close()
        held.append(take_cores(1, tmp_path))
        assert len(held[-1]) == 1
    finally:
        os.sched_setaffinity(0, before)
        for file in itertools.chain(*held):
            file.close()


def test_no_directory_needs_no_waiting(tmp_path):
    wait_for_directory(tmp_path / "run")
    assert not (tmp_path / "run").exists()


# What a sweep refuses, before there is a Ray or a directory. ---------------------------


@pytest.fixture
def refuse(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        with pytest.raises(UserError) as refused:
            sweep.main(cli.parse(SweepConfig, arguments))
        assert list(tmp_path.iterdir()) == []
        assert "\n" not in str(refused.value)
        return str(refused.value)

    return run


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ("nosuchflag=1", ["unknown flag 'nosuchflag'"]),
        ("seeds_per_task=1,2", ["unknown flag 'seeds_per_task'"]),
        ("work_dir=a,b", ["cannot name work_dir"]),
        ("num_seeds=4,8", ["cannot name num_seeds", "--seeds"]),
        ("num_layers=0,2", ["num_layers", "'0'", "from 1"]),
        ("schedule=oneshot,sometimes", ["schedule", "'sometimes'", "iterative"]),
        ("learning_rate=0.1,1e-1", ["1e-1 twice"]),
    ],
)
def test_a_grid_of_flags_that_cannot_be(grid, words, refuse):
    message = refuse(f"--grid={grid}")
    assert all(word in message for word in words), message


@pytest.mark.slow
@pytest.mark.parametrize("address", ["here", "1.2.3.4:", "1.2.3.4:http", "1.2.3.4:99999"])
@needs_ray
def test_an_address_that_is_none(address, refuse):
    assert "expected HOST:PORT" in refuse(f"--ray_address={address}")


def test_without_ray_the_extra_is_named(refuse, monkeypatch):
    monkeypatch.setattr(sweep_ray.importlib.util, "find_spec", lambda name: None)
    assert "lth_flax[sweep]" in refuse()


def start(place, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "lth_flax.experiments.sweep", *arguments],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@needs_ray
def test_a_ray_that_does_not_answer_is_one_line_within_twenty_seconds(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        ports = [one.getsockname()[1] for one in (silent, closed)]
        begun = time.monotonic()
        runs = [start(tmp_path, f"--ray_address=127.0.0.1:{port}") for port in ports]
        for port, run in zip(ports, runs, strict=True):
            _, stderr = run.communicate(timeout=60)
            assert run.returncode == 2
            assert stderr.startswith(f"error: --ray_address=127.0.0.1:{port} does not answer")
            assert stderr.count("\n") == 1
        # Python and JAX have to start before it counts; on a busy machine that takes a while.
        assert time.monotonic() - begun < 20 + 20
    assert list(tmp_path.iterdir()) == []


# A real one. ---------------------------------------------------------------------------

TINY = [
    "--dataset=csv", "--data_file=texts.csv", "--text_column=text", "--label_column=label",
    "--hidden_size=6", "--embedding_size=6", "--num_layers=2", "--num_seeds=4",
    "--levels=0.3,0.6", "--arms=ticket,reinit", "--epochs=3", "--batch_size=32",
    "--max_shapes=1", "--checkpoint_minutes=0", "--cache_dir=cache", "--noprogress",
    "--noreport",
]  # fmt: skip


def write_texts(path):
    """Most words are rare, so that every seed's training texts have another number of them."""
    rng = random.Random(0)
    words = [f"w{int(rng.paretovariate(0.7))}" for _ in range(5000)]
    lines = ["text,label"]
    for number in range(300):
        text = [rng.choice(words) for _ in range(rng.randint(4, 12))]
        text[rng.randrange(len(text))] = ("bad", "good")[number % 2]
        lines.append(f"{' '.join(text)},{number % 2}")
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Texts, and one process that has run all seeds: `whole`."""
    place = tmp_path_factory.mktemp("sweep")
    write_texts(place / "texts.csv")
    whole = "lth_flax.experiments.winning_ticket", *TINY, "--work_dir=whole"
    assert commands.run(*whole, cwd=place).returncode == 0
    return place


def wait_until(found, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not (result := found()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return result


def in_training(place, number):
    """The processes of the first tasks that have trained a table and have not come to an end."""
    found = {}
    for log in sorted(place.glob("sweep/logs/*.txt")):
        block = place / "sweep" / "blocks" / log.stem
        if "dense: 1 of" in log.read_text().rpartition("--- task on")[2]:
            pid = int((block / "lock").read_text().split()[1])
            if not (block / "summary.json").exists():
                found[log.stem] = pid
    return found if len(found) >= number else {}


def parent_of(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module")
def swept(place):
    """A sweep of two workers: one task is killed, one worker, and the sweep itself is stopped."""
    if not Path("/proc").is_dir():
        pytest.skip("the processes of a sweep are found in /proc, which this system lacks")
    command = [*TINY, "--work_dir=sweep", "--seeds_per_task=1"]
    run = start(place, *command)
    first = wait_until(lambda: in_training(place, 1), run)
    task, pid = next(iter(first.items()))
    os.kill(pid, signal.SIGKILL)
    others = wait_until(
        lambda: {name: pid for name, pid in in_training(place, 1).items() if name != task}, run
    )
    pid = next(iter(others.values()))
    worker = parent_of(pid)
    assert "ray" in Path(f"/proc/{worker}/cmdline").read_text()
    os.kill(worker, signal.SIGKILL)
    # With its worker the training ends, and does not hold the directory.
    wait_until(lambda: not is_alive(pid), run, seconds=10)
    logs = place / "sweep" / "logs"
    wait_until(
        lambda: sum(p.read_text().count("--- task on") > 1 for p in logs.glob("*.txt")) == 2, run
    )
    wait_until(lambda: list(place.glob("sweep/blocks/*/summary.json")), run)
    run.send_signal(signal.SIGTERM)
    sent = time.monotonic()
    said, stderr = run.communicate(timeout=60)
    assert time.monotonic() - sent < 12
    assert run.returncode == 128 + signal.SIGTERM
    assert len(stderr.strip().splitlines()) == 1
    assert "the same command continues" in stderr
    assert said.count(" goes on ") == 2
    again = start(place, *command)
    stdout, stderr = again.communicate(timeout=300)
    assert again.returncode == 0, stderr
    assert stderr == ""
    return place / "sweep", stdout


@pytest.mark.slow
def test_seeds_of_these_texts_have_vocabularies_of_different_sizes(place):
    config = Config(
        dataset="csv", data_file=str(place / "texts.csv"), text_column="text", label_column="label",
        max_shapes=1, batch_size=32,
    )  # fmt: skip
    source = load_source(config)
    blocks = [build_dataset(source, seeds, config) for seeds in (range(4), [0], [3], [40])]
    assert len({len(words) for words in blocks[0].vocabularies.values()}) > 1
    assert len({block.vocabulary_size for block in blocks}) == 1


@pytest.mark.slow
@needs_ray
def test_killed_and_stopped_a_sweep_has_the_bytes_of_one_run(swept, place):
    directory, _ = swept
    for name in (*RESULTS, "summary.json"):
        assert (directory / name).read_bytes() == (place / "whole" / name).read_bytes(), name
    provenance = json.loads((directory / "provenance.json").read_text())
    assert provenance["finished"]
    assert len(provenance["blocks"]) == 4
    assert "--seeds_per_task=1" in (directory / "flags.txt").read_text()
    assert not list(directory.rglob("checkpoints"))


@pytest.mark.slow
@needs_ray
def test_what_is_done_is_not_run_again(swept, place):
    directory, said = swept
    assert "0 done before" not in said
    before = {p: p.stat().st_mtime_ns for p in (directory / "blocks").rglob("*") if p.is_file()}
    run = start(place, *TINY, "--work_dir=sweep", "--seeds_per_task=1", "--cpus_per_task=2")
    stdout, stderr = run.communicate(timeout=120)
    assert (run.returncode, stderr) == (0, "")
    assert "4 done before" in stdout
    assert " begins " not in stdout
    assert before == {
        p: p.stat().st_mtime_ns for p in (directory / "blocks").rglob("*") if p.is_file()
    }


@pytest.mark.slow
@needs_ray
def test_a_sweep_of_other_flags_is_refused(swept, place, refuse):
    arguments = [*TINY, f"--work_dir={place / 'sweep'}"]
    assert "--seeds_per_task (1 there, 2 now)" in refuse(*arguments, "--seeds_per_task=2")


@pytest.mark.slow
@needs_ray
def test_its_blocks_merge_by_hand(swept, place, tmp_path, capsys):
    blocks = [str(path) for path in sorted((place / "sweep" / "blocks").iterdir())]
    assert report.main([f"--out={tmp_path / 'two'}", *blocks[2:]]) == 0
    # A merged directory is a block as well.
    assert report.main([f"--out={tmp_path / 'all'}", str(tmp_path / "two"), *blocks[:2]]) == 0
    for name in RESULTS:
        whole = (place / "whole" / name).read_bytes()
        assert (tmp_path / "all" / name).read_bytes() == whole, name
    flags = (tmp_path / "all" / "flags.txt").read_text().splitlines()
    expected = (place / "whole" / "flags.txt").read_text().splitlines()
    expected[expected.index("--work_dir=whole")] = f"--work_dir={tmp_path / 'all'}"
    assert [line for line in flags if "platform" not in line] == [
        line for line in expected if "platform" not in line
    ]
    capsys.readouterr()
    assert report.main([f"--out={tmp_path / 'none'}", blocks[0], str(place / "whole")]) == 2
    assert f"{blocks[0]} and {place / 'whole'} share seed 0" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
@needs_ray
def test_a_wrong_flag_ends_the_sweep_with_its_line_and_leaves_nothing(place):
    run = start(place, *TINY, "--levels=0.5,1.5", "--work_dir=wrong", "--seeds_per_task=2")
    _, stderr = run.communicate(timeout=120)
    assert run.returncode == 2
    assert stderr.startswith("error: seeds_")
    assert "levels must be in [0, 1), found 1.5" in stderr
    assert stderr.count("\n") == 1
    assert not (place / "wrong").exists()
