"""A power cut at any moment of a save: the old or the new is there, and what was done stays."""

import os
from pathlib import Path

import numpy as np
import pytest
from power_cut import Disk
from test_tickets import bits, make_ticket

from lth_flax import storage
from lth_flax.errors import UserError
from lth_flax.files import make_directory, remove_temporaries, write_bytes_atomic
from lth_flax.tickets import load_ticket, save_ticket
from lth_flax.training.checkpoints import Checkpoints, Position

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")


def test_what_was_not_flushed_is_lost(tmp_path):
    """The layer itself, on writes that forget one thing each."""
    (tmp_path / "old").write_bytes(b"old")
    disk = Disk(tmp_path)
    with disk.watch():
        with open(tmp_path / "a", "wb") as file:
            file.write(b"a")
            file.flush()
            os.fsync(file.fileno())
        (tmp_path / "folder").mkdir()
        (tmp_path / "b").write_bytes(b"b")
        os.replace(tmp_path / "b", tmp_path / "old")
    by_kind = {cut.kind: cut.tree for cut in disk.cuts}
    assert by_kind["lost"] == {"old": b"old"}
    assert by_kind["names"] == {"old": b"", "a": b"a", "folder": {}}
    assert len({str(cut.tree) for cut in disk.cuts if cut.kind == "mixed"}) > 1


def test_a_file_is_the_old_or_the_new_one(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (root / "file").write_bytes(b"old")
    disk = Disk(root)
    with disk.watch():
        write_bytes_atomic(root / "file", b"new")
        disk.done = True
    for number, cut in enumerate(disk.cuts):
        place = cut.make(tmp_path / str(number))
        assert (place / "file").read_bytes() in ([b"new"] if cut.done else [b"old", b"new"])
        remove_temporaries(place)
        assert [path.name for path in place.iterdir()] == ["file"]
    assert any(cut.done for cut in disk.cuts)


def test_a_new_directory_with_a_file_is_there(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    disk = Disk(root)
    with disk.watch():
        make_directory(root / "a" / "b")
        write_bytes_atomic(root / "a" / "b" / "file", b"new")
        disk.done = True
    done = [cut.tree for cut in disk.cuts if cut.done]
    assert done
    assert all(tree == {"a": {"b": {"file": b"new"}}} for tree in done)


@pytest.mark.parametrize("first", [True, False], ids=["first", "over another"])
def test_a_save_is_the_old_or_the_new_one(tmp_path, first):
    root = tmp_path / "root"
    root.mkdir()
    old, new = ({"a": np.arange(5.0) + add, "b": np.array(True)} for add in (0, 1))
    if not first:
        storage.save(root / "x" / "it.json", {"version": "old"}, old)
    disk = Disk(root)
    with disk.watch():
        storage.save(root / "x" / "it.json", {"version": "new"}, new)
        disk.done = True
    assert len(disk.cuts) > 20
    seen = set()
    for number, cut in enumerate(disk.cuts):
        place = cut.make(tmp_path / str(number)) / "x" / "it.json"
        try:
            meta, arrays = storage.load(place)
        except FileNotFoundError:
            assert first
            assert not cut.done
            continue
        seen.add(meta["version"])
        assert not (cut.done and meta["version"] == "old")
        np.testing.assert_array_equal(arrays["a"], {"old": old, "new": new}[meta["version"]]["a"])
    assert seen == ({"new"} if first else {"old", "new"})


@pytest.mark.slow
def test_a_ticket_is_saved_again_after_any_power_cut(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    disk = Disk(root)
    with disk.watch():
        save_ticket(root / "ticket", make_ticket())
        disk.done = "first"
        save_ticket(root / "ticket", make_ticket(seed=1))
        disk.done = "second"
    sound = {None: None, "first": bits(make_ticket()), "second": bits(make_ticket(seed=1))}
    for number, cut in enumerate(disk.cuts):
        place = cut.make(tmp_path / str(number)) / "ticket"
        try:
            found = bits(load_ticket(place))
        except UserError:
            assert not (place / "ticket.json").exists()
            assert cut.done is None
        else:
            names = list(sound)
            assert found in [sound[name] for name in names[names.index(cut.done) :]]
        if number % 60 == 0:  # a save takes a while
            save_ticket(place, make_ticket(seed=2))
            assert bits(load_ticket(place)) == bits(make_ticket(seed=2))
            assert len(list(place.iterdir())) == 2


@pytest.mark.slow
def test_a_run_goes_on_from_the_newest_save_that_was_done(tmp_path):
    """Four saves, a finished slice, a save of the next; `done` is the last that was waited for."""
    root = tmp_path / "root"
    root.mkdir()

    def arrays(position: Position) -> dict[str, np.ndarray]:
        return {"a": np.arange(4.0) + 10 * position.slice + position.step}

    disk = Disk(root)
    with disk.watch():
        kept = Checkpoints(root / "checkpoints", identity="x", minutes=0)
        saves = [Position(0, 0, 1, call) for call in range(4)] + [Position(0, 1, 1, 1)]
        for position in saves:
            if position.slice == 1:
                kept.finish_slice(0, 0, arrays(Position(0, 0, 1, 9)))
                disk.done = Position(0, 1, 1, 0)
            kept.save(position, arrays(position))
            kept.wait()
            disk.done = position
        kept.close()
    for number, cut in enumerate(disk.cuts):
        place = cut.make(tmp_path / str(number))
        # A line about a damaged file would be a save that counted too early.
        after = Checkpoints(place / "checkpoints", identity="x", minutes=0, say=pytest.fail)
        finished = after.finished_slice(0, 0)
        current = 0 if finished is None else 1
        found = after.restore(0, current, arrays(saves[0]))
        reached = Position(0, current, 1, 0) if found is None else found[0]
        if found is not None:
            np.testing.assert_array_equal(found[1]["a"], arrays(found[0])["a"])
        if finished is not None:
            np.testing.assert_array_equal(finished["a"], np.arange(4.0) + 9)
        assert cut.done is None or reached >= cut.done
        if number % 60 == 0:
            after.save(Position(0, current, 9, 9), arrays(saves[0]))
            assert after.restore(0, current, arrays(saves[0]))[0] == Position(0, current, 9, 9)
        after.close()
