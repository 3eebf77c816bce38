"""What a run in training has found so far: the three files of a run, for every finished slice.

They are written once, when the slice ends, and become those of the run when it ends: so
what is in memory, and what is written at once, does not grow with the run. Readers of an
unfinished run read them too. A run that is continued does not: it makes them again from
the slices that its checkpoints keep.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lth_flax.files import make_directory
from lth_flax.predictions import Predictions, read_predictions, write_predictions
from lth_flax.records import (
    CurvePoint,
    Record,
    as_stored,
    read_curves,
    read_records,
    write_curves,
    write_records,
)

_PARTS = Path("checkpoints", "rows")
OPEN = 64
"""Files of predictions that are in memory at once."""

_RECORDS, _CURVES, _PREDICTIONS = "records.csv", "curves.csv", "predictions.npz"


class Rows(NamedTuple):
    """What was found of some networks; None where a file is not there, records are enough."""

    records: Sequence[Record]
    curves: Sequence[CurvePoint] | None = None
    predictions: Predictions | None = None


def write_rows(directory: Path, rows: Rows) -> None:
    """Writes what there is, records last."""
    if rows.curves is not None:
        write_curves(directory / _CURVES, rows.curves)
    if rows.predictions is not None:
        write_predictions(directory / _PREDICTIONS, rows.predictions)
    write_records(directory / _RECORDS, rows.records)


def read_rows(directory: Path) -> Rows:
    """The rows of a work directory; of a run that has not ended, those of its parts.

    Raises:
      UserError: there are none, or a file is damaged.
    """
    folders = sorted(file.parent for file in (directory / _PARTS).glob(f"*/{_RECORDS}"))
    if not folders:
        return _read(directory)
    whole = [directory] if records_file(directory) else []
    parts = [_read(folder, predictions=False) for folder in folders]
    new = {record.row_id for part in parts for record in part.records}
    records = [record for part in parts for record in part.records]
    curves = [point for part in parts for point in part.curves or ()]
    for before in (_read(folder, predictions=False) for folder in whole):
        records += [record for record in before.records if record.row_id not in new]
        curves += [point for point in before.curves or () if point.row_id not in new]
    return Rows(records, curves, _Joined([folder / _PREDICTIONS for folder in whole + folders]))


def records_file(directory: Path) -> Path | None:
    """The file of a directory that holds its records, if there is one; parts do not count."""
    file = as_stored(directory / _RECORDS)
    return file if file.exists() else None


def write_part(directory: Path, table: int, slice_: int, rows: Rows) -> None:
    """Writes the rows of a slice of a run's table."""
    folder = directory / _PARTS / f"{table:03d}_{slice_:04d}"
    make_directory(folder)
    write_rows(folder, rows)


def remove_parts(directory: Path) -> None:
    """Takes away the parts of a run, also of one that did not end."""
    shutil.rmtree(directory / _PARTS, ignore_errors=True)


def _read(directory: Path, *, predictions: bool = True) -> Rows:
    curves, classes = as_stored(directory / _CURVES), directory / _PREDICTIONS
    return Rows(
        read_records(as_stored(directory / _RECORDS)),
        read_curves(curves) if curves.exists() else None,
        read_predictions(classes) if predictions and classes.exists() else None,
    )


class _Joined(Mapping[str, np.ndarray]):
    """The predictions of several files, read when they are asked for; the last of a name counts."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._read = lru_cache(maxsize=OPEN)(read_predictions)
        self._file_of = {n: file for file in files if file.exists() for n in self._read(file)}

    def __getitem__(self, name: str) -> np.ndarray:
        return self._read(self._file_of[name])[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._file_of)

    def __len__(self) -> int:
        return len(self._file_of)
