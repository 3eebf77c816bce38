"""Texts as they are published to texts as they were meant: tags, links, names, misread bytes."""

import html
import re
from collections.abc import Callable

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
    """Removes HTML tags and links, resolves entities, and closes up white space.

    Windows-1252 punctuation that was read as Latin-1 (a dash as U+0096: 5,000
    times in IMDB) becomes what was meant.
    """
    if not text.isascii():
        text = _CONTROL.sub(_windows_character, text)
    if "<" in text:
        # All but a few of IMDB's 200,000 tags are this one.
        text = _TAG.sub(" ", text.replace("<br />", " "))
    if "&" in text:
        text = html.unescape(text)
    return " ".join(_LINK.sub(" ", text).split())


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


CLEANERS: dict[str, Callable[[str], str]] = {
    "tweet": clean_tweet,
    "text": clean_text,
    "none": str,
}
"""By the names that tickets call them."""


def cleaning_of(dataset: str | Callable[..., object]) -> str:
    """Which of `CLEANERS` the texts of a dataset go through before they are tokenized.

    None where they are made clean, and where a function from outside the package reads them.
    """
    if callable(dataset) or ":" in dataset or dataset == "synthetic":
        return "none"
    return "tweet" if dataset == "financial_tweets" else "text"
