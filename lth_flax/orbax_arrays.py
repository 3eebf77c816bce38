"""Named arrays to and from an orbax checkpoint: the only place that meets orbax and its errors."""

import contextlib
import errno
import importlib.metadata
import math
import os
import re
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from lth_flax.errors import UserError
from lth_flax.quiet import quiet_orbax

Arrays = Mapping[str, np.ndarray]
"""By name. In orbax's tree a slash in a name begins a level."""

Leaves = Mapping[str, tuple[tuple[int, ...], str]]
"""Name of an array -> (shape, name of its dtype)."""

_FORMAT_BYTES = 2**26
"""More than the checkpoint format itself ever takes."""


class Damaged(Exception):
    """What is on disk is not what was saved. The text says how it is known."""


class Unusable(Exception):
    """It cannot be read or saved here and now, whatever its content. The text says why."""


def orbax_version() -> str:
    """Of the orbax that is installed."""
    return importlib.metadata.version("orbax-checkpoint")


def write_arrays(folder: Path, arrays: Arrays) -> None:
    """Writes a checkpoint; on return its files are there, though not flushed.

    Raises:
      Whatever orbax raises: inside of `storage_errors`.
    """
    present = {name: array for name, array in arrays.items() if array.size}
    tree = unflatten_dict(present, sep="/")
    with _plain_path(folder.parent) as parent, _checkpointer() as (ocp, checkpointer):
        checkpointer.save(parent / folder.name, args=ocp.args.StandardSave(tree))


def read_arrays(folder: Path, leaves: Leaves, ours: bool = False) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint, which must be these leaves.

    What is on disk is compared with them before room is made for it; not with `ours`, just
    written by this process: asking takes TensorStore some kilobytes for each array that it never
    gives back (`Spec.to_json` in 0.1.86).

    Raises:
      Damaged: it holds others. Whatever orbax raises: inside of `storage_errors`.
    """
    # Orbax keeps no arrays without elements.
    present = {name: leaf for name, leaf in leaves.items() if math.prod(leaf[0])}
    _check_files(folder, present)
    with _plain_path(folder.parent) as parent, _checkpointer() as (ocp, checkpointer):
        if not ours:
            _check_on_disk(checkpointer.metadata(parent / folder.name), present)
        # One element, repeated: only names, shapes and types are used.
        like = {n: np.broadcast_to(np.zeros((), d), s) for n, (s, d) in present.items()}
        args = ocp.args.StandardRestore(unflatten_dict(like, sep="/"))
        found = flatten_dict(checkpointer.restore(parent / folder.name, args=args), sep="/")
    arrays = {}
    for name, (shape, dtype) in leaves.items():
        arrays[name] = np.asarray(found[name]) if name in present else np.zeros(shape, dtype)
        if (arrays[name].shape, str(arrays[name].dtype)) != (shape, dtype):
            raise Damaged(f"{name} is of another shape or type than stated")
    return arrays


@contextlib.contextmanager
def storage_errors(*, reading: bool, written_by: object = None) -> Iterator[None]:
    """Inside, every failure is `Damaged` (reading only) or `Unusable`, and orbax is quiet.

    `written_by` is the version of orbax that wrote what is read, if that is known.
    """
    try:
        with quiet_orbax():
            yield
    except (Damaged, Unusable):
        raise
    except UserError as error:
        raise Unusable(str(error)) from error
    except Exception as error:
        reason = _fault_of_the_machine(error)
        if reason is None and not reading:
            reason = getattr(error, "strerror", None) or _line(error)
        if reason is not None:
            raise Unusable(reason) from error
        other = "" if written_by == orbax_version() else f"; orbax {written_by} wrote it"
        raise Damaged(_line(error) + other) from error


def _fault_of_the_machine(error: BaseException) -> str | None:
    """What keeps this machine from it, in a few words; None: the content is at fault.

    Orbax wraps errors of the operating system in many others, those of C++ as text.
    """
    if isinstance(error, ImportError):
        return f"the library {error.name or error} is missing: install lth_flax with all it needs"
    if isinstance(error, MemoryError):
        return "not enough memory"
    text = str(error)
    for code in _OF_THE_MACHINE:
        if getattr(error, "errno", None) == code or os.strerror(code) in text:
            return os.strerror(code)
    cause = error.__cause__ or error.__context__
    return None if cause is None else _fault_of_the_machine(cause)


_OF_THE_MACHINE = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EMFILE,
    errno.ENFILE, errno.ENOMEM, errno.ENAMETOOLONG, errno.ESTALE,
)  # fmt: skip


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


@contextlib.contextmanager
def _checkpointer() -> Iterator[tuple[Any, Any]]:
    """Orbax, and a checkpointer of it that raises in this thread what went wrong."""
    try:
        jax.process_index()  # orbax asks too, where what it raises is harder to tell
    except Exception as error:  # an assertion, where the platform's plugin is not installed
        platform = getattr(jax.config, "jax_platforms", None)
        raise Unusable(
            f"JAX cannot start platform {platform!r}: JAX_PLATFORMS=cpu works everywhere"
        ) from error
    import orbax.checkpoint as ocp

    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
        yield ocp, checkpointer


_PLAIN = re.compile(r"[A-Za-z0-9_ ./=,+@-]*")


@contextlib.contextmanager
def _plain_path(directory: Path) -> Iterator[Path]:
    """The directory under a path that orbax takes for what it is.

    It takes brackets, stars and question marks for patterns and "gs:" for a cloud,
    and fails at backslashes and names that are not UTF-8. A link has none of these.
    """
    if _PLAIN.fullmatch(str(directory)):
        yield directory
        return
    places = [tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"]
    place = next((p for p in places if _PLAIN.fullmatch(p) and os.access(p, os.W_OK)), None)
    if place is None:
        raise Unusable("its path needs a link in a temporary directory: set TMPDIR to a plain path")
    with tempfile.TemporaryDirectory(prefix="lth_flax_", dir=place) as temporary:
        link = Path(temporary, "directory")
        link.symlink_to(directory, target_is_directory=True)
        yield link


def _check_files(folder: Path, leaves: Leaves) -> None:
    """Plain files, and not more bytes than the arrays could need.

    A link would lead elsewhere, and reading a pipe never ends.
    """
    size = sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in leaves.values())
    total = 0
    if not stat.S_ISDIR(os.lstat(folder).st_mode):
        raise Damaged(f"{folder.name} is no plain folder")
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            found = os.lstat(os.path.join(parent, name))
            if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
                raise Damaged(f"{name} is no plain file")
            total += found.st_size
    if total > 2 * size + _FORMAT_BYTES:
        raise Damaged(f"{total} bytes, expected at most {2 * size + _FORMAT_BYTES}")


def _check_on_disk(metadata: Any, leaves: Leaves) -> None:
    """What orbax would read is what is stated."""
    metadata = getattr(metadata, "item_metadata", metadata)
    on_disk = flatten_dict(getattr(metadata, "tree", metadata), sep="/")
    for name in sorted(on_disk.keys() | leaves.keys()):
        leaf, (shape, dtype) = on_disk.get(name), leaves.get(name, ((), "absent"))
        if (getattr(leaf, "shape", None), str(getattr(leaf, "dtype", None))) != (shape, dtype):
            raise Damaged(f"{name} on disk is of another shape or type than stated")
        # A chunk is decompressed whole, whatever the shape is.
        chunk = getattr(getattr(leaf, "storage", None), "chunk_shape", None)
        if chunk is not None and any(c > max(n, 1) for c, n in zip(chunk, shape, strict=True)):
            raise Damaged(f"{name} has chunks of {chunk}, larger than {shape}")
