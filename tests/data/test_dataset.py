"""From a source to resident arrays: who is where, and who knows which words."""

import dataclasses

import numpy as np
import pytest

from lth_flax.config import Config
from lth_flax.data.batches import SPLITS
from lth_flax.data.dataset import build_dataset
from lth_flax.data.source import Source
from lth_flax.data.text import PADDING_ID, UNKNOWN_ID, UNKNOWN_WORD, Vocabulary
from lth_flax.errors import UserError

OPTIONS = Config(
    vocabulary_size=500,
    min_count=1,
    validation_share=0.2,
    test_share=0.3,
    max_shapes=3,
    batch_size=4,
)


def make_source(official=None, number=60, extra=()):
    """Text n begins with a word of its own, `textN`, and has 1 to 8 words."""
    texts = [f"text{n} " + " ".join(f"w{(n * k) % 7}" for k in range(n % 8)) for n in range(number)]
    texts = [text.strip() for text in texts] + list(extra)
    labels = np.arange(len(texts), dtype=np.int32) % 2
    splits = {} if official is None else {"test": official}
    return Source("made", texts, labels, ("no", "yes"), splits)


def words_of(dataset, seed, split):
    """Every text of a split, decoded with that seed's vocabulary, with its label."""
    words = dataset.vocabularies[seed].words
    found = []
    for bucket, members in zip(dataset.buckets, dataset.members[seed][split], strict=True):
        for index in members:
            length = int(bucket["lengths"][index])
            tokens = bucket["tokens"][index]
            assert (tokens[length:] == PADDING_ID).all()
            assert (tokens[:length] != PADDING_ID).all()
            found.append(
                ([words[token] for token in tokens[:length]], int(bucket["labels"][index]))
            )
    return found


def spelled(text, known):
    return [word if word in known else UNKNOWN_WORD for word in text.split()]


def number_of(words):
    """Which text this is, where its own word is known."""
    return int(words[0].removeprefix("text"))


@pytest.mark.parametrize("seeds", [(0, 1, 2)])
def test_each_seed_has_every_text_once_under_the_words_of_its_training_texts(seeds):
    source = make_source()
    dataset = build_dataset(source, seeds, OPTIONS)
    trained = {}
    for seed in seeds:
        train = [number_of(words) for words, _ in words_of(dataset, seed, "train")]
        trained[seed] = set(train)
        assert len(trained[seed]) == len(train)
        known = {word for n in train for word in source.texts[n].split()}
        # The vocabulary has the words of the training texts, and no other.
        assert set(dataset.vocabularies[seed].words[2:]) == known
        # What is in the three splits is what is in the source, spelled by that vocabulary.
        found = [entry for split in SPLITS for entry in words_of(dataset, seed, split)]
        expected = [
            (spelled(text, known), int(label))
            for text, label in zip(source.texts, source.labels, strict=True)
        ]
        assert sorted(found) == sorted(expected)
        # The own word of a held-out text is unknown, always.
        for split in ("validation", "test"):
            assert all(words[0] == UNKNOWN_WORD for words, _ in words_of(dataset, seed, split))
    assert trained[0] != trained[1] != trained[2]
    # Lockstep: as many examples per bucket and split for every seed.
    for split in SPLITS:
        sizes = {tuple(len(part) for part in dataset.members[seed][split]) for seed in seeds}
        assert len(sizes) == 1
    assert [dataset.size(0, split) for split in ("validation", "test")] == [12, 18]
    # One table of words is large enough for every seed.
    assert dataset.vocabulary_size == max(len(dataset.vocabularies[seed]) for seed in seeds)
    largest = [int(np.asarray(bucket["tokens"]).max()) for bucket in dataset.buckets]
    assert max(largest) < dataset.vocabulary_size


def test_a_seed_does_not_depend_on_the_other_seeds():
    source = make_source()
    alone, together = (build_dataset(source, seeds, OPTIONS) for seeds in ([2], [0, 1, 2]))
    for split in SPLITS:
        assert words_of(alone, 2, split) == words_of(together, 2, split)
    assert alone.edges == together.edges


def test_an_official_test_split_is_the_same_for_all_seeds_and_gives_no_words():
    official = np.arange(60) % 3 == 0
    source = make_source(official)
    dataset = build_dataset(source, (0, 1), OPTIONS)
    test, rest = np.flatnonzero(official), np.flatnonzero(~official)
    known = {word for n in rest for word in source.texts[n].split()}
    expected = sorted((spelled(source.texts[n], known), int(source.labels[n])) for n in test)
    for seed in (0, 1):
        # One vocabulary, of all texts that are not test: validation included.
        assert dataset.vocabularies[seed] is dataset.vocabularies[0]
        assert set(dataset.vocabularies[seed].words[2:]) == known
        assert sorted(words_of(dataset, seed, "test")) == expected
        others = words_of(dataset, seed, "train") + words_of(dataset, seed, "validation")
        assert sorted(number_of(words) for words, _ in others) == rest.tolist()
    assert words_of(dataset, 0, "test") == words_of(dataset, 1, "test")
    validation = [{number_of(w) for w, _ in words_of(dataset, s, "validation")} for s in (0, 1)]
    # A fifth of the 40 that are left, and others for another seed.
    assert len(validation[0]) == len(validation[1]) == 8
    assert validation[0] != validation[1]


def test_a_test_text_longer_than_all_training_texts_fits():
    longest = " ".join(["long"] * 40)
    official = np.arange(61) >= 50
    dataset = build_dataset(make_source(official, extra=[longest]), [0], OPTIONS)
    assert dataset.edges[-1] == 40
    lengths = [len(words) for words, _ in words_of(dataset, 0, "test")]
    assert max(lengths) == 40
    assert dataset.buckets[-1]["tokens"].shape[1] == 40


def test_an_empty_text_is_kept_with_length_zero():
    source = make_source(number=58, extra=["", ""])
    dataset = build_dataset(source, [0], OPTIONS)
    found = [words for split in SPLITS for words, _ in words_of(dataset, 0, split)]
    assert len(found) == 60
    assert found.count([]) == 2
    assert dataset.num_empty == 2


def test_only_empty_texts_are_still_a_dataset():
    source = make_source(number=0, extra=[""] * 40)
    dataset = build_dataset(source, [0], OPTIONS)
    assert dataset.edges == (1,)
    assert dataset.buckets[0]["tokens"].shape == (40, 1)
    assert not dataset.buckets[0]["lengths"].any()


@pytest.mark.parametrize(("keep", "kept"), [("end", slice(-3, None)), ("start", slice(3))])
def test_a_cut_text_keeps_the_end_that_was_asked_for(keep, kept):
    source = make_source()
    dataset = build_dataset(source, [0], dataclasses.replace(OPTIONS, max_length=3, keep=keep))
    assert dataset.edges[-1] == 3
    known = set(dataset.vocabularies[0].words)
    found = [entry for split in SPLITS for entry in words_of(dataset, 0, split)]
    expected = [
        (spelled(" ".join(text.split()[kept]), known), int(label))
        for text, label in zip(source.texts, source.labels, strict=True)
    ]
    assert sorted(found) == sorted(expected)


def test_a_given_vocabulary_is_used_by_spelling():
    words = ("<pad>", "<unk>", "w3", "text7", "w1")
    dataset = build_dataset(make_source(), (0, 1), OPTIONS, vocabulary=Vocabulary(words))
    assert dataset.vocabulary_size == 5
    found = {word for split in SPLITS for text, _ in words_of(dataset, 1, split) for word in text}
    assert found == {"<unk>", "w3", "text7", "w1"}
    assert UNKNOWN_ID == 1


def test_labels_and_fingerprints():
    source = make_source()
    dataset = build_dataset(source, (0, 1), OPTIONS)
    for split in SPLITS:
        labels = [label for _, label in words_of(dataset, 0, split)]
        assert dataset.labels(0, split).tolist() == labels
    again = build_dataset(source, (0, 1), OPTIONS)
    assert dataset.split_fingerprint(0) == again.split_fingerprint(0)
    assert dataset.split_fingerprint(0) != dataset.split_fingerprint(1)


def test_a_split_without_one_of_the_classes_is_refused():
    source = make_source(number=8)
    rare = dataclasses.replace(source, labels=np.eye(8, dtype=np.int32)[0])
    with pytest.raises(UserError, match="no text of class yes"):
        build_dataset(rare, [0], OPTIONS)
