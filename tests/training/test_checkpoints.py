"""Stopping and resuming a table, and every way in which a checkpoint's files can be damaged."""

import dataclasses
import itertools
import shutil
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from counting import BUCKETS, EPOCHS, MEMBERS

from lth_flax.errors import UserError
from lth_flax.training import loop
from lth_flax.training.checkpoints import KEPT, Checkpoints, Position
from lth_flax.training.loop import Hooks, Replicate, Stopped, Trainer
from lth_flax.training.optimizers import make_optimizer, make_schedule
from lth_flax.training.programs import Workload
from lth_flax.training.replicates import Engine
from lth_flax.training.steps import Task

CALLS_PER_EPOCH = 6  # two buckets of three batches each, a call per batch
ROWS, SLICES = 3, 2


def loss(params, batch, key):
    """Every step depends on all before it, on its data and on its own noise."""
    noise = 0.1 * jax.random.normal(key, (2,))
    error = jnp.tanh(batch["x"][:, None] * (params["w"] + noise)) - jnp.array([0.3, -0.2])
    weight = batch["weight"][:, None]
    return jnp.sum(weight * error**2) / jnp.sum(weight)


def predict(params, batch):
    value = jnp.tanh(batch["x"] * jnp.sum(params["w"]))
    return {"correct": (value > 0.1).astype(jnp.float32), "loss": value}


@cache
def trainer():
    work = Workload(
        buckets=BUCKETS,
        members=MEMBERS,
        epochs=EPOCHS,
        batch_size=3,
        eval_batch_sizes=(4, 4),
    )
    schedule = make_schedule("cosine", total_steps=6 * EPOCHS)
    task = Task(loss, predict, make_optimizer("adam"), schedule)
    return Trainer(Engine("map", tuple(jax.devices()[:2]), 2), task, work)


TABLE = [
    Replicate({"w": np.array([0.5 + seed, -0.25], np.float32)}, {"w": np.array(True)}, seed, 0.05)
    for seed in range(ROWS)
]


@pytest.fixture(autouse=True, scope="module")
def a_call_per_batch():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "MOST_STEPS", 1)
        yield


@cache
def uninterrupted():
    return trainer().train(TABLE)


def assert_same(outcomes):
    assert len(outcomes) == ROWS
    for found, expected in zip(outcomes, uninterrupted(), strict=True):
        found, expected = (dataclasses.asdict(outcome) for outcome in (found, expected))
        jax.tree.map(np.testing.assert_array_equal, found, expected)


def stop_after(calls):
    """A `stop` hook that asks for the end once so many calls are done."""
    count = itertools.count(1)
    return lambda: next(count) >= calls


def train_until(directory, calls, **options):
    kept = Checkpoints(directory, **({"identity": "a run", "minutes": 0} | options))
    with pytest.raises(Stopped):
        trainer().train(TABLE, hooks=Hooks(checkpoints=kept, stop=stop_after(calls)))
    kept.close()


def resume(directory, identity="a run"):
    """(outcomes, lines said, steps trained anew and taken over)."""
    said, steps = [], []
    kept = Checkpoints(directory, identity=identity, minutes=60, say=said.append)
    outcomes = trainer().train(TABLE, hooks=Hooks(checkpoints=kept, on_steps=steps.append))
    kept.close()
    return outcomes, said, steps


# Stopped anywhere. ---------------------------------------------------------------------


@pytest.mark.parametrize("calls", [1, 5, 6, 7, 23, 24, 25, 32, 47])
def test_stopped_after_any_call_it_ends_with_the_same_bits(tmp_path, calls):
    train_until(tmp_path, calls, minutes=60)
    outcomes, said, steps = resume(tmp_path)
    assert_same(outcomes)
    assert said == []
    assert sum(steps) == ROWS * EPOCHS * 6  # what was restored counts as done, once


def test_what_is_finished_is_not_trained_again(tmp_path, monkeypatch):
    first, _, _ = resume(tmp_path)
    monkeypatch.setattr(Trainer, "_train_slice", None)  # calling it would raise
    second, said, _ = resume(tmp_path)
    assert said == []
    assert_same(first)
    assert_same(second)


def test_a_resumed_slice_goes_on_where_it_was(tmp_path):
    train_until(tmp_path, 2 * CALLS_PER_EPOCH + 1)
    _, _, steps = resume(tmp_path)
    # Its first report is all that was restored: two epochs and a call, of two rows.
    assert steps[0] == 2 * (12 + 1)


def test_it_may_go_on_with_calls_of_another_length(tmp_path, monkeypatch):
    train_until(tmp_path, CALLS_PER_EPOCH + 2, minutes=60)
    monkeypatch.setattr(loop, "MOST_STEPS", 3)
    outcomes, said, _ = resume(tmp_path)
    assert_same(outcomes)
    assert said == []


def test_only_the_last_few_are_kept(tmp_path):
    train_until(tmp_path, 11)
    assert len(list((tmp_path / "training").iterdir())) == KEPT
    # Also where the last save of a slice is in flight as the next slice looks for its own.
    train_until(tmp_path, CALLS_PER_EPOCH * EPOCHS + 2)
    assert len(list((tmp_path / "training").iterdir())) == KEPT


def test_checkpoints_of_another_run_are_not_used(tmp_path):
    train_until(tmp_path, CALLS_PER_EPOCH * EPOCHS + 3)
    outcomes, said, _ = resume(tmp_path, identity="another run")
    assert_same(outcomes)
    assert len(said) >= 2
    assert all("skipped" in line for line in said)


# Damage. -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """One finished slice, and some checkpoints of the second."""
    directory = tmp_path_factory.mktemp("stopped")
    train_until(directory, CALLS_PER_EPOCH * EPOCHS + 6)
    return directory


def truncate(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file):
    """One bit of every eighth part: headers, indices and data alike."""
    content = bytearray(file.read_bytes())
    for part in range(8):
        if content:
            content[part * len(content) // 8] ^= 0x10
    file.write_bytes(bytes(content))


def files_of(directory):
    return sorted(path for path in directory.rglob("*") if path.is_file())


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage", [truncate, flip, Path.unlink], ids=["truncate", "flip", "delete"]
)
def test_any_file_damaged_costs_time_and_nothing_else(stopped, tmp_path, damage):
    names = [path.relative_to(stopped) for path in files_of(stopped)]
    assert len(names) > KEPT * 3
    skipped = 0
    for number, name in enumerate(names):
        directory = tmp_path / str(number)
        shutil.copytree(stopped, directory)
        damage(directory / name)
        outcomes, said, _ = resume(directory)
        assert_same(outcomes)
        assert all(line.startswith("skipped ") and "\n" not in line for line in said)
        skipped += bool(said)
        shutil.rmtree(directory)
    # The newest checkpoint alone has several files that it cannot do without.
    assert skipped >= 3


@pytest.mark.parametrize("damage", [truncate, flip], ids=["truncate", "flip"])
def test_with_all_files_damaged_training_starts_again(stopped, tmp_path, damage):
    directory = tmp_path / "run"
    shutil.copytree(stopped, directory)
    for file in files_of(directory):
        damage(file)
    outcomes, said, _ = resume(directory)
    assert_same(outcomes)
    assert len(said) >= 1 + KEPT  # the finished slice and every checkpoint


@pytest.mark.parametrize("step", range(KEPT))
def test_half_a_directory(stopped, tmp_path, step):
    directory = tmp_path / "run"
    shutil.copytree(stopped, directory)
    steps = sorted(
        (p for p in (directory / "training").iterdir() if p.name.isdigit()),
        key=lambda p: int(p.name),
    )
    for entry in sorted(steps[step].iterdir())[::2]:
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    outcomes, said, _ = resume(directory)
    assert_same(outcomes)
    # Walking back starts at the newest: only damage there is met.
    assert bool(said) == (step == KEPT - 1)


def test_strange_files_beside_the_checkpoints_do_no_harm(stopped, tmp_path):
    directory = tmp_path / "run"
    shutil.copytree(stopped, directory)
    training = directory / "training"
    (training / "notes.txt").write_text("mine")
    (training / "99.orbax-checkpoint-tmp").mkdir()
    (training / "1000").mkdir()
    (directory / "tables" / "table_000_slice_0001.bin").write_bytes(b"")
    outcomes, said, _ = resume(directory)
    assert_same(outcomes)
    assert any("table_000_slice_0001" in line for line in said)


def test_a_value_that_was_exchanged_is_found_by_its_checksum(tmp_path):
    """Sound files of another checkpoint in place of this one's: only the digest can tell."""
    arrays = {"a": np.arange(5.0), "b": np.ones((2, 3), np.float32)}
    kept = Checkpoints(tmp_path, identity="x", minutes=0)
    for value in range(2):
        kept.save(Position(0, 0, 1, value), {**arrays, "a": arrays["a"] + value})
    kept.close()
    old, new = tmp_path / "training" / "0", tmp_path / "training" / "1"
    shutil.rmtree(new / "state")
    shutil.copytree(old / "state", new / "state")
    said = []
    kept = Checkpoints(tmp_path, identity="x", minutes=0, say=said.append)
    position, found = kept.restore(0, 0, arrays)
    kept.close()
    assert position == Position(0, 0, 1, 0)
    np.testing.assert_array_equal(found["a"], arrays["a"])
    assert len(said) == 1
    assert "checksum" in said[0]


# When it cannot be written. ------------------------------------------------------------


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="make room or give another --work_dir"):
        Checkpoints(tmp_path / "file" / "checkpoints", identity="x", minutes=0)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_failed_save_is_one_line_and_what_was_there_stays(tmp_path, monkeypatch):
    train_until(tmp_path, 3)
    before = {path: path.read_bytes() for path in files_of(tmp_path)}
    kept = Checkpoints(tmp_path, identity="a run", minutes=0)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept._manager, "save", full)
    with pytest.raises(UserError, match="No space left on device") as refused:
        trainer().train(TABLE, hooks=Hooks(checkpoints=kept))
    assert "\n" not in str(refused.value)
    monkeypatch.undo()
    kept.close()
    assert {path: path.read_bytes() for path in files_of(tmp_path)} == before
    assert_same(resume(tmp_path)[0])
