"""Files as people bring them: packed, in other encodings, and of other kinds."""

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import zipfile

import numpy as np
import pytest

from lth_flax.data.files import read_text
from lth_flax.errors import UserError

WANTED = "a CSV file as --data_file"
TEXT = "Text,Label\ncafé “good”,1\nbad,0\n"


def read(path, content, encoding=None):
    path.write_bytes(content)
    return read_text(str(path), wanted=WANTED, encoding=encoding)


def refused(path, content, encoding=None):
    with pytest.raises(UserError) as error:
        read(path, content, encoding)
    message = str(error.value)
    assert str(path) in message or encoding
    assert "\n" not in message
    return message


def zipped(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


PACKINGS = {
    "plain": lambda raw: raw,
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zip": lambda raw: zipped(**{"data.csv": raw}),
}


@pytest.mark.parametrize("pack", PACKINGS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_what_is_marked_is_read(tmp_path, pack, encoding):
    # Whatever it is called.
    assert read(tmp_path / "data.txt", PACKINGS[pack](TEXT.encode(encoding))) == TEXT


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-le", "cp1256", "gb18030", "utf-16"])
def test_an_encoding_that_is_named(tmp_path, encoding):
    text = TEXT.encode(encoding, errors="ignore").decode(encoding)
    assert read(tmp_path / "data.csv", text.encode(encoding), encoding) == text


def test_a_zip_with_what_a_mac_adds(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("data/", "")
        archive.writestr("data/a.csv", TEXT)
        archive.writestr("data/.DS_Store", b"\0\1")
        archive.writestr("__MACOSX/data/._a.csv", b"\0\1")
    assert read(tmp_path / "a.zip", buffer.getvalue()) == TEXT


def array_bytes(save):
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()


KINDS = [
    (b"PAR1\x15\x04", "Parquet"),
    (b"ARROW1\0\0", "Arrow"),
    (b"FEA1\0\0", "Feather"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99), "Excel"),
    (zipped(**{"[Content_Types].xml": "x", "xl/sheet.xml": "x"}), "Excel"),
    (b"SQLite format 3\0", "SQLite"),
    (array_bytes(lambda b: np.save(b, np.zeros(3))), "NumPy"),
    (b"\x89HDF\r\n\x1a\n", "HDF5"),
    (b"%PDF-1.7", "PDF"),
    (pickle.dumps([["a", 1]]), "pickle"),
    (pickle.dumps({"a": 1}, protocol=2), "pickle"),
    (b"\x28\xb5\x2f\xfd\0", "zstd"),
    (gzip.compress(gzip.compress(b"a,b\n")), "packed twice"),
    (zipped(**{"a.csv.gz": gzip.compress(b"a,b\n")}), "packed twice"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (gzip.compress(b"a.csv" + bytes(252) + b"ustar\x0000" + bytes(250)), "tar archive"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    (b"<!DOCTYPE html>\n<html lang=en>", "web page"),
    (b"\xef\xbb\xbf\n<?xml version='1.0'?>", "XML"),
    (b'{"text": "good", "label": 1}\n{"text": "bad", "label": 0}\n', "JSON"),
    (json.dumps([{"text": "x"}], indent=1).encode(), "JSON"),
    (json.dumps([{"text": "x"}]).encode(), "JSON"),
    (zipped(**{"a.csv": "a", "b.csv": "b"}), "zip archive of 2 files (a.csv, b.csv)"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "named"), KINDS, ids=[name for _, name in KINDS])
def test_what_is_not_read_is_named_for_what_it_is(tmp_path, content, named):
    message = refused(tmp_path / "data.csv", content)
    assert named in message
    assert WANTED in message


@pytest.mark.parametrize("pack", ["gz", "bz2", "xz", "zip"])
@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_damaged_archives(tmp_path, pack, damage):
    whole = bytearray(PACKINGS[pack](TEXT.encode() * 50))
    if damage == "cut":
        del whole[len(whole) // 2 :]
    else:
        whole[len(whole) // 2] ^= 0xFF
    message = refused(tmp_path / "data.csv", bytes(whole))
    assert "damaged" in message or "cannot read" in message


@pytest.mark.parametrize(
    ("content", "encoding", "parts"),
    [
        (TEXT.encode("cp1252"), None, ["line 2", "not UTF-8 (byte 0xe9)", "--encoding=cp1252"]),
        (b"a,b\n\xff,1\n", "ascii", ["line 2", "not ascii (byte 0xff)", "--encoding"]),
        ("a,b\ngood,1\n".encode("utf-16-le"), None, ["--encoding=utf-16-le", "NUL"]),
        ("a,b\ngood,1\n".encode("utf-16-be"), None, ["--encoding=utf-16-be", "NUL"]),
        (b"a,b\nx\0,1\n", None, ["line 2", "NUL"]),
        (TEXT.encode(), "klingon", ["--encoding=klingon", "utf-8"]),
        (TEXT.encode(), "rot13", ["--encoding=rot13", "utf-8"]),
        (b"\xff\xfea", None, ["not UTF-16"]),
    ],
)
def test_wrong_encodings(tmp_path, content, encoding, parts):
    message = refused(tmp_path / "data.csv", content, encoding)
    assert all(part in message for part in parts), message


@pytest.mark.parametrize("name", ["missing.csv", "."])
def test_unreadable(tmp_path, name):
    with pytest.raises(UserError, match="cannot read"):
        read_text(str(tmp_path / name), wanted=WANTED)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(UserError, match="not a plain file"):
        read_text(str(tmp_path / "pipe.csv"), wanted=WANTED)
