"""Result rows as CSV: typed, in one canonical order, and never half written.

`records.csv` has one row per (replicate, checkpoint, split) and is enough to
redo every table, test and figure. Accuracies and shares are fractions in
[0, 1]; floats are written with `repr`, so they come back as the same bits;
None is an empty cell. Rows are sorted on writing, so blocks of seeds that are
merged give the same bytes as one run over all seeds.
"""

import csv
import functools
import gzip
import io
import itertools
import json
import math
import operator
import os
import re
import sys
import types
import typing
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

from lth_flax.errors import UserError
from lth_flax.files import write_text_atomic

ARMS = ("dense", "ticket", "reinit", "shuffled", "random")
CHECKPOINTS = ("last", "best")
SPLITS = ("test", "validation")
MAX_FILE_BYTES = 1 << 30


def compact_json(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, ASCII, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def csv_text(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """A table as CSV; floats keep their bits, and None is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


# The kinds of cells.


class Kind(NamedTuple):
    """How one kind of cell is read, checked, written, and named in an error."""

    expected: str
    read: Callable[[str], Any]
    fits: Callable[[Any], bool] = lambda value: True
    write: Callable[[Any], str] = str
    pattern: re.Pattern[str] = re.compile(".+", re.DOTALL)
    optional: bool = False

    def parse(self, cell: str) -> Any:
        """The value of a cell; raises ValueError where there is none."""
        if self.optional and not cell:
            return None
        if self.pattern.fullmatch(cell) and self.fits(value := self.read(cell)):
            return value
        raise ValueError

    def format(self, value: Any) -> str:
        """The cell of a value; raises ValueError or TypeError where it could not be read."""
        cell = "" if self.optional and value is None else self.write(value)
        self.parse(cell)
        return cell


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def _json(cell: str, kind: type) -> Any:
    value = json.loads(cell, parse_constant=_refuse)  # NaN and the infinities
    if not isinstance(value, kind):
        raise ValueError
    return value


@functools.lru_cache(maxsize=256)
def _object(cell: str) -> dict[str, Any]:
    """One object for equal cells: the settings of a run stand in each of its rows."""
    found: dict[str, Any] = _json(cell, dict)
    return found


def _shared_text(value: Mapping[str, Any]) -> str:
    """One text for equal objects."""
    return sys.intern(compact_json(value))


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise ValueError
    return float(value)


def _write_count(value: Any) -> str:
    if isinstance(value, bool):
        raise TypeError
    return str(value.__index__())  # refuses 3.0, takes NumPy integers


def _write_float(value: Any) -> str:
    return repr(float(value))


def _are_shares(values: Iterable[float]) -> bool:
    return all(0 <= value <= 1 for value in values)  # False for nan


def _write_metrics(values: Mapping[str, float]) -> str:
    # No JSON has a NaN or an infinity: they are null.
    return compact_json({k: float(v) if math.isfinite(v) else None for k, v in values.items()})


_PLAIN = re.compile(r"[^\s_]+")  # float() lets spaces and underscores through
Text = Annotated[str, Kind("text without control characters", sys.intern, str.isprintable)]
Checkpoint = Annotated[str, Kind(" or ".join(CHECKPOINTS), str, CHECKPOINTS.__contains__)]
Split = Annotated[str, Kind(" or ".join(SPLITS), str, SPLITS.__contains__)]
Count = Annotated[
    int, Kind("a whole number from 0", int, write=_write_count, pattern=re.compile("[0-9]{1,18}"))
]
Number = Annotated[float, Kind("a number", float, write=_write_float, pattern=_PLAIN)]
Share = Annotated[
    float,
    Kind("a number from 0 to 1", float, lambda value: 0 <= value <= 1, _write_float, _PLAIN),
]
Truth = Annotated[
    bool,
    Kind(
        "true or false",
        "true".__eq__,
        write=lambda value: "true" if value else "false",
        pattern=re.compile("true|false"),
    ),
]
Settings = Annotated[
    Mapping[str, Any],
    Kind(
        "a JSON object",
        _object,
        lambda value: bool(compact_json(value)),  # refuses 1e999
        _shared_text,
    ),
]
Shares = Annotated[
    tuple[float, ...],
    Kind(
        "a JSON list of numbers from 0 to 1",
        lambda cell: tuple(map(_number, _json(cell, list))),
        _are_shares,
        lambda values: compact_json(list(map(float, values))),
    ),
]
Densities = Annotated[
    Mapping[str, float],
    Kind(
        "a JSON object of numbers from 0 to 1",
        lambda cell: {name: _number(value) for name, value in _json(cell, dict).items()},
        lambda values: _are_shares(values.values()),
        lambda values: compact_json({name: float(value) for name, value in values.items()}),
    ),
]
Metrics = Annotated[
    Mapping[str, float],
    Kind(
        "a JSON object of numbers",
        lambda cell: {
            name: math.nan if value is None else _number(value)
            for name, value in _json(cell, dict).items()
        },
        write=_write_metrics,
    ),
]


# The rows.


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
    Records that end before a column that has a default here are older, and are read as they are.
    """

    row_id: Text
    experiment: Text
    dataset: Text
    data_fingerprint: Text
    settings: Settings
    schedule: Text
    scope: Text
    criterion: Text
    mask_from: Text
    arm: Text
    seed: Count
    draw: Count
    level: Count
    target_sparsity: Share
    achieved_sparsity: Share
    achieved_sparsity_all: Share
    checkpoint: Checkpoint
    epoch: Count
    best_epoch: Count
    split: Split
    examples: Count
    accuracy: Share | None
    balanced_accuracy: Share | None
    loss: Number
    predicted_shares: Shares
    majority_accuracy: Share | None
    density: Densities
    connected: Truth
    mask_steps: Count
    diverged_epoch: Count | None = None
    train_examples: Count | None = None
    test_drawn: Truth | None = None
    metrics: Metrics = field(default_factory=dict)
    primary: Text = "accuracy"
    higher_is_better: Truth = True
    method: Text | None = None
    train_steps: Count | None = None
    dense_steps: Number | None = None
    search: Settings = field(default_factory=dict)
    diagnostics: Metrics = field(default_factory=dict)

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

    row_id: Text
    arm: Text
    seed: Count
    draw: Count
    target_sparsity: Share
    epoch: Count
    train_loss: Number | None
    validation_loss: Number | None
    validation_accuracy: Share | None
    validation_score: Number | None = None


Row = TypeVar("Row", Record, CurvePoint)
Item = TypeVar("Item")
Key = TypeVar("Key")


def _kinds(row_type: type[Any]) -> dict[str, Kind]:
    """The kind of every column, in order."""
    found = {}
    for name, hint in typing.get_type_hints(row_type, include_extras=True).items():
        optional = typing.get_origin(hint) in (types.UnionType, typing.Union)
        kind: Kind = (typing.get_args(hint)[0] if optional else hint).__metadata__[0]
        if optional:
            kind = kind._replace(expected=f"{kind.expected} or nothing", optional=True)
        found[name] = kind
    return found


_KINDS = {row_type: _kinds(row_type) for row_type in (Record, CurvePoint)}

RUN_COLUMNS = (
    "experiment", "dataset", "data_fingerprint", "schedule", "scope", "criterion", "mask_from",
)  # fmt: skip
"""What the rows of a run have in common, besides their settings."""


def where(rows: Iterable[Record], **columns: Any) -> list[Record]:
    """The rows whose columns have these values.

    >>> where([], arm="dense", split="test")
    []
    """
    if not columns:
        return list(rows)
    of_row = operator.attrgetter(*columns)  # an answer is made of hundreds of such passes
    wanted = tuple(columns.values()) if len(columns) > 1 else next(iter(columns.values()))
    return [row for row in rows if of_row(row) == wanted]


def grouped(rows: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """Rows by their key, keys in the order of their first row.

    >>> grouped("abca", str.upper)
    {'A': ['a', 'a'], 'B': ['b'], 'C': ['c']}
    """
    found: dict[Key, list[Item]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found


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
    return (*(getattr(record, name) for name in names), _shared_text(record.settings))


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
    kinds = _KINDS[row_type]
    lines = [[_cell(row, name, kind) for name, kind in kinds.items()] for row in rows]
    keyed = sorted(zip(map(key, rows), lines, strict=True))
    for (before, _), (after, line) in itertools.pairwise(keyed):
        if before == after:
            raise UserError(f"{path}: row {line[0]} would be written twice; each row goes in once")
    write_text_atomic(path, csv_text(kinds, (line for _, line in keyed)))


def _cell(row: Record | CurvePoint, name: str, kind: Kind) -> str:
    value = getattr(row, name)
    try:
        return kind.format(value)
    except (ValueError, TypeError, AttributeError):
        raise UserError(
            f"row {row.row_id!r}: column {name!r} cannot hold {value!r}; expected {kind.expected}"
        ) from None


def _read_rows(
    path: str | os.PathLike[str], row_type: type[Row], key: Callable[[Row], tuple[Any, ...]]
) -> list[Row]:
    # In pieces: a text in a StringIO takes four bytes a character.
    file = io.TextIOWrapper(io.BytesIO(_read_bytes(path)), encoding="utf-8", newline="")
    reader = csv.reader(file, strict=True)
    kinds, names = _KINDS[row_type], list(_KINDS[row_type])
    rows: list[Row] = []
    seen: dict[tuple[Any, ...], int] = {}
    try:
        header = next(reader, [])
        least = sum(f.default is f.default_factory is MISSING for f in fields(row_type))
        if len(header) >= least:  # an older file ends before columns that have a default
            names = names[: len(header)]
        if header != names:
            raise UserError(f"{path}: line 1: {_header_fault(header, list(kinds))}")
        # Cells repeat themselves: most columns have few values, in many rows.
        parse = {name: functools.lru_cache(maxsize=1024)(kinds[name].parse) for name in names}
        for cells in reader:
            line = reader.line_num
            if len(cells) != len(names):
                raise UserError(
                    f"{path}: line {line}: {len(cells)} cells where {len(names)} were expected"
                )
            values = {}
            for name, cell in zip(names, cells, strict=True):
                try:
                    values[name] = parse[name](cell)
                except (ValueError, RecursionError):
                    shown = cell if len(cell) <= 40 else cell[:37] + "..."
                    raise UserError(
                        f"{path}: line {line}: column {name!r}: "
                        f"expected {kinds[name].expected}, found {shown!r}"
                    ) from None
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


def as_stored(path: Path) -> Path:
    """The file, or the one of its name and .gz, where only that is there: recorded files are
    packed.
    """
    packed = path.with_name(f"{path.name}.gz")
    return packed if not path.exists() and packed.exists() else path


def _read_bytes(path: str | os.PathLike[str]) -> bytes:
    """UTF-8 whose last line is whole."""
    try:
        size = os.stat(path).st_size
        content = Path(path).read_bytes() if size <= MAX_FILE_BYTES else b""
        if os.fspath(path).endswith(".gz"):
            content = gzip.decompress(content)
            size = max(size, len(content))
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or "damaged: restore it"
        raise UserError(f"{path}: cannot be read ({reason})") from None
    if size > MAX_FILE_BYTES:
        raise UserError(f"{path}: {size} bytes; at most {MAX_FILE_BYTES} are read")
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}: line {line}: not UTF-8 text") from None
    if content and not content.endswith(b"\n"):
        line = content.count(b"\n") + 1
        raise UserError(f"{path}: line {line}: cut short (no end of line); restore the whole file")
    return content
