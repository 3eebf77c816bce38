"""What inputs carry, counted by hand."""

import numpy as np
import pytest

from lth_flax.config import Config
from lth_flax.data import account
from lth_flax.data.dataset import build_dataset
from lth_flax.data.source import Source
from lth_flax.data.text import Vocabulary

OPTIONS = {
    "vocabulary_size": 50, "min_count": 1, "validation_share": 0.2, "max_shapes": 2,
    "batch_size": 2,
}  # fmt: skip


def build(texts, labels=None, test=None, names=("no", "yes"), vocabulary=None, **changes):
    labels = np.arange(len(texts)) % 2 if labels is None else np.array(labels)
    official = {} if test is None else {"test": test}
    source = Source("made", texts, labels, names, official, notes=["made: by hand"])
    return build_dataset(source, [0], Config(**{**OPTIONS, **changes}), vocabulary=vocabulary)


def test_classes_with_counts_and_the_largest():
    dataset = build(["a"] * 40, labels=[0] * 30 + [1] * 10)
    assert dataset.account["class_counts"] == {"no": 30, "yes": 10}
    assert dataset.account["largest_class"] == {"name": "no", "share": 0.75}
    lines = account.lines(dataset.account)
    assert "Classes: no 30, yes 10 (the largest, no, is 75.0%)" in lines
    assert "made: by hand" in lines


def test_unknown_tokens_of_each_split():
    words = Vocabulary(("<pad>", "<unk>", "known"))
    texts = ["known odd"] * 20 + ["odd odd odd known"] * 10
    test = np.arange(30) >= 20
    found = build(texts, test=test, vocabulary=words).account
    assert found["tokens"]["test"] == 40
    assert found["unknown_tokens"]["test"] == 30
    assert found["unknown_share"]["test"] == 0.75
    assert found["unknown_share"]["train"] == found["unknown_share"]["validation"] == 0.5
    (warning,) = [line for line in account.warnings(found) if "unknown" in line]
    assert "most tokens of test are" in warning
    assert "--tokenizer=characters" in warning


THAI = ["หนังเรื่องนี้ดีมาก", "ไม่ชอบหนังเรื่องนี้เลย", "ดีมากจริงๆ", "ไม่ดีเลย"]


def test_a_script_without_blanks_is_told_to_go_by_characters():
    # Sentences, each said once: as words all are unknown, as characters few are.
    texts = [a + b + c for a in THAI for b in THAI for c in THAI]
    warned = account.warnings(build(texts, min_count=2).account)
    assert any("--tokenizer=characters" in line for line in warned)
    found = build(texts, min_count=2, tokenizer="characters", vocabulary_size=100).account
    assert found["unknown_share"]["test"] < 0.05
    assert not any("unknown" in line for line in account.warnings(found))
    # Where the remedy is taken already, it is not given.
    few = build(texts, tokenizer="characters", vocabulary_size=3).account
    (line,) = [line for line in account.warnings(few) if "unknown" in line]
    assert "characters" not in line
    assert "--vocabulary_size" in line


def test_a_text_much_longer_than_the_others_is_said():
    texts = ["a b c"] * 400 + ["long " * 900]
    found = build(texts, labels=[n % 2 for n in range(401)]).account
    assert (found["longest_text"], found["longest_of_99_percent"]) == (900, 3)
    assert any(
        "900 tokens" in line and "--max_length=3" in line for line in account.warnings(found)
    )
    found = build(texts, labels=[n % 2 for n in range(401)], max_length=9).account
    assert not any("longest" in line for line in account.warnings(found))


def test_many_classes_are_not_all_listed():
    names = tuple(f"c{n:02}" for n in range(20))
    dataset = build(["a"] * 400, labels=np.arange(400) % 20, names=names)
    assert len(dataset.account["class_counts"]) == 20
    assert "c07 20, 12 more" in "\n".join(account.lines(dataset.account))


@pytest.mark.parametrize("padding", ["b", "b c d"])
def test_words_with_a_vector(padding):
    dataset = build(["a a", f"a {padding}"] * 10, labels=[0, 0, 1, 1] * 5)
    vocabulary = dataset.vocabularies[0]
    found = np.array([word == "a" for word in vocabulary.words])
    train = dataset.members[0]["train"]
    tokens = [
        vocabulary.words[token]
        for bucket, rows in zip(dataset.buckets, train, strict=True)
        for row in rows
        for token in bucket["tokens"][row]
        if token
    ]
    assert account.count_vectors(vocabulary, found, dataset.buckets, train) == {
        "words": 1,
        "share_of_vocabulary": 1 / (1 + len(padding.split())),
        "share_of_tokens": tokens.count("a") / len(tokens),
    }
