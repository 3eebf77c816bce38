"""A dataset by name: its cleaned texts and its labels.

To add one: a function from `SourceOptions` to `Source`, and its name in `SOURCES`.
"""

import csv
import dataclasses
import hashlib
import io
import math
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from lth_flax.data import imdb, synthetic
from lth_flax.data.cleaning import clean_text, clean_tweet
from lth_flax.data.tokenizer import is_empty
from lth_flax.errors import UserError

_MAX_CLASSES = 1000
_MIN_REPEATS = 2  # texts per class, on average, that labels have at least


@dataclasses.dataclass(frozen=True)
class SourceOptions:
    """What the sources can be told; each takes what concerns it."""

    data_file: str | None = None
    data_dir: str | None = None
    text_key: str | None = None
    label_key: str | None = None
    text_column: str | None = None
    label_column: str | None = None
    synthetic_size: int = synthetic.DEFAULT_SIZE
    synthetic_seed: int = 0


@dataclasses.dataclass(frozen=True)
class Source:
    """Texts and labels, before any split.

    Attributes:
      name: the dataset's name.
      texts: cleaned, not tokenized; one that cleaning empties stays, as "".
      labels: int32, 0 to `len(class_names) - 1`.
      class_names: in the order of the labels.
      official_test: true for the texts of the set's own test split; None where
        it has none.
      num_empty: texts without a token.
      fingerprint: sha256, hexadecimal, of everything above but the name.
    """

    name: str
    texts: tuple[str, ...]
    labels: Int[np.ndarray, "texts"]
    class_names: tuple[str, ...]
    official_test: Bool[np.ndarray, "texts"] | None
    num_empty: int
    fingerprint: str


def load_source(name: str, options: SourceOptions) -> Source:
    """The dataset called `name`: one of `SOURCES`, or a TFDS text classification set.

    Raises:
      UserError: it is unknown, or anything about it is not as expected.
    """
    if name in SOURCES:
        return SOURCES[name](options)
    return _tfds(name, options)


def _source(
    name: str,
    texts: Sequence[str],
    labels: Int[np.ndarray, "texts"],
    class_names: Sequence[str],
    official_test: Bool[np.ndarray, "texts"] | None = None,
) -> Source:
    labels = np.asarray(labels, np.int32)
    digest = hashlib.sha256()
    for part in (texts, class_names):
        digest.update(len(part).to_bytes(8, "little"))
        for item in part:
            data = item.encode("utf-8", errors="surrogatepass")
            digest.update(len(data).to_bytes(8, "little") + data)
    digest.update(labels.astype("<i4").tobytes())
    if official_test is not None:
        digest.update(b"test" + official_test.astype(np.uint8).tobytes())
    num_empty = sum(map(is_empty, texts))
    return Source(
        name, tuple(texts), labels, tuple(class_names), official_test, num_empty, digest.hexdigest()
    )


def _synthetic(options: SourceOptions) -> Source:
    texts, labels = synthetic.generate(options.synthetic_size, options.synthetic_seed)
    return _source("synthetic", texts, labels, synthetic.CLASS_NAMES)


# CSV files ----------------------------------------------------------------------------

_SENTIMENTS = ("negative", "neutral", "positive")


def _financial_tweets(options: SourceOptions) -> Source:
    """The "Stock-Market Sentiment Dataset" of Kaggle (yash612); there is no test split."""
    path = _data_file("financial_tweets", options)
    columns = (options.text_column or "Text", options.label_column or "Sentiment")
    rows = list(_read_csv(path, columns))
    expected = "1, 0 or -1, or the words positive, negative, neutral"
    values = []
    for line, _, label in rows:
        values.append(label.strip().lower())
        if values[-1] not in ("1", "0", "-1", *_SENTIMENTS):
            raise UserError(
                f"{path}, line {line}: label {label[:40]!r} in column {columns[1]!r}; expected "
                f"{expected}: correct the line"
            )
    present = set(values)
    if not (present <= set(_SENTIMENTS) or present.isdisjoint(_SENTIMENTS)):
        raise UserError(
            f"{path}: column {columns[1]!r} mixes numbers and words "
            f"({', '.join(sorted(present))}); expected {expected}: use one kind"
        )
    # Copies of the file write "negative" as 0 or as -1; beside -1, 0 is "neutral".
    zero = "neutral" if "-1" in present else "negative"
    words = {"1": "positive", "-1": "negative", "0": zero}
    names = [words.get(value, value) for value in values]
    class_names = [word for word in _SENTIMENTS if word in names]
    if len(class_names) < 2:
        raise UserError(
            f"{path}: every label in column {columns[1]!r} is {values[0]!r}; expected {expected}, "
            "at least two of them: give a file with both"
        )
    texts = [clean_tweet(raw) for _, raw, _ in rows]
    return _source("financial_tweets", texts, _indices(names, class_names), class_names)


def _csv(options: SourceOptions) -> Source:
    """Any CSV file with a header; the classes are the distinct labels, sorted."""
    path = _data_file("csv", options)
    if not (options.text_column and options.label_column):
        raise UserError(
            "--dataset=csv needs --text_column and --label_column: give the names of the two "
            f"columns in the first line of {path}"
        )
    rows = list(_read_csv(path, (options.text_column, options.label_column)))
    labels = [label.strip() for _, _, label in rows]
    for (line, _, _), label in zip(rows, labels, strict=True):
        if not label:
            raise UserError(
                f"{path}, line {line}: no label in column {options.label_column!r}; expected the "
                "name of a class: correct the line or remove it"
            )
    class_names = _sorted_names(set(labels))
    where = f"{path}: column {options.label_column!r}"
    if len(class_names) < 2:
        raise UserError(
            f"{where} has {labels[0][:40]!r} in every row; expected at least two classes: give "
            "another --label_column"
        )
    too_many = len(class_names) > max(2, len(labels) // _MIN_REPEATS)
    if len(class_names) > _MAX_CLASSES or too_many:
        raise UserError(
            f"{where} has {len(class_names)} distinct values in {len(labels)} rows; expected at "
            f"most {_MAX_CLASSES} classes with {_MIN_REPEATS} texts each on average: give the "
            "column of the labels as --label_column"
        )
    texts = [clean_text(raw) for _, raw, _ in rows]
    return _source("csv", texts, _indices(labels, class_names), class_names)


def _data_file(name: str, options: SourceOptions) -> str:
    if not options.data_file:
        raise UserError(f"--dataset={name} needs a file: give the path of a CSV as --data_file")
    return options.data_file


def _indices(names: Sequence[str], class_names: Sequence[str]) -> Int[np.ndarray, "texts"]:
    index = {name: i for i, name in enumerate(class_names)}
    return np.array([index[name] for name in names], np.int32)


def _sorted_names(names: set[str]) -> list[str]:
    """By value if all are numbers ("2" before "10"), else as text."""
    try:
        numbers = {name: float(name) for name in names}
    except ValueError:
        return sorted(names)
    if not all(map(math.isfinite, numbers.values())):
        return sorted(names)
    return sorted(names, key=lambda name: (numbers[name], name))


def _read_csv(path: str, columns: tuple[str, str]) -> Iterator[tuple[int, str, str]]:
    """Yields (line, text, label); every complaint names the file, and the line if it can."""
    if columns[0] == columns[1]:
        raise UserError(
            f"column {columns[0]!r} of {path} cannot be both text and label: give two columns as "
            "--text_column and --label_column"
        )
    try:
        # A pipe may never end, and a device has no end.
        if not stat.S_ISREG(os.stat(path).st_mode) and not os.path.isdir(path):
            raise UserError(f"{path} is not a plain file: give a CSV file as --data_file")
        raw = Path(path).read_bytes()
    except OSError as error:
        raise UserError(
            f"cannot read {path} ({error.strerror or error}): give a CSV file as --data_file"
        ) from None
    try:
        content = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path}, line {line}: not UTF-8 (byte 0x{raw[error.start]:02x}); save it as UTF-8"
        ) from None
    if (at := raw.find(b"\0")) >= 0:
        line = raw[:at].count(b"\n") + 1
        raise UserError(f"{path}, line {line}: a NUL byte; expected text: save it as UTF-8 CSV")
    rows = _rows(path, content)
    _, header = next(rows, (0, []))
    found = ", ".join(map(repr, (name[:40] for name in header[:20]))) or "none"
    for column in columns:
        if header.count(column) != 1:
            how = "twice" if column in header else "no"
            raise UserError(
                f"{path}: {how} column {column!r} in the first line; found {found}, expected "
                f"{columns[0]!r} and {columns[1]!r}: name the columns with --text_column and "
                "--label_column"
            )
    where = [header.index(column) for column in columns]
    empty = True
    for line, row in rows:
        if len(row) != len(header):
            raise UserError(
                f"{path}, line {line}: {len(row)} fields; expected {len(header)}, as in the first "
                "line: put a text that has commas or line breaks in double quotes"
            )
        empty = False
        yield line, row[where[0]], row[where[1]]
    if empty:
        raise UserError(f"{path} has no rows: expected texts and labels below the first line")


def _rows(path: str, content: str) -> Iterator[tuple[int, list[str]]]:
    """Yields (line where it starts, fields), without blank lines."""
    limit = csv.field_size_limit()
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    while True:
        line = reader.line_num + 1
        # The limit is global and 128 KiB; a text may be longer, never than the file.
        csv.field_size_limit(max(limit, len(content)))
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(
                f"{path}, line {line}: not CSV ({error}); expected a text that has quotes to be in "
                'double quotes, with each quote inside doubled ("")'
            ) from None
        finally:
            csv.field_size_limit(limit)
        if row:
            yield line, row


# TFDS ---------------------------------------------------------------------------------


def _imdb_reviews(options: SourceOptions) -> Source:
    """The Large Movie Review Dataset (Maas et al., 2011): 25,000 + 25,000 reviews."""
    return _read_tfds("imdb_reviews", options, clean_text, prepare=imdb.prepare_imdb)


def _tfds(name: str, options: SourceOptions) -> Source:
    return _read_tfds(name, options, clean_text)


def _read_tfds(
    name: str,
    options: SourceOptions,
    clean: Callable[[str], str],
    prepare: Callable[[Path], None] | None = None,
) -> Source:
    """Reads the splits of a prepared set: train, and test where there is one.

    Where there is no test split, or its labels are withheld (-1), `validation` is
    the official test.
    """
    import tensorflow_datasets as tfds

    data_dir = Path(options.data_dir or tfds.core.constants.DATA_DIR).expanduser()
    with imdb.quiet_tfds():
        builder = _builder(name, data_dir)
        keys = _keys(name, builder.info.features, options)
    if not Path(builder.data_dir).is_dir():
        if prepare is None:
            raise UserError(
                f"{name} is not prepared in {data_dir}: expected {builder.data_dir}; prepare it "
                f"with `tfds build {name} --file_format=array_record`, or give its --data_dir"
            )
        prepare(data_dir)
    with imdb.quiet_tfds():
        builder = _builder(name, data_dir)
        splits = _splits(name, builder, keys)
        feature = builder.info.features[keys[1]]
    texts = [clean(raw) for raws, _ in splits for raw in raws]
    labels = np.concatenate([labels for _, labels in splits])
    if (labels < 0).any():
        raise UserError(
            f"{name}: {int((labels < 0).sum())} labels in {keys[1]!r} are negative, which is how "
            "TFDS marks a missing one; expected a label for every text: give another --label_key"
        )
    class_names = getattr(feature, "names", None)
    if class_names is None:
        values = np.unique(labels)
        labels, class_names = np.searchsorted(values, labels), [str(value) for value in values]
    if not 2 <= len(class_names) <= _MAX_CLASSES:
        raise UserError(
            f"{name}: {keys[1]!r} has {len(class_names)} classes; expected 2 to {_MAX_CLASSES}: "
            "give another --label_key"
        )
    official_test = None
    if len(splits) == 2:
        official_test = np.repeat([False, True], [len(raws) for raws, _ in splits])
    return _source(name, texts, labels, class_names, official_test)


def _builder(name: str, data_dir: Path) -> Any:
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, data_dir=data_dir)
    except Exception as error:  # not found, not a name, a hub that is not installed, damaged
        first = re.match(r"\w+", name)
        if first and (data_dir / first.group()).is_dir():
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"cannot read {name} in {data_dir / first.group()} ({reason}): expected a prepared "
                "TFDS data set; delete that folder and prepare it again"
            ) from None
        known = ", ".join(SOURCES)
        raise UserError(
            f"unknown dataset {name!r}: expected {known}, or the name of a TFDS text "
            "classification set"
        ) from None


def _keys(name: str, features: Any, options: SourceOptions) -> tuple[str, str]:
    """Names of the text feature and of the label feature."""
    import tensorflow_datasets as tfds

    kinds = dict(features.items()) if hasattr(features, "items") else {}
    texts = [key for key, kind in kinds.items() if isinstance(kind, tfds.features.Text)]
    labels = [key for key, kind in kinds.items() if isinstance(kind, tfds.features.ClassLabel)]
    integers = [
        key
        for key, kind in kinds.items()
        if kind.shape == () and np.issubdtype(kind.np_dtype, np.integer)
    ]

    def choose(flag: str, given: str | None, unique: list[str], allowed: list[str]) -> str:
        default = flag.removesuffix("_key")
        if given is None:
            given = default if default in allowed else unique[0] if len(unique) == 1 else None
        if given in allowed:
            return given
        what = f"has no {default} called {given!r}" if given else f"has no one {default}"
        raise UserError(
            f"{name} {what}: expected --{flag} to be one of {', '.join(allowed) or 'none at all'};"
            f" its features are {', '.join(kinds) or features}"
        )

    return (
        choose("text_key", options.text_key, texts, texts),
        choose("label_key", options.label_key, labels or integers, integers),
    )


def _splits(
    name: str, builder: Any, keys: tuple[str, str]
) -> list[tuple[list[str], Int[np.ndarray, "texts"]]]:
    """Texts and labels of train, and of the official test if there is one."""
    available = builder.info.splits
    if "train" not in available:
        raise UserError(
            f"{name} in {os.fspath(builder.data_dir)} has no train split (found "
            f"{', '.join(available) or 'none'}): choose a dataset that has one, or prepare it again"
        )
    train = _read_split(name, builder, "train", keys)
    for split in ("test", "validation"):
        if split in available:
            held_out = _read_split(name, builder, split, keys)
            if (held_out[1] >= 0).any():
                return [train, held_out]
    return [train]


def _read_split(
    name: str, builder: Any, split: str, keys: tuple[str, str]
) -> tuple[list[str], Int[np.ndarray, "texts"]]:
    try:
        data = builder.as_data_source(split=split)
        # All at once: three times as fast as one by one.
        examples = data.__getitems__(list(range(len(data))))
    except Exception as error:  # another file format, missing or damaged files
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"cannot read split {split} of {name} in {os.fspath(builder.data_dir)} ({reason}): "
            "expected complete array_record files; delete that folder and prepare it again"
        ) from None
    texts = [example[keys[0]].decode("utf-8", errors="replace") for example in examples]
    return texts, np.array([example[keys[1]] for example in examples], np.int64)


SOURCES: dict[str, Callable[[SourceOptions], Source]] = {
    "synthetic": _synthetic,
    "financial_tweets": _financial_tweets,
    "imdb_reviews": _imdb_reviews,
    "csv": _csv,
}
