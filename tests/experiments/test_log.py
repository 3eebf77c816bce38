"""`--log` has every epoch of every row while it trains, and says what `curves.csv` says later."""

import signal
import struct
import time
from pathlib import Path

import commands
import pytest

from lth_flax.config import Config
from lth_flax.errors import UserError
from lth_flax.records import CurvePoint, read_curves, write_curves
from lth_flax.runs import log
from lth_flax.runs.log import CsvLog, check_installed

ROOT = Path(__file__).resolve().parents[2]
RUN = [
    "lth_flax.experiments.winning_ticket", "--synthetic_size=300",
    "--hidden_size=6", "--embedding_size=6", "--batch_size=16", "--max_shapes=1", "--num_seeds=3",
    "--levels=0.5", "--epochs=4", "--noprogress", "--work_dir=run", "--cache_dir=cache",
    "--checkpoint_minutes=0", "--rewind_epoch=1",
]  # fmt: skip


def points(epochs, row="dense/seed=0"):
    return [
        CurvePoint(row, "dense", 0, 0, 0.0, epoch, 1 / epoch, None, 0.5, 0.5) for epoch in epochs
    ]


def test_a_line_is_there_when_its_epoch_has_ended_and_is_read_as_curves_are(tmp_path):
    found = CsvLog(tmp_path)
    for point in points([1, 2, 3]):
        found.write([point], last=False)
        assert len((tmp_path / "log.csv").read_text().splitlines()) == 1 + point.epoch
    found.close()
    assert read_curves(tmp_path / "log.csv") == points([1, 2, 3])
    write_curves(tmp_path / "curves.csv", points([1, 2, 3]))
    assert (tmp_path / "log.csv").read_bytes() == (tmp_path / "curves.csv").read_bytes()


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_an_epoch_that_is_trained_again_is_there_once_and_half_a_line_is_none(tmp_path, cut):
    first = CsvLog(tmp_path)
    first.write(points([1, 2, 3]), last=False)
    first.close()
    whole = (tmp_path / "log.csv").read_bytes()
    (tmp_path / "log.csv").write_bytes(whole[:-cut])
    again = CsvLog(tmp_path)
    again.write(points([2, 3, 4]), last=True)
    again.close()
    assert read_curves(tmp_path / "log.csv") == points([1, 2, 3, 4])


def test_tensorboard_needs_its_package(monkeypatch):
    monkeypatch.setattr(log.importlib.util, "find_spec", lambda name: None)
    check_installed(Config(log=("csv",)).log)
    with pytest.raises(UserError, match=r"pip install 'lth_flax\[log\]'"):
        check_installed(Config(log=("csv", "tensorboard")).log)
    with pytest.raises(UserError, match="one or more of csv, tensorboard"):
        Config(log=("paper",))


def start(place, *arguments):
    return commands.start(*RUN, *arguments, "--noreport", cwd=place)


def finish(process):
    _, stderr = process.communicate(timeout=600)
    assert (process.returncode, stderr) == (0, "")


@pytest.mark.slow
def test_a_run_that_is_stopped_and_continued_logs_every_epoch_once(tmp_path):
    process = start(tmp_path, "--log=csv")
    file = tmp_path / "run" / "log.csv"
    while not file.exists() or file.read_text().count("\n") < 4:  # while it trains
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    finish(start(tmp_path, "--log=csv"))
    # In the order in which slices were trained; in that of `curves.csv` it is that file.
    write_curves(tmp_path / "sorted.csv", read_curves(file))
    assert (tmp_path / "sorted.csv").read_bytes() == (tmp_path / "run/curves.csv").read_bytes()


def scalars(file, event_type):
    """(tag, step) -> value of an event file: records of length, checksum, event, checksum."""
    content, found = file.read_bytes(), {}
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        event = event_type.FromString(content[12 : 12 + length])
        for value in event.summary.value:
            found[value.tag, event.step] = value.simple_value
        content = content[16 + length :]
    return found


@pytest.mark.slow
def test_tensorboard_has_what_the_curves_have(tmp_path):
    events = pytest.importorskip(
        "tensorboardX.proto.event_pb2", reason="needs the extra log: pip install 'lth_flax[log]'"
    )
    finish(start(tmp_path, "--log=tensorboard"))
    curves = read_curves(tmp_path / "run" / "curves.csv")
    assert {point.epoch for point in curves} == {1, 2, 3, 4}
    for row in {point.row_id for point in curves}:
        (file,) = (tmp_path / "run" / "tensorboard" / row).iterdir()
        mine = [point for point in curves if point.row_id == row]
        expected = {}
        for point in mine:
            expected["loss/train", point.epoch] = point.train_loss
            expected["loss/validation", point.epoch] = point.validation_loss
            expected["score/validation", point.epoch] = point.validation_score
        assert scalars(file, events.Event) == pytest.approx(expected, rel=1e-6)
