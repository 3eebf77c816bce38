"""Preparing TFDS `imdb_reviews` where no TensorFlow is installed.

TFDS writes ArrayRecord files without TensorFlow, but opens the downloaded
archive with `tf.io.gfile.GFile`. Here it gets the standard library's `open`
instead, for as long as it prepares. The archive is fetched and checked here as
well: TFDS retries for minutes without a network and leaves temporary folders.
"""

import contextlib
import hashlib
import http.client
import io
import logging
import shutil
import sys
import types
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

from lth_flax.errors import UserError

ARCHIVE_NAME = "aclImdb_v1.tar.gz"
ARCHIVE_URL = f"http://ai.stanford.edu/~amaas/data/sentiment/{ARCHIVE_NAME}"
# As TFDS publishes it, in datasets/imdb_reviews/checksums.tsv.
ARCHIVE_SHA256 = "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe"
ARCHIVE_SIZE = 84_125_825  # bytes
_TIMEOUT = 30  # seconds without a byte


@contextlib.contextmanager
def quiet_tfds() -> Iterator[None]:
    """TFDS without its progress bars, its printing and its log."""
    from tensorflow_datasets.core.utils import tqdm_utils

    log = logging.getLogger("absl")
    level, active = log.level, tqdm_utils._active
    log.setLevel(logging.ERROR)
    tqdm_utils.display_progress_bar(enable=False)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tqdm_utils.display_progress_bar(enable=active)
        log.setLevel(level)


@contextlib.contextmanager
def standard_library_opener() -> Iterator[None]:
    """Lets TFDS read archives with `open` in place of `tf.io.gfile.GFile`."""
    from tensorflow_datasets.core.download import extractor

    gfile = types.SimpleNamespace(GFile=open)
    compat = types.SimpleNamespace(as_text=lambda text: text)
    original = extractor.tf
    extractor.tf = types.SimpleNamespace(io=types.SimpleNamespace(gfile=gfile), compat=compat)
    try:
        yield
    finally:
        extractor.tf = original


def prepare_imdb(data_dir: Path, *, sha256: str = ARCHIVE_SHA256) -> None:
    """Makes `data_dir/imdb_reviews` from the archive, which is downloaded if need be.

    A file `aclImdb_v1.tar.gz` in `data_dir`, or where TFDS looks for it, in
    `data_dir/downloads/manual`, is used instead of a download. The data set's
    own folder appears last, complete or not at all.

    Args:
      data_dir: a TFDS data directory; made if it does not exist.
      sha256: what the archive's checksum has to be, in hexadecimal.

    Raises:
      UserError: there is no archive and none can be downloaded, it is not the
        published one, it cannot be read, or `data_dir` cannot be written.
    """
    manual = data_dir / "downloads" / "manual"
    try:
        for archive in (data_dir / ARCHIVE_NAME, manual / ARCHIVE_NAME):
            if archive.is_file():
                break
        else:
            archive = _download(manual)
        _check(archive, sha256)
        print(f"Preparing imdb_reviews in {data_dir} (about 20 seconds) ...", file=sys.stderr)
        _prepare(data_dir, archive, sha256)
    except OSError as error:
        raise UserError(
            f"cannot prepare imdb_reviews in {data_dir} ({error.strerror or error}): expected a "
            "folder that can be written; choose another --data_dir"
        ) from None


def _download(folder: Path) -> Path:
    """Fetches the archive into `folder`, whole or not at all."""
    made = next((p for p in [*reversed(folder.parents), folder] if not p.exists()), None)
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{ARCHIVE_NAME}.{uuid.uuid4().hex}.part"
    print(f"Downloading {ARCHIVE_URL} ({ARCHIVE_SIZE / 1e6:.0f} MB) ...", file=sys.stderr)
    try:
        with urllib.request.urlopen(ARCHIVE_URL, timeout=_TIMEOUT) as reply, part.open("wb") as out:
            shutil.copyfileobj(reply, out, 1 << 20)
        if part.stat().st_size != ARCHIVE_SIZE:
            raise urllib.error.URLError(f"{part.stat().st_size:,} bytes arrived")
        return part.rename(folder / ARCHIVE_NAME)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if made is not None:
            shutil.rmtree(made)
        if not isinstance(error, OSError | http.client.HTTPException):
            raise
        reason = getattr(error, "reason", None) or error
        raise UserError(
            f"imdb_reviews is not prepared in {folder.parent.parent} and could not be downloaded "
            f"({' '.join(str(reason).split())}): put {ARCHIVE_NAME} ({ARCHIVE_SIZE:,} bytes, from "
            f"{ARCHIVE_URL}) into {folder.parent.parent}, or give the --data_dir of a prepared one"
        ) from None


def _check(archive: Path, sha256: str) -> None:
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise UserError(
            f"{archive} is not the published archive (sha256 {found}, expected {sha256}): delete "
            f"it and get it again from {ARCHIVE_URL}"
        )


def _prepare(data_dir: Path, archive: Path, sha256: str) -> None:
    """Runs TFDS on an archive that has been checked."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.checksums import UrlInfo

    with quiet_tfds(), standard_library_opener():
        builder = tfds.builder("imdb_reviews", data_dir=data_dir, file_format="array_record")
        # TFDS checks again, against its own list; `sha256` is what holds here.
        known = builder.url_infos
        published = known[ARCHIVE_URL]
        known[ARCHIVE_URL] = UrlInfo(archive.stat().st_size, sha256, ARCHIVE_NAME)
        try:
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(manual_dir=archive.parent)
            )
        except Exception as error:  # whatever TFDS, tarfile or zlib make of a bad archive
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk's complaint
            raise UserError(
                f"cannot prepare imdb_reviews from {archive} ({' '.join(str(error).split())[:200]})"
                f": expected the archive of {ARCHIVE_URL}"
            ) from None
        finally:
            known[ARCHIVE_URL] = published
