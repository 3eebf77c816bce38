"""Keeps orbax's own words from the terminal: what matters of them becomes one line of ours."""

import contextlib
import errno
import logging
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_orbax() -> Iterator[None]:
    """Inside, orbax logs nothing, and what it leaves behind after a damaged file is not shown.

    Given a damaged file, one of its reads fails at once and the others find their
    event loop closed: that is printed as an ignored exception, at any later time.
    """
    log = logging.getLogger("absl")
    disabled, log.disabled = log.disabled, True
    before = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        log.disabled = disabled
        if sys.unraisablehook is hook:
            sys.unraisablehook = before


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_fault(error: BaseException) -> str:
    """Why something could not be written, in a few words: orbax wraps it in many."""
    text = " ".join(str(error).split())
    for code in _NO_ROOM:
        if os.strerror(code) in text:
            return os.strerror(code)
    return getattr(error, "strerror", None) or text[:160] or type(error).__name__
