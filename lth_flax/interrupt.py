"""Signals that ask a process to end: save, say how to continue, and go.

SIGINT and SIGTERM are a user's or a system's; a second one goes at once. SIGHUP comes when a
terminal is closed, SIGUSR1 and SIGUSR2 from a scheduler before its time is over, SIGXCPU when
that of `ulimit -t` is: these may come again and again, and then say nothing new.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from lth_flax.streams import before_last_words

AT_ONCE = (signal.SIGINT, signal.SIGTERM)
SIGNALS = (
    *AT_ONCE,
    # Windows has none of these.
    *(
        getattr(signal, name)
        for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
        if hasattr(signal, name)
    ),
)

PATIENCE_SECONDS = 8.0
"""After this long the process ends wherever it is: what was saved before stays valid."""


class Interrupted(BaseException):
    """The process was asked to end. `signum` says by which signal."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class _State:
    saving = False
    received: int | None = None


_state = _State()


def install() -> None:
    """Handles `SIGNALS` from now on (in the main thread).

    What `nohup` has this process ignore stays ignored. Not so SIGINT, which a shell without job
    control has every `command &` ignore: whoever sends it to that one means it.
    """
    for signum in SIGNALS:
        if signum == signal.SIGINT or signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, _handle)


def requested() -> bool:
    """Whether a signal is waiting for training to save."""
    return _state.received is not None


@contextmanager
def deferred() -> Iterator[None]:
    """Inside, a signal is only noted: the caller asks `requested()`, saves and raises."""
    _state.saving = True
    try:
        yield
    finally:
        _state.saving = False


def leave(signum: int, *, saved: bool = True) -> None:
    """Ends the process with one line and the shell's status for this signal.

    saved: whether the last save is on disk.
    """
    before_last_words.close()
    name = signal.Signals(signum).name
    what = "what was done is saved" if saved else "the last save was not done in time"
    print(
        f"\nstopped by {name}: {what}; the same command continues from what was saved",
        file=sys.stderr,
    )
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()
    # Not sys.exit: threads that compile would be waited for.
    os._exit(128 + signum)


def _handle(signum: int, frame: FrameType | None) -> None:
    del frame
    if _state.received is not None:
        if signum in AT_ONCE:
            os._exit(128 + signum)
        return
    _state.received = signum
    timer = threading.Timer(PATIENCE_SECONDS, leave, [signum], {"saved": False})
    timer.daemon = True
    timer.start()
    if not _state.saving:
        raise Interrupted(signum)


def received() -> int:
    """The signal that was received."""
    assert _state.received is not None
    return _state.received
