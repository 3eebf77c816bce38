"""Tables in text files: commas, tabs, semicolons or bars, with names of columns or without."""

import array
import contextlib
import csv
import itertools
import re
import sys
from collections.abc import Callable, Iterator, MutableSequence, Sequence
from typing import NamedTuple

from lth_flax.data.files import read_text
from lth_flax.errors import UserError

SEPARATORS = {"comma": ",", "tab": "\t", "semicolon": ";", "bar": "|", "blank": " ", "\\t": "\t"}
_GUESSED = ("\t", ",", ";", "|")
_TRIED_ROWS = 100
_LINE = re.compile(r"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+")
# Excel can be told the separator by a line before all others.
_EXCEL = re.compile(r'"?sep=([^\r\n"])"?(?:\r\n|\n|\r)')


class Row(NamedTuple):
    """One row: where it starts, and the two fields that are read."""

    path: str
    line: int
    text: str
    label: str

    @property
    def where(self) -> str:
        """For what is said of it."""
        return f"{self.path}, line {self.line}"


class Table(NamedTuple):
    """The rows of a file, at least one, by column: objects would take half as much again.

    lines: where each starts.
    has_header: whether the first line names the columns.
    """

    path: str
    texts: list[str]
    labels: list[str]
    lines: MutableSequence[int]
    has_header: bool

    @property
    def rows(self) -> Iterator[Row]:
        """One after the other."""
        for line, text, label in zip(self.lines, self.texts, self.labels, strict=True):
            yield Row(self.path, line, text, label)


def read_table(
    path: str,
    columns: tuple[str, ...],
    *,
    wanted: str = "a CSV file as --data_file",
    separator: str = "auto",
    encoding: str | None = None,
    clean: Callable[[str], str] = str,
) -> Table:
    """The text and the label column of a file.

    A column is named as in the first line, or numbered from 0. Where both are
    numbers there is no first line of names, unless that numbers them as well
    (pandas writes "0,1").

    Args:
      columns: of the texts, and of the labels; without that, labels are empty.
      wanted: what should be given instead, in complaints.
      separator: one character, a name in `SEPARATORS`, or "auto": the one of
        tab, comma, semicolon and bar that the columns are found with.
      encoding: see `read_text`.
      clean: what each text goes through as it is read, so that none is held twice.

    Raises:
      UserError: whatever is wrong; it names the file, and the line if it can.
    """
    if separator != "auto":
        separator = SEPARATORS.get(separator, separator)
        if len(separator) != 1 or separator in '\r\n"':
            raise UserError(
                f"--separator={separator!r}: expected auto, one character, or one of "
                f"{', '.join(SEPARATORS)}"
            )
    content = read_text(path, wanted=wanted, encoding=encoding)
    if told := _EXCEL.match(content):
        content = "\n" + content[told.end() :]
        separator = told[1] if separator == "auto" else separator
    if separator == "auto":
        separator = _separator(content, columns)
    rows = _rows(path, content, separator)
    line, first = next(rows, (1, []))
    where, has_header = _positions(path, first, columns)
    if len(set(where)) < len(where):
        raise UserError(
            f"column {columns[0]!r} of {path} cannot be both text and label: give two columns as "
            "--text_column and --label_column"
        )
    if not has_header and first:
        rows = itertools.chain([(line, first)], rows)
    table = Table(path, [], [], array.array("q"), has_header)
    for line, row in rows:
        if len(row) != len(first):
            raise UserError(
                f"{path}, line {line}: {len(row)} fields; expected {len(first)}, as in the first "
                f"line: put a text that has line breaks or a separator ({separator!r}) in double "
                "quotes, or give another --separator"
            )
        table.lines.append(line)
        table.texts.append(clean(row[where[0]]))
        table.labels.append(sys.intern(row[where[1]]) if len(where) > 1 else "")
    if not table.texts:
        needed = " and labels" * (len(columns) > 1)
        raise UserError(f"{path} has no rows: expected texts{needed} below the first line")
    return table


def read_texts(
    path: str, column: str, *, separator: str = "auto", encoding: str | None = None
) -> tuple[str, ...]:
    """One column of a file, named or numbered as for `read_table`; `UserError` as there."""
    return tuple(read_table(path, (column,), separator=separator, encoding=encoding).texts)


def _is_position(column: str) -> bool:
    return column.isascii() and column.isdigit() and len(column) < 10


def _positions(path: str, first: Sequence[str], columns: tuple[str, ...]) -> tuple[list[int], bool]:
    """Where the columns are, and whether the first line names them."""
    found = ", ".join(map(repr, (name[:40] for name in first[:20]))) or "none"
    first = [name.strip() for name in first]
    if all(map(_is_position, columns)):
        positions = [int(column) for column in columns]
        if max(positions) >= len(first):
            raise UserError(
                f"{path}: no column {max(positions)} in the first line; found {found}, columns "
                "are numbered from 0: give --text_column and --label_column, or --separator"
            )
        return positions, all(first[at] == str(at) for at in positions)  # pandas writes "0,1"
    positions = []
    for column in map(str.strip, columns):
        if first.count(column) == 1:
            positions.append(first.index(column))
        elif _is_position(column) and column not in first and int(column) < len(first):
            positions.append(int(column))
        else:
            how = "twice" if column in first else "no"
            raise UserError(
                f"{path}: {how} column {column!r} in the first line; found {found}, expected "
                f"{' and '.join(map(repr, columns))}: name the columns with --text_column and "
                "--label_column, or number them from 0 where no line names them"
            )
    return positions, True


# Separators ---------------------------------------------------------------------------


def _separator(content: str, columns: tuple[str, ...]) -> str:
    """The one of `_GUESSED` that the columns are found with; a comma where none fits.

    Of several, the one with the fewest different labels: labels repeat.
    """
    lines = "".join(itertools.islice(_lines(content), _TRIED_ROWS))
    fitting = {}
    for separator in _GUESSED:
        rows: list[list[str]] = []
        # Where the last of the lines is cut, what came before tells.
        with contextlib.suppress(UserError):
            rows.extend(row for _, row in _rows("", lines, separator))
        if not rows or len(rows[0]) < len(columns):
            continue
        try:
            where, has_header = _positions("", rows[0], columns)
        except UserError:
            continue
        if has_header or len(set(map(len, rows))) == 1:
            fitting[separator] = len({row[where[-1]] for row in rows if len(row) > where[-1]})
    return min(fitting, key=fitting.__getitem__, default=",")


# Rows ---------------------------------------------------------------------------------


def _rows(path: str, content: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """(line where it starts, fields), without blank lines.

    Who separates by tabs often does not quote: `"a" movie<tab>1`. So where every
    line is complete by itself, quotes are text if as quotes they would join lines
    or be an error.
    """
    quoted = _quoted_rows(path, content, separator)
    if separator != "\t":
        return quoted
    plain = [
        (number, line.rstrip("\r\n").split("\t"))
        for number, line in enumerate(_lines(content), 1)
        if line.strip("\r\n")
    ]
    if len({len(fields) for _, fields in plain}) != 1:
        return quoted
    try:
        rows = list(quoted)
    except UserError:
        return iter(plain)
    return iter(rows if len(rows) == len(plain) else plain)


def _lines(content: str) -> Iterator[str]:
    """Lines with what ends them; `io.StringIO` would hold four bytes for each character."""
    return (found.group() for found in _LINE.finditer(content))


def _quoted_rows(path: str, content: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    limit = csv.field_size_limit()
    reader = csv.reader(_lines(content), strict=True, delimiter=separator)
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
