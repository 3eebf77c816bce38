"""What a run keeps so that it can be killed at any moment and go on.

Two kinds of files under one directory:

- `training/`: an orbax `CheckpointManager`. The slice that is in training:
  parameters, optimizer state, best parameters, curves and the position. Saved
  in the background every few minutes and at the ends of epochs, the last few kept.
- `tables/`: one file per finished slice, with its outcomes. Never trained again.

Nothing is trusted on the way back: arrays and positions carry a SHA-256, and
what does not match is skipped with a line that says so. A slice whose files are
all damaged is trained again from its start, to the same bits.
"""

import contextlib
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from lth_flax.errors import UserError
from lth_flax.quiet import quiet_orbax, write_fault
from lth_flax.records import write_bytes_atomic

Arrays = Mapping[str, np.ndarray]

KEPT = 3
SHARE = 0.01
"""Epoch ends save only while saving takes at most this share of the time."""

_DIGEST_BYTES = 32


class Position(NamedTuple):
    """Where training stands: `step` of `epoch` is the next; epochs count from 1, steps from 0."""

    table: int
    slice: int
    epoch: int
    step: int


class Checkpoints:
    """The checkpoints of one run.

    Args:
      directory: made if need be.
      identity: what must be equal for a checkpoint to be used: data, flags and
        versions, as one string.
      minutes: between saves within an epoch.
      say: gets one line for every checkpoint that is skipped.
    """

    def __init__(
        self,
        directory: Path,
        *,
        identity: str,
        minutes: float,
        say: Callable[[str], None] = print,
    ) -> None:
        self._tables = directory.absolute() / "tables"
        self._identity = identity
        self._seconds = 60 * minutes
        self._say = say
        self.seconds_saving = 0.0
        self._last = monotonic()
        self._cost = 0.0
        self._open = contextlib.ExitStack()
        self._open.enter_context(quiet_orbax())
        try:
            self._tables.mkdir(parents=True, exist_ok=True)
            self._manager = ocp.CheckpointManager(
                directory.absolute() / "training",
                options=ocp.CheckpointManagerOptions(max_to_keep=KEPT, create=True),
            )
        except OSError as error:
            self._open.close()
            raise _cannot_save(directory, error) from error
        self._open.callback(self._manager.close)
        self._step = max(self._steps(), default=-1) + 1

    # The slice in training.

    def due(self, *, epoch_end: bool) -> bool:
        """Whether it is time to save."""
        waited = monotonic() - self._last
        return waited >= self._seconds or (epoch_end and waited >= self._cost / SHARE)

    def save(self, position: Position, arrays: Arrays) -> None:
        """Copies the arrays and writes them in the background.

        Raises:
          UserError: this save, or the one before, could not be written.
        """
        started = monotonic()
        copies = {name: np.array(array) for name, array in arrays.items()}
        meta = {
            "identity": self._identity,
            "position": list(position),
            "position_sha256": _digest(self._identity, position, {}),
            "sha256": _digest(self._identity, position, copies),
        }
        try:
            self._manager.check_for_errors()
            self._manager.save(
                self._step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(copies), meta=ocp.args.JsonSave(meta)
                ),
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise _cannot_save(self._manager.directory, error) from error
        self._step += 1
        self._last = monotonic()
        self._cost = self._last - started
        self.seconds_saving += self._cost

    def restore(
        self, table: int, slice_: int, like: Arrays
    ) -> tuple[Position, dict[str, np.ndarray]] | None:
        """The newest sound checkpoint of a slice, or None to start it from the beginning.

        `like` gives names, shapes and dtypes; its values are not used.

        Raises:
          UserError: a save before this could not be written.
        """
        # A save in flight would be missed, by us and by orbax when it removes old ones.
        self.wait()
        for step in sorted(self._steps(), reverse=True):
            try:
                position, arrays = self._load(step, (table, slice_), like)
            except _OtherSlice:
                return None
            except Exception as error:  # orbax raises many kinds for damaged files
                reason = " ".join(str(error).split())[:120] or type(error).__name__
                self._say(f"skipped checkpoint {step}: {reason}")
                continue
            return position, arrays
        return None

    def _load(
        self, step: int, slice_: tuple[int, int], like: Arrays
    ) -> tuple[Position, dict[str, np.ndarray]]:
        meta = self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))
        meta = meta["meta"]
        if meta["identity"] != self._identity:
            raise ValueError("it belongs to other data, flags or versions")
        position = Position(*(int(number) for number in meta["position"]))
        if _digest(self._identity, position, {}) != meta["position_sha256"]:
            raise ValueError("its position does not match its checksum")
        # Before its arrays: those of another slice may have other shapes.
        if (position.table, position.slice) != slice_:
            raise _OtherSlice
        target = {name: np.zeros(array.shape, array.dtype) for name, array in like.items()}
        restored = self._manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(target))
        )["state"]
        arrays = {name: np.asarray(restored[name]) for name in target}
        if _digest(self._identity, position, arrays) != meta["sha256"]:
            raise ValueError("its contents do not match their checksum")
        return position, arrays

    def _steps(self) -> Sequence[int]:
        try:
            self._manager.reload()
            return [int(step) for step in self._manager.all_steps()]
        except (OSError, ValueError) as error:
            self._say(f"skipped all checkpoints: {' '.join(str(error).split())[:120]}")
            return []

    # Finished slices.

    def finish_slice(self, table: int, slice_: int, arrays: Arrays) -> None:
        """Keeps a finished slice; on return it is on disk.

        Raises:
          UserError: it cannot be written.
        """
        started = monotonic()
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        content = buffer.getvalue()
        write_bytes_atomic(self._file(table, slice_), self._seal(table, slice_, content) + content)
        self._last = monotonic()
        self.seconds_saving += self._last - started

    def finished_slice(self, table: int, slice_: int) -> dict[str, np.ndarray] | None:
        """The arrays of a finished slice, or None where it has to be trained."""
        file = self._file(table, slice_)
        if not file.exists():
            return None
        try:
            content = file.read_bytes()
            seal, content = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
            if seal != self._seal(table, slice_, content):
                raise ValueError("its contents do not match their checksum")
            with np.load(io.BytesIO(content), allow_pickle=False) as archive:
                return dict(archive)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            self._say(f"skipped {file.name}: {error}")
            return None

    def _file(self, table: int, slice_: int) -> Path:
        return self._tables / f"table_{table:03d}_slice_{slice_:04d}.bin"

    def _seal(self, table: int, slice_: int, content: bytes) -> bytes:
        digest = hashlib.sha256(f"{self._identity}|{table}|{slice_}|".encode())
        digest.update(content)
        return digest.digest()

    def wait(self) -> None:
        """Returns when everything is on disk.

        Raises:
          UserError: the last save could not be written.
        """
        try:
            self._manager.wait_until_finished()
        except (OSError, ValueError, RuntimeError) as error:
            raise _cannot_save(self._manager.directory, error) from error

    def close(self) -> None:
        """Waits, and lets go of the directory.

        Raises:
          UserError: the last save could not be written.
        """
        with self._open:
            self.wait()


class _OtherSlice(Exception):
    """A sound checkpoint of another slice: there is none newer for this one."""


def _digest(identity: str, position: Position, arrays: Arrays) -> str:
    digest = hashlib.sha256(json.dumps([identity, list(position)]).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}|{array.shape}|{array.dtype}|".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _cannot_save(directory: Any, error: BaseException) -> UserError:
    return UserError(
        f"cannot save to {directory} ({write_fault(error)}): make room or give another --work_dir; "
        "what was saved before is still valid, and the same command continues from it"
    )


def flatten(tree: Any, prefix: str) -> dict[str, np.ndarray]:
    """A tree of arrays as named host arrays, in leaf order."""
    leaves = jax.tree_util.tree_leaves(tree)
    return {f"{prefix}_{number:04d}": np.asarray(leaf) for number, leaf in enumerate(leaves)}


def unflatten(arrays: Arrays, prefix: str, like: Any) -> Any:
    """The inverse of `flatten`; `like` gives the tree."""
    leaves, tree = jax.tree_util.tree_flatten(like)
    named = [arrays[f"{prefix}_{number:04d}"] for number in range(len(leaves))]
    return jax.tree_util.tree_unflatten(tree, named)
