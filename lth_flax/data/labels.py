"""The classes of a file: its distinct labels, each in one spelling."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

import numpy as np
from jaxtyping import Int

from lth_flax.data.source import MOST_CLASSES
from lth_flax.data.tokenizer import visible
from lth_flax.errors import UserError

_MIN_REPEATS = 2  # texts per class, on average, that labels have at least
_MOST_LISTED = 6
_MOST_CLASSES_LISTED = 3

# As pandas, R, spreadsheets and SQL write that there is none. "none" and "NONE" are
# classes of published sets; "None" is what Python prints.
_NO_LABEL = frozenset(
    {"nan", "NaN", "NAN", "-nan", "NaT", "NA", "N/A", "n/a", "#N/A", "<NA>", "#REF!", "#VALUE!"}
    | {"null", "Null", "NULL", "None", "\\N"}
)
_TRUTH = {"true": Decimal(1), "false": Decimal(0)}

Reading = str | Decimal
"""What a label says, however it is spelled."""


def reading(label: str) -> Reading:
    """A number for a label that is one, else its text without case and invisible characters.

    >>> reading(" 1.0") == reading("01")
    True
    """
    text = visible(unicodedata.normalize("NFKC", label))
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split()).casefold()
    try:
        number = Decimal(text)  # exact: two numbers of 17 digits may differ in the last
    except InvalidOperation:
        return text
    return number if number.is_finite() and "_" not in text else text


def class_names_of(labels: Sequence[str], where: str) -> list[str]:
    """The distinct labels: by value if all are numbers ("2" before "10"), else as text.

    Args:
      labels: of all texts, none of them empty.
      where: file and column, for what is said of them.

    Raises:
      UserError: a class stands there in several spellings (equal as numbers, or
        but for case and invisible characters, or as truth values), a label says
        that there is none, there is one class alone, or too many for labels.
    """
    counts = Counter(labels)
    missing = [label for label in counts if label.strip() in _NO_LABEL]
    if missing:
        raise UserError(
            f"{where} has {_listed(missing, counts)}, which stands for a missing label; expected "
            "the name of a class: remove these rows, or rename the class if it is one"
        )
    readings = {label: reading(label) for label in counts}
    spellings: dict[Reading, list[str]] = {}
    for label, says in readings.items():
        spellings.setdefault(_TRUTH.get(str(says), says), []).append(label)
    several = [group for group in spellings.values() if len(group) > 1]
    if several:
        lists = "; ".join(_listed(group, counts) for group in several[:_MOST_CLASSES_LISTED])
        more = len(several) - _MOST_CLASSES_LISTED
        raise UserError(
            f"{where} has one class in several spellings: {lists}"
            f"{f' (and {more} more classes)' if more > 0 else ''}; expected one spelling of each "
            "class: make them the same in the file"
        )
    if len(counts) < 2:
        raise UserError(
            f"{where} has {labels[0][:40]!r} in every row; expected at least two classes: give "
            "another --label_column"
        )
    too_many = len(counts) > max(2, len(labels) // _MIN_REPEATS)
    if len(counts) > MOST_CLASSES or too_many:
        raise UserError(
            f"{where} has {len(counts)} distinct values in {len(labels)} rows; expected at most "
            f"{MOST_CLASSES} classes with {_MIN_REPEATS} texts each on average: give the column "
            "of the labels as --label_column"
        )
    if all(isinstance(says, Decimal) for says in readings.values()):
        return sorted(counts, key=lambda label: (readings[label], label))
    return sorted(counts)


def indices(names: Sequence[str], class_names: Sequence[str]) -> Int[np.ndarray, "texts"]:
    """The number of each name, int32."""
    index = {name: i for i, name in enumerate(class_names)}
    return np.array([index[name] for name in names], np.int32)


def _listed(labels: Sequence[str], counts: Counter[str]) -> str:
    """Spelled so that what differs is seen."""
    shown = {label: repr(label[:40]) for label in labels}
    if len({unicodedata.normalize("NFKC", text) for text in shown.values()}) < len(labels):
        shown = {label: ascii(label[:40])[:80] for label in labels}
    some = [f"{shown[label]} ({_times(counts[label])})" for label in labels[:_MOST_LISTED]]
    if len(labels) > _MOST_LISTED:
        some.append(f"{len(labels) - _MOST_LISTED} more")
    return f"{', '.join(some[:-1])} and {some[-1]}" if len(some) > 1 else some[0]


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"
