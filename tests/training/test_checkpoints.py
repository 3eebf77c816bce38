"""Stopping and resuming a table, and every way in which a checkpoint's files can be damaged."""

import dataclasses
import itertools
import shutil
import threading
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from counting import BUCKETS, EPOCHS, MEMBERS
from tables import Given, outcomes_of

from lth_flax import storage
from lth_flax.errors import UserError
from lth_flax.training import loop
from lth_flax.training.checkpoints import KEPT, Checkpoints, Position
from lth_flax.training.loop import Hooks, Stopped, Trainer
from lth_flax.training.optimizers import make_optimizer, make_schedule
from lth_flax.training.programs import Workload
from lth_flax.training.replicates import Engine
from lth_flax.training.steps import Recipe

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
    task = Recipe(loss, predict, make_optimizer("adam"), schedule)
    return Trainer(Engine("map", tuple(jax.devices()[:2]), 2), task, work)


TABLE = [
    Given({"w": np.array([0.5 + seed, -0.25], np.float32)}, {"w": np.array(True)}, seed, 0.05)
    for seed in range(ROWS)
]


@pytest.fixture(autouse=True, scope="module")
def a_call_per_batch():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "MOST_STEPS", 1)
        yield


@cache
def uninterrupted():
    return outcomes_of(trainer(), TABLE)


def assert_same(outcomes):
    assert len(outcomes) == ROWS
    for found, expected in zip(outcomes, uninterrupted(), strict=True):
        found, expected = (dataclasses.asdict(outcome) for outcome in (found, expected))
        jax.tree.map(np.testing.assert_array_equal, found, expected)


def stop_after(calls, kept):
    """A `stop` hook that asks for the end once so many calls are done, each with its save."""
    count = itertools.count(1)

    def stop():
        kept.wait()
        return next(count) >= calls

    return stop


def train_until(directory, calls, **options):
    kept = Checkpoints(directory, **({"identity": "a run", "minutes": 0} | options))
    with pytest.raises(Stopped):
        outcomes_of(trainer(), TABLE, hooks=Hooks(checkpoints=kept, stop=stop_after(calls, kept)))
    kept.close()


def resume(directory, identity="a run"):
    """(outcomes, lines said, steps trained anew and taken over)."""
    said, steps = [], []
    kept = Checkpoints(directory, identity=identity, minutes=60, say=said.append)
    outcomes = outcomes_of(trainer(), TABLE, hooks=Hooks(checkpoints=kept, on_steps=steps.append))
    kept.close()
    return outcomes, said, steps


# Stopped anywhere. ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "calls", [1, 24, 47, *(pytest.param(n, marks=pytest.mark.slow) for n in (5, 6, 7, 23, 25, 32))]
)
def test_stopped_after_any_call_it_ends_with_the_same_bits(tmp_path, calls):
    train_until(tmp_path, calls, minutes=60)
    outcomes, said, steps = resume(tmp_path)
    assert_same(outcomes)
    assert said == []
    assert sum(steps) == ROWS * EPOCHS * 6  # what was restored counts as done, once


def test_what_is_finished_is_not_trained_again(tmp_path, monkeypatch):
    first, _, _ = resume(tmp_path)
    assert_same(first)
    monkeypatch.setattr(Trainer, "_train_slice", None)  # calling it would raise
    second, said, _ = resume(tmp_path)
    assert said == []
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


@pytest.mark.slow
def test_only_the_last_few_are_kept(tmp_path):
    train_until(tmp_path, 11)
    assert len(list((tmp_path / "running").iterdir())) == KEPT
    # Those of a slice that is finished are not needed any more.
    train_until(tmp_path, CALLS_PER_EPOCH * EPOCHS + 2)
    names = sorted(path.name for path in (tmp_path / "running").iterdir())
    assert 1 <= len(names) <= KEPT
    assert all(name.startswith("000_0001_") for name in names)


@pytest.mark.slow
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
    newest = max((stopped / "running").iterdir(), key=lambda path: int(path.name.split("_")[-1]))
    files = files_of(stopped / "finished") + files_of(newest)
    names = [path.relative_to(stopped) for path in files]
    assert len(names) > 10
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


@pytest.mark.slow
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
        (directory / "running").iterdir(), key=lambda path: int(path.name.split("_")[-1])
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
    running = directory / "running"
    (running / "notes.txt").write_text("mine")
    (running / "1000").mkdir()
    killed = running / "000_0001_001000" / "arrays.orbax-checkpoint-tmp"
    killed.mkdir(parents=True)
    finished = directory / "finished" / "table_000_slice_0001"
    finished.mkdir()
    (finished / "checkpoint.json").write_bytes(b"")
    outcomes, said, _ = resume(directory)
    assert_same(outcomes)
    assert len(said) == 1
    assert "table_000_slice_0001: checkpoint.json is not valid JSON" in said[0]
    assert (running / "notes.txt").read_text() == "mine"
    assert not killed.exists()


def test_what_the_first_edition_kept_does_no_harm(tmp_path):
    """Its layout: an orbax manager's steps, and finished slices as one file each."""
    options = ocp.CheckpointManagerOptions(create=True)
    with ocp.CheckpointManager(tmp_path / "training", options=options) as manager:
        state = {"state_0000": np.ones((2, 2), np.float32)}
        manager.save(
            0,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave({"identity": "a run"})
            ),
        )
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "table_000_slice_0000.bin").write_bytes(b"sealed")
    outcomes, said, _ = resume(tmp_path)
    assert_same(outcomes)
    assert said == []


def test_a_value_that_was_exchanged_is_found_by_its_checksum(tmp_path):
    """Sound files of another checkpoint in place of this one's: only the digest can tell."""
    arrays = {"a": np.arange(5.0), "b": np.ones((2, 3), np.float32)}
    kept = Checkpoints(tmp_path, identity="x", minutes=0)
    for value in range(2):
        kept.save(Position(0, 0, 1, value), {**arrays, "a": arrays["a"] + value})
    kept.close()
    old, new = sorted((tmp_path / "running").iterdir())
    shutil.rmtree(new / "arrays")
    shutil.copytree(old / "arrays", new / "arrays")
    said = []
    kept = Checkpoints(tmp_path, identity="x", minutes=0, say=said.append)
    # Shapes are enough: nothing is fetched from a device to be compared.
    shapes = {name: jax.ShapeDtypeStruct(a.shape, a.dtype) for name, a in arrays.items()}
    position, found = kept.restore(0, 0, shapes)
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


def fail(*_):
    raise OSError(28, "No space left on device")


def test_a_failed_save_is_one_line_and_what_was_there_stays(tmp_path, monkeypatch):
    train_until(tmp_path, 3)
    before = {path: path.read_bytes() for path in files_of(tmp_path)}
    kept = Checkpoints(tmp_path, identity="a run", minutes=0)
    monkeypatch.setattr(storage, "write_arrays", fail)
    with pytest.raises(UserError, match="No space left on device") as refused:
        outcomes_of(trainer(), TABLE, hooks=Hooks(checkpoints=kept))
    assert "\n" not in str(refused.value)
    assert "the same command continues" in str(refused.value)
    monkeypatch.undo()
    kept.close()
    assert {path: path.read_bytes() for path in files_of(tmp_path)} == before
    assert_same(resume(tmp_path)[0])


@pytest.mark.parametrize("reports", ["due", "save", "finish_slice", "restore", "wait", "close"])
def test_a_last_save_that_fails_in_the_background_is_reported(tmp_path, monkeypatch, reports):
    """Whatever comes next says so, once, and the save before it is the newest."""
    arrays = {"a": np.arange(3.0)}
    kept = Checkpoints(tmp_path, identity="x", minutes=1e9)
    kept.save(Position(0, 0, 1, 0), arrays)
    kept.wait()
    with monkeypatch.context() as patched:
        patched.setattr(storage, "write_arrays", fail)
        kept.save(Position(0, 0, 2, 0), {"a": arrays["a"] + 1})
        kept._thread.submit(int).result()  # it has failed by now
    after = {
        "due": lambda: kept.due(epoch_end=False),
        "save": lambda: kept.save(Position(0, 0, 3, 0), arrays),
        "finish_slice": lambda: kept.finish_slice(0, 0, arrays),
        "restore": lambda: kept.restore(0, 0, arrays),
        "wait": kept.wait,
        "close": kept.close,
    }[reports]
    with pytest.raises(UserError, match="No space left on device"):
        after()
    kept.close()
    kept = Checkpoints(tmp_path, identity="x", minutes=1e9, say=pytest.fail)
    found = kept.restore(0, 0, arrays)
    kept.close()
    assert found is not None
    assert found[0] == Position(0, 0, 1, 0)
    np.testing.assert_array_equal(found[1]["a"], arrays["a"])


def test_a_save_stops_training_no_longer_than_a_copy_takes(tmp_path, monkeypatch):
    """While it is written nothing is due, and it does not count before it is verified."""
    arrays = {"a": np.arange(3.0)}
    kept = Checkpoints(tmp_path, identity="x", minutes=0)
    kept.save(Position(0, 0, 1, 0), arrays)
    kept.wait()
    go, write = threading.Event(), storage.write_arrays

    def slow(*arguments):
        assert go.wait(60)
        write(*arguments)

    monkeypatch.setattr(storage, "write_arrays", slow)
    newest = {"a": arrays["a"] + 1}
    kept.save(Position(0, 0, 2, 0), newest)  # returns at once
    newest["a"][:] = -1  # as training overwrites its arrays
    assert not kept.due(epoch_end=False)
    assert not kept.due(epoch_end=True)
    other = Checkpoints(tmp_path / "read", identity="x", minutes=0, say=pytest.fail)
    shutil.copytree(tmp_path / "running", tmp_path / "read" / "running", dirs_exist_ok=True)
    assert other.restore(0, 0, arrays)[0] == Position(0, 0, 1, 0)
    other.close()
    go.set()
    assert kept.restore(0, 0, arrays)[0] == Position(0, 0, 2, 0)
    np.testing.assert_array_equal(kept.restore(0, 0, arrays)[1]["a"], arrays["a"] + 1)
    assert kept.due(epoch_end=False)
    kept.close()


@pytest.mark.slow
def test_what_cannot_be_read_for_another_reason_than_damage_is_not_trained_again(
    tmp_path, monkeypatch
):
    train_until(tmp_path, CALLS_PER_EPOCH * EPOCHS + 3)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(storage, "read_arrays", refuse)
    with pytest.raises(UserError, match=r"table_000_slice_0000 cannot be read .Permission denied"):
        resume(tmp_path)


def test_arrays_of_any_name_shape_and_type_come_back(tmp_path):
    """A user's own `predict_fn` names its outputs, and an optimizer keeps what it wants."""
    arrays = {
        "output|last|test|top.5": np.float16([1, np.nan]),
        "a/b": np.zeros((0, 3), np.float32),
        "a": np.array(True),
        "": np.int8([-1]),
        "..": np.uint32([2**32 - 1]),
        "\N{SNOWMAN}": np.zeros((2, 1), jnp.bfloat16),
        "F": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    }
    kept = Checkpoints(tmp_path, identity="x", minutes=0)
    kept.finish_slice(0, 0, arrays)
    found = kept.finished_slice(0, 0)
    kept.close()
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
