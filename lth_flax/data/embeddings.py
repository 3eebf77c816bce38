"""Word vectors from a text file in GloVe's or word2vec's format."""

import os
import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from lth_flax.data.files import check_kind, open_unpacked
from lth_flax.data.text import PADDING_ID, UNKNOWN_ID, Vocabulary
from lth_flax.errors import UserError

_LONGEST_LINE = 1 << 20  # bytes; a 300-dimensional vector has about 3,000
_WANTED = "a text file of word vectors, a word and its numbers per line, as --embeddings_file"
_LARGEST = float(np.finfo(np.float32).max)
_SHOWN = 3


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
    vectors, found = np.zeros((len(vocabulary), size), np.float32), np.zeros(len(vocabulary), bool)
    begins: list[str] = []
    with open_unpacked(path, _WANTED) as file:
        for number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE + 1), b""), 1):
            where = f"{path}, line {number}"
            if number == 1:
                check_kind(path, line[:512], _WANTED)
                if line.startswith((b"\xff\xfe", b"\xfe\xff")):
                    raise UserError(f"{path} is UTF-16: save it as UTF-8")
                line = line.removeprefix(b"\xef\xbb\xbf")
                counts = re.fullmatch(rb"\d{1,18}[ \t]+(\d{1,18})", line.rstrip())
                if counts and size > 1:  # word2vec's first line
                    if int(counts[1]) != size:
                        raise _wrong_size(where, size, int(counts[1]))
                    continue
            if not line.strip():
                continue
            word, numbers = _fields(where, line, size)
            if len(begins) < _SHOWN:
                begins.append(word)
            index = vocabulary.ids.get(word, PADDING_ID)
            if index != PADDING_ID and not found[index]:
                vectors[index], found[index] = _floats(where, numbers), True
    if not begins:
        raise UserError(f"{path} is empty: expected a word and {size} numbers per line")
    if len(vocabulary) > UNKNOWN_ID + 1 and not found[UNKNOWN_ID + 1 :].any():
        raise _nothing_found(path, begins, vocabulary)
    return vectors, found


def read_vectors_of_all(
    path: str | os.PathLike[str], vocabularies: Sequence[Vocabulary], *, size: int
) -> list[tuple[Float[np.ndarray, "words size"], Bool[np.ndarray, "words"]]]:
    """`read_vectors` of each vocabulary, in one reading of the file; once of one that is repeated.

    Raises:
      UserError: as `read_vectors`; none of the words of all of them has a vector.
    """
    distinct = {id(vocabulary): vocabulary for vocabulary in vocabularies}
    words = dict.fromkeys(word for vocabulary in distinct.values() for word in vocabulary.words)
    every = Vocabulary(tuple(words))
    vectors, found = read_vectors(path, every, size=size)
    if len(distinct) == 1:  # without a copy
        return [(vectors, found)] * len(vocabularies)
    rows = {n: [every.ids[word] for word in one.words] for n, one in distinct.items()}
    own = {number: (vectors[some], found[some]) for number, some in rows.items()}
    return [own[id(vocabulary)] for vocabulary in vocabularies]


def _fields(where: str, line: bytes, size: int) -> tuple[str, list[bytes]]:
    """The word of a line, and its numbers, not read yet."""
    if len(line) > _LONGEST_LINE:
        raise UserError(
            f"{where}: longer than {_LONGEST_LINE} bytes; expected a word and {size} "
            f"numbers: give {_WANTED}"
        )
    if b"\0" in line:
        raise UserError(f"{where}: binary, as word2vec's and fastText's .bin: give {_WANTED}")
    first, *numbers = line.rsplit(None, size)
    if len(numbers) == size - 1 and line[:1].isspace():
        # glove.840B has vectors of nothing and of a blank
        first, numbers = b"", [first, *numbers]
    try:
        word = first.decode("utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{where}: not UTF-8; save the word vectors as UTF-8 text") from None
    if len(numbers) != size:
        if "," in word or ";" in word:
            raise UserError(
                f"{where}: {word[:40]!r} is separated by commas or semicolons; expected blanks or "
                "tabs between the word and its numbers: replace them"
            )
        raise _wrong_size(where, size, len(numbers))
    # One number too many reads as a word with a number at its end: tell the two apart.
    rest = first.split()[1:]
    if rest and None not in map(_number, rest):
        raise _wrong_size(where, size, len(rest) + size)
    return word, numbers


def _floats(where: str, fields: list[bytes]) -> Float[np.ndarray, "size"]:
    numbers = [_number(field) for field in fields]
    for field, number in zip(fields, numbers, strict=True):
        if number is None or not abs(number) <= _LARGEST:
            raise UserError(
                f"{where}: {field[:40].decode(errors='replace')!r} is not a finite number of "
                f"float32; expected a word and {len(fields)} numbers: repair the line or remove it"
            )
    return np.array(numbers, np.float32)


def _number(field: bytes) -> float | None:
    try:
        return float(field)
    except ValueError:
        return None


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
