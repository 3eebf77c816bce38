"""What is in a file, packed or not, in any encoding; what is not read is named for what it is."""

import bz2
import codecs
import contextlib
import gzip
import lzma
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from lth_flax.config import Config
from lth_flax.errors import UserError
from lth_flax.files import open_plain

FILES = {"train": "data_file", "validation": "validation_file", "test": "test_file"}
"""Split -> the setting of its file."""

MOST_BYTES = 1 << 32
"""Of one file's content: an archive can unpack to anything."""

_PACKED: tuple[tuple[bytes, Any], ...] = ((b"\x1f\x8b", gzip), (b"BZh", bz2), (b"\xfd7zXZ\0", lzma))

_KINDS = (
    (rb"PAR1", "a Parquet file"),
    (rb"ARROW1|FEA1", "an Arrow or Feather file"),
    (rb"\xd0\xcf\x11\xe0", "an Excel or Word file"),
    (rb"SQLite format 3\0", "an SQLite database"),
    (rb"\x93NUMPY", "a NumPy array"),
    (rb"\x89HDF", "an HDF5 file"),
    (rb"%PDF-", "a PDF"),
    (rb"\x80[\x02-\x05][\x95cX\]}(\x8c]", "a Python pickle"),
    (rb"\x28\xb5\x2f\xfd", "packed by zstd"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|PK\x03\x04", "packed twice"),  # once is undone before
    (rb"7z\xbc\xaf\x27\x1c|Rar!", "a 7z or RAR archive"),
    (rb"\x89PNG|GIF8|\xff\xd8\xff", "an image"),
    (rb"version https://git-lfs", "a Git LFS pointer and not the file itself (`git lfs pull`)"),
    (rb"(?s).{257}ustar", "a tar archive"),
    (rb"(?i)(?:\xef\xbb\xbf)?\s*<(?:!doctype|html|head|\?xml)", "a web page or XML"),
    (rb'(?:\xef\xbb\xbf)?\s*(?:(?:\[\s*)?\{\s*"[^"\n]*"\s*:|\[\s*\[\s*")', "JSON"),
)

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def given_files(config: Config) -> dict[str, str]:
    """Split -> path, of the splits that have a file of their own, in the order of `FILES`.

    Raises:
      UserError: two splits have the same file.
    """
    found: dict[str, str] = {}
    for split, flag in FILES.items():
        if path := getattr(config, flag):
            for other, earlier in found.items():
                if os.path.realpath(earlier) == os.path.realpath(path):
                    raise UserError(
                        f"{path} is given as --{FILES[other]} and as --{flag}: expected a file for "
                        "each split; leave one out, and its texts are taken from --data_file"
                    )
            found[split] = path
    return found


@contextlib.contextmanager
def open_unpacked(path: str | Path, wanted: str) -> Iterator[IO[bytes]]:
    """The bytes of a file; of a packed one (gz, bz2, xz, zip) those of the file in it.

    Args:
      wanted: what should be given instead, such as "a CSV file as --data_file".

    Raises:
      UserError: it cannot be read, is damaged, or is of a known other kind.
    """
    path = Path(path)
    try:
        with contextlib.ExitStack() as stack:
            file: IO[bytes] = stack.enter_context(open_plain(path, wanted))
            head = file.read(8)
            file.seek(0)
            if head.startswith(b"PK\x03\x04"):
                archive = stack.enter_context(zipfile.ZipFile(file))
                file = stack.enter_context(archive.open(_only_member(path, archive, wanted)))
            for magic, module in _PACKED:
                if head.startswith(magic):
                    file = stack.enter_context(module.open(file))
            yield file
    except (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError) as error:
        raise UserError(
            f"{path} is packed and damaged ({' '.join(str(error).split())}): get it again, or "
            f"unpack it and give {wanted}"
        ) from None


def _only_member(path: Path, archive: zipfile.ZipFile, wanted: str) -> zipfile.ZipInfo:
    """The one file of a zip archive, apart from what a Mac puts beside it."""
    members = [
        member
        for member in archive.infolist()
        if not member.is_dir()
        and not member.filename.startswith("__MACOSX/")
        and not Path(member.filename).name.startswith(".")
    ]
    names = [member.filename for member in members]
    if "[Content_Types].xml" in names:
        raise UserError(f"{path} is an Excel or Word file: save it as CSV and give {wanted}")
    if len(members) != 1:
        some = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise UserError(
            f"{path} is a zip archive of {len(names)} files ({some}); expected one: unpack it and "
            f"give {wanted}"
        )
    if members[0].flag_bits & 1:
        raise UserError(f"{path} is a zip archive with a password: unpack it and give {wanted}")
    return members[0]


def check_kind(path: str | Path, head: bytes, wanted: str) -> None:
    """Raises `UserError` where the first bytes (some hundreds) are those of another kind of file.

    `head` is of what `open_unpacked` gives.
    """
    for pattern, kind in _KINDS:
        if re.match(pattern, head):
            raise UserError(f"{path} is {kind}: give {wanted}")


def read_text(path: str | Path, *, wanted: str, encoding: str | None = None) -> str:
    """All text of a file, without a byte-order mark.

    Args:
      encoding: any of Python's; by default what the byte-order mark says, else UTF-8.

    Raises:
      UserError: see `open_unpacked`; or it is not text in this encoding.
    """
    with open_unpacked(path, wanted) as file:
        raw = file.read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        raise UserError(f"{path} has more than {MOST_BYTES:,} bytes: give {wanted}")
    check_kind(path, raw[:512], wanted)
    text = _decoded(path, raw, encoding)
    if (at := text.find("\0")) >= 0:
        line = text[:at].count("\n") + 1
        remedy = "save it as UTF-8 CSV"
        if text.count("\0") * 3 > len(text):
            order = "be" if text.startswith("\0") else "le"
            remedy = f"it may be UTF-16: try --encoding=utf-16-{order}"
        raise UserError(f"{path}, line {line}: a NUL byte; expected text: {remedy}")
    return text


def _decoded(path: str | Path, raw: bytes, encoding: str | None) -> str:
    marked = next((name for mark, name in _MARKS if raw.startswith(mark)), "utf-8")
    try:
        return raw.decode(encoding or marked).removeprefix("\ufeff")
    except LookupError:
        raise UserError(
            f"--encoding={encoding} is none that is known: expected one such as utf-8, utf-16, "
            "latin-1 or cp1252"
        ) from None
    except UnicodeError as error:
        where = str(path)
        what = encoding or marked.upper().removesuffix("-SIG")
        if isinstance(error, UnicodeDecodeError):
            where += f", line {raw[: error.start].count(10) + 1}"
            what += f" (byte 0x{raw[error.start]:02x})"
        raise UserError(
            f"{where}: not {what}; give its encoding, such as --encoding=cp1252 (Windows, West "
            "European) or latin-1, or save it as UTF-8"
        ) from None
