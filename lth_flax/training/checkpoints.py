"""What a run keeps so that it can be killed at any moment and go on.

Two kinds of saved directories (`storage`) under one directory:

- `running/`: the slice that is in training: parameters, optimizer state, best
  parameters, curves and the position. Saved in the background every few minutes
  and at the ends of epochs, the last few kept.
- `finished/`: one per finished slice, with its outcomes. Never trained again.

Nothing is trusted on the way back: what does not match its checksum is skipped
with a line that says so. A slice whose files are all damaged is trained again
from its start, to the same bits.
"""

import contextlib
import re
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import jax
import numpy as np

from lth_flax import storage
from lth_flax.errors import UserError
from lth_flax.files import make_directory
from lth_flax.orbax_arrays import Arrays, Damaged, Unusable
from lth_flax.quiet import quiet_orbax

KEPT = 3
RECENT = 3
"""Finished slices whose arrays stay in memory: the one that was trained, and the two (the level
before, the dense network) that rows of the next start from."""
SHARE = 0.01
"""Epoch ends save only while saving takes at most this share of the time."""

_FILE = "checkpoint.json"
_RUNNING = re.compile(r"(\d{3,})_(\d{4,})_(\d{6,})")  # table, slice, number of the save


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
        self._directory = directory.absolute()
        self._running = self._directory / "running"
        self._finished = self._directory / "finished"
        self._identity = identity
        self._seconds = 60 * minutes
        self._say = say
        self.seconds_saving = 0.0
        self._last = monotonic()
        self._cost = 0.0
        self._writing: Future[None] | None = None
        self._recent: dict[tuple[int, int], Arrays] = {}
        try:
            make_directory(self._running)
            make_directory(self._finished)
            for entry in self._running.iterdir():  # saves that were killed
                if _RUNNING.fullmatch(entry.name) and not (entry / _FILE).exists():
                    shutil.rmtree(entry, ignore_errors=True)
            self._number = 1 + max((number for *_, number, _ in self._saves()), default=-1)
        except OSError as error:
            raise self._cannot_save(error.strerror or str(error)) from error
        self._open = contextlib.ExitStack()
        self._open.enter_context(quiet_orbax())
        # One thread: saves are on disk in the order in which they were asked for.
        self._thread = self._open.enter_context(ThreadPoolExecutor(1, "checkpoint"))

    # The slice in training.

    def due(self, *, epoch_end: bool) -> bool:
        """Whether it is time to save; never while the save before is still being written.

        Raises:
          UserError: the save before could not be written.
        """
        if self._writing is not None:
            if not self._writing.done():
                return False
            self.wait()
        waited = monotonic() - self._last
        return waited >= self._seconds or (epoch_end and waited >= self._cost / SHARE)

    def save(self, position: Position, leaves: Mapping[str, Any]) -> None:
        """Copies arrays, of whatever device, and writes them in the background.

        What was asked before is done then. Training goes on as soon as there is a copy.

        Raises:
          UserError: the save before could not be written.
        """
        self.wait()
        started = monotonic()
        # A CPU device may share its memory with the host, and training overwrites it.
        copies = {name: np.array(leaf) for name, leaf in jax.device_get(dict(leaves)).items()}
        name = f"{position.table:03d}_{position.slice:04d}_{self._number:06d}"
        self._number += 1

        def write() -> None:
            self._store(self._running / name / _FILE, position, copies)
            # Only now: until then those before are the newest that can be read.
            mine = [file for *owner, _, file in self._saves() if owner == [*position[:2]]]
            for file in mine[:-KEPT]:
                storage.remove_saved(file)
            self._cost = monotonic() - started

        self._writing = self._thread.submit(write)
        self._last = monotonic()
        self.seconds_saving += self._last - started

    def restore(
        self, table: int, slice_: int, like: Mapping[str, Any]
    ) -> tuple[Position, dict[str, np.ndarray]] | None:
        """The newest sound checkpoint of a slice, or None to start it from the beginning.

        `like` gives names, shapes and dtypes; its values are not used, nor fetched.

        Raises:
          UserError: a save before this could not be written, or one is there
            that cannot be read for another reason than damage.
        """
        self.wait()
        for *owner, _, file in reversed(self._saves()):
            if owner == [table, slice_]:
                found = self._load(file, (table, slice_))
                if found is not None and storage.stated(found[1]) == storage.stated(like):
                    return found
                if found is not None:
                    self._say(f"skipped {_shown(file)}: its arrays are not those of this slice")
        return None

    def _saves(self) -> list[tuple[int, int, int, Path]]:
        """(table, slice, number, file) of all that is there, in the order of their numbers."""
        found = []
        for entry in self._running.iterdir():
            match = _RUNNING.fullmatch(entry.name)
            if match and (entry / _FILE).exists():
                table, slice_, number = map(int, match.groups())
                found.append((table, slice_, number, entry / _FILE))
        return sorted(found, key=lambda save: save[2])

    # Finished slices.

    def finish_slice(self, table: int, slice_: int, arrays: Arrays) -> None:
        """Keeps a finished slice; on return it is on disk.

        Raises:
          UserError: it, or a save before, cannot be written.
        """
        self.wait()
        started = monotonic()
        position = Position(table, slice_, 0, 0)
        self._store(self._finished_file(table, slice_), position, arrays)
        for *owner, _, file in self._saves():
            if owner == [table, slice_]:  # it is never trained again
                storage.remove_saved(file)
        self._remember(table, slice_, arrays)
        self._last = monotonic()
        self.seconds_saving += self._last - started

    def finished_slice(self, table: int, slice_: int) -> Arrays | None:
        """The arrays of a finished slice, or None where it has to be trained.

        Raises:
          UserError: it cannot be read for another reason than damage.
        """
        arrays = self._recent.pop((table, slice_), None)
        if arrays is None:
            found = self._load(self._finished_file(table, slice_), (table, slice_))
            if found is None:
                return None
            arrays = found[1]
        self._remember(table, slice_, arrays)
        return arrays

    def read_finished(self, table: int, slice_: int) -> Arrays:
        """The arrays of a slice that was finished in this process.

        Raises:
          UserError: they cannot be read any more.
        """
        arrays = self.finished_slice(table, slice_)
        if arrays is None:
            file = self._finished_file(table, slice_)
            raise UserError(
                f"{_shown(file)} was damaged or taken away since it was written: "
                "the same command trains that slice again"
            )
        return arrays

    def _remember(self, table: int, slice_: int, arrays: Arrays) -> None:
        self._recent[table, slice_] = arrays
        for name in list(self._recent)[:-RECENT]:
            del self._recent[name]

    def _finished_file(self, table: int, slice_: int) -> Path:
        return self._finished / f"table_{table:03d}_slice_{slice_:04d}" / _FILE

    # Both.

    def _store(self, file: Path, position: Position, arrays: Arrays) -> None:
        """Saves under numbers: names of arrays may be anything, orbax's may not."""
        meta = {
            "identity": self._identity,
            "position": position._asdict(),
            "names": list(arrays),
        }
        numbered = {f"{number:06d}": array for number, array in enumerate(arrays.values())}
        try:
            storage.save(file, meta, numbered)
        except Unusable as error:
            raise self._cannot_save(str(error)) from error

    def _load(
        self, file: Path, slice_: tuple[int, int]
    ) -> tuple[Position, dict[str, np.ndarray]] | None:
        """What `_store` saved; None, and a line that says so, where it is no use."""
        try:
            meta, numbered = storage.load(file)
            if meta.get("identity") != self._identity:
                raise Damaged("it belongs to other data, flags or versions")
            position = Position(**meta["position"])
            if position[:2] != slice_:
                raise Damaged("it is of another slice")
        except FileNotFoundError:
            return None
        except Damaged as error:
            self._say(f"skipped {_shown(file)}: {error}")
            return None
        except Unusable as error:
            raise UserError(f"{file.parent} cannot be read ({error})") from error
        return position, dict(zip(meta["names"], numbered.values(), strict=True))

    def wait(self) -> None:
        """Returns when everything is on disk.

        Raises:
          UserError: the last save could not be written.
        """
        if self._writing is not None:
            # It is reported once: what was saved before it is what counts.
            writing, self._writing = self._writing, None
            writing.result()

    def close(self) -> None:
        """Waits, and lets go of the directory.

        Raises:
          UserError: the last save could not be written.
        """
        with self._open:
            self.wait()

    def _cannot_save(self, reason: str) -> UserError:
        return UserError(
            f"cannot save to {self._directory} ({reason}): make room or give another --work_dir; "
            "what was saved before is still valid, and the same command continues from it"
        )


def _shown(file: Path) -> str:
    return f"checkpoint {file.parent.parent.name}/{file.parent.name}"


def named(tree: Any, prefix: str) -> dict[str, Any]:
    """The leaves of a tree by name, in leaf order."""
    leaves = jax.tree_util.tree_leaves(tree)
    return {f"{prefix}_{number:04d}": leaf for number, leaf in enumerate(leaves)}


def flatten(tree: Any, prefix: str) -> dict[str, np.ndarray]:
    """A tree of arrays as named host arrays, in leaf order."""
    return {name: np.asarray(leaf) for name, leaf in named(tree, prefix).items()}


def unflatten(arrays: Arrays, prefix: str, like: Any) -> Any:
    """The inverse of `flatten`; `like` gives the tree."""
    leaves, tree = jax.tree_util.tree_flatten(like)
    named = [arrays[f"{prefix}_{number:04d}"] for number in range(len(leaves))]
    return jax.tree_util.tree_unflatten(tree, named)
