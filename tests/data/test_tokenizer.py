"""Tokens of many scripts, against literal values and laws of Unicode."""

import unicodedata
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lth_flax.data.tokenizer import TOKENIZERS, characters, is_empty, normalize, tokenize


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
        ("a_b 's s' ''s", ["a", "_", "b", "'s", "s", "'", "'", "'s"]),
        ("1\ufe0f\u20e3 win", ["1\u20e3", "win"]),
    ],
)
def test_tokenize(raw, tokens):
    assert tokenize(raw) == tokens
    assert is_empty(raw) == (not tokens)


@pytest.mark.parametrize(
    "word",
    [
        "हिन्दी", "क्षत्रिय", "தமிழ்", "বাংলা", "తెలుగు", "ಕನ್ನಡ", "മലയാളം", "ਪੰਜਾਬੀ",
        "ગુજરાતી", "සිංහල", "ไทย", "ที่นี่", "ລາວ", "ខ្មែរ", "မြန်မာ", "مُحَمَّد", "شُكْرًا",
        "שָׁלוֹם", "ܫܠܡܐ", "ދިވެހި", "tiếng", "m̄", "ı̆", "по́лный",
        "п'ять", "don't", "col·legi", "צה״ל", 'צה"ל', "ג׳ורג", "türkiye'nin",
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_word_of_any_script_stays_whole(word, form):
    expected = unicodedata.normalize("NFC", word)
    assert tokenize(unicodedata.normalize(form, f"{word} ok ({word}).")) == [
        expected, "ok", "(", expected, ")", ".",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("İSTANBUL İyi", "istanbul iyi"),
        ("I\u0307yi", "iyi"),
        ("DIŞ", "diş"),  # without knowing the language: "I" is "i"
        ("ＦＵＬＬ　ｗｉｄｔｈ！", "full width!"),
        ("𝗕𝗨𝗬 𝓃𝑜𝓌", "buy now"),
        ("ﬁne ﬂower", "fine flower"),
        ("ﻣﺤﻤﺪ", "محمد"),
        ("ｶﾞｿﾘﾝ", "ガソリン"),
        ("ΟΔΟΣ", "οδος"),
        ("\u212bngström \u212a", "ångström k"),
        ("he\u200bll\u00ado wor\u2060ld\ufeff", "hello world"),
        ("می\u200cخواهم", "میخواهم"),
        ("ක්\u200dරම", "ක්රම"),
        ("\u202eabc\u202c \u061cdef", "abc def"),
        ("e\u200d\u0301", "é"),
    ],
)
def test_what_reads_the_same_is_the_same(one, other):
    assert tokenize(one) == tokenize(other)
    assert characters(one) == characters(other)


def test_what_means_something_else_stays_different():
    for one, other in [("m²", "m2"), ("½", "1⁄2"), ("™", "tm"), ("straße", "strasse"), ("ı", "i")]:
        assert tokenize(one) != tokenize(other)
    # A zero-width space is a blank where there are no others.
    assert tokenize("ភាសា\u200bខ្មែរ") == ["ភាសា", "ខ្មែរ"]


@pytest.mark.parametrize(
    ("raw", "tokens"),
    [
        ("这部电影 很好！", ["这", "部", "电", "影", " ", "很", "好", "!"]),
        ("ที่นี่ดี", ["ที่", "นี่", "ดี"]),
        ("हिन्दी", ["हि", "न्", "दी"]),
        ("  To\n\n be ", ["t", "o", " ", "b", "e"]),
        ("👩‍👧🇩🇪👍🏽", ["👩‍👧", "🇩🇪", "👍🏽"]),
        ("e\u0301e", ["é", "e"]),
        ("\u200b \x85", []),
    ],
)
def test_characters(raw, tokens):
    got = characters(unicodedata.normalize("NFC", raw))
    assert got == [unicodedata.normalize("NFC", token) for token in tokens]


@given(st.text())
def test_no_visible_character_is_lost(raw):
    letters = [c for c in raw.lower() if c.isascii() and c.isalnum()]
    for name, tokenizer in TOKENIZERS.items():
        tokens = tokenizer(raw)
        assert all(tokens)
        assert not any(c.isspace() for token in tokens for c in token if token != " "), name
        assert is_empty(raw) == (not tokens)
        kept = Counter("".join(tokens))
        assert all(kept[c] >= n for c, n in Counter(letters).items())


@given(st.text(st.characters(exclude_categories=("Cs",))))
def test_equivalent_texts_have_the_same_tokens(raw):
    for tokenizer in TOKENIZERS.values():
        tokens = tokenizer(raw)
        assert tokenizer(unicodedata.normalize("NFD", raw)) == tokens
        assert tokenizer(unicodedata.normalize("NFC", raw)) == tokens
        # What is a token stays one: words of files and of tickets match by spelling.
        assert all(normalize(token) == token for token in tokens)


LETTER = st.characters(categories=("Ll", "Lo", "Nd")).filter(lambda c: normalize(c) == c)
MARK = st.characters(categories=("Mn", "Mc"))


@given(st.lists(st.tuples(LETTER, st.text(MARK, max_size=3)), min_size=1, max_size=8))
def test_marks_never_tear_a_word(parts):
    word = "".join(letter + marks for letter, marks in parts)
    assert tokenize(word) == [normalize(word)]


def test_an_empty_start_does_not_make_a_text_empty():
    assert not is_empty("\u200b" * 100 + "x")
    assert is_empty("\u200b" * 100)
