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
