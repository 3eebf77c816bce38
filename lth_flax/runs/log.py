"""`--log`: loss and validation score of every row after every epoch, while it trains.

What an interrupted run logged is kept. An epoch that is trained again, after the checkpoint that
the run goes on from, has the same values and is not written to `log.csv` twice.
"""

import contextlib
import csv
import importlib.util
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

import numpy as np

from lth_flax.errors import UserError
from lth_flax.records import CurvePoint
from lth_flax.runs.results import Entry, curves_of
from lth_flax.runs.setup import Setup
from lth_flax.training.table import Curve, Span

CSV_FILE, TENSORBOARD_FOLDER = "log.csv", "tensorboard"


class CsvLog:
    """`log.csv`, with the columns of `curves.csv`; a line is there when its epoch has ended."""

    def __init__(self, directory: Path) -> None:
        # Kept open while the run lasts; what a killed process left of a line is overwritten.
        self._file = open(directory / CSV_FILE, "a+", encoding="utf-8", newline="")  # noqa: SIM115
        self._file.seek(0)
        whole = self._file.read().rpartition("\n")
        self._file.seek(0)
        self._file.truncate(len((whole[0] + whole[1]).encode()))
        self._file.seek(0, io.SEEK_END)
        self._writer = csv.writer(self._file, lineterminator="\n")
        rows = list(csv.DictReader(io.StringIO(whole[0])))
        self._there = {(row.get("row_id"), row.get("epoch")) for row in rows}
        if not whole[0]:
            self._writer.writerow([column.name for column in fields(CurvePoint)])

    def write(self, points: Sequence[CurvePoint], *, last: bool) -> None:
        """Appends the points of an epoch that are not there yet."""
        new = [point for point in points if (point.row_id, str(point.epoch)) not in self._there]
        self._writer.writerows(map(astuple, new))
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class TensorboardLog:
    """`tensorboard/ROW`, a folder for each row: `tensorboard --logdir` shows them side by side."""

    def __init__(self, directory: Path) -> None:
        self._writer_of = importlib.import_module("tensorboardX").SummaryWriter
        self._folder = directory / TENSORBOARD_FOLDER
        self._open: dict[str, Any] = {}

    def write(self, points: Sequence[CurvePoint], *, last: bool) -> None:
        """Adds the points of an epoch; after the `last` of their rows these are closed."""
        for point in points:
            if point.row_id not in self._open:
                self._open[point.row_id] = self._writer_of(str(self._folder / point.row_id))
            writer = self._open[point.row_id]
            for tag, value in (
                ("loss/train", point.train_loss),
                ("loss/validation", point.validation_loss),
                ("score/validation", point.validation_score),
            ):
                if value is not None:
                    writer.add_scalar(tag, value, point.epoch)
            writer.flush()
            if last:
                self._open.pop(point.row_id).close()

    def close(self) -> None:
        for writer in self._open.values():
            writer.close()
        self._open.clear()


WRITERS: dict[str, type[CsvLog] | type[TensorboardLog]] = {
    "csv": CsvLog,
    "tensorboard": TensorboardLog,
}
"""`--log` -> what writes it."""


def check_installed(kinds: Sequence[str]) -> None:
    """Raises `UserError` where tensorboardX is needed and missing."""
    if "tensorboard" in kinds and importlib.util.find_spec("tensorboardX") is None:
        raise UserError(
            "--log=tensorboard needs tensorboardX, which is not installed: "
            "pip install 'lth_flax[log]', or use --log=csv"
        )


class EpochLog:
    """What `--log` asks for, in a work directory; nothing without one."""

    def __init__(self, kinds: Sequence[str], directory: Path | None) -> None:
        self._directory = directory
        with self._one_line():
            self._logs = [WRITERS[kind](directory) for kind in kinds] if directory else []

    def table(
        self, setup: Setup, entries: Sequence[Entry], span: Span | None
    ) -> Callable[[int, int, np.ndarray], None]:
        """What `Hooks.on_epoch` is to be for a table."""
        epochs = (span and span.epochs) or setup.trainer.workload.epochs

        def on_epoch(first: int, epoch: int, values: np.ndarray) -> None:
            if not self._logs:
                return
            points = [
                point
                for entry, row in zip(entries[first : first + len(values)], values, strict=True)
                for point in curves_of(setup, entry, [Curve(epoch, *map(float, row))])
            ]
            with self._one_line():
                for log in self._logs:
                    log.write(points, last=epoch == epochs)

        return on_epoch

    def close(self) -> None:
        """Lets go of the files."""
        for log in self._logs:
            log.close()
        self._logs = []

    @contextlib.contextmanager
    def _one_line(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"{self._directory}: the log cannot be written ({error.strerror}); make room, or "
                "leave out --log"
            ) from None


NO_LOG = EpochLog((), None)
