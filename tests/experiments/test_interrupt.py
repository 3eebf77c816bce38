"""What a signal does, by when it comes; `test_faults.py` sends real ones to real runs."""

import os
import signal

import pytest

from lth_flax import interrupt


class Exit(BaseException):
    pass


@pytest.fixture(autouse=True)
def nothing_received(monkeypatch):
    """As in a new process, and without its end."""

    def leave(status):
        raise Exit(status)

    monkeypatch.setattr(interrupt, "_state", interrupt._State())
    monkeypatch.setattr(interrupt, "leave", lambda signum, **how: None)
    monkeypatch.setattr(os, "_exit", leave)


def test_in_training_it_is_noted_so_that_there_is_a_save():
    with interrupt.deferred():
        assert not interrupt.requested()
        interrupt._handle(signal.SIGTERM, None)
        assert interrupt.requested()
    assert interrupt.received() == signal.SIGTERM


def test_elsewhere_it_ends_what_is_done():
    with interrupt.deferred():
        pass
    with pytest.raises(interrupt.Interrupted) as stop:
        interrupt._handle(signal.SIGINT, None)
    assert stop.value.signum == signal.SIGINT


def test_a_second_one_ends_at_once_also_in_training():
    with interrupt.deferred():
        interrupt._handle(signal.SIGTERM, None)
        with pytest.raises(Exit) as ended:
            interrupt._handle(signal.SIGINT, None)
    assert ended.value.args == (128 + signal.SIGINT,)


@pytest.mark.parametrize("again", ["SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU"])
def test_what_comes_again_and_again_leaves_time_to_save(again):
    """A shell repeats SIGHUP, the kernel SIGXCPU every second."""
    signum = getattr(signal, again)
    with interrupt.deferred():
        for _ in range(3):
            interrupt._handle(signum, None)
        assert interrupt.received() == signum
        with pytest.raises(Exit):
            interrupt._handle(signal.SIGTERM, None)


NAMES = ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU"]


@pytest.fixture
def handlers():
    """Those of this process, which come back after the test."""
    numbers = [getattr(signal, name) for name in NAMES]
    before = [signal.getsignal(number) for number in numbers]
    yield dict(zip(NAMES, numbers, strict=True))
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def test_what_was_ignored_stays_ignored_but_for_sigint(handlers):
    for ignored in ("SIGINT", "SIGHUP", "SIGUSR1"):
        signal.signal(handlers[ignored], signal.SIG_IGN)
    interrupt.install()
    answered = {name for name in NAMES if signal.getsignal(handlers[name]) is interrupt._handle}
    assert answered == {"SIGINT", "SIGTERM", "SIGUSR2", "SIGXCPU"}
