"""What a run says of its data: on the terminal, in provenance, and before anything is written."""

import json
import random

import commands
import pytest

from lth_flax import cli
from lth_flax.config import Config
from lth_flax.data.sources import load_source
from lth_flax.errors import UserError
from lth_flax.text_tasks import prepare_data

NUMBER, COPIES = 60, 4


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Four copies of every text with labels at random; vectors of some of the words."""
    place = tmp_path_factory.mktemp("data")
    draw = random.Random(0)
    rows = [f"text{n} is one\t{draw.choice(['yes', 'no'])}" for n in range(NUMBER)] * COPIES
    rows = [row.rpartition("\t")[0] + f"\t{draw.choice(['yes', 'no'])}" for row in rows]
    draw.shuffle(rows)
    (place / "data.tsv").write_text("\n".join(rows) + "\n")
    (place / "vectors.txt").write_text("2 4\nis\t1 2 3 4\nnever 1 2 3 4\n")
    (place / "capitals.txt").write_text("IS 1 2 3 4\nOne 1 2 3 4\n")
    return place


FLAGS_OF_DATA = ["--dataset=csv", "--data_file=data.tsv", "--text_column=0", "--label_column=1"]
SMALL = ["--hidden_size=4", "--embedding_size=4", "--num_seeds=1", "--epochs=1", "--cache_dir="]


def command(place, *arguments):
    return commands.run(
        "lth_flax.experiments.winning_ticket", "--dense_only", "--noprogress", "--noreport",
        *FLAGS_OF_DATA, *SMALL, *arguments, cwd=place,
    )  # fmt: skip


@pytest.mark.slow
def test_copies_and_vectors_are_said_and_recorded(place):
    done = command(place, "--work_dir=run", "--embeddings_file=vectors.txt")
    assert done.returncode == 0, done.stderr
    data = json.loads((place / "run" / "provenance.json").read_text())["data"]
    assert data["duplicates"]["copies"] == NUMBER * (COPIES - 1)
    assert data["duplicates"]["rule"] == "keep"
    across = data["duplicates"]["across_splits"]
    assert across["test"] > 20
    assert sum(data["class_counts"].values()) == NUMBER * COPIES
    assert data["largest_class"]["share"] == max(data["class_counts"].values()) / 240
    assert data["word_vectors"]["words"] == 1
    # Of "textN is one" one word has a vector, in every text.
    assert data["word_vectors"]["share_of_tokens"] == pytest.approx(1 / 3)
    assert set(data["unknown_share"]) == {"train", "validation", "test"}
    assert "Word vectors: 1 words" in done.stdout
    assert f"Exact copies: {NUMBER * (COPIES - 1)} texts repeat another" in done.stdout
    assert "Classes: no " in done.stdout
    (warning,) = done.stderr.splitlines()
    assert warning.startswith(f"warning: {across['test']} test and {across['validation']} valid")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--embeddings_file=capitals.txt"], ["capitals.txt", "none of the", "lower-case"]),
        (["--encoding=klingon"], ["--encoding=klingon"]),
        (["--separator=::"], ["--separator='::'"]),
        (["--test_file=data.tsv"], ["data.tsv", "--data_file", "--test_file"]),
    ],
)
def test_what_cannot_be_is_one_line_and_nothing_is_written(place, arguments, words):
    before = sorted(place.iterdir())
    done = command(place, "--work_dir=other", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert all(word in done.stderr for word in words), done.stderr
    assert sorted(place.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dataset=synthetic", "--text_column=Text"], ["--text_column=Text", "--dataset=csv"]),
        (["--dataset=imdb_reviews", "--test_file=t.csv"], ["--test_file=t.csv", "imdb_reviews"]),
        (["--dataset=imdb_reviews", "--separator=tab"], ["--separator=tab", "imdb_reviews"]),
        (["--dataset=csv", "--data_file=x", "--label_key=y"], ["--label_key=y", "TFDS"]),
    ],
)
def test_flags_that_a_dataset_does_not_read_are_refused(arguments, words):
    with pytest.raises(UserError) as error:
        load_source(cli.parse(Config, arguments))
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize(
    ("rule", "across", "texts"), [("group", 0, NUMBER * COPIES), ("drop", 0, NUMBER)]
)
def test_copies_by_flag(place, monkeypatch, rule, across, texts):
    monkeypatch.chdir(place)
    config = cli.parse(Config, [*FLAGS_OF_DATA, *SMALL, f"--duplicates={rule}"])
    dataset = prepare_data(config, load_source(config), [0, 1])
    assert dataset.account["duplicates"]["across_splits"] == {"validation": 0, "test": across}
    assert sum(dataset.size(1, split) for split in ("train", "validation", "test")) == texts


def test_characters_by_flag(place, monkeypatch):
    monkeypatch.chdir(place)
    config = cli.parse(Config, [*FLAGS_OF_DATA, *SMALL, "--tokenizer=characters"])
    assert "t" in prepare_data(config, load_source(config), [0]).vocabularies[0].words
