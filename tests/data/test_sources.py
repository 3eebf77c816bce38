"""Datasets by name: what is read, and one line for whatever is wrong with it."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from lth_flax.config import Config
from lth_flax.data.sources import SOURCES, load_source
from lth_flax.errors import UserError

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def table(path, rows, header=("Text", "Sentiment")):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


def tweets(path):
    return load_source(Config(dataset="financial_tweets", data_file=str(path)))


def load_csv(path):
    return load_source(
        Config(dataset="csv", data_file=str(path), text_column="Text", label_column="Sentiment")
    )


def complaint(call, *args):
    with pytest.raises(UserError) as error:
        call(*args)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_synthetic():
    source = load_source(Config(synthetic_size=100))
    assert len(source.texts) == len(source.labels) == 100
    assert source.class_names == ("negative", "positive")
    assert source.official == {}
    assert source.num_empty == 0
    assert source.fingerprint == load_source(Config(synthetic_size=100)).fingerprint
    assert source.fingerprint != load_source(Config(synthetic_size=102)).fingerprint


@pytest.mark.parametrize(
    ("labels", "class_names", "indices"),
    [
        (["1", "0", "1"], ("negative", "positive"), [1, 0, 1]),
        (["-1", "1", "1"], ("negative", "positive"), [0, 1, 1]),
        (["-1", "0", "1"], ("negative", "neutral", "positive"), [0, 1, 2]),
        (["Positive", " NEGATIVE ", "positive"], ("negative", "positive"), [1, 0, 1]),
        (["neutral", "negative", "positive"], ("negative", "neutral", "positive"), [1, 0, 2]),
    ],
)
def test_tweet_labels(tmp_path, labels, class_names, indices):
    path = table(tmp_path / "t.csv", [["up", label] for label in labels])
    source = tweets(path)
    assert source.class_names == class_names
    assert source.labels.tolist() == indices
    assert source.labels.dtype == np.int32
    assert source.official == {}


def test_emptied_tweets_stay_and_are_counted(tmp_path):
    path = table(tmp_path / "t.csv", [["user: https://t.co/x", "1"], ["", "0"], ["up\r\n!", "0"]])
    source = tweets(path)
    assert source.texts == ("", "", "up !")
    assert source.num_empty == 2


def test_byte_order_mark_and_long_fields(tmp_path):
    path = tmp_path / "t.csv"
    long = "word " * 40_000
    path.write_bytes(b"\xef\xbb\xbf" + f'Text,Sentiment\r\n"{long}",1\r\nbad,0\r\n'.encode())
    limit = csv.field_size_limit()
    assert tweets(path).texts == (long.strip(), "bad")
    assert csv.field_size_limit() == limit


def test_csv_classes_are_sorted(tmp_path):
    rows = [["a <b>x</b> http://y", "10"], ["b", "9"], ["c", "10"], ["d", "9"]]
    source = load_csv(table(tmp_path / "a.csv", rows))
    assert source.class_names == ("9", "10")
    assert source.labels.tolist() == [1, 0, 1, 0]
    assert source.texts[0] == "a x"
    rows = [["a", "spam"], ["b", "ham"], ["c", "spam"], ["d", "eggs"], ["e", "ham"], ["f", "eggs"]]
    source = load_csv(table(tmp_path / "b.csv", rows))
    assert source.class_names == ("eggs", "ham", "spam")
    assert source.labels.tolist() == [2, 1, 2, 0, 1, 0]


def test_fingerprint_sees_every_part(tmp_path):
    base = [["a", "1"], ["b", "0"], ["c", "1"]]
    changed = [
        base,
        [["x", "1"], ["b", "0"], ["c", "1"]],
        [["a", "0"], ["b", "0"], ["c", "1"]],
        [["ab", "1"], ["", "0"], ["c", "1"]],
        base[::-1],
    ]
    prints = [
        tweets(table(tmp_path / f"{number}.csv", rows)).fingerprint
        for number, rows in enumerate(changed)
    ]
    assert len(set(prints)) == len(changed)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"", ["no column 'Text'", "found none", "expected 'Text' and 'Sentiment'"]),
        (b"Text,Sentiment\r\n", ["no rows"]),
        (b"tweet,label\nx,1\n", ["no column 'Text'", "found 'tweet', 'label'"]),
        (b"Text,Text,Sentiment\nx,y,1\n", ["twice column 'Text'"]),
        (b"Text,Sentiment\nok,1\n\nbad\xff,0\n", ["line 4", "not UTF-8 (byte 0xff)"]),
        ("Text,Sentiment\nok,1\n".encode("utf-16-le"), ["line 1", "NUL", "utf-16-le"]),
        (b"Text,Sentiment\nok,1\nx\0y,0\n", ["line 3", "NUL"]),
        (b'Text,Sentiment\n"two\nlines",1\nx,y,0\n', ["line 4", "3 fields; expected 2"]),
        (b"Text,Sentiment\nok,1\nalone\n", ["line 3", "1 fields; expected 2"]),
        (b'Text,Sentiment\nok,1\n"open,0\n', ["line 3", "not CSV"]),
    ],
)
@pytest.mark.parametrize("load", [tweets, load_csv])
def test_bad_files(tmp_path, load, content, parts):
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    message = complaint(load, path)
    assert str(path) in message
    assert all(part in message for part in parts)


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        ([["a", "1"], ["b", "2"]], ["line 3", "'2'", "expected 1, 0 or -1"]),
        ([["a", "1"], ["b", ""]], ["line 3", "label ''"]),
        ([["a", "1"], ["b", "negative"]], ["mixes numbers and words"]),
        ([["a", "1"], ["b", "1"]], ["at least two"]),
    ],
)
def test_bad_tweet_labels(tmp_path, rows, parts):
    message = complaint(tweets, table(tmp_path / "t.csv", rows))
    assert all(part in message for part in parts)


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        ([["a", "x"], ["b", " "]], ["line 3", "no label"]),
        ([["a", "x"], ["b", "x"]], ["at least two classes"]),
        ([[f"t{i}", f"label {i}"] for i in range(50)], ["50 distinct values in 50 rows"]),
        ([[f"t{i}", f"{i % 1001}"] for i in range(4004)], ["1001 distinct values", "at most 1000"]),
    ],
)
def test_bad_csv_labels(tmp_path, rows, parts):
    message = complaint(load_csv, table(tmp_path / "t.csv", rows))
    assert all(part in message for part in parts)


@pytest.mark.parametrize("load", [tweets, load_csv])
@pytest.mark.parametrize("name", ["missing.csv", "."])
def test_unreadable(tmp_path, load, name):
    assert "cannot read" in complaint(load, tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("load", [tweets, load_csv])
def test_a_pipe_is_not_waited_for(tmp_path, load):
    os.mkfifo(tmp_path / "pipe.csv")
    assert "not a plain file" in complaint(load, tmp_path / "pipe.csv")


def test_the_label_cannot_be_its_own_text(tmp_path):
    path = table(tmp_path / "t.csv", [["a", "1"], ["b", "0"]])
    same = {"text_column": "Sentiment", "label_column": "Sentiment"}
    for name in ("csv", "financial_tweets"):
        config = Config(dataset=name, data_file=path, **same)
        assert "both text and label" in complaint(load_source, config)


@pytest.mark.parametrize("name", ["financial_tweets", "csv"])
def test_no_file_given(name):
    assert "--data_file" in complaint(load_source, Config(dataset=name))


def test_csv_needs_columns(tmp_path):
    path = table(tmp_path / "t.csv", [["a", "1"]])
    message = complaint(load_source, Config(dataset="csv", data_file=path))
    assert "--text_column and --label_column" in message


@pytest.mark.parametrize("name", ["no_such_set", "a b", "../x", "hub:set", ""])
def test_unknown_name_lists_the_known_ones(tmp_path, name, capfd):
    message = complaint(lambda: load_source(Config(dataset=name, data_dir=str(tmp_path))))
    assert all(known in message for known in SOURCES)
    assert capfd.readouterr().out == ""
    assert list(tmp_path.iterdir()) == []


def test_real_tweets():
    path = SHARED / "financial_tweets" / "stock_sentiment.csv"
    if not path.exists():
        pytest.skip("the Stock-Market Sentiment Dataset is not on this machine")
    source = tweets(path)
    assert np.bincount(source.labels).tolist() == [2106, 3685]  # as the data set's page says
    joined = "\n".join(source.texts)
    assert not any(residue in joined for residue in ("http", "RT @", "user:", "â€", "&amp;"))
    assert source.num_empty == 0


@pytest.mark.slow
def test_real_reviews():
    path = SHARED / "tfds"
    if not path.exists():
        pytest.skip("a prepared imdb_reviews is not on this machine")
    source = load_source(Config(dataset="imdb_reviews", data_dir=str(path)))
    assert len(source.texts) == 50_000
    assert source.official["test"].sum() == 25_000
    assert np.bincount(source.labels).tolist() == [25_000, 25_000]
    assert not any("<br" in review for review in source.texts)
    assert source.num_empty == 0
