"""Word vectors from text files, good and bad."""

import bz2
import gzip
import lzma
import os
import pickle

import numpy as np
import pytest

from lth_flax.data import embeddings
from lth_flax.data.embeddings import read_vectors
from lth_flax.data.text import Vocabulary
from lth_flax.errors import UserError

VOCABULARY = Vocabulary(("<pad>", "<unk>", "the", "film", "café", "absent"))


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("header", ["", "5 3\n"])
def test_reads_what_the_vocabulary_has(tmp_path, header):
    path = write(
        tmp_path / "glove.txt",
        header + "the 1 -2.5 3e-1\nother 9 9 9\ncafé 4 5 6 \nthe 7 7 7\n"
        "at name 8 8 8\n<pad> 1 1 1\n. . film 2 2 2\nfilm 0 0.5 1",
    )
    vectors, found = read_vectors(path, VOCABULARY, size=3)
    assert vectors.dtype == np.float32
    assert found.tolist() == [False, False, True, True, True, False]
    zero = [0, 0, 0]
    expected = [zero, zero, [1, -2.5, 0.3], [0, 0.5, 1], [4, 5, 6], zero]
    np.testing.assert_array_equal(vectors, np.array(expected, np.float32))


def test_one_reading_serves_several_vocabularies(tmp_path, monkeypatch):
    path = write(tmp_path / "glove.txt", "the 1 2 3\nfilm 4 5 6\nabsent 7 8 9\nplot 2 2 2\n")
    others = [
        VOCABULARY,
        Vocabulary(("<pad>", "<unk>", "plot", "the")),
        Vocabulary(("<pad>", "<unk>")),
    ]
    alone = [read_vectors(path, words, size=3) for words in others]
    opened, read = [], embeddings.open_unpacked
    monkeypatch.setattr(embeddings, "open_unpacked", lambda *a: opened.append(a) or read(*a))
    together = embeddings.read_vectors_of_all(path, others, size=3)
    assert len(opened) == 1
    for (vectors, found), (expected, has) in zip(together, alone, strict=True):
        np.testing.assert_array_equal(vectors, expected)
        np.testing.assert_array_equal(found, has)
    assert [int(found.sum()) for _, found in together] == [3, 2, 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("the 1 2 3 4\n", "line 1: 4 numbers; expected 3"),
        ("the 1 2\n", "line 1: 2 numbers; expected 3"),
        ("10 300\nthe 1 2 3\n", "line 1: 300 numbers; expected 3"),
        ("5 " + "9" * 5000 + "\n", "line 1: 1 numbers; expected 3"),
        ("of 1 2 3\nthe 1 2\n", "line 2: 2 numbers; expected 3"),
        ("of 1 2 3\nthe 1 2 3 4\n", "line 2: 4 numbers; expected 3"),
        ("of 1 2 3\nthe 1 x 3\n", "line 2: 'x' is not a finite number"),
        ("of 1 2 3\nthe 1 nan 3\n", "line 2: 'nan' is not a finite number"),
        ("of 1 2 3\nthe 1 inf 3\n", "line 2: 'inf' is not a finite number"),
        ("of 1 2 3\nthe 1 1e300 3\n", "line 2: '1e300' is not a finite number of float32"),
        (b"of 1 2 3\n\xff\xfe 1 2 3\n", "line 2: not UTF-8"),
        (b"a" * ((1 << 20) + 5), "line 1: longer than"),
        ("", "is empty"),
    ],
)
def test_bad_files(tmp_path, content, message):
    path = write(tmp_path / "bad.txt", content)
    with pytest.raises(UserError) as error:
        read_vectors(path, VOCABULARY, size=3)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw.replace(b" ", b"\t"),
        lambda raw: raw.replace(b" ", b"  "),
        lambda raw: raw.replace(b" ", b"  ", 1),
        lambda raw: raw.replace(b"\n", b" \r\n"),
        lambda raw: b"\xef\xbb\xbf" + raw,
        lambda raw: b"2\t3\n" + raw,
        lambda raw: b"\xef\xbb\xbf2 3\n\n" + raw + b"\n\n",
        gzip.compress,
        bz2.compress,
        lzma.compress,
    ],
)
def test_the_same_vectors_written_in_other_ways(tmp_path, change):
    path = write(tmp_path / "v.txt", change("the 1 2 3\ncafé 4 5 6\n".encode()))
    vectors, found = read_vectors(path, VOCABULARY, size=3)
    assert found.tolist() == [False, False, True, False, True, False]
    assert vectors[2].tolist() == [1, 2, 3]
    assert vectors[4].tolist() == [4, 5, 6]


def test_words_with_blanks_and_without_anything(tmp_path):
    words = Vocabulary(("<pad>", "<unk>", "new york", "the"))
    path = write(tmp_path / "v.txt", " 9 9\nnew york 1 2\n\u00a0 8 8\n\x85 7 7\nthe 3 4\n")
    vectors, found = read_vectors(path, words, size=2)
    assert found.tolist() == [False, False, True, True]
    assert vectors.tolist() == [[0, 0], [0, 0], [1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("The 1 2 3\nFILM 1 2 3\n", ["'The', 'FILM'", "'the', 'film', 'café'", "lower-case"]),
        ("der 1 2 3\n", ["none of the 4 words", "'der'", "this language"]),
        ("<unk> 1 2 3\n<pad> 1 2 3\n", ["none of the 4 words"]),
    ],
)
def test_a_file_that_has_none_of_the_words(tmp_path, content, parts):
    path = write(tmp_path / "v.txt", content)
    with pytest.raises(UserError) as error:
        read_vectors(path, VOCABULARY, size=3)
    assert all(part in str(error.value) for part in [str(path), *parts]), error.value


BINARY = b"2 3\nthe " + np.array([1, -2, 1e-9], "<f4").tobytes() + b"\nof " + bytes(12)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (BINARY, "binary"),
        ("the,1,2,3\n", "separated by commas"),
        ("the;1;2;3\n", "separated by commas or semicolons"),
        ('{"the": [1, 2, 3]}\n', "JSON"),
        ("the 1 2 3\n".encode("utf-16"), "UTF-16"),
        (b"\x93NUMPY\x01\0v\0{'descr': '<f4'}", "NumPy"),
        (b"<!doctype html>\n<html>", "web page"),
        (pickle.dumps({"the": 1}), "pickle"),
    ],
)
def test_what_is_not_read_is_named(tmp_path, content, named):
    path = write(tmp_path / "v.bin", content)
    with pytest.raises(UserError, match=named) as error:
        read_vectors(path, VOCABULARY, size=3)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("name", ["missing.txt", "."])
def test_unreadable(tmp_path, name):
    with pytest.raises(UserError, match="cannot read .*--embeddings_file"):
        read_vectors(tmp_path / name, VOCABULARY, size=3)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(UserError, match="not a plain file"):
        read_vectors(tmp_path / "pipe.txt", VOCABULARY, size=3)
