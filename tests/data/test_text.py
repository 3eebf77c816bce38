"""Vocabulary and encoding, against literal values and slow oracles."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lth_flax.config import Config
from lth_flax.data import text
from lth_flax.errors import UserError


@pytest.fixture(scope="module", autouse=True)
def small_blocks():
    """So that a few texts are several blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "BLOCK", 2)
        yield


def test_intern():
    got = text.intern(["b a b", "", "c a"])
    assert got.words == ("b", "a", "c")
    assert got.word_ids.tolist() == [0, 1, 0, 2, 1]
    assert got.offsets.tolist() == [0, 3, 3, 5]
    assert got.lengths.tolist() == [3, 0, 2]
    assert (got.word_ids.dtype, got.offsets.dtype, got.lengths.dtype) == ("int32", "int64", "int32")
    assert text.intern([]).offsets.tolist() == [0]


def test_intern_by_characters_and_some_of_the_texts():
    got = text.intern(["b a b", "", "ca"], "characters")
    assert got.words == ("b", " ", "a", "c")
    assert got.lengths.tolist() == [5, 0, 2]
    some = got.take(np.array([2, 1, 0]))
    assert some.words == got.words
    assert some.word_ids.tolist() == [3, 2, 0, 1, 2, 1, 0]
    assert some.offsets.tolist() == [0, 2, 2, 7]


def test_vocabulary_counts_the_given_rows_only_and_breaks_ties_by_spelling():
    tokenized = text.intern(["z z z y y b b", "once y", "a a a a a a"])
    got = text.build_vocabulary(tokenized, np.array([0, 1]), size=10)
    assert got.words == ("<pad>", "<unk>", "y", "z", "b")  # y and z thrice: y < z
    assert got.ids["b"] == 4
    assert len(text.build_vocabulary(tokenized, np.array([0, 1]), size=3)) == 3
    every = text.build_vocabulary(tokenized, np.array([1]), size=9, min_count=1)
    assert every.words == ("<pad>", "<unk>", "once", "y")
    assert text.build_vocabulary(tokenized, np.array([], int), size=9).words == ("<pad>", "<unk>")


@pytest.mark.parametrize(
    "bad",
    [
        {"vocabulary_size": 2}, {"vocabulary_size": -1}, {"min_count": 0}, {"max_length": -1},
        {"keep": "middle"}, {"tokenizer": "syllables"}, {"duplicates": "merge"},
    ],
)  # fmt: skip
def test_bad_settings_are_refused_before_texts_are_read(bad):
    with pytest.raises(UserError, match="expected") as error:
        Config(**bad)
    assert "\n" not in str(error.value)


@given(
    texts=st.lists(st.lists(st.sampled_from("abcdefg"), max_size=9), min_size=1, max_size=8),
    data=st.data(),
    size=st.integers(3, 9),
    length=st.integers(1, 10),
    keep=st.sampled_from(["start", "end"]),
)
@settings(max_examples=150, deadline=None)
def test_encode_against_loops(texts, data, size, length, keep):
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
        words = texts[row][:length] if keep == "start" else texts[row][-length:]
        expected.append([ids.get(word, 1) for word in words] + [0] * (length - len(words)))
    encoded = text.encode(tokenized, vocabulary, np.array(rows, int), length=length, keep=keep)
    assert encoded.dtype == np.int32
    assert encoded.shape == (len(rows), length)
    assert encoded.tolist() == expected
