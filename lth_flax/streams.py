"""The terminal of a command: printing never ends a run, whatever stands behind the streams."""

import codecs
import contextlib
import errno
import io
import os
import select
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TextIO

BAD_INPUT = 2
"""Exit status."""

_PLAIN = {"−": "-", "–": "-", "±": "+-", "…": "...", "“": '"', "”": '"', "’": "'", "×": "x"}
"""What is written where an encoding lacks a character; "?" stands for all others."""

_GONE = (errno.EPIPE, errno.EIO)
"""A reader that has seen enough, such as `head`, or a terminal that was closed: nobody to tell."""


before_last_words = contextlib.ExitStack()
"""Closed before the line that a command ends with: takes away a bar that stands in its way."""


def fail(message: str) -> NoReturn:
    """Ends a command: one line to stderr, exit status 2."""
    line = " ".join(message.split())
    # A class or a file may be named with what a terminal obeys.
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
    before_last_words.close()
    print(f"error: {line}", file=sys.stderr)
    raise SystemExit(BAD_INPUT)


@contextlib.contextmanager
def unfailing() -> Iterator[None]:
    """Inside, what cannot be printed is dropped: no reader, no room, no such character, no stream.

    A disk without room is told to stderr in the end. Lines are written as they end, so that a log
    has them at once. Streams that the program around us has put in place stay.
    """
    for descriptor in range(3):
        # Else the next file that is opened is where the system's libraries write their words.
        with contextlib.suppress(OSError):
            os.fstat(descriptor)
            continue
        os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, this one
    before = sys.stdin, sys.stdout, sys.stderr
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
    if sys.stdout is sys.__stdout__:
        sys.stdout = stream(1, sys.stdout, _lost.append)
    if sys.stderr is sys.__stderr__:
        sys.stderr = stream(2, sys.stderr)
    try:
        yield
    finally:
        if reason := lost_output():
            print(
                f"warning: output is lost ({reason}), nothing else; files are written as ever",
                file=sys.stderr,
            )
        sys.stderr.flush()
        sys.stdin, sys.stdout, sys.stderr = before


_lost: list[OSError] = []


def lost_output() -> str | None:
    """Why some of what was printed is lost, if somebody may miss it.

    For a command whose answer is what it prints. Who asked is to tell: it is not told again.
    """
    sys.stdout.flush()
    return _lost.pop().strerror if _lost else None


def stream(
    descriptor: int,
    like: TextIO | None = None,
    lost: Callable[[OSError], None] = lambda error: None,
) -> TextIO:
    """Text to a descriptor; no write to it fails. 1 and 2 stay open when this is closed.

    Args:
      like: whose encoding it has.
      lost: called once, where something was lost that somebody may miss.
    """
    codecs.register_error("lth_flax.plain", _plain)
    return io.TextIOWrapper(
        io.BufferedWriter(_Unfailing(descriptor, lost)),
        encoding=like.encoding if like else "utf-8",
        errors="lth_flax.plain",
        line_buffering=True,
    )


class _Unfailing(io.FileIO):
    """A descriptor that takes whatever is written, or drops it."""

    def __init__(self, descriptor: int, lost: Callable[[OSError], None]) -> None:
        super().__init__(descriptor, "w", closefd=descriptor > 2)
        self._lost: Callable[[OSError], None] | None = lost

    def write(self, data: Any) -> int:
        try:
            while (written := super().write(data)) is None:  # a pipe that does not wait for room
                select.select([], [self], [])
            return written
        except OSError as error:
            lost, self._lost = self._lost, None
            if lost and error.errno not in _GONE:
                lost(error)
            return len(data)


def _plain(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    characters = error.object[error.start : error.end]
    return "".join(_PLAIN.get(character, "?") for character in characters), error.end
