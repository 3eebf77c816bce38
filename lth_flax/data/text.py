"""Texts to integer ids: tokenize, count a vocabulary, encode, pad.

Texts are tokenized once, by `intern`; after that a vocabulary or an encoding,
of which there is one per seed, is array work. Ragged data is flat ids plus
`offsets`: text n is `ids[offsets[n]:offsets[n + 1]]`.
"""

import array
import dataclasses
import functools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Int

from lth_flax.data.tokenizer import TOKENIZERS
from lth_flax.host_arrays import aligned_empty

PADDING_ID = 0
UNKNOWN_ID = 1
PADDING_WORD = "<pad>"
UNKNOWN_WORD = "<unk>"
BLOCK = 1 << 14
"""Texts that are gathered at a time."""


@dataclasses.dataclass(frozen=True)
class TokenizedTexts:
    """All texts as indices into their own distinct words, `words`, in order of first use."""

    words: tuple[str, ...]
    word_ids: Int[np.ndarray, "tokens"]  # int32
    offsets: Int[np.ndarray, "texts+1"]  # int64

    @property
    def lengths(self) -> Int[np.ndarray, "texts"]:
        """Tokens per text, int32."""
        return np.diff(self.offsets).astype(np.int32)

    def take(self, rows: Int[np.ndarray, "rows"]) -> "TokenizedTexts":
        """Some of the texts, over the same words."""
        flat, offsets = _gather(self.offsets, rows)
        return TokenizedTexts(self.words, self.word_ids[flat], offsets)


def intern(texts: Sequence[str], tokenizer: str = "words") -> TokenizedTexts:
    """Tokenizes every text once, by one of `TOKENIZERS`; 14 million tokens take some seconds."""
    tokenize = TOKENIZERS[tokenizer]
    index: defaultdict[str, int] = defaultdict()
    index.default_factory = index.__len__  # an unseen word gets the next number
    word_ids = array.array("i")  # it grows in place: arrays of a text each take twice as much
    lengths = np.zeros(len(texts), np.int64)
    for row, text in enumerate(texts):
        tokens = tokenize(text)
        lengths[row] = len(tokens)
        word_ids.extend(map(index.__getitem__, tokens))
    return TokenizedTexts(tuple(index), np.asarray(word_ids, np.int32), _offsets(lengths))


# Vocabulary and ids -------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Words by id: `words[0]` is padding, `words[1]` stands for every unknown word."""

    words: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.words)

    @functools.cached_property
    def ids(self) -> Mapping[str, int]:
        """The id of each word."""
        return {word: i for i, word in enumerate(self.words)}


def build_vocabulary(
    tokenized: TokenizedTexts, rows: Int[np.ndarray, "rows"], *, size: int, min_count: int = 2
) -> Vocabulary:
    """The most frequent words of `rows`, the training texts; ties in alphabetical order.

    Args:
      tokenized: all texts.
      rows: the texts that are counted; no other text has any influence.
      size: the most words to have, padding and the unknown word included; at least 3.
      min_count: words seen less often are left out; at least 1. With 2, words seen once
        are what the unknown word's vector is trained on.
    """
    counts = np.zeros(len(tokenized.words), np.int64)
    for some in _blocks(rows):
        flat, _ = _gather(tokenized.offsets, rows[some])
        counts += np.bincount(tokenized.word_ids[flat], minlength=len(counts))
    frequent = np.flatnonzero(counts >= min_count).tolist()
    frequent.sort(key=lambda i: (-counts[i], tokenized.words[i]))
    chosen = (tokenized.words[i] for i in frequent[: size - 2])
    return Vocabulary((PADDING_WORD, UNKNOWN_WORD, *chosen))


def encode(
    tokenized: TokenizedTexts,
    vocabulary: Vocabulary,
    rows: Int[np.ndarray, "rows"],
    *,
    length: int,
    keep: str = "end",
) -> Int[np.ndarray, "rows length"]:
    """The ids of `rows`, int32, unknown words as `UNKNOWN_ID`, filled up with `PADDING_ID`.

    A text of more than `length` tokens keeps its last ones, or with `keep="start"`
    its first ones. The end is the default because that is where a review has its
    verdict.
    """
    return padded(tokenized, ids_of(tokenized, vocabulary), rows, length=length, keep=keep)


def ids_of(tokenized: TokenizedTexts, vocabulary: Vocabulary) -> Int[np.ndarray, "words"]:
    """The id of each of the words of texts, int32."""
    ids = vocabulary.ids
    return np.array([ids.get(word, UNKNOWN_ID) for word in tokenized.words], np.int32)


def common_ids(
    tokenized: TokenizedTexts, vocabularies: Sequence[Vocabulary]
) -> tuple[Int[np.ndarray, "words"], Int[np.ndarray, "vocabularies ids"]]:
    """Ids that several vocabularies share, and the table that leads from them to those of each.

    Words that none of them has are one, the unknown word.
    """
    own = np.stack([ids_of(tokenized, vocabulary) for vocabulary in vocabularies])
    known = (own != UNKNOWN_ID).any(axis=0)
    common = np.where(known, UNKNOWN_ID + np.cumsum(known), UNKNOWN_ID).astype(np.int32)
    special = np.broadcast_to(np.array([PADDING_ID, UNKNOWN_ID], np.int32), (len(own), 2))
    return common, np.concatenate([special, own[:, known]], axis=1)


def padded(
    tokenized: TokenizedTexts,
    ids: Int[np.ndarray, "words"],
    rows: Int[np.ndarray, "rows"],
    *,
    length: int,
    keep: str,
) -> Int[np.ndarray, "rows length"]:
    """`encode`, given the id of each word."""
    out = aligned_empty((len(rows), length), np.int32)
    out.fill(PADDING_ID)
    for some in _blocks(rows):
        flat, offsets = _gather(tokenized.offsets, rows[some], length, keep)
        real: Bool[np.ndarray, "rows length"] = np.arange(length) < np.diff(offsets)[:, None]
        out[some][real] = ids[tokenized.word_ids[flat]]  # row by row, so in the order of `flat`
    return out


def _blocks(rows: Int[np.ndarray, "rows"]) -> Iterator[slice]:
    """All rows, some at a time: where each of their tokens lies takes several times the tokens."""
    return (slice(at, at + BLOCK) for at in range(0, len(rows), BLOCK))


def _offsets(lengths: Int[np.ndarray, "rows"]) -> Int[np.ndarray, "rows+1"]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def _gather(
    offsets: Int[np.ndarray, "texts+1"],
    rows: Int[np.ndarray, "rows"],
    max_length: int | None = None,
    keep: str = "end",
) -> tuple[Int[np.ndarray, "tokens"], Int[np.ndarray, "rows+1"]]:
    """Where the tokens of `rows` lie in the flat array, and their new offsets."""
    rows = np.asarray(rows, np.int64)
    starts, ends = offsets[rows], offsets[rows + 1]
    lengths = ends - starts
    if max_length is not None:
        lengths = np.minimum(lengths, max_length)
        starts = ends - lengths if keep == "end" else starts
    new = _offsets(lengths)
    return np.repeat(starts - new[:-1], lengths) + np.arange(new[-1]), new
