"""Word vectors from a text file in GloVe's or word2vec's format."""

import math
import os
import re
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from lth_flax.data.files import check_kind, open_unpacked
from lth_flax.data.text import PADDING_ID, UNKNOWN_ID, Vocabulary
from lth_flax.errors import UserError

_LONGEST_LINE = 1 << 20  # bytes; a 300-dimensional vector has about 3,000
_WANTED = "a text file of word vectors, a word and its numbers per line, as --embeddings_file"
_SHOWN = 3


class _Result(NamedTuple):
    vectors: Float[np.ndarray, "words size"]
    found: Bool[np.ndarray, "words"]


def read_vectors(
    path: str | os.PathLike[str], vocabulary: Vocabulary, *, size: int
) -> tuple[Float[np.ndarray, "words size"], Bool[np.ndarray, "words"]]:
    """The vectors of the vocabulary's words, and which words had one.

    Each line is a word and `size` numbers, separated by blanks or tabs (Pennington
    et al., 2014, "GloVe"); a first line of word2vec's kind, number of words and
    size, is skipped, and so are blank lines. A word may itself contain blanks, as
    some of glove.840B do: the numbers are the last `size` fields. Of a word that
    occurs twice, the first vector counts. The file, which may be packed, is
    streamed: what is held is the result and one line. Numbers are read only where
    the vocabulary has the word; of other lines the encoding and the number of
    fields are checked.

    Returns:
      vectors: float32, zero where the word was not found.
      found: bool.

    Raises:
      UserError: the file cannot be read, is not UTF-8, has another size, has a
        number that is none or not finite (the message names the line), or has
        none of the words.
    """
    path = os.fspath(path)
    result = _Result(np.zeros((len(vocabulary), size), np.float32), np.zeros(len(vocabulary), bool))
    number = 0
    first_words: list[str] = []
    with open_unpacked(path, _WANTED) as file:
        while line := file.readline(_LONGEST_LINE + 1):
            number += 1
            where = f"{path}, line {number}"
            if number == 1:
                _check_first(path, line)
                line = line.removeprefix(b"\xef\xbb\xbf")
            if len(line) > _LONGEST_LINE:
                raise UserError(
                    f"{where}: longer than {_LONGEST_LINE} bytes; expected a word and {size} "
                    f"numbers: give {_WANTED}"
                )
            fields = line.rsplit(None, size)
            if not fields or (number == 1 and _is_header(where, line.rstrip(), size)):
                continue
            word = _read_line(line, fields, where, vocabulary, result)
            if len(first_words) < _SHOWN:
                first_words.append(word)
    if not first_words:
        raise UserError(f"{path} is empty: expected a word and {size} numbers per line")
    if len(vocabulary) > UNKNOWN_ID + 1 and not result.found[UNKNOWN_ID + 1 :].any():
        raise _nothing_found(path, first_words, vocabulary)
    return result.vectors, result.found


def _check_first(path: str, line: bytes) -> None:
    """Names what is no text of words and numbers at all."""
    check_kind(path, line[:512], _WANTED)
    if line.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{path} is UTF-16: save it as UTF-8")
    if re.match(rb"\s*[{\[]\s*[\"\[{]", line):
        raise UserError(f"{path} is JSON: give {_WANTED}")


def _is_header(where: str, line: bytes, size: int) -> bool:
    """Whether it is a number of words and their size. It has to be this size."""
    counts = re.fullmatch(rb"\d{1,18}[ \t]+(\d{1,18})", line)
    if not counts or size == 1:
        return False
    if int(counts[1]) != size:
        raise _wrong_size(where, size, int(counts[1]))
    return True


def _read_line(
    line: bytes, fields: list[bytes], where: str, vocabulary: Vocabulary, result: _Result
) -> str:
    """Puts the vector of one line where it belongs; the word."""
    size = result.vectors.shape[1]
    if len(fields) == size and line[:1].isspace():
        fields.insert(0, b"")  # glove.840B has vectors of nothing and of a blank
    if b"\0" in line:
        raise UserError(f"{where}: binary, as word2vec's and fastText's .bin: give {_WANTED}")
    try:
        word = fields[0].decode("utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{where}: not UTF-8; save the word vectors as UTF-8 text") from None
    numbers = fields[1:]
    if len(numbers) != size:
        if "," in word or ";" in word:
            raise UserError(
                f"{where}: {word[:40]!r} is separated by commas or semicolons; expected blanks or "
                "tabs between the word and its numbers: replace them"
            )
        raise _wrong_size(where, size, len(numbers))
    # One number too many reads as a word with a number at its end: tell the two apart.
    rest = fields[0].split()[1:]
    if rest and all(map(_is_number, rest)):
        raise _wrong_size(where, size, len(rest) + size)
    index = vocabulary.ids.get(word)
    if index is None or index == PADDING_ID or result.found[index]:
        return word
    for field in numbers:
        if not _is_number(field) or not math.isfinite(float(field)):
            raise UserError(
                f"{where}: {field[:40].decode(errors='replace')!r} is not a finite number; "
                f"expected a word and {size} numbers: repair the line or remove it"
            )
    with np.errstate(over="ignore"):
        result.vectors[index] = [float(field) for field in numbers]
    if not np.isfinite(result.vectors[index]).all():
        raise UserError(f"{where}: a number is too large for float32; repair the line or remove it")
    result.found[index] = True
    return word


def _is_number(field: bytes) -> bool:
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


def _nothing_found(path: str, words: list[str], vocabulary: Vocabulary) -> UserError:
    """None of the words has a vector: a run with this file would be one without."""
    wanted = vocabulary.words[UNKNOWN_ID + 1 : UNKNOWN_ID + 1 + _SHOWN]
    cause = "give vectors of this language and spelling"
    if any(word != word.lower() for word in words):
        cause = "the words of the texts are lower-cased: lower-case those of the file"
    return UserError(
        f"{path} has a vector for none of the {len(vocabulary) - UNKNOWN_ID - 1:,} words of the "
        f"texts: it begins with {', '.join(repr(word[:40]) for word in words)}; expected such as "
        f"{', '.join(repr(word[:40]) for word in wanted)}; {cause}"
    )
