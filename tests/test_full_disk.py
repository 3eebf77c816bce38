"""A disk that is full, at every size: whatever was there before stays, and the fault is one line.

No file may grow past a limit: writes fail as they do where there is no room. `test_faults.py` does
the same to whole commands.
"""

import contextlib

import numpy as np
import pytest
from test_tickets import bits, make_ticket

from lth_flax.errors import UserError
from lth_flax.files import write_bytes_atomic
from lth_flax.tickets import load_ticket, save_ticket
from lth_flax.training.checkpoints import Checkpoints, Position

resource = pytest.importorskip("resource", reason="this system cannot limit the size of files")


@contextlib.contextmanager
def room_for(size):
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))


@contextlib.contextmanager
def one_line():
    with pytest.raises(UserError, match="File too large") as refused:
        yield
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("size", [0, 1, 4096, 99_999])
def test_a_file_that_does_not_fit_leaves_the_old_one(tmp_path, size):
    file = tmp_path / "records.csv"
    write_bytes_atomic(file, b"old")
    with room_for(size), one_line():
        write_bytes_atomic(file, b"x" * 100_000)
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]
    with room_for(100_000):
        write_bytes_atomic(file, b"x" * 100_000)
    assert file.stat().st_size == 100_000


@pytest.mark.parametrize("size", [0, 500, 4_000, 20_000])
def test_a_checkpoint_that_does_not_fit_leaves_those_before(tmp_path, size):
    arrays = {"a": np.random.default_rng(0).random(5_000)}
    first = Checkpoints(tmp_path, identity="a run", minutes=0)
    first.finish_slice(0, 0, arrays)
    first.save(Position(0, 1, 1, 0), arrays)
    first.wait()
    with room_for(size), one_line():
        first.save(Position(0, 1, 2, 0), {"a": arrays["a"] + 1})
        first.wait()
    with room_for(size), one_line():
        first.finish_slice(0, 1, arrays)
    with contextlib.suppress(UserError):  # orbax may report one failure twice
        first.close()
    said = []
    again = Checkpoints(tmp_path, identity="a run", minutes=0, say=said.append)
    position, found = again.restore(0, 1, arrays)
    # Reported as failed, and with room again whole all the same, the second one may count.
    assert position in (Position(0, 1, 1, 0), Position(0, 1, 2, 0))
    np.testing.assert_array_equal(found["a"], arrays["a"] + (position.epoch == 2))
    np.testing.assert_array_equal(again.finished_slice(0, 0)["a"], arrays["a"])
    assert again.finished_slice(0, 1) is None
    again.save(Position(0, 1, 2, 0), arrays)  # with room again it goes on
    again.close()


@pytest.mark.parametrize(
    "size", [500, *(pytest.param(size, marks=pytest.mark.slow) for size in (0, 2_000))]
)
def test_a_ticket_that_does_not_fit_leaves_the_old_one(tmp_path, size):
    path, old = tmp_path / "ticket", make_ticket()
    save_ticket(path, old)
    with room_for(size), one_line():
        save_ticket(path, make_ticket(seed=1))
    assert bits(load_ticket(path)) == bits(old)
    save_ticket(path, make_ticket(seed=1))
    assert bits(load_ticket(path)) == bits(make_ticket(seed=1))
