"""Copies of a text: found, counted, kept in one split or left out."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lth_flax.config import Config
from lth_flax.data import account
from lth_flax.data.batches import SPLITS
from lth_flax.data.dataset import build_dataset
from lth_flax.data.duplicates import first_copies, left_out
from lth_flax.data.source import Source
from lth_flax.data.text import build_vocabulary, intern
from lth_flax.errors import UserError


def options(**changes):
    values = {"min_count": 1, "validation_share": 0.2, "max_shapes": 3, "batch_size": 4}
    return Config(**values, **changes)


def copied(number=60, copies=4, seed=0):
    """Every text `copies` times, with labels at random, in random order."""
    rng = np.random.default_rng(seed)
    texts = [f"text{n} " + "w " * (n % 7) for n in range(number)] * copies
    order = rng.permutation(len(texts))
    labels = rng.integers(0, 2, len(texts))
    return Source("made", [texts[i].strip() for i in order], labels, ("no", "yes"))


def texts_of(dataset, seed, split):
    """(text, label) of each member, spelled out."""
    words = dataset.vocabularies[seed].words
    found = []
    for bucket, members in zip(dataset.buckets, dataset.members[seed][split], strict=True):
        for row in members:
            length = int(bucket["lengths"][row])
            ids = bucket["tokens"][row][:length].tolist()
            found.append((" ".join(words[i] for i in ids), int(bucket["labels"][row])))
    return found


def every_word(source):
    """A vocabulary of all texts, so that they can be told apart in every split."""
    tokenized = intern(source.texts)
    rows = np.arange(len(source.texts))
    return build_vocabulary(tokenized, rows, size=5000, min_count=1)


def splits_of(source, rule, seeds=(0, 1, 2)):
    dataset = build_dataset(source, seeds, options(duplicates=rule), vocabulary=every_word(source))
    found = {seed: {split: texts_of(dataset, seed, split) for split in SPLITS} for seed in seeds}
    return dataset, found


@given(st.lists(st.sampled_from(["", "a", "A", "a b", "a  b", "b a", "ａ", "\u200b"]), max_size=12))
def test_first_copies_are_found_by_tokens(texts):
    kinds = ["a b" if t == "a  b" else "a" if t in ("A", "ａ") else t for t in texts]
    expected = [n if kind in ("", "\u200b") else kinds.index(kind) for n, kind in enumerate(kinds)]
    assert first_copies(intern(texts)).tolist() == expected


@given(
    kinds=st.lists(st.integers(0, 4), min_size=1, max_size=12),
    places=st.lists(st.sampled_from(SPLITS), min_size=12, max_size=12),
    rule=st.sampled_from(["keep", "group", "drop"]),
    has_validation=st.booleans(),
    has_test=st.booleans(),
)
@settings(deadline=None)
def test_left_out_against_the_rule_in_words(kinds, places, rule, has_validation, has_test):
    places = places[: len(kinds)]
    if not has_validation:
        places = ["train" if p == "validation" else p for p in places]
    if not has_test:
        places = ["train" if p == "test" else p for p in places]
    expected = []
    for n, (kind, place) in enumerate(zip(kinds, places, strict=True)):
        others = {p for k, p in zip(kinds, places, strict=True) if k == kind}
        before = {p for k, p in zip(kinds[:n], places[:n], strict=True) if k == kind}
        better = {"train": {"validation", "test"}, "validation": {"test"}, "test": set()}[place]
        out = bool(others & better)
        if rule == "drop" and place != "test":
            out |= place in before
        expected.append(out and rule != "keep")
    copies = np.array([kinds.index(kind) for kind in kinds])
    got = left_out(
        copies,
        {
            split: np.array([place == split for place in places])
            for split, there in (("validation", has_validation), ("test", has_test))
            if there
        },
        rule=rule,
    )
    assert got.tolist() == expected


def test_kept_copies_are_counted():
    source = copied()
    dataset, found = splits_of(source, "keep")
    copies = dataset.account["duplicates"]
    labels = defaultdict(set)
    for text, label in zip(source.texts, source.labels.tolist(), strict=True):
        labels[text].add(label)
    assert copies["copies"] == 3 * 60
    assert copies["with_other_labels"] == 4 * sum(len(some) == 2 for some in labels.values())
    assert copies["left_out"] == 0
    trained = {text for text, _ in found[0]["train"]}
    for split in ("validation", "test"):
        expected = sum(text in trained for text, _ in found[0][split])
        assert expected > 20
        assert copies["across_splits"][split] == expected
    assert any("partly memory" in line for line in account.warnings(dataset.account))
    assert any("180 texts repeat another" in line for line in account.lines(dataset.account))


def test_grouped_copies_are_in_one_split_and_seeds_stay_in_step():
    source = copied()
    dataset, found = splits_of(source, "group")
    for splits in found.values():
        places = [{text for text, _ in splits[split]} for split in SPLITS]
        assert sum(map(len, places)) == len(set.union(*places))
        everything = sum(splits.values(), [])
        given_texts = zip(source.texts, source.labels.tolist(), strict=True)
        assert Counter(everything) == Counter(given_texts)
        assert 0.15 < len(splits["test"]) / len(everything) < 0.25
    assert set(found[0]["test"]) != set(found[1]["test"])
    for split in SPLITS:
        sizes = {tuple(len(p) for p in dataset.members[seed][split]) for seed in (0, 1, 2)}
        assert len(sizes) == 1
        assert len({sum(label for _, label in found[s][split]) for s in (0, 1, 2)}) == 1
    copies = dataset.account["duplicates"]
    assert copies["across_splits"] == {"validation": 0, "test": 0}
    assert copies["copies"] == 180
    assert not any("memory" in line for line in account.warnings(dataset.account))


def test_dropped_copies_leave_the_first_with_its_label():
    source = copied()
    dataset, found = splits_of(source, "drop")
    first = {}
    for text, label in zip(source.texts, source.labels.tolist(), strict=True):
        first.setdefault(text, label)
    for splits in found.values():
        assert Counter(sum(splits.values(), [])) == Counter(first.items())
    assert dataset.account["duplicates"]["left_out"] == 180
    assert dataset.account["class_counts"]["yes"] == sum(first.values())
    assert dataset.fingerprint == source.fingerprint


@pytest.mark.parametrize("rule", ["group", "drop"])
def test_an_official_test_split_stays_as_it_is(rule):
    texts = [f"text{n}" for n in range(40)] + [f"text{n}" for n in range(20)] + ["text0"]
    labels = np.arange(61) % 2
    source = Source("made", texts, labels, ("no", "yes"), official={"test": np.arange(61) >= 40})
    dataset, found = splits_of(source, rule)
    assert sorted(text for text, _ in found[0]["test"]) == sorted(texts[40:])
    rest = [text for split in ("train", "validation") for text, _ in found[0][split]]
    assert sorted(rest) == sorted(texts[20:40])
    assert dataset.account["duplicates"]["left_out"] == 20


@pytest.mark.parametrize("rule", ["group", "drop"])
def test_without_copies_nothing_is_left_out(rule):
    source = copied(copies=1)
    dataset, found = splits_of(source, rule)
    assert dataset.account["duplicates"]["left_out"] == 0
    assert len(sum(found[0].values(), [])) == 60


def test_empty_texts_are_no_copies():
    source = Source("made", ["", "a", "b"] * 20, np.arange(60) % 2, ("no", "yes"))
    dataset = build_dataset(source, [0], options(duplicates="keep"))
    assert dataset.account["duplicates"]["copies"] == 38
    with pytest.raises(UserError, match="no text"):  # a and b are all that is left but for nothing
        build_dataset(
            Source("made", ["a", "b"] * 20, np.arange(40) % 2, ("no", "yes")),
            [0],
            options(duplicates="drop"),
        )
