"""Sources in text files: any table of texts and labels, and the financial tweets."""

import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from lth_flax.data.cleaning import clean_text, clean_tweet
from lth_flax.data.labels import class_names_of, indices, reading
from lth_flax.data.source import Source, SourceOptions, make_source
from lth_flax.data.tables import Row, Table, read_table
from lth_flax.errors import UserError

_SENTIMENTS = ("negative", "neutral", "positive")


class _Files(NamedTuple):
    """The tables of the train, the validation and the test file, in this order."""

    tables: dict[str, Table]

    def rows(self) -> list[tuple[str, Row]]:
        """(path, row) of all files."""
        return [(table.path, row) for table in self.tables.values() for row in table.rows]

    def official(self, split: str) -> Bool[np.ndarray, "texts"] | None:
        if split not in self.tables:
            return None
        lengths = [len(table.rows) for table in self.tables.values()]
        return np.repeat([name == split for name in self.tables], lengths)

    def source(
        self, name: str, names: list[str], class_names: list[str], clean: Callable[[str], str]
    ) -> Source:
        return make_source(
            name,
            [clean(row.text) for _, row in self.rows()],
            indices(names, class_names),
            class_names,
            official_test=self.official("test"),
            official_validation=self.official("validation"),
            files=[Path(os.path.expanduser(table.path)) for table in self.tables.values()],
        )


def financial_tweets(options: SourceOptions) -> Source:
    """The "Stock-Market Sentiment Dataset" of Kaggle (yash612); it has no test split."""
    columns = (options.text_column or "Text", options.label_column or "Sentiment")
    files = _read("financial_tweets", options, columns)
    expected = "1, 0 or -1, or the words positive, negative, neutral"
    values: list[str] = []
    for path, row in files.rows():
        value = reading(row.label)
        if value not in _SENTIMENTS and value not in (Decimal(1), Decimal(0), Decimal(-1)):
            raise UserError(
                f"{path}, line {row.line}: label {row.label[:40]!r} in column {columns[1]!r}; "
                f"expected {expected}: correct the line"
            )
        values.append(value if isinstance(value, str) else str(int(value)))
    present = set(values)
    if not (present <= set(_SENTIMENTS) or present.isdisjoint(_SENTIMENTS)):
        raise UserError(
            f"{options.data_file}: column {columns[1]!r} mixes numbers and words "
            f"({', '.join(sorted(present))}); expected {expected}: use one kind"
        )
    # Copies of the file write "negative" as 0 or as -1; beside -1, 0 is "neutral".
    zero = "neutral" if "-1" in present else "negative"
    words = {"1": "positive", "-1": "negative", "0": zero}
    names = [words.get(value, value) for value in values]
    class_names = [word for word in _SENTIMENTS if word in names]
    if len(class_names) < 2:
        raise UserError(
            f"{options.data_file}: every label in column {columns[1]!r} is {values[0]!r}; expected "
            f"{expected}, at least two of them: give a file with both"
        )
    return files.source("financial_tweets", names, class_names, clean_tweet)


def csv(options: SourceOptions) -> Source:
    """Any table; the classes are the distinct labels, sorted."""
    if options.data_file and not (options.text_column and options.label_column):
        raise UserError(
            "--dataset=csv needs --text_column and --label_column: give the names of the two "
            f"columns in the first line of {options.data_file}, or their numbers from 0"
        )
    columns = (str(options.text_column), str(options.label_column))
    files = _read("csv", options, columns)
    labels = [row.label.strip() for _, row in files.rows()]
    for (path, row), label in zip(files.rows(), labels, strict=True):
        if reading(label) == "":
            raise UserError(
                f"{path}, line {row.line}: no label in column {columns[1]!r}; expected the name of "
                "a class: correct the line or remove it"
            )
    where = f"{', '.join(table.path for table in files.tables.values())}: column {columns[1]!r}"
    others = {row.label.strip() for table in files.tables.values() for row in table.rows[1:]}
    for table in files.tables.values():
        first = table.rows[0]
        if not table.has_header and first.label.strip() not in others:
            raise UserError(
                f"{table.path}, line {first.line}: {first.label.strip()[:40]!r} in column "
                f"{columns[1]} is the label of a first line alone; expected a class "
                "of several texts: if the line names the columns, give these names as "
                "--text_column and --label_column"
            )
    return files.source("csv", labels, class_names_of(labels, where), clean_text)


def _read(name: str, options: SourceOptions, columns: tuple[str, str]) -> _Files:
    if not options.data_file:
        raise UserError(f"--dataset={name} needs a file: give the path of a CSV as --data_file")
    paths = {
        "train": ("--data_file", options.data_file),
        "validation": ("--validation_file", options.validation_file),
        "test": ("--test_file", options.test_file),
    }
    tables: dict[str, Table] = {}
    for split, (flag, path) in paths.items():
        if not path:
            continue
        for other, table in tables.items():
            if os.path.realpath(table.path) == os.path.realpath(path):
                raise UserError(
                    f"{path} is given as {paths[other][0]} and as {flag}: expected a file for "
                    "each split; leave one out and texts are drawn for it"
                )
        tables[split] = read_table(
            path,
            columns,
            wanted=f"a CSV file as {flag}",
            separator=options.separator,
            encoding=options.encoding,
        )
    return _Files(tables)
