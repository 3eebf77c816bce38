"""Running text as token ids: layouts, splits, vocabularies."""

import gzip

import numpy as np
import pytest

from lth_flax.config import Config
from lth_flax.data.corpus import read_corpus
from lth_flax.data.source import Source
from lth_flax.errors import UserError

PENN = " no it was n't <unk> monday \n the <unk> fell N % \n"
WIKI = " \n = Robert <unk> = \n \n Robert is a man . \n"


def corpus(**settings):
    return read_corpus(Config(**{"task": "language_model", "min_count": 1, **settings}))


def words(found, split):
    return [found.vocabulary.words[number] for number in found.splits[split]]


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return write


def test_files_of_the_penn_treebank_are_read_as_they_are_published(write):
    found = corpus(
        data_file=write("train", PENN), validation_file=write("valid", " the monday \n"),
        test_file=write("test", " the tuesday fell \n"),
    )  # fmt: skip
    expected = "no it was n't <unk> monday <eos> the <unk> fell N % <eos>"
    assert " ".join(words(found, "train")) == expected
    assert words(found, "validation") == ["the", "monday", "<eos>"]
    assert words(found, "test") == ["the", "<unk>", "fell", "<eos>"]  # new there
    # What stands for unknown words is no word of its own.
    assert found.vocabulary.words[:2] == ("<pad>", "<unk>")
    assert len(set(found.vocabulary.words)) == len(found.vocabulary.words) == 2 + 10
    assert found.tokenizer == "blanks"
    assert found.unknown_shares == {"train": 2 / 13, "validation": 0.0, "test": 1 / 4}


def test_empty_lines_of_wikitext_end_too(write):
    """As the published numbers of tokens count them."""
    path = write("train", WIKI)
    found = corpus(data_file=path, validation_file=write("v", "a\n"), test_file=write("t", "a\n"))
    expected = "<eos> = Robert <unk> = <eos> <eos> Robert is a man . <eos>"
    assert " ".join(words(found, "train")) == expected


def test_a_plain_text_alone_is_split_in_its_order(write):
    lines = [f"Sentence {number}, the same words." for number in range(20)]
    found = corpus(data_file=write("text", "\n".join(lines)), validation_share=0.1, test_share=0.2)
    whole = sum((words(found, split) for split in ("train", "validation", "test")), [])
    assert len(whole) == 20 * 8
    assert [len(found.splits[s]) for s in ("train", "validation", "test")] == [112, 16, 32]
    assert whole[:8] == ["sentence", "0", ",", "the", "same", "words", ".", "<eos>"]
    # The words of the other splits are not counted.
    assert "0" in found.vocabulary.words
    assert "19" not in found.vocabulary.words
    assert whole[-7] == "<unk>"


def test_characters_keep_their_blanks(write):
    found = corpus(data_file=write("text", "To be\nor not\n" * 4), tokenizer="characters")
    assert words(found, "train")[:7] == ["t", "o", " ", "b", "e", "<eos>", "o"]


def test_the_first_tokens_of_every_split(write):
    text = " ".join(f"w{number}" for number in range(999))
    found = corpus(
        data_file=write("text", text), test_file=write("test", text), max_tokens=100,
        validation_share=0.2, test_share=0.05,
    )  # fmt: skip
    assert [len(found.splits[s]) for s in ("train", "validation", "test")] == [100, 20, 5]
    assert words(found, "train")[-1] == "w99"
    assert set(words(found, "test")) == {"w0", "w1", "w2", "w3", "w4"}


def own_texts(config):
    official = {"test": np.array([False, False, True])}
    return Source("mine", ["one two", "", "three one"], np.array([0, 1, 0]), ["a", "b"], official)


def test_the_texts_of_a_data_set_are_a_corpus():
    found = corpus(dataset=own_texts, validation_share=0.25)
    assert words(found, "train") == ["one", "two", "<eos>"]
    assert words(found, "validation") == ["<eos>"]
    assert words(found, "test") == ["<unk>", "one", "<eos>"]
    assert found.name == "mine"
    assert corpus(synthetic_size=200).name == "synthetic"


def test_words_are_the_most_frequent_ones_of_training(write):
    path = write("text", "a a a b b c\n" * 2 + "d " * 6)
    found = corpus(data_file=path, vocabulary_size=5, min_count=2, validation_share=0.2,
                   test_share=0.1)  # fmt: skip
    assert found.vocabulary.words == ("<pad>", "<unk>", "a", "b", "<eos>")


def test_a_packed_file_is_read_and_what_is_wrong_is_one_line(write, tmp_path):
    with gzip.open(tmp_path / "a.gz", "wt") as file:
        file.write(PENN * 10)
    assert words(corpus(data_file=str(tmp_path / "a.gz")), "train")[:2] == ["no", "it"]
    path = write("text", PENN)
    for settings, expected in (
        ({"data_file": str(tmp_path / "none")}, "none"),
        ({"data_file": path, "test_file": path}, "--data_file and as --test_file"),
        ({"data_file": path, "validation_share": 0.6, "test_share": 0.5}, "nothing to train on"),
        ({"test_file": path}, "not read by --dataset=synthetic"),
    ):
        with pytest.raises(UserError, match=expected) as refused:
            corpus(**settings)
        assert "\n" not in str(refused.value)
