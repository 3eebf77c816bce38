"""Files that are whole or not there, also after a power cut.

A power cut loses what was not flushed: the content of a file, and, apart from
it, the entry of a file in its directory. So a file is flushed before it gets
its name, and its directory after that.
"""

import contextlib
import errno
import io
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from lth_flax.errors import UserError


@contextlib.contextmanager
def open_plain(path: str | os.PathLike[str], wanted: str) -> Iterator[io.BufferedReader]:
    """The bytes of a plain file: a pipe may never end, and a device has no end.

    Args:
      wanted: what should be given instead, in complaints.

    Raises:
      UserError: it is none, or cannot be opened or read.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode) and not os.path.isdir(path):
            raise UserError(f"{os.fspath(path)} is not a plain file: give {wanted}")
        with open(path, "rb") as file:
            yield file
    except OSError as error:
        raise UserError(
            f"cannot read {os.fspath(path)} ({error.strerror or error}): give {wanted}"
        ) from None


def write_text_atomic(path: str | os.PathLike[str], text: str) -> None:
    """`write_bytes_atomic` of UTF-8 text, with the newlines it has."""
    write_bytes_atomic(path, text.encode("utf-8"))


def write_bytes_atomic(path: str | os.PathLike[str], content: bytes) -> None:
    """Puts `content` at `path` so that a reader, or a crash, sees the old file or the new one.

    Raises:
      UserError: that fails (a full disk, no permission).
    """
    with atomic_file(path) as stream:
        stream.write(content)


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A file to write to; where the body succeeds it takes the place of the one at `path`.

    It is beside the target, flushed to the disk in the end, then renamed over it.

    Raises:
      UserError: that fails (a full disk, no permission).
    """
    path = Path(path)
    # Cut, as a name that is as long as can be has no room for more.
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}.tmp")
    try:
        try:
            with open(temporary, "xb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); nothing was changed there"
        ) from None
    try:
        sync(path.parent)
    except OSError as error:
        raise UserError(
            f"{path}: the disk does not confirm that it is written ({error.strerror})"
        ) from None


_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp", re.DOTALL)


def is_temporary(path: Path) -> bool:
    """Whether it is what `write_bytes_atomic` writes before it renames."""
    return bool(_TEMPORARY.fullmatch(path.name))


_STRANGER = re.compile(
    r"\..*|lost\+found|@eadir|thumbs\.db|desktop\.ini|nohup\.out|.*\.log|(log|out|err|std\w+)\.txt"
    r"|slurm.*\.(out|err)|system volume information|\$recycle\.bin",
    re.IGNORECASE | re.DOTALL,
)


def is_stranger(path: Path) -> bool:
    """Whether it is what file systems, file browsers and terminals leave in any directory."""
    return bool(_STRANGER.fullmatch(path.name))


def remove_temporaries(directory: Path) -> None:
    """Takes away what a process that was killed while it wrote has left under a directory.

    For the only writer there: another's file in the making would be taken away too.
    """
    for path in directory.rglob(".*.tmp"):
        if is_temporary(path) and path.is_file() and not path.is_symlink():
            with contextlib.suppress(OSError):
                path.unlink()


def make_directory(path: Path) -> None:
    """Makes a directory and what is missing above it, if need be; on return they are on disk.

    Raises:
      OSError: it cannot be made, or something else has its name.
    """
    made = [path]
    while not made[-1].parent.is_dir():
        made.append(made[-1].parent)
    path.mkdir(parents=True, exist_ok=True)
    for directory in reversed(made):
        sync(directory.parent)


def sync_tree(directory: Path) -> None:
    """Flushes everything under a directory, whoever wrote it, and the directory itself."""
    for parent, _, files in os.walk(directory, topdown=False):
        for name in files:
            sync(Path(parent, name))
        sync(Path(parent))


def sync(path: Path) -> None:
    """Flushes a file, or the names in a directory, as far as its file system can promise that.

    Raises:
      OSError: the disk could not.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # of a directory: one that may be written in, but not read
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)
