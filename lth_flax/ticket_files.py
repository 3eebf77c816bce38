"""The files of a ticket: which are there, whether they are as written, how one replaces another."""

import hashlib
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lth_flax.errors import UserError
from lth_flax.ticket_metadata import ARRAY_FOLDERS, read_metadata

METADATA_FILE = "ticket.json"

_FORMAT_BYTES = 2**26
"""More than the checkpoint format itself ever takes."""


def folders(target: Path) -> tuple[str | None, str]:
    """The array folder in use, if any, and the one to fill next."""
    first, second = ARRAY_FOLDERS
    file = target / METADATA_FILE
    if not target.exists():
        return None, first
    if not file.exists():
        strange = sorted(p.name for p in target.iterdir() if not p.name.startswith(first))
        if strange:
            raise UserError(
                f"{target} is no ticket and holds {strange[0]}: give a new directory to save in"
            )
        return None, first
    try:
        used = read_metadata(file).get("arrays_in", first)
    except UserError:  # damaged: what it names is worth nothing
        used = second
    return used, first if used == second else second


def remove_folder(target: Path, folder: str) -> None:
    """Removes an array folder, and what a save into it that was killed has left."""
    for entry in target.iterdir():
        if entry.name == folder or entry.name.startswith(f"{folder}.orbax-checkpoint-tmp"):
            shutil.rmtree(entry)


def check_files(
    directory: Path, folder: str, expected: Mapping[str, Any], digests: Mapping[str, str] | None
) -> None:
    """Every byte that orbax will see is as it was written, and no more than arrays could need.

    Given damaged files, orbax fails in many ways, some of them in the background.
    """
    size = sum(
        math.prod(shape) * np.dtype(dtype).itemsize
        for leaves in expected.values()
        for shape, dtype in leaves.values()
    )
    try:
        files = _files(directory / folder)
        total = sum(file.stat().st_size for file in files.values())
        if total > 2 * size + _FORMAT_BYTES:
            raise ValueError(f"{total} bytes, expected at most {2 * size + _FORMAT_BYTES}")
        if digests is None:
            return
        for path in sorted(files.keys() | digests.keys()):
            if path not in files or path not in digests:
                raise ValueError(f"{path} is {'missing' if path in digests else 'not of it'}")
            if _file_digest(files[path]) != digests[path]:
                raise ValueError(f"{path} has changed since it was written")
    except (OSError, ValueError) as error:
        raise damaged(directory, getattr(error, "strerror", None) or str(error)) from error


def file_digests(folder: Path) -> dict[str, str]:
    """sha256 of every file under a folder, hexadecimal, by relative path."""
    return {path: _file_digest(file) for path, file in _files(folder).items()}


def _files(folder: Path) -> dict[str, Path]:
    """Plain files under a plain folder, by their relative paths.

    Raises:
      ValueError: there is anything else. A link would lead out of the ticket,
        and reading a pipe never ends.
    """
    if folder.is_symlink():
        raise ValueError(f"{folder.name} is a link")
    found, pending = {}, [folder]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(Path(entry.path))
                elif entry.is_file(follow_symlinks=False):
                    found[Path(entry.path).relative_to(folder).as_posix()] = Path(entry.path)
                else:
                    raise ValueError(f"{entry.name} is no plain file")
    return found


def _file_digest(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def damaged(directory: Path, reason: str) -> UserError:
    """The line for arrays that are not those that were written."""
    return UserError(
        f"the arrays of ticket {directory} cannot be read ({reason}): "
        "use another ticket, or save this one again"
    )
