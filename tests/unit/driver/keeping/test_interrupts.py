"""Interrupts that wait: raised once, at the end, and only where signals are handled."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from profile_actors.driver.keeping.interrupts import interrupts_later


@pytest.fixture(autouse=True)
def handled() -> Iterator[None]:
    """As in a program of its own: a suite in the background may ignore the signal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_is_raised_at_the_end_and_once() -> None:
    done: list[int] = []

    def interrupted(then: Exception | None = None) -> None:
        with interrupts_later():
            for step in range(3):
                signal.raise_signal(signal.SIGINT)
                done.append(step)
            if then is not None:
                raise then

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert done == [0, 1, 2]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(KeyboardInterrupt) as raised:
        interrupted(ValueError("of the block's own"))
    assert isinstance(raised.value.__context__, ValueError)
    with pytest.raises(ValueError, match="alone"), interrupts_later():
        raise ValueError("alone")


def test_one_block_may_stand_in_another() -> None:
    done: list[int] = []

    def nested() -> None:
        with interrupts_later():
            with interrupts_later():
                signal.raise_signal(signal.SIGINT)
            done.append(1)

    with pytest.raises(KeyboardInterrupt):
        nested()
    assert done == [1]


def test_what_a_program_does_with_interrupts_stays_so() -> None:
    told: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: told.append(number))
    try:
        with interrupts_later():
            signal.raise_signal(signal.SIGINT)
            assert told == []
        assert told == [signal.SIGINT]
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with interrupts_later():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_handle_no_signals() -> None:
    ended: list[str] = []

    def run() -> None:
        with interrupts_later():
            ended.append("in")

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert ended == ["in"]
