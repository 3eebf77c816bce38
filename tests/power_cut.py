"""What a disk holds after a power cut, at every moment of what is written under a directory.

Only what was flushed is sure to be there: the content of a file by `os.fsync` of
the file, its name by `os.fsync` of its directory. The rest may be there or not,
so at every moment four disks are made up:
  "lost": nothing that was not flushed;
  "names": every name, but of content only what was flushed (files may be empty);
  "renamed": of what was not flushed the name that was given last, as if it had overtaken the rest;
  "mixed": every name by a coin, as it is or as it was flushed.
What C++ flushes by itself is not seen and does not count; what it writes is, as
it is found when something is flushed. Moments are before and after every flush,
and before every rename, removal and new directory of Python.
"""

import contextlib
import os
import random
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

Tree = Mapping[str, "bytes | Tree"]
"""Names in a directory -> content of a file, or names in it."""

KINDS = ("lost", "names", "renamed", "mixed")
_EVENTS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir"}
_active: list["Disk"] = []


class Cut(NamedTuple):
    """A disk after a power cut. `done` is what was known to be saved by then."""

    kind: str
    tree: Tree
    done: Any

    def make(self, place: Path) -> Path:
        """Writes it as a directory."""
        _write(place, self.tree)
        return place


class Disk:
    """Watches a directory; what is there at the start is flushed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.done: Any = None
        self.renamed = ""
        self.cuts: list[Cut] = []
        self._content: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}
        self._held: list[int] = []
        self._rng = random.Random(0)
        self._lock = threading.RLock()
        self._fsync = os.fsync
        for parent, _, files in os.walk(root):
            for path in (parent, *(os.path.join(parent, name) for name in files)):
                self._flushed(path)

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        """Inside, moments are collected in `cuts`."""

        def fsync(descriptor: int) -> None:
            self.moment()
            self._fsync(descriptor)
            with self._lock:
                self._flushed(f"/proc/self/fd/{descriptor}")
                self.moment()

        os.fsync = fsync
        _active.append(self)
        try:
            yield
            self.moment()
        finally:
            _active.remove(self)
            os.fsync = self._fsync
            for descriptor in self._held:
                os.close(descriptor)

    def moment(self) -> None:
        """Takes up the disks that a power cut now would leave, those that are new."""
        with self._lock:
            for kind in KINDS:
                cut = Cut(kind, self._tree(os.stat(self.root).st_ino, self.root, kind), self.done)
                if cut not in self.cuts:
                    self.cuts.append(cut)

    def _flushed(self, path: str) -> None:
        # Held open, so that no other file gets its number.
        descriptor = os.open(path, os.O_RDONLY)
        self._held.append(descriptor)
        number = os.fstat(descriptor).st_ino
        if os.path.isdir(path):
            with os.scandir(path) as entries:
                self._names[number] = {entry.name: entry.inode() for entry in entries}
        else:
            self._content[number] = Path(path).read_bytes()

    def _tree(self, number: int, now: Path | None, kind: str) -> Tree:
        """`now` is where the directory is at the moment, if it is."""
        there: dict[str, int] = {}
        if now is not None:
            with contextlib.suppress(FileNotFoundError), os.scandir(now) as entries:
                there = {entry.name: entry.inode() for entry in entries}
        flushed = self._names.get(number, {})
        tree: dict[str, bytes | Tree] = {}
        for name in sorted(there.keys() | flushed.keys()):
            current = (
                kind == "names"
                or (kind == "renamed" and name == self.renamed)
                or (kind == "mixed" and self._rng.random() < 0.5)
            )
            inner = (there if current else flushed).get(name)
            if inner is None:
                continue
            path = now / name if now is not None and there.get(name) == inner else None
            if inner in self._names or (path is not None and path.is_dir()):
                tree[name] = self._tree(inner, path, kind)
            else:
                tree[name] = self._content.get(inner, b"")
        return tree


def _write(place: Path, tree: Tree) -> None:
    place.mkdir(parents=True)
    for name, inner in tree.items():
        if isinstance(inner, bytes):
            (place / name).write_bytes(inner)
        else:
            _write(place / name, inner)


def _on_event(event: str, arguments: tuple[Any, ...]) -> None:
    if _active and event in _EVENTS:
        for disk in _active:
            if any(str(part).startswith(str(disk.root)) for part in arguments):
                disk.moment()
                if event == "os.rename":
                    disk.renamed = os.path.basename(arguments[1])


sys.addaudithook(_on_event)
