"""Arrays with JSON beside them: saved whole or not at all, read back as saved or refused.

What is saved is a directory:
  NAME.json   the caller's JSON; names, shapes and dtypes of the arrays; a checksum of all that
  arrays/     the arrays, an orbax checkpoint (arrays_2/ where a save over this one put them)

A save writes the arrays beside those that are there, reads them back, flushes
them to the disk and then replaces the JSON: only then it counts, at once.
Damage is found by the checksum of what was read.
"""

import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lth_flax.files import make_directory, remove_temporaries, sync, sync_tree, write_text_atomic
from lth_flax.orbax_arrays import (
    Arrays,
    Damaged,
    Leaves,
    Unusable,
    orbax_version,
    read_arrays,
    storage_errors,
    write_arrays,
)

FORMAT_KEYS = ("arrays", "arrays_in", "orbax", "sha256")
"""Keys of the JSON that are not the caller's."""

MOST_JSON_BYTES = 2**28

_FOLDERS = ("arrays", "arrays_2")


def save(file: Path, meta: Mapping[str, Any], arrays: Arrays) -> None:
    """Saves arrays and `meta`, in place of what was saved there before.

    Args:
      file: the JSON file; the arrays go beside it. Its directory is made if need be.
      meta: JSON values, without the keys of the format.

    Raises:
      Unusable: it cannot be saved; what was there before is still valid.
      ValueError, TypeError: `meta` is not JSON, or has a key of the format.
    """
    reserved = sorted(meta.keys() & set(FORMAT_KEYS))
    if reserved:
        raise ValueError(f"{', '.join(reserved)}: a key of the format")
    directory = file.parent
    used, free = _folders(file)
    content = {**meta, "arrays": stated(arrays), "arrays_in": free, "orbax": orbax_version()}
    # As it will be read: JSON has no tuples, and no keys but text.
    content = json.loads(json.dumps(content, allow_nan=False))
    content["sha256"] = checksum(content, arrays)
    text = _json(content)
    with storage_errors(reading=False):
        make_directory(directory)
        remove_temporaries(directory)
        _remove(directory, free)
        # Asked before, as orbax on a full disk fails slowly and at length.
        if shutil.disk_usage(directory).free < sum(array.nbytes for array in arrays.values()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        try:
            write_arrays(directory / free, arrays)
            try:
                check(content, load_arrays(directory, content, leaves_of(content), ours=True))
            except Damaged as error:
                raise Unusable(f"what was written reads back otherwise: {error}") from error
            sync_tree(directory / free)
            sync(directory)
            write_text_atomic(file, text)
        except BaseException:
            # On a full disk what was written is in the way; but it may count already.
            if _folders(file)[0] != free:
                _remove(directory, free)
            raise
        if used is not None:
            _remove(directory, used)


def load(file: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(meta, arrays) of `save`.

    Raises:
      FileNotFoundError: nothing is saved there.
      Damaged: it is not what was saved.
      Unusable: something else keeps from reading it.
    """
    content = read_json(file)
    arrays = load_arrays(file.parent, content, leaves_of(content))
    check(content, arrays)
    return {name: value for name, value in content.items() if name not in FORMAT_KEYS}, arrays


def read_json(file: Path) -> dict[str, Any]:
    """The JSON of `save`, strict and of a bounded size; not compared with its checksum yet.

    Raises:
      FileNotFoundError, Damaged, Unusable: as `load`.
    """
    try:
        found = file.stat()
        if not stat.S_ISREG(found.st_mode):
            raise Damaged(f"{file.name} is not a plain file")
        if found.st_size > MOST_JSON_BYTES:
            raise Damaged(f"{file.name} is larger than {MOST_JSON_BYTES >> 20} MiB")
        content = json.loads(file.read_bytes().decode("utf-8"))
        _json(content)  # Python reads NaN and Infinity, and 1e999 as that
    except FileNotFoundError:
        raise
    except NotADirectoryError as error:  # a file where a directory was named
        raise FileNotFoundError(error.errno, error.strerror) from error
    except OSError as error:
        raise Unusable(f"{file.name}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{file.name} is not valid JSON") from error
    if not isinstance(content, dict):
        raise Damaged(f"{file.name} holds no JSON object")
    return content


def stated(arrays: Arrays) -> dict[str, Any]:
    """Names, shapes and dtypes as JSON."""
    return {name: [list(array.shape), str(array.dtype)] for name, array in arrays.items()}


def leaves_of(content: Mapping[str, Any]) -> dict[str, tuple[tuple[int, ...], str]]:
    """The inverse of `stated`.

    Raises:
      Damaged: it is no such thing.
    """
    arrays = content.get("arrays")
    if not isinstance(arrays, dict):
        raise Damaged("arrays is missing or of another type")
    leaves = {}
    for name, leaf in arrays.items():
        try:
            shape, dtype = leaf
            if not all(type(size) is int and size >= 0 for size in shape):
                raise ValueError
            if np.dtype(dtype).hasobject or str(np.dtype(dtype)) != dtype:
                raise ValueError
        except (TypeError, ValueError):
            raise Damaged(f"arrays states no shape and type of {name}") from None
        leaves[name] = (tuple(shape), dtype)
    return leaves


def load_arrays(
    directory: Path, content: Mapping[str, Any], leaves: Leaves, *, ours: bool = False
) -> dict[str, np.ndarray]:
    """The arrays of a saved directory, not compared with their checksum yet; `ours`: just saved.

    Raises:
      Damaged, Unusable: as `load`; also if they are others than `leaves`.
    """
    folder = content.get("arrays_in")
    if folder not in _FOLDERS:
        raise Damaged(f"arrays_in must be one of {', '.join(_FOLDERS)}")
    with storage_errors(reading=True, written_by=content.get("orbax")):
        return read_arrays(directory / folder, leaves, ours)


def check(content: Mapping[str, Any], arrays: Arrays) -> None:
    """Raises `Damaged` unless JSON and arrays match their checksum."""
    if content.get("sha256") != checksum(content, arrays):
        raise Damaged("its contents do not match their checksum")


def checksum(content: Mapping[str, Any], arrays: Arrays) -> str:
    """sha256, hexadecimal: of the JSON, which states names, shapes and dtypes, and all bytes."""
    covered = {name: value for name, value in content.items() if name != "sha256"}
    digest = hashlib.sha256(json.dumps(covered, sort_keys=True).encode())
    for name in sorted(arrays):
        digest.update(np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def remove_saved(file: Path) -> None:
    """Takes away what was saved: at once it is not there any more, then its arrays go."""
    file.unlink(missing_ok=True)
    shutil.rmtree(file.parent, ignore_errors=True)


def is_part(name: str) -> bool:
    """Whether a save, also one that was killed, puts an entry of this name beside the JSON."""
    return name.startswith(_FOLDERS[0])


def _folders(file: Path) -> tuple[str | None, str]:
    """The array folder in use, if any, and the one to fill next."""
    first, second = _FOLDERS
    try:
        used = read_json(file).get("arrays_in", first)
    except FileNotFoundError:
        return None, first
    except Damaged:  # what it names is worth nothing
        used = second
    return used, first if used == second else second


def _remove(directory: Path, folder: str) -> None:
    """Removes an array folder, and what a save into it that was killed has left."""
    for entry in list(directory.iterdir()):
        if entry.name == folder or entry.name.startswith(f"{folder}.orbax-checkpoint-tmp"):
            shutil.rmtree(entry)


def _json(content: Any) -> str:
    """Strict JSON; what is escaped in it may be half a character, which no file takes."""
    options: dict[str, Any] = {"indent": 1, "sort_keys": True, "ensure_ascii": False}
    text = json.dumps(content, allow_nan=False, **options) + "\n"
    text.encode("utf-8")
    return text
