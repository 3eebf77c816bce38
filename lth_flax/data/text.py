"""Text to integer ids: clean, tokenize, count a vocabulary, encode, pad.

Texts are tokenized once, by `intern`; after that a vocabulary or an encoding,
of which there is one per seed, is array work. Ragged data is flat ids plus
`offsets`: text n is `ids[offsets[n]:offsets[n + 1]]`.
"""

import dataclasses
import functools
import html
import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Int

from lth_flax.errors import UserError

PADDING_ID = 0
UNKNOWN_ID = 1
PADDING_WORD = "<pad>"
UNKNOWN_WORD = "<unk>"

# Cleaning -----------------------------------------------------------------------------

_TAGS = (
    "a abbr b big blockquote body br center cite code dd div dl dt em font footer h1 h2 h3 h4 h5 "
    "h6 head header hr html i img li link meta ol p pre q s script section small span strike "
    "strong style sub sup table tbody td th thead title tr tt u ul"
)
# Only names that HTML knows, with nothing inside but attributes that have values:
# "a<b and c>d", "<3" and a reviewer's "<sigh>" are text.
_TAG = re.compile(
    rf"<!--.*?-->|</?(?:{'|'.join(_TAGS.split())})"
    r"(?:\s+[a-z][\w:-]*\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^\s\"'<>]+))*\s*/?>",
    re.IGNORECASE | re.DOTALL,
)
_LINK = re.compile(r"(?:https?://|\bwww\.)\S*", re.IGNORECASE)
# Links written without a scheme: t.co/x, stks.co/x, pic.twitter.com/x.
_BARE_LINK = re.compile(r"\b(?:[\w-]+\.)+(?:com|co|ly|net|org|gl|me|tv)/\S*", re.IGNORECASE)
# Tweets are cut at 140 characters, often inside the link: "htt…", "https:/…".
_CUT_LINK = re.compile(r"\bh(?:t(?:t(?:ps?(?::/{0,2})?)?)?)?(?:…|\.\.\.)(?=\s*$)")
_RETWEET = re.compile(r"\bRT\b(?=\s*(?:@|user\b))")
# `user` is what the published tweets have in place of many an @name.
_NAME = re.compile(r"(?<!\w)(?:@\w+|user(?![\w'-]))\s*:?")
# UTF-8 that was read as Windows-1252: a lead byte, then continuation bytes. The
# five bytes that Windows-1252 leaves undefined came through as they were.
_CONTINUATION = "".join(
    bytes([code]).decode("cp1252", errors="ignore") or chr(code) for code in range(0x80, 0xC0)
)
_MOJIBAKE = re.compile(f"[\u00c2-\u00f4][{_CONTINUATION}]{{1,3}}")
_CONTROL = re.compile("[\x80-\x9f]")


def clean_text(text: str) -> str:
    """Removes HTML tags and links, resolves entities, and closes up white space."""
    if "<" in text:
        # All but a few of IMDB's 200,000 tags are this one.
        text = _TAG.sub(" ", text.replace("<br />", " "))
    if "&" in text:
        text = html.unescape(text)
    return " ".join(_LINK.sub(" ", text).split())


def clean_review(text: str) -> str:
    """A film review: HTML tags become spaces, entities characters; links go.

    Windows-1252 punctuation that was read as Latin-1 (a dash as U+0096: 5,000
    times in IMDB) becomes what was meant.
    """
    return clean_text(text if text.isascii() else _CONTROL.sub(_windows_character, text))


def clean_tweet(text: str) -> str:
    """A tweet without links, names and the residue of the published data set.

    Removed: `http://` and `https://` links, cut ones and bare ones (`t.co/x`);
    `@name` and `user`, which stands for a removed name, each with its colon;
    `RT` before a name. Repaired: HTML entities and UTF-8 that was read as
    Windows-1252 ("doesnâ€™t", 6% of the tweets). `$JNJ`, `#stocks` and emoji
    are kept.
    """
    text = html.unescape(text)
    if not text.isascii():
        text = _MOJIBAKE.sub(_repair, text)
    text = _BARE_LINK.sub(" ", _LINK.sub(" ", text))
    for pattern in (_CUT_LINK, _RETWEET, _NAME):
        text = pattern.sub(" ", text)
    return " ".join(text.split())


def _windows_character(match: re.Match[str]) -> str:
    return match.group().encode("latin-1").decode("cp1252", errors="ignore") or " "


def _repair(match: re.Match[str]) -> str:
    """The character that these were before they were misread; themselves if they were not."""
    found = match.group()
    for end in range(len(found), 1, -1):  # the longest run that is valid UTF-8
        try:
            raw = b"".join(
                c.encode("latin-1") if "\x80" <= c <= "\x9f" else c.encode("cp1252")
                for c in found[:end]
            )
            return raw.decode("utf-8") + found[end:]
        except UnicodeError:
            continue
    return found


# Tokens -------------------------------------------------------------------------------

_EMOJI = "[\u2190-\u21ff\u2300-\u23ff\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff]"
_SKIN = "[\U0001f3fb-\U0001f3ff]?"
_TOKEN = re.compile(
    r"\d+(?:[.,:]\d+)+"  # 1,000  38.36  10:30
    r"|[^\W_]+(?:'(?!s\b)[^\W_]+)*"  # word  10x  don't
    r"|'s\b"  # "movie's" is "movie" and "'s", as in GloVe
    r"|\$[a-z]+"  # $aapl
    r"|\.\.\."
    "|[\U0001f1e6-\U0001f1ff]{2}"  # a flag
    f"|{_EMOJI}{_SKIN}(?:\u200d{_EMOJI}{_SKIN})*"
    "|[^\\s\x00-\x1f\x7f-\x9f\u200d]"  # any other visible mark
)
_APOSTROPHE = re.compile("[\u2018\u2019\u00b4\u02bc]")
# Soft hyphen, zero-width and direction marks, variation selectors.
_INVISIBLE = re.compile("[\u00ad\u200b\u200c\u200e\u200f\u2060\u2066-\u2069\ufe0e\ufe0f\ufeff]")


def _normalize(text: str) -> str:
    text = text.lower()
    if text.isascii():
        return text
    text = unicodedata.normalize("NFC", text).replace("…", "...")
    return _INVISIBLE.sub("", _APOSTROPHE.sub("'", text))


def tokenize(text: str) -> list[str]:
    """Lower-cased words, numbers, `$tickers`, emoji, and each punctuation mark by itself.

    >>> tokenize("I don't like MSFT's 1,000-page T&Cs... $JNJ!")
    ['i', "don't", 'like', 'msft', "'s", '1,000', '-', 'page', 't', '&', 'cs', '...', '$jnj', '!']
    """
    return _TOKEN.findall(_normalize(text))


def is_empty(text: str) -> bool:
    """Whether `tokenize(text)` is empty."""
    # A few characters nearly always tell.
    return not any(_TOKEN.search(_normalize(part)) for part in (text[:40], text) if part)


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


def intern(texts: Sequence[str]) -> TokenizedTexts:
    """Tokenizes every text once; 14 million tokens of IMDB take some seconds."""
    index: defaultdict[str, int] = defaultdict()
    index.default_factory = index.__len__  # an unseen word gets the next number
    chunks: list[np.ndarray] = []
    lengths = np.zeros(len(texts), np.int64)
    for row, text in enumerate(texts):
        tokens = tokenize(text)
        lengths[row] = len(tokens)
        chunks.append(np.fromiter(map(index.__getitem__, tokens), np.int32, len(tokens)))
    word_ids = np.concatenate(chunks) if chunks else np.zeros(0, np.int32)
    return TokenizedTexts(tuple(index), word_ids, _offsets(lengths))


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
      size: the most words to have, padding and the unknown word included.
      min_count: words seen less often are left out. With 2, words seen once are
        what the unknown word's vector is trained on.

    Raises:
      UserError: `size` is below 3 or `min_count` below 1.
    """
    if size < 3:
        raise UserError(
            f"vocabulary size is {size}: expected at least 3 (padding, the unknown word and one "
            "word); give a larger --vocabulary_size"
        )
    if min_count < 1:
        raise UserError(f"least count of a word is {min_count}: expected at least 1")
    flat, _ = _gather(tokenized.offsets, rows)
    counts = np.bincount(tokenized.word_ids[flat], minlength=len(tokenized.words))
    frequent = np.flatnonzero(counts >= min_count).tolist()
    frequent.sort(key=lambda i: (-counts[i], tokenized.words[i]))
    chosen = (tokenized.words[i] for i in frequent[: size - 2])
    return Vocabulary((PADDING_WORD, UNKNOWN_WORD, *chosen))


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Ragged texts as vocabulary ids."""

    token_ids: Int[np.ndarray, "tokens"]  # int32
    offsets: Int[np.ndarray, "texts+1"]  # int64

    @property
    def lengths(self) -> Int[np.ndarray, "texts"]:
        """Tokens per text, int32."""
        return np.diff(self.offsets).astype(np.int32)


def encode(
    tokenized: TokenizedTexts,
    vocabulary: Vocabulary,
    rows: Int[np.ndarray, "rows"],
    *,
    max_length: int | None = None,
    keep: str = "end",
) -> Encoded:
    """The ids of `rows`, in their order, unknown words as `UNKNOWN_ID`.

    A text longer than `max_length` tokens keeps its last ones, or with
    `keep="start"` its first ones. The end is the default because that is where
    a review has its verdict.

    Raises:
      UserError: `max_length` is below 1, or `keep` neither "start" nor "end".
    """
    if max_length is not None and max_length < 1:
        raise UserError(
            f"max_length is {max_length}: expected at least 1; leave it out for full length"
        )
    if keep not in ("start", "end"):
        raise UserError(f"which end to keep is {keep!r}: expected start or end")
    ids = vocabulary.ids
    table = np.array([ids.get(word, UNKNOWN_ID) for word in tokenized.words], np.int32)
    flat, offsets = _gather(tokenized.offsets, rows, max_length, keep)
    return Encoded(table[tokenized.word_ids[flat]], offsets)


def pad(
    encoded: Encoded, rows: Int[np.ndarray, "rows"], length: int
) -> Int[np.ndarray, "rows length"]:
    """`rows` as an int32 rectangle, filled up on the right with `PADDING_ID`.

    Raises:
      ValueError: a row has more than `length` tokens; nothing is cut here.
    """
    flat, offsets = _gather(encoded.offsets, rows)
    lengths = np.diff(offsets)
    if lengths.size and lengths.max() > length:
        raise ValueError(f"a text of {lengths.max()} tokens does not fit in {length}")
    out = np.full((len(lengths), length), PADDING_ID, np.int32)
    real: Bool[np.ndarray, "rows length"] = np.arange(length) < lengths[:, None]
    out[real] = encoded.token_ids[flat]  # row by row, so in the order of `flat`
    return out


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
