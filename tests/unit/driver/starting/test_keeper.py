"""What a keeper waits for comes to it by signals: it need not look."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from threading import Timer

import pytest

from profile_actors.driver.keeping import head
from profile_actors.driver.starting import keeper


@pytest.fixture(autouse=True)
def _own_handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    numbers = (*keeper.SIGNALS, signal.SIGCHLD)
    known = [signal.getsignal(number) for number in numbers]
    monkeypatch.setattr(keeper, "LOOK_S", 3_600.0)
    yield
    signal.set_wakeup_fd(-1)
    for number, handler in zip(numbers, known, strict=True):
        signal.signal(number, handler)


def test_the_end_of_a_process_of_the_head_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:

        def dead() -> str:
            return "" if child.poll() is None else "the child"

        monkeypatch.setattr(head, "dead_processes", dead)
        heard = keeper._hear()
        Timer(0.1, child.kill).start()
        assert keeper._wait(heard) == "the child"


def test_a_signal_to_stop_is_heard_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "dead_processes", str)
    heard = keeper._hear()
    Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
    assert keeper._wait(heard) == ""


STORM = """
import os, signal, sys
from profile_actors.driver.keeping import head
from profile_actors.driver.starting import keeper

keeper.LOOK_S, head.dead_processes = 0.0, str
signal.alarm(100)
heard = keeper._hear()
print(flush=True)
keeper._wait(heard)
print("told")
"""


def test_signals_that_come_while_others_are_handled_block_nothing() -> None:
    words = [sys.executable, "-c", STORM]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        for _ in range(20_000):
            process.send_signal(signal.SIGCHLD)
        process.terminate()
        assert process.stdout.read() == "told\n"
