"""Cleaning, tokens, vocabulary and encoding, against literal values and slow oracles."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lth_flax.data import text
from lth_flax.errors import UserError


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("user: TJX stop in 44.34", "TJX stop in 44.34"),
        ("via user AMZN, users like it", "via AMZN, users like it"),
        ("RT @CGrantWSJ: $JNJ is up https://t.co/hD7FB2pln6", "$JNJ is up"),
        ("HTTP://x.y/z leading link", "leading link"),
        ("long CNK bit.ly/XStZaG pic.twitter.com/adw", "long CNK"),
        ("says @jackycwong\r\nhttps:/…", "says"),
        ("the first quarter htâ€¦", "the first quarter"),
        ("S&amp;P doesnâ€™t fall", "S&P doesn’t fall"),
        ("Dow &gt;&gt; 24,000 < 25,000 #stocks 🚀", "Dow >> 24,000 < 25,000 #stocks 🚀"),
        ("at oddsâ€”â€¦", "at odds—…"),
        ("a café opens, Ã©clair", "a café opens, éclair"),
        ("RT volume is high", "RT volume is high"),
        ("mail me@home", "mail me@home"),
        ("@a @b http://c", ""),
        ("", ""),
    ],
)
def test_clean_tweet(raw, clean):
    assert text.clean_tweet(raw) == clean


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("Bad.<br /><br />Really <i>bad</i>!", "Bad. Really bad !"),
        ('see <a href="x>y" class=b>this</a>', "see this"),
        ("1 < 2 but a<b and c>d, I <3 it <sigh>", "1 < 2 but a<b and c>d, I <3 it <sigh>"),
        ("<BR>Tom &amp; Jerry &#8217;n", "Tom & Jerry ’n"),
        ("good\x96not \x93great\x94", "good–not “great”"),
        ("see http://imdb.com now", "see now"),
        ("<!-- x\ny -->text", "text"),
    ],
)
def test_clean_review(raw, clean):
    assert text.clean_review(raw) == clean


@pytest.mark.parametrize(
    ("raw", "tokens"),
    [
        ("It's NOT good.", ["it", "'s", "not", "good", "."]),
        ("Don’t, rock'n'roll", ["don't", ",", "rock'n'roll"]),
        ("up 1,000.5% at 10:30 10x", ["up", "1,000.5", "%", "at", "10:30", "10x"]),
        ("$AAPL $5", ["$aapl", "$", "5"]),
        ("well-made… wow...", ["well", "-", "made", "...", "wow", "..."]),
        ("👍🏽👍 ❤️🇩🇪👩‍👧", ["👍🏽", "👍", "❤", "🇩🇪", "👩‍👧"]),
        ("cafe\u0301 naïve", ["café", "naïve"]),
        (" \n\t\u200b\x85", []),
    ],
)
def test_tokenize(raw, tokens):
    assert text.tokenize(raw) == tokens
    assert text.is_empty(raw) == (not tokens)


@given(st.text())
def test_no_visible_character_is_lost(raw):
    tokens = text.tokenize(raw)
    assert not any(any(c.isspace() for c in token) or not token for token in tokens)
    assert text.is_empty(raw) == (not tokens)
    words = [c for c in raw.lower() if c.isascii() and c.isalnum()]
    kept = Counter("".join(tokens))
    assert all(kept[c] >= n for c, n in Counter(words).items())


def test_an_empty_start_does_not_make_a_text_empty():
    assert not text.is_empty("\u200b" * 100 + "x")
    assert text.is_empty("\u200b" * 100)


def test_intern():
    got = text.intern(["b a b", "", "c a"])
    assert got.words == ("b", "a", "c")
    assert got.word_ids.tolist() == [0, 1, 0, 2, 1]
    assert got.offsets.tolist() == [0, 3, 3, 5]
    assert got.lengths.tolist() == [3, 0, 2]
    assert (got.word_ids.dtype, got.offsets.dtype, got.lengths.dtype) == ("int32", "int64", "int32")
    assert text.intern([]).offsets.tolist() == [0]


def test_vocabulary_counts_the_given_rows_only_and_breaks_ties_by_spelling():
    tokenized = text.intern(["z z z y y b b", "once y", "a a a a a a"])
    got = text.build_vocabulary(tokenized, np.array([0, 1]), size=10)
    assert got.words == ("<pad>", "<unk>", "y", "z", "b")  # y and z thrice: y < z
    assert got.ids["b"] == 4
    assert len(text.build_vocabulary(tokenized, np.array([0, 1]), size=3)) == 3
    every = text.build_vocabulary(tokenized, np.array([1]), size=9, min_count=1)
    assert every.words == ("<pad>", "<unk>", "once", "y")
    assert text.build_vocabulary(tokenized, np.array([], int), size=9).words == ("<pad>", "<unk>")


@pytest.mark.parametrize("bad", [{"size": 2}, {"size": -1}, {"size": 9, "min_count": 0}])
def test_bad_vocabulary(bad):
    with pytest.raises(UserError, match="expected at least") as error:
        text.build_vocabulary(text.intern(["a"]), np.array([0]), **bad)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("bad", [{"max_length": 0}, {"max_length": 3, "keep": "middle"}])
def test_bad_encoding(bad):
    tokenized = text.intern(["a"])
    vocabulary = text.build_vocabulary(tokenized, np.array([0]), size=3)
    with pytest.raises(UserError, match="expected"):
        text.encode(tokenized, vocabulary, np.array([0]), **bad)


@given(
    texts=st.lists(st.lists(st.sampled_from("abcdefg"), max_size=9), min_size=1, max_size=8),
    data=st.data(),
    size=st.integers(3, 9),
    max_length=st.one_of(st.none(), st.integers(1, 10)),
    keep=st.sampled_from(["start", "end"]),
)
@settings(max_examples=150, deadline=None)
def test_encode_and_pad_against_loops(texts, data, size, max_length, keep):
    indices = st.integers(0, len(texts) - 1)
    rows = data.draw(st.lists(indices, max_size=6))
    train = data.draw(st.lists(indices, unique=True))
    tokenized = text.intern([" ".join(words) for words in texts])
    vocabulary = text.build_vocabulary(tokenized, np.array(train, int), size=size)

    counts = Counter(word for row in train for word in texts[row])
    frequent = sorted((word for word in counts if counts[word] > 1), key=lambda w: (-counts[w], w))
    ids = {word: i + 2 for i, word in enumerate(frequent[: size - 2])}
    assert vocabulary.words == ("<pad>", "<unk>", *ids)

    expected = []
    for row in rows:
        words = texts[row]
        if max_length is not None:
            words = words[:max_length] if keep == "start" else words[-max_length:]
        expected.append([ids.get(word, 1) for word in words])
    encoded = text.encode(
        tokenized, vocabulary, np.array(rows, int), max_length=max_length, keep=keep
    )
    assert encoded.token_ids.dtype == np.int32
    assert encoded.token_ids.tolist() == sum(expected, [])
    assert encoded.lengths.tolist() == [len(ids) for ids in expected]

    if rows:
        chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=5))
        padded = text.pad(encoded, np.array(chosen, int), 9)
        slow = [expected[i] + [0] * (9 - len(expected[i])) for i in chosen]
        assert padded.dtype == np.int32
        assert padded.shape == (len(chosen), 9)
        assert padded.tolist() == slow


def test_pad_does_not_cut():
    tokenized = text.intern(["a a a"])
    vocabulary = text.build_vocabulary(tokenized, np.array([0]), size=3)
    encoded = text.encode(tokenized, vocabulary, np.array([0]))
    with pytest.raises(ValueError, match="3 tokens does not fit in 2"):
        text.pad(encoded, np.array([0]), 2)
