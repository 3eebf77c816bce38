"""Preparing imdb_reviews without TensorFlow, from archives that the tests make."""

import hashlib
import io
import sys
import tarfile
import urllib.error
from pathlib import Path

import numpy as np
import pytest

from lth_flax.config import Config
from lth_flax.data import imdb
from lth_flax.data.sources import load_source
from lth_flax.errors import UserError

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"

REVIEWS = {
    "train/pos/0_9.txt": "A lovely film.<br /><br />See it!",
    "train/pos/1_10.txt": "Great &amp; good",
    "train/neg/0_1.txt": "Dull. 1 < 2",
    "train/neg/1_2.txt": "Awful",
    "train/unsup/0_0.txt": "Whatever",
    "test/pos/0_8.txt": "Fine",
    "test/neg/0_3.txt": "<br />",
}


def make_archive(path, reviews=REVIEWS):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, content in reviews.items():
            member = tarfile.TarInfo(f"aclImdb/{name}")
            member.size = len(content.encode())
            archive.addfile(member, io.BytesIO(content.encode()))
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(imdb.urllib.request, "urlopen", refuse)


@pytest.mark.parametrize("where", ["", "downloads/manual"])
def test_prepares_and_reads(tmp_path, no_network, capsys, where):
    sha256 = make_archive(tmp_path / where / imdb.ARCHIVE_NAME)
    imdb.prepare_imdb(tmp_path, sha256=sha256)
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    source = load_source(Config(dataset="imdb_reviews", data_dir=str(tmp_path)))
    assert capsys.readouterr() == ("", "")
    assert source.class_names == ("neg", "pos")
    got = set(
        zip(source.texts, source.labels.tolist(), source.official["test"].tolist(), strict=True)
    )
    assert got == {
        ("A lovely film. See it!", 1, False),
        ("Great & good", 1, False),
        ("Dull. 1 < 2", 0, False),
        ("Awful", 0, False),
        ("Fine", 1, True),
        ("", 0, True),
    }
    assert source.num_empty == 1
    assert source.labels.dtype == np.int32
    assert "tensorflow" not in sys.modules


def test_the_opener_is_put_back(tmp_path):
    from tensorflow_datasets.core.download import extractor

    before = extractor.tf

    def fail():
        with imdb.standard_library_opener():
            assert extractor.tf is not before
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert extractor.tf is before


def test_loading_prepares_where_nothing_is(tmp_path, monkeypatch):
    sha256 = make_archive(tmp_path / imdb.ARCHIVE_NAME)
    monkeypatch.setattr(imdb.prepare_imdb, "__kwdefaults__", {"sha256": sha256})
    assert len(load_source(Config(dataset="imdb_reviews", data_dir=str(tmp_path))).texts) == 6


def test_wrong_checksum(tmp_path):
    make_archive(tmp_path / imdb.ARCHIVE_NAME)
    with pytest.raises(UserError, match="is not the published archive") as error:
        load_source(Config(dataset="imdb_reviews", data_dir=str(tmp_path)))
    assert imdb.ARCHIVE_SHA256 in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == [imdb.ARCHIVE_NAME]


def test_damaged_archive_leaves_nothing_that_looks_prepared(tmp_path):
    path = tmp_path / imdb.ARCHIVE_NAME
    make_archive(path)
    path.write_bytes(path.read_bytes()[:200])
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(UserError) as error:
        imdb.prepare_imdb(tmp_path, sha256=sha256)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value) or str(tmp_path) in str(error.value)
    assert not list(tmp_path.glob("imdb_reviews/plain_text/*"))


def test_without_network_says_which_file_to_put_where(tmp_path, no_network):
    folder = tmp_path / "new"
    with pytest.raises(UserError) as error:
        load_source(Config(dataset="imdb_reviews", data_dir=str(folder)))
    for part in ("no route to host", imdb.ARCHIVE_NAME, f"into {folder}", imdb.ARCHIVE_URL):
        assert part in str(error.value)
    assert "\n" not in str(error.value)
    assert not folder.exists()


def test_an_interrupted_download_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(imdb.urllib.request, "urlopen", lambda *_, **__: io.BytesIO(b"half"))
    with pytest.raises(UserError, match="4 bytes arrived"):
        imdb.prepare_imdb(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_download_is_kept_and_used(tmp_path, monkeypatch):
    sha256 = make_archive(tmp_path / "elsewhere.tar.gz")
    content = (tmp_path / "elsewhere.tar.gz").read_bytes()
    monkeypatch.setattr(imdb, "ARCHIVE_SIZE", len(content))
    monkeypatch.setattr(imdb.urllib.request, "urlopen", lambda *_, **__: io.BytesIO(content))
    imdb.prepare_imdb(tmp_path / "data", sha256=sha256)
    kept = tmp_path / "data" / "downloads" / "manual"
    assert [path.name for path in kept.iterdir()] == [imdb.ARCHIVE_NAME]
    assert len(load_source(Config(dataset="imdb_reviews", data_dir=str(tmp_path / "data"))).texts)


def test_data_dir_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot prepare imdb_reviews"):
        load_source(Config(dataset="imdb_reviews", data_dir=str(tmp_path / "file")))


def test_the_real_layout(tmp_path):
    """A few hundred members of an archive in the original layout, not one that a test made."""
    original = SHARED / "raw" / imdb.ARCHIVE_NAME
    if not original.exists():
        pytest.skip("the archive of the Large Movie Review Dataset is not on this machine")
    path = tmp_path / imdb.ARCHIVE_NAME
    with tarfile.open(original, "r|gz") as full, tarfile.open(path, "w:gz") as part:
        for number, member in enumerate(full):
            if number == 300:
                break
            part.addfile(member, full.extractfile(member) if member.isfile() else None)
        for label in ("neg", "pos", "unsup"):  # the first members are all from the test split
            extra = tarfile.TarInfo(f"aclImdb/train/{label}/0_5.txt")
            extra.size = 4
            part.addfile(extra, io.BytesIO(b"good"))
    imdb.prepare_imdb(tmp_path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    source = load_source(Config(dataset="imdb_reviews", data_dir=str(tmp_path)))
    assert source.official["test"].sum() >= 290
    assert (~source.official["test"]).sum() == 2
    assert not any("<br" in review for review in source.texts)
