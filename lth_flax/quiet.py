"""Keeps orbax's own words from the terminal: what matters of them becomes one line of ours."""

import contextlib
import errno
import logging
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_orbax() -> Iterator[None]:
    """Inside, orbax logs nothing, and what it leaves behind after a failure is not shown.

    Given a damaged file, one of its reads fails at once and the others find their
    event loop closed: that is printed as an ignored exception, at any later time.
    Given a full disk, one of its writes is reported to us and the others may be to
    nobody: asyncio logs them, with a traceback, when they are collected.
    """
    logs = [logging.getLogger(name) for name in ("absl", "asyncio")]
    disabled = [log.disabled for log in logs]
    for log in logs:
        log.disabled = True
    before = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        for log, was in zip(logs, disabled, strict=True):
            log.disabled = was
        if sys.unraisablehook is hook:
            sys.unraisablehook = before


def quiet_process() -> None:
    """`quiet_orbax` until the process ends: for commands, whose one line is the last word.

    What is left of a failed write may be collected as late as the interpreter's end.
    """
    _for_good.enter_context(quiet_orbax())


_for_good = contextlib.ExitStack()

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_fault(error: BaseException) -> str:
    """Why something could not be written, in a few words: orbax wraps it in many."""
    text = " ".join(str(error).split())
    for code in _NO_ROOM:
        if os.strerror(code) in text:
            return os.strerror(code)
    return getattr(error, "strerror", None) or text[:160] or type(error).__name__
