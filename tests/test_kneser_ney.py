"""The trigram that language models are measured against, by hand and against NLTK's values."""

import numpy as np
import pytest
from kneser_ney import discount, kneser_ney

TEXT = "ababcaba"
WORDS = {"a": 0, "b": 1, "c": 2}


def test_by_hand():
    """Trigrams aba 2, bab, abc, bca, cab; bigrams ab, ba, bc, ca; D = 1/2."""
    ids = [WORDS[word] for word in TEXT]
    found = kneser_ney(ids, [WORDS[w] for w in "abcaab"], words=3, discounts=(0.5, 0.5))
    # p1: different words before a: b, c; before b: a; before c: b. Four in all.
    p1 = {"a": 2 / 4, "b": 1 / 4, "c": 1 / 4}
    # p2 after b: N(. b a) = 1 (a), N(. b c) = 1 (a); two different ones follow.
    after_b = {w: (0.5 if w in "ac" else 0) / 2 + 0.5 * 2 / 2 * p1[w] for w in "abc"}
    # p2 after c: N(. c a) = 1 (b). After a: N(. a b) = 2 (b and c), b alone follows.
    after_c = {w: (0.5 if w == "a" else 0) / 1 + 0.5 * 1 / 1 * p1[w] for w in "abc"}
    after_a = {w: (1.5 if w == "b" else 0) / 2 + 0.5 * 1 / 2 * p1[w] for w in "abc"}
    # p3 after a b: a twice, c once. After b c: a once. c a: b once. a a was never seen.
    expected = [
        0.5 / 3 + 0.5 * 2 / 3 * after_b["c"],
        0.5 / 1 + 0.5 * 1 / 1 * after_c["a"],
        0 / 1 + 0.5 * 1 / 1 * after_a["a"],
        after_a["b"],
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert discount(np.array([1, 1, 2, 7])) == 2 / 4


def test_the_words_of_every_context_share_all_of_the_probability():
    rng = np.random.default_rng(0)
    train = rng.integers(6, size=60)
    for context in ((0, 1), (5, 5), (3, 2)):
        total = sum(kneser_ney(train, [*context, w], words=6)[0] for w in range(6))
        assert total == pytest.approx(1, rel=1e-12)


def test_nltk_says_the_same_of_fifty_words():
    """The mean log of NLTK 3's KneserNeyInterpolated(3, discount=0.1), of everygrams."""
    rng = np.random.default_rng(0)
    train, tokens = rng.integers(8, size=50), rng.integers(8, size=30)
    found = kneser_ney(train, tokens, words=8, discounts=(0.1, 0.1))
    assert np.log(found).mean() == pytest.approx(-4.190911475474352, rel=1e-12)
