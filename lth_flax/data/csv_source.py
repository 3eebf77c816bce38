"""Sources in text files: any table of texts and labels, and the financial tweets."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path

from lth_flax.config import Config
from lth_flax.data.cleaning import clean_text, clean_tweet
from lth_flax.data.files import FILES, given_files
from lth_flax.data.labels import class_names_of, indices, reading
from lth_flax.data.source import Source, official_splits
from lth_flax.data.tables import Row, Table, read_table
from lth_flax.errors import UserError

Tables = Mapping[str, Table]
"""The tables of the train, the validation and the test file, in this order."""

_SENTIMENTS = ("negative", "neutral", "positive")
_NUMBERS = (Decimal(1), Decimal(0), Decimal(-1))


def financial_tweets(config: Config) -> Source:
    """The "Stock-Market Sentiment Dataset" of Kaggle (yash612); it has no test split."""
    columns = (config.text_column or "Text", config.label_column or "Sentiment")
    tables = _read(config, columns, clean_tweet)
    expected = "1, 0 or -1, or the words positive, negative, neutral"
    says = []
    for row in _rows(tables):
        says.append(reading(row.label))
        if says[-1] not in (*_SENTIMENTS, *_NUMBERS):
            raise UserError(
                f"{row.where}: label {row.label[:40]!r} in column {columns[1]!r}; "
                f"expected {expected}: correct the line"
            )
    present = set(says)
    if len(set(map(type, present))) > 1:
        raise UserError(
            f"{config.data_file}: column {columns[1]!r} mixes numbers and words "
            f"({', '.join(sorted(map(str, present)))}); expected {expected}: use one kind"
        )
    # Copies of the file write "negative" as 0 or as -1; beside -1, 0 is "neutral".
    zero = "neutral" if Decimal(-1) in present else "negative"
    words = dict(zip(_NUMBERS, ("positive", zero, "negative"), strict=True))
    names = [says if isinstance(says, str) else words[says] for says in says]
    class_names = [word for word in _SENTIMENTS if word in names]
    if len(class_names) < 2:
        raise UserError(
            f"{config.data_file}: every label in column {columns[1]!r} is {str(says[0])!r}; "
            f"expected {expected}, at least two of them: give a file with both"
        )
    return _source("financial_tweets", tables, names, class_names)


def csv(config: Config) -> Source:
    """Any table; the classes are the distinct labels, sorted."""
    if config.data_file and not (config.text_column and config.label_column):
        raise UserError(
            "--dataset=csv needs --text_column and --label_column: give the names of the two "
            f"columns in the first line of {config.data_file}, or their numbers from 0"
        )
    columns = (str(config.text_column), str(config.label_column))
    tables = _read(config, columns, clean_text)
    labels = []
    for row in _rows(tables):
        labels.append(row.label.strip())
        if reading(row.label) == "":
            raise UserError(
                f"{row.where}: no label in column {columns[1]!r}; expected the name of "
                "a class: correct the line or remove it"
            )
    where = f"{', '.join(table.path for table in tables.values())}: column {columns[1]!r}"
    others = {label.strip() for table in tables.values() for label in set(table.labels[1:])}
    for table in tables.values():
        first = next(table.rows)
        if not table.has_header and first.label.strip() not in others:
            raise UserError(
                f"{first.where}: {first.label.strip()[:40]!r} in column "
                f"{columns[1]} is the label of a first line alone; expected a class "
                "of several texts: if the line names the columns, give these names as "
                "--text_column and --label_column"
            )
    return _source("csv", tables, labels, class_names_of(labels, where))


def _rows(tables: Tables) -> Iterator[Row]:
    return itertools.chain.from_iterable(table.rows for table in tables.values())


def _source(name: str, tables: Tables, labels: Sequence[str], class_names: Sequence[str]) -> Source:
    return Source(
        name,
        list(itertools.chain.from_iterable(table.texts for table in tables.values())),
        indices(labels, class_names),
        class_names,
        official_splits({split: len(table.texts) for split, table in tables.items()}),
        files=[Path(table.path) for table in tables.values()],
    )


def _read(config: Config, columns: tuple[str, str], clean: Callable[[str], str]) -> Tables:
    if not config.data_file:
        raise UserError(
            f"--dataset={config.dataset} needs a file: give the path of a CSV as --data_file"
        )
    return {
        split: read_table(
            path,
            columns,
            wanted=f"a CSV file as --{FILES[split]}",
            separator=config.separator,
            encoding=config.encoding,
            clean=clean,
        )
        for split, path in given_files(config).items()
    }
