"""Word vectors from text files, good and bad."""

import os

import numpy as np
import pytest

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
        ("of 1 2 3\nthe 1 1e300 3\n", "line 2: a number is too large for float32"),
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


@pytest.mark.parametrize("name", ["missing.txt", "."])
def test_unreadable(tmp_path, name):
    with pytest.raises(UserError, match="cannot read word vectors"):
        read_vectors(tmp_path / name, VOCABULARY, size=3)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(UserError, match="not a plain file"):
        read_vectors(tmp_path / "pipe.txt", VOCABULARY, size=3)
