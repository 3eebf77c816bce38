"""Words or characters of a text, in one spelling for what reads the same.

What is done to a text first, in this order: characters that nobody sees are left
out; canonical composition (NFC), so that "e" with an accent is one thing however
it was typed; letters that differ only in
shape (full-width, ligatures, mathematical alphabets, Arabic presentation forms)
become the plain ones, which NFKC would do as well, but NFKC also rewrites what
differs in meaning ("²", "½", "™"); lower case, not case folding, since word
vectors are spelled so ("straße" stays), with Turkish "İ" as "i", which lower-casing takes
apart; composition again.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable


def _class_of(code_points: Iterable[int]) -> str:
    """Code points, increasing, as the inside of a class of a regular expression."""
    ranges: list[list[int]] = []
    for code in code_points:
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges)


# Vowel signs, accents, viramas, nuktas: `re` does not count them to a word. Planes 2 and 3 are
# Han, 4 to 13 empty, 15 and 16 private: looking there would be most of the time of an import.
_MARKS = _class_of(
    code
    for code in (*range(0x300, 0x20000), *range(0xE0000, 0xF0000))
    if unicodedata.category(chr(code))[0] == "M"
)
# Written without blanks between words: Thai, Lao, Tibetan, Myanmar, Khmer, kana, Han.
_UNSPACED = (
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_EMOJI = "\u2190-\u21ff\u2300-\u23ff\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff"
_SKIN = "[\U0001f3fb-\U0001f3ff]?"
_PICTURE = (
    "[\U0001f1e6-\U0001f1ff]{2}"  # a flag
    f"|[{_EMOJI}]{_SKIN}(?:\u200d[{_EMOJI}]{_SKIN})*"
)
_VISIBLE = f"[^\\s\x00-\x1f\x7f-\x9f\u200d][{_MARKS}]*"
_LETTERS = f"[^\\W_]+(?:[{_MARKS}][^\\W_]*)*"
# Inside a word: don't, Hebrew abbreviations, Catalan "col·legi".
_INNER = (
    f"'(?!s(?![\\w{_MARKS}]))|(?<=[\u05d0-\u05ea])[\"\u05f3\u05f4](?=[\u05d0-\u05ea])"
    "|(?<=l)\u00b7(?=l)"
)

_WORD = re.compile(
    r"\d+(?:[.,:\u066b\u066c]\d+)+"  # 1,000  38.36  10:30
    f"|{_LETTERS}(?:(?:{_INNER}){_LETTERS})*"  # word  10x  don't
    f"|'s(?![\\w{_MARKS}])"  # "movie's" is "movie" and "'s", as in GloVe
    r"|\$[a-z]+"  # $aapl
    r"|\.\.\."
    f"|{_PICTURE}"
    f"|{_VISIBLE}"  # any other mark
)
_CHARACTER = re.compile(f"{_PICTURE}|{_VISIBLE}| ")

_SHAPES = re.compile("[\ufb00-\ufb4f\ufb50-\ufdff\ufe70-\ufefc\uff01-\uffef\U0001d400-\U0001d7ff]+")
_APOSTROPHE = re.compile("[\u2018\u2019\u00b4\u02bc]")
# Directions, joiners, selectors, fillers and tags: all that is drawn as nothing.
_INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200c\u200e\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff"
)
_UNSEEN = re.compile(f"[{_INVISIBLE}]")
# The zero-width joiner holds emoji together; between letters it chooses a shape.
_JOINER = re.compile(f"(?<![{_EMOJI}])\u200d|\u200d(?![{_EMOJI}])")
# Where words have no blanks between them, a zero-width space is one.
_THIN_BLANK = re.compile(f"(?<=[{_UNSPACED}])\u200b(?=[{_UNSPACED}])")


def normalize(text: str) -> str:
    """The spelling that words are compared in; the same for canonically equivalent texts."""
    if text.isascii():
        return text.lower()
    text = _JOINER.sub("", _UNSEEN.sub("", _THIN_BLANK.sub(" ", text)))
    text = _SHAPES.sub(_plain_shape, unicodedata.normalize("NFC", text)).lower()
    # "i" has its dot already.
    text = unicodedata.normalize("NFC", text.replace("i\u0307", "i"))
    return _APOSTROPHE.sub("'", text).replace("…", "...")


def _plain_shape(match: re.Match[str]) -> str:
    return unicodedata.normalize("NFKC", match.group())


def visible(text: str) -> str:
    """The text without what is drawn as nothing."""
    return _UNSEEN.sub("", text).replace("\u200d", "")


def tokenize(text: str) -> list[str]:
    """Lower-cased words, numbers, `$tickers`, emoji, and each punctuation mark by itself.

    A word is letters and digits with the marks that belong to them, and
    apostrophes inside.

    >>> tokenize("I don't like MSFT's 1,000-page T&Cs... $JNJ!")
    ['i', "don't", 'like', 'msft', "'s", '1,000', '-', 'page', 't', '&', 'cs', '...', '$jnj', '!']
    """
    return _WORD.findall(normalize(text))


def characters(text: str) -> list[str]:
    """Lower-cased characters, each with its marks, and one blank wherever there were some.

    >>> characters("ที่ Now")
    ['ที่', ' ', 'n', 'o', 'w']
    """
    return _CHARACTER.findall(" ".join(normalize(text).split()))


TOKENIZERS: dict[str, Callable[[str], list[str]]] = {"words": tokenize, "characters": characters}


def is_empty(text: str) -> bool:
    """Whether no tokenizer finds a token."""
    # A few characters nearly always tell.
    return not any(_WORD.search(normalize(part)) for part in (text[:40], text) if part)
