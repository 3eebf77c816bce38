"""Texts that are there more than once: kept, kept together in one split, or left out."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Int

from lth_flax.data.text import TokenizedTexts

RULES = ("keep", "group", "drop")


def first_copies(tokenized: TokenizedTexts) -> Int[np.ndarray, "texts"]:
    """For each text the first one with the same tokens, int64; an empty text is a copy of none."""
    ids, offsets = tokenized.word_ids, tokenized.offsets

    def tokens(row: int) -> bytes:
        return ids[offsets[row] : offsets[row + 1]].tobytes()

    first: dict[int, int] = {}  # by a hash: the tokens themselves would be there twice
    result = np.arange(len(offsets) - 1)
    for row in np.flatnonzero(np.diff(offsets)).tolist():
        mine = tokens(row)
        place = hash(mine)
        while (other := first.setdefault(place, row)) != row and tokens(other) != mine:
            place += 1
        result[row] = other
    return result


def left_out(
    copies: Int[np.ndarray, "texts"],
    official: Mapping[str, Bool[np.ndarray, "texts"]],
    *,
    rule: str,
) -> Bool[np.ndarray, "texts"]:
    """Which texts no split has.

    An official test split stays as it is, since results are compared by it. With
    "group" or "drop" other texts that are in it are left out, and what is in an
    official validation split is left out of the rest. With "drop" so is, within
    the rest, all but the first copy, whatever the labels of the others.

    Args:
      copies: of `first_copies`.
      official: which texts are in the official splits.
    """
    nothing = np.zeros(len(copies), bool)
    if rule == "keep":
        return nothing
    place = np.full(len(copies), 2)
    for split, inside in official.items():
        place[inside] = ("test", "validation").index(split)
    best = np.full(len(copies), 2)
    np.minimum.at(best, copies, place)
    out = place > best[copies]
    if rule == "drop":
        earliest = nothing.copy()
        earliest[np.unique(copies * 3 + place, return_index=True)[1]] = True
        out |= ~earliest & (place > 0)
    return out


def grouped_units(
    copies: Int[np.ndarray, "texts"],
    labels: Int[np.ndarray, "texts"],
    bucket: Int[np.ndarray, "texts"],
) -> tuple[Int[np.ndarray, "texts"], Int[np.ndarray, "units"]]:
    """The unit of each text, which is all of its copies, and the stratum of each unit.

    Strata are of length bucket and the labels of the copies, so that every seed draws as many
    texts of a bucket and of a class.
    """
    _, of_text = np.unique(copies, return_inverse=True)
    kinds: dict[int, list[int]] = {}
    for text, unit in enumerate(of_text.tolist()):
        kinds.setdefault(unit, [int(bucket[text])]).append(int(labels[text]))
    numbers: dict[tuple[int, ...], int] = {}
    strata = np.zeros(len(kinds), np.int64)
    for unit, (where, *found) in kinds.items():
        strata[unit] = numbers.setdefault((where, *sorted(found)), len(numbers))
    return of_text, strata
