"""The built-in corpus: laws that make word order the only thing that helps."""

from collections import Counter, defaultdict

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse

from lth_flax.data import synthetic
from lth_flax.data.text import intern
from lth_flax.data.tokenizer import tokenize
from lth_flax.errors import UserError

SIZE = 4000


@pytest.fixture(scope="module")
def corpus():
    return synthetic.generate(SIZE, seed=0)


def test_balanced_distinct_and_small(corpus):
    texts, labels = corpus
    assert len(texts) == len(set(texts)) == SIZE
    assert labels.dtype == np.int32
    assert Counter(labels.tolist()) == {0: SIZE // 2, 1: SIZE // 2}
    tokenized = intern(texts)
    assert 150 <= len(tokenized.words) <= 300
    assert tokenized.lengths.min() <= 10
    assert tokenized.lengths.max() >= 28
    assert tokenized.lengths.max() <= 40
    assert [" ".join(tokenize(sentence)) for sentence in texts] == texts


def test_every_multiset_of_tokens_has_both_labels_equally_often(corpus):
    texts, labels = corpus
    seen = defaultdict(Counter)
    for sentence, label in zip(texts, labels.tolist(), strict=True):
        seen[tuple(sorted(sentence.split()))][label] += 1
    assert all(counts[0] == counts[1] > 0 for counts in seen.values())


def test_a_bag_of_words_scores_no_more_than_chance(corpus):
    """Trained on a random 80%: 34 to 38% of the rest, as the docstring says; of all: 50%."""
    texts, labels = corpus
    tokenized = intern(texts)
    rows = np.repeat(np.arange(SIZE), tokenized.lengths)
    counts = scipy.sparse.csr_matrix((np.ones(len(rows)), (rows, tokenized.word_ids)))
    order = np.random.default_rng(1).permutation(SIZE)
    train, test = order[: SIZE * 4 // 5], order[SIZE * 4 // 5 :]
    signs = 2.0 * labels - 1

    def loss(weights):
        margins = signs[train] * (counts[train] @ weights)
        slopes = -signs[train] / (1 + np.exp(margins))
        gradient = counts[train].T @ slopes + 1e-2 * weights
        return np.logaddexp(0, -margins).sum() + 5e-3 * weights @ weights, gradient

    start = np.zeros(counts.shape[1])
    weights = scipy.optimize.minimize(loss, start, jac=True, method="L-BFGS-B").x
    right = ((counts @ weights > 0) == labels).astype(float)
    assert right[train].mean() > 0.5  # it did learn something, by heart
    assert 0.3 < right[test].mean() < 0.42
    assert right.mean() == 0.5


@pytest.mark.parametrize("place", [0, -1])
def test_the_word_at_one_end_tells_little(corpus, place):
    texts, labels = corpus
    seen = defaultdict(Counter)
    for sentence, label in zip(texts, labels.tolist(), strict=True):
        seen[sentence.split()[place]][label] += 1
    best = sum(max(counts.values()) for counts in seen.values()) / SIZE
    assert best <= 0.56


def verdict(sentence):
    """The rules of the docstring, read from the sentence rather than from how it was made."""
    words = sentence.split()
    praise = set(synthetic._POSITIVE)
    tone = praise | set(synthetic._NEGATIVE)
    if "think" in words:
        flipped = "not" in words[: words.index("think")]
    elif "would" in words:
        second = len(words) - 1 - words[::-1].index("would")
        flipped = words[second + 1] in ("never", "hardly")
    else:
        if "but" in words:
            words = words[words.index("but") :]
        elif any(word in tone for word in words[: words.index("although")]):
            words = words[: words.index("although")]
        else:  # although ..., MAIN: the main clause has the last verdict
            first = next(i for i, word in enumerate(words) if word in tone)
            words = words[first + 1 :]
        flipped = "not" in words
    [word] = [word for word in words if word in tone]
    return int((word in praise) != flipped)


def test_labels_follow_the_rules(corpus):
    texts, labels = corpus
    assert [verdict(sentence) for sentence in texts] == labels.tolist()


def test_only_the_seed_decides(corpus):
    again = synthetic.generate(SIZE, seed=0)
    assert again[0] == corpus[0]
    np.testing.assert_array_equal(again[1], corpus[1])
    assert synthetic.generate(SIZE, seed=1)[0] != corpus[0]


@pytest.mark.parametrize("size", [0, -2, 7, synthetic.MAX_SIZE + 2])
def test_bad_size(size):
    with pytest.raises(UserError, match="expected an even number"):
        synthetic.generate(size, seed=0)
