"""Word vectors from a text file in GloVe's format."""

import math
import os
import stat

import numpy as np
from jaxtyping import Bool, Float

from lth_flax.data.text import PADDING_ID, Vocabulary
from lth_flax.errors import UserError

_LONGEST_LINE = 1 << 20  # bytes; a 300-dimensional vector has about 3,000


def read_vectors(
    path: str | os.PathLike[str], vocabulary: Vocabulary, *, size: int
) -> tuple[Float[np.ndarray, "words size"], Bool[np.ndarray, "words"]]:
    """The vectors of the vocabulary's words, and which words had one.

    Each line is a word and `size` numbers, separated by single spaces (Pennington
    et al., 2014, "GloVe"); a first line of word2vec's kind, number of words and
    size, is skipped. A word may itself contain spaces, as some of glove.840B do:
    the numbers are the last `size` fields. Of a word that occurs twice, the first
    vector counts. The file is streamed: what is held is the result and one line.
    Numbers are read only where the vocabulary has the word; of other lines the
    encoding and the number of fields are checked.

    Returns:
      vectors: float32, zero where the word was not found.
      found: bool.

    Raises:
      UserError: the file cannot be read, is not UTF-8, has another size, or has
        a number that is none or not finite; the message names the line.
    """
    vectors = np.zeros((len(vocabulary), size), np.float32)
    found = np.zeros(len(vocabulary), bool)
    try:
        # A pipe may never end, and a device has no end.
        if not stat.S_ISREG(os.stat(path).st_mode) and not os.path.isdir(path):
            raise UserError(f"{os.fspath(path)} is not a plain file: give a GloVe text file")
        with open(path, "rb") as file:
            number = 0
            while line := file.readline(_LONGEST_LINE + 1):
                number += 1
                where = f"{os.fspath(path)}, line {number}"
                if len(line) > _LONGEST_LINE:
                    raise UserError(
                        f"{where}: longer than {_LONGEST_LINE} bytes; expected a word and {size} "
                        "numbers: give a text file of word vectors"
                    )
                _read_line(line, number, where, vocabulary, vectors, found)
    except OSError as error:
        raise UserError(
            f"cannot read word vectors from {os.fspath(path)} ({error.strerror or error}): give "
            "the path of a GloVe text file"
        ) from None
    if number == 0:
        raise UserError(f"{os.fspath(path)} is empty: expected a word and {size} numbers per line")
    return vectors, found


def _read_line(
    line: bytes,
    number: int,
    where: str,
    vocabulary: Vocabulary,
    vectors: Float[np.ndarray, "words size"],
    found: Bool[np.ndarray, "words"],
) -> None:
    """Puts the vector of one line where it belongs."""
    size = vectors.shape[1]
    try:
        fields = line.decode("utf-8").rstrip(" \r\n").split(" ")
    except UnicodeDecodeError:
        raise UserError(f"{where}: not UTF-8; save the word vectors as UTF-8 text") from None
    counts = len(fields) == 2 and all(field.isdecimal() and len(field) < 19 for field in fields)
    if number == 1 and counts and size > 1:
        if int(fields[1]) != size:
            raise _wrong_size(where, size, int(fields[1]))
        return
    # One number too many reads as a word with a number at its end: tell the two apart.
    numbers = fields[1:]
    if len(numbers) != size and (len(numbers) < size or all(map(_is_number, numbers))):
        raise _wrong_size(where, size, len(numbers))
    index = vocabulary.ids.get(" ".join(fields[:-size]))
    if index is None or index == PADDING_ID or found[index]:
        return
    for field in fields[-size:]:
        if not _is_number(field) or not math.isfinite(float(field)):
            raise UserError(
                f"{where}: {field[:40]!r} is not a finite number; expected a word and {size} "
                "numbers: repair the line or remove it"
            )
    with np.errstate(over="ignore"):
        vectors[index] = np.array(fields[-size:], np.float64)
    if not np.isfinite(vectors[index]).all():
        raise UserError(f"{where}: a number is too large for float32; repair the line or remove it")
    found[index] = True


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _wrong_size(where: str, size: int, found: int) -> UserError:
    return UserError(
        f"{where}: {found} numbers; expected {size}, the size of the model's embedding: give "
        "another file or another embedding size"
    )
