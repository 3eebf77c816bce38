"""Keeps orbax's own words from the terminal: what matters of them becomes one line of ours."""

import contextlib
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any


class _State:
    lock = threading.Lock()
    users = 0
    undo = contextlib.ExitStack()
    hook: Any = None


@contextlib.contextmanager
def quiet_orbax() -> Iterator[None]:
    """Inside, in every thread, orbax logs nothing.

    Given a full disk, one of its writes is reported to us and the others may be to
    nobody: asyncio logs them, with a traceback, when they are collected.
    """
    quiet_process()
    try:
        yield
    finally:
        with _State.lock:
            _State.users -= 1
            if not _State.users:
                _State.undo.close()


def _hide_late_reads() -> None:
    """From now on, reads that end after the one that failed are not shown.

    Given a damaged file, one of orbax's reads fails at once and the others find their
    event loop closed. Each is printed as an ignored exception, at any later time.
    """
    before = sys.unraisablehook
    if before is _State.hook:
        return

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    _State.hook = sys.unraisablehook = hook


def quiet_process() -> None:
    """`quiet_orbax` until the process ends: for commands, whose one line is the last word.

    What is left of a failed write may be collected as late as the interpreter's end.
    """
    with _State.lock:
        _State.users += 1
        if _State.users == 1:
            for log in (logging.getLogger("absl"), logging.getLogger("asyncio")):
                _State.undo.callback(setattr, log, "disabled", log.disabled)
                log.disabled = True
        _hide_late_reads()
