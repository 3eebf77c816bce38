"""Result rows as CSV: typed, in one canonical order, and never half written.

`records.csv` has one row per (replicate, checkpoint, split) and is enough to
redo every table, test and figure. Accuracies and shares are fractions in
[0, 1]; floats are written with `repr`, so they come back as the same bits;
None is an empty cell. Rows are sorted on writing, so blocks of seeds that are
merged give the same bytes as one run over all seeds.
"""

import csv
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from lth_flax.errors import UserError
from lth_flax.files import write_text_atomic

ARMS = ("dense", "ticket", "reinit", "shuffled", "random")
CHECKPOINTS = ("last", "best")
SPLITS = ("test", "validation")
MAX_FILE_BYTES = 1 << 30


def compact_json(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, ASCII, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _require(ok: bool) -> None:
    if not ok:
        raise ValueError


def _parse_text(cell: str) -> str:
    _require(bool(cell) and cell.isprintable())
    return cell


def _parse_count(cell: str) -> int:
    _require(cell.isascii() and cell.isdecimal() and len(cell) < 19)
    return int(cell)


def _parse_float(cell: str) -> float:
    _require(cell == cell.strip() and "_" not in cell)  # which float() would let through
    return float(cell)


def _parse_share(cell: str) -> float:
    value = _parse_float(cell)
    _require(0.0 <= value <= 1.0)  # also False for nan
    return value


def _parse_bool(cell: str) -> bool:
    _require(cell in ("true", "false"))
    return cell == "true"


def _parse_settings(cell: str) -> dict[str, Any]:
    value = json.loads(cell)
    _require(isinstance(value, dict))
    compact_json(value)  # refuses the NaN that json.loads lets through
    return value


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _parse_shares(cell: str) -> tuple[float, ...]:
    value = json.loads(cell)
    _require(isinstance(value, list) and all(map(_is_share, value)))
    return tuple(map(float, value))


def _parse_density(cell: str) -> dict[str, float]:
    value = json.loads(cell)
    _require(isinstance(value, dict) and all(map(_is_share, value.values())))
    return {key: float(share) for key, share in value.items()}


def _format_count(value: Any) -> str:
    _require(not isinstance(value, bool))
    return str(value.__index__())  # refuses 3.0, takes NumPy integers


@dataclass(frozen=True)
class Kind:
    """How one type of cell is read, written, and named in an error."""

    expected: str
    parse: Callable[[str], Any]
    format: Callable[[Any], str]


def _kind(
    expected: str,
    parse: Callable[[str], Any],
    write: Callable[[Any], str],
    *,
    optional: bool = False,
) -> Mapping[str, Kind]:
    if not optional:
        return {"kind": Kind(expected, parse, write)}
    return {
        "kind": Kind(
            f"{expected} or nothing",
            lambda cell: parse(cell) if cell else None,
            lambda value: "" if value is None else write(value),
        )
    }


def _one_of(names: tuple[str, ...]) -> Mapping[str, Kind]:
    def parse(cell: str) -> str:
        _require(cell in names)
        return cell

    return _kind(" or ".join(names), parse, str)


def _write_float(value: Any) -> str:
    return repr(float(value))


_TEXT = _kind("text without control characters", _parse_text, str)
_TEXT_OR_NONE = _kind("text without control characters", _parse_text, str, optional=True)
_COUNT = _kind("a whole number from 0", _parse_count, _format_count)
_COUNT_OR_NONE = _kind("a whole number from 0", _parse_count, _format_count, optional=True)
_SHARE = _kind("a number from 0 to 1", _parse_share, _write_float)
_SHARE_OR_NONE = _kind("a number from 0 to 1", _parse_share, _write_float, optional=True)
_FLOAT = _kind("a number", _parse_float, _write_float)
_FLOAT_OR_NONE = _kind("a number", _parse_float, _write_float, optional=True)
_BOOL_OR_NONE = _kind(
    "true or false",
    _parse_bool,
    lambda value: "true" if value else "false",
    optional=True,
)
_BOOL = _kind("true or false", _parse_bool, lambda value: "true" if value else "false")
_SETTINGS = _kind("a JSON object", _parse_settings, compact_json)
_SHARES = _kind(
    "a JSON list of numbers from 0 to 1",
    _parse_shares,
    lambda value: compact_json([float(share) for share in value]),
)
_DENSITY = _kind(
    "a JSON object of numbers from 0 to 1",
    _parse_density,
    lambda value: compact_json({key: float(share) for key, share in value.items()}),
)


def _parse_metrics(cell: str) -> dict[str, float]:
    value = json.loads(cell)
    _require(isinstance(value, dict))
    # No JSON has a NaN or an infinity: they are null.
    found = {key: float("nan") if one is None else one for key, one in value.items()}
    _require(all(isinstance(one, int | float) and type(one) is not bool for one in found.values()))
    return {key: float(one) for key, one in found.items()}


_METRICS = _kind(
    "a JSON object of numbers",
    _parse_metrics,
    lambda value: compact_json(
        {key: float(one) if math.isfinite(one) else None for key, one in value.items()}
    ),
)


@dataclass(frozen=True)
class Metric:
    """What networks are compared by; an accuracy is shown in percent, its gaps in points."""

    name: str = "accuracy"
    higher_is_better: bool = True

    @property
    def unit(self) -> str:
        """ "points", or the metric's own."""
        return "points" if self.name.endswith("accuracy") else self.name

    def gap(self, value: float, sign: str = "+") -> str:
        """A difference, as much better as it says: "+0.42 points", "+0.031 mse"."""
        return (
            f"{value:{sign}.2f} points"
            if self.unit == "points"
            else f"{value:{sign}.3g} {self.name}"
        )


@dataclass(frozen=True)
class Record:
    """One replicate, scored at one checkpoint on one split.

    `level` counts the sparsity levels, 0 for dense; `target_sparsity` names
    them. `epoch` is the number of epochs trained at this checkpoint,
    `best_epoch` the one with the best validation accuracy. `mask_steps` is
    what finding the mask cost, in training steps. `majority_accuracy` is the
    share of the most frequent class in this split. `density` maps
    "lstm_0/forward/input_kernel/i" and its like to the share of weights kept; it
    stands in a replicate's test record at the last epoch, and is empty in its others.
    `loss` may be nan or infinite where training diverged. `train_examples` were trained on;
    `test_drawn` says whether every seed draws its own test split: intervals depend on both.
    `metrics` are those of the task, `primary` the one that networks are compared by. What
    only classifiers have (accuracies, shares of classes) is None, or empty, for others.
    `method` is what found the mask. `train_steps` are those of its own training, and
    `dense_steps` is what both cost together where pruned weights cost nothing: each step counts
    as the share of the weights of kernels that were in use. `search` is what a method says of
    how it found the mask, and stands where `density` does; so do `diagnostics`, which are what
    the model says of the trained network under its mask, by "what/where".
    Records of the first edition end at `diverged_epoch`, and are read as they are.
    """

    row_id: str = field(metadata=_TEXT)
    experiment: str = field(metadata=_TEXT)
    dataset: str = field(metadata=_TEXT)
    data_fingerprint: str = field(metadata=_TEXT)
    settings: Mapping[str, Any] = field(metadata=_SETTINGS)
    schedule: str = field(metadata=_TEXT)
    scope: str = field(metadata=_TEXT)
    criterion: str = field(metadata=_TEXT)
    mask_from: str = field(metadata=_TEXT)
    arm: str = field(metadata=_TEXT)
    seed: int = field(metadata=_COUNT)
    draw: int = field(metadata=_COUNT)
    level: int = field(metadata=_COUNT)
    target_sparsity: float = field(metadata=_SHARE)
    achieved_sparsity: float = field(metadata=_SHARE)
    achieved_sparsity_all: float = field(metadata=_SHARE)
    checkpoint: str = field(metadata=_one_of(CHECKPOINTS))
    epoch: int = field(metadata=_COUNT)
    best_epoch: int = field(metadata=_COUNT)
    split: str = field(metadata=_one_of(SPLITS))
    examples: int = field(metadata=_COUNT)
    accuracy: float | None = field(metadata=_SHARE_OR_NONE)
    balanced_accuracy: float | None = field(metadata=_SHARE_OR_NONE)
    loss: float = field(metadata=_FLOAT)
    predicted_shares: tuple[float, ...] = field(metadata=_SHARES)
    majority_accuracy: float | None = field(metadata=_SHARE_OR_NONE)
    density: Mapping[str, float] = field(metadata=_DENSITY)
    connected: bool = field(metadata=_BOOL)
    mask_steps: int = field(metadata=_COUNT)
    diverged_epoch: int | None = field(default=None, metadata=_COUNT_OR_NONE)
    train_examples: int | None = field(default=None, metadata={**_COUNT_OR_NONE, "since": 2})
    test_drawn: bool | None = field(default=None, metadata={**_BOOL_OR_NONE, "since": 2})
    metrics: Mapping[str, float] = field(default_factory=dict, metadata={**_METRICS, "since": 2})
    primary: str = field(default="accuracy", metadata={**_TEXT, "since": 2})
    higher_is_better: bool = field(default=True, metadata={**_BOOL, "since": 2})
    method: str | None = field(default=None, metadata={**_TEXT_OR_NONE, "since": 2})
    train_steps: int | None = field(default=None, metadata={**_COUNT_OR_NONE, "since": 2})
    dense_steps: float | None = field(default=None, metadata={**_FLOAT_OR_NONE, "since": 2})
    search: Mapping[str, Any] = field(default_factory=dict, metadata={**_SETTINGS, "since": 2})
    diagnostics: Mapping[str, float] = field(
        default_factory=dict, metadata={**_METRICS, "since": 2}
    )

    @property
    def score(self) -> float:
        """The primary metric: in percent where it is an accuracy, else in its own unit."""
        value = self.metrics[self.primary] if self.metrics else float(self.accuracy or 0.0)
        return 100 * value if self.primary.endswith("accuracy") else value

    @property
    def metric(self) -> Metric:
        """What `score` is."""
        return Metric(self.primary, self.higher_is_better)

    @property
    def majority(self) -> float:
        """The score of always answering the most frequent class, in percent; 0 without classes."""
        return 100 * (self.majority_accuracy or 0.0)


@dataclass(frozen=True)
class CurvePoint:
    """One replicate after one epoch; losses in nats, accuracy a fraction.

    The score is the task's primary metric; of the first edition, which had accuracy alone, None.
    """

    row_id: str = field(metadata=_TEXT)
    arm: str = field(metadata=_TEXT)
    seed: int = field(metadata=_COUNT)
    draw: int = field(metadata=_COUNT)
    target_sparsity: float = field(metadata=_SHARE)
    epoch: int = field(metadata=_COUNT)
    train_loss: float | None = field(metadata=_FLOAT_OR_NONE)
    validation_loss: float | None = field(metadata=_FLOAT_OR_NONE)
    validation_accuracy: float | None = field(metadata=_SHARE_OR_NONE)
    validation_score: float | None = field(default=None, metadata={**_FLOAT_OR_NONE, "since": 2})


RUN_COLUMNS = (
    "experiment", "dataset", "data_fingerprint", "schedule", "scope", "criterion", "mask_from",
)  # fmt: skip
"""What the rows of a run have in common, besides their settings."""

Row = TypeVar("Row", Record, CurvePoint)


def arm_order(arm: str) -> tuple[int, str]:
    """Sort key of an arm: the known ones in reading order, then others by name."""
    return (ARMS.index(arm) if arm in ARMS else len(ARMS), arm)


def configuration_name(values: Mapping[str, float]) -> str:
    """What tells a configuration from the others of a run: "num_layers=4,learning_rate=0.1"."""
    order = ("num_layers", "epochs", "learning_rate")  # as in every row id that was ever written
    return ",".join(f"{name}={values[name]:g}" for name in order if name in values)


def run_key(record: Record) -> tuple[str, ...]:
    """What makes rows comparable: all but data, arm, seed and level."""
    names = [name for name in RUN_COLUMNS if name != "data_fingerprint"]
    return (*(getattr(record, name) for name in names), compact_json(record.settings))


def _record_key(record: Record) -> tuple[Any, ...]:
    return (
        *run_key(record),
        arm_order(record.arm),
        record.target_sparsity,
        record.seed,
        record.draw,
        record.row_id,
        CHECKPOINTS.index(record.checkpoint),
        SPLITS.index(record.split),
    )


def _curve_key(point: CurvePoint) -> tuple[Any, ...]:
    sparsity = point.target_sparsity
    return (arm_order(point.arm), sparsity, point.seed, point.draw, point.row_id, point.epoch)


def sort_records(records: Iterable[Record]) -> list[Record]:
    """Records in the canonical order of the file."""
    return sorted(records, key=_record_key)


def write_records(path: str | os.PathLike[str], records: Iterable[Record]) -> None:
    """Writes all records atomically, in canonical order.

    Raises `UserError`, with the old file untouched, where a value does not fit
    its column, a row is there twice, or the file cannot be written.
    """
    _write_rows(path, Record, list(records), _record_key)


def read_records(path: str | os.PathLike[str]) -> list[Record]:
    """Reads a file of `write_records`; `UserError` names the line and column at fault."""
    return _read_rows(path, Record, _record_key)


def write_curves(path: str | os.PathLike[str], points: Iterable[CurvePoint]) -> None:
    """Writes values per epoch atomically, in canonical order; errors as `write_records`."""
    _write_rows(path, CurvePoint, list(points), _curve_key)


def read_curves(path: str | os.PathLike[str]) -> list[CurvePoint]:
    """Reads a file of `write_curves`; errors as `read_records`."""
    return _read_rows(path, CurvePoint, _curve_key)


def _write_rows(
    path: str | os.PathLike[str],
    row_type: type[Row],
    rows: list[Row],
    key: Callable[[Row], tuple[Any, ...]],
) -> None:
    lines = [[_format_cell(row, column) for column in fields(row_type)] for row in rows]
    keyed = sorted(zip(map(key, rows), lines, strict=True))
    for (before, _), (after, line) in zip(keyed, keyed[1:], strict=False):
        if before == after:
            raise UserError(f"{path}: row {line[0]} would be written twice; each row goes in once")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(column.name for column in fields(row_type))
    writer.writerows(line for _, line in keyed)
    write_text_atomic(path, text.getvalue())


def _format_cell(row: Record | CurvePoint, column: Any) -> str:
    kind: Kind = column.metadata["kind"]
    value = getattr(row, column.name)
    try:
        cell = kind.format(value)
        kind.parse(cell)  # what is written can be read
    except (ValueError, TypeError, AttributeError):
        raise UserError(
            f"row {row.row_id!r}: column {column.name!r} cannot hold {value!r}; "
            f"expected {kind.expected}"
        ) from None
    return cell


def _read_rows(
    path: str | os.PathLike[str],
    row_type: type[Row],
    key: Callable[[Row], tuple[Any, ...]],
) -> list[Row]:
    text = _read_text(path)
    columns: tuple[Any, ...] = fields(row_type)
    names = [column.name for column in columns]
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[Row] = []
    seen: dict[tuple[Any, ...], int] = {}
    try:
        header = next(reader, [])
        # A file of the first edition ends before the columns of the second.
        first = sum("since" not in column.metadata for column in columns)
        if len(header) == first:
            columns, names = columns[:first], names[:first]
        if header != names:
            raise UserError(f"{path}: line 1: {_header_fault(header, names)}")
        for cells in reader:
            line = reader.line_num
            if len(cells) != len(names):
                raise UserError(
                    f"{path}: line {line}: {len(cells)} cells where {len(names)} were expected"
                )
            values = {
                column.name: _parse_cell(path, line, column, cell)
                for column, cell in zip(columns, cells, strict=True)
            }
            row = row_type(**values)
            first = seen.setdefault(key(row), line)
            if first != line:
                raise UserError(f"{path}: line {line}: the same row as line {first}; remove one")
            rows.append(row)
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num}: not valid CSV ({error})") from None
    return rows


def _header_fault(header: list[str], names: list[str]) -> str:
    missing = [name for name in names if name not in header]
    unknown = [name for name in header if name not in names]
    if missing:
        return f"column {missing[0]!r} is missing; is this a file that lth_flax wrote?"
    if unknown:
        return f"unknown column {unknown[0][:80]!r}; is this a file that lth_flax wrote?"
    return f"columns in another order or repeated; expected {','.join(names)}"


def _parse_cell(path: str | os.PathLike[str], line: int, column: Any, cell: str) -> Any:
    kind: Kind = column.metadata["kind"]
    try:
        return kind.parse(cell)
    except (ValueError, RecursionError):
        shown = cell if len(cell) <= 40 else cell[:37] + "..."
        raise UserError(
            f"{path}: line {line}: column {column.name!r}: "
            f"expected {kind.expected}, found {shown!r}"
        ) from None


def _read_text(path: str | os.PathLike[str]) -> str:
    try:
        size = os.stat(path).st_size
        if size > MAX_FILE_BYTES:
            raise UserError(f"{path}: {size} bytes; at most {MAX_FILE_BYTES} are read")
        content = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}: line {line}: not UTF-8 text") from None
    if text and not text.endswith("\n"):
        line = text.count("\n") + 1
        raise UserError(f"{path}: line {line}: cut short (no end of line); restore the whole file")
    return text
