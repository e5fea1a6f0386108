"""Direct lines, both ends in one process: what is asked is answered, or Ray is to be asked."""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from profile_actors.actors import read_line
from profile_actors.actors.calls import Lost, Patience, Remote, Session
from profile_actors.actors.read_line import ReadLine
from profile_actors.driver import read_lines
from profile_actors.driver.read_lines import ReadLines, Unanswered
from profile_actors.errors import DefinitionError, StoreUnavailable
from tests.waiting import PATIENCE_S, PROMPT_S, until


class Open(Session):
    """A session of no Ray."""

    def __enter__(self) -> None:
        if self.is_closed:
            raise StoreUnavailable("closed")

    def __exit__(self, *_: object) -> None:
        pass


class Way(Remote):
    """A partition that says where its line is; None while it is away."""

    def __init__(self, line: ReadLine | None) -> None:
        super().__init__(None, "partition-0", 5.0, Open("memory"))
        self.line = line
        self.asked = 0

    def begin(self, method: str, *args: Any) -> Any:
        assert method == "line"
        self.asked += 1
        return self.line

    def finish(self, answer: Any, patience: Patience) -> Any:
        if answer is None:
            raise Lost
        return answer.address()


def read(version: int, name: str, *args: Any) -> bytes | None:
    """What a partition would say."""
    if version > 7:
        return None
    if name == "events":
        raise DefinitionError("expected an event")
    return b"".join(args)


Made = Callable[..., ReadLine]


@pytest.fixture
def made() -> Iterator[Made]:
    """Makes partitions' ends, and closes them."""
    every: list[ReadLine] = []

    def make(read: Callable[..., bytes | None] = read, most: int = 8) -> ReadLine:
        every.append(ReadLine(read, most, 2))
        return every[-1]

    yield make
    for one in every:
        one.close()


def ask(lines: ReadLines, *question: Any) -> bytes | None:
    asked = lines.begin(0, *question)
    if asked is None:
        raise Unanswered
    return lines.finish(asked)


def test_a_line_answers_and_is_used_again(made: Made) -> None:
    way = Way(made())
    lines = ReadLines([way])
    assert ask(lines, 1, "profiles", b"a", b"b") == b"ab"
    assert ask(lines, 1, "profiles", b"x" * 5_000_000) == b"x" * 5_000_000
    assert ask(lines, 8, "profiles", b"a") is None  # definitions that are older
    with pytest.raises(Unanswered):  # Ray's way tells errors
        ask(lines, 1, "events")
    assert ask(lines, 1, "profiles", b"c") == b"c"
    assert way.asked == 1
    lines.close()


def test_threads_have_lines_of_their_own(made: Made) -> None:
    meeting = threading.Barrier(2, timeout=PATIENCE_S)

    def together(_: int, name: str, key: bytes) -> bytes:
        meeting.wait()
        return key

    lines = ReadLines([Way(made(together))])
    first, second = lines.begin(0, 1, "profiles", b"1"), lines.begin(0, 1, "profiles", b"2")
    assert first is not None
    assert second is not None
    assert (lines.finish(second), lines.finish(first)) == (b"2", b"1")
    lines.close()


def test_a_line_that_broke_is_found_again(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1_000.0
    monkeypatch.setattr(read_lines, "time", SimpleNamespace(monotonic=lambda: now_s))
    way = Way(made())
    lines = ReadLines([way])
    assert ask(lines, 1, "profiles", b"a") == b"a"
    assert way.line is not None
    way.line.close()
    way.line = None
    with pytest.raises(Unanswered):
        ask(lines, 1, "profiles", b"a")
    with pytest.raises(Unanswered):
        ask(lines, 1, "profiles", b"a")
    asked = way.asked
    for _ in range(3):  # it is not looked for with every question
        assert lines.begin(0, 1, "profiles", b"a") is None
    assert way.asked == asked
    way.line = made()
    now_s += read_lines.REST_S
    assert ask(lines, 1, "profiles", b"a") == b"a"
    lines.close()


def test_lines_beyond_the_most_are_hung_up_on(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_lines, "REST_S", 1e6)
    way = Way(made(most=2))
    lines = ReadLines([way])
    assert ask(lines, 1, "profiles", b"0") == b"0"
    first = lines.begin(0, 1, "profiles", b"1")
    second = lines.begin(0, 1, "profiles", b"2")
    assert first is not None
    assert second is not None
    asked = way.asked
    for _ in range(3):
        assert lines.begin(0, 1, "profiles", b"3") is None
    assert way.asked == asked + 1  # it is not looked for with every question
    assert lines.finish(first) == b"1"
    assert ask(lines, 1, "profiles", b"4") == b"4"  # nobody else's line was lost by that
    assert lines.finish(second) == b"2"
    lines.close()


def test_another_user_is_hung_up_on(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ReadLines([Way(made())])
    monkeypatch.setattr(os, "getuid", lambda: 4_242)
    with pytest.raises(Unanswered):
        ask(lines, 1, "profiles", b"a")


class Told(Way):
    """A partition that says where another's line is."""

    def __init__(self, address: Any) -> None:
        super().__init__(None)
        self.address = address

    def finish(self, answer: Any, patience: Patience) -> Any:
        if isinstance(self.address, Exception):
            raise self.address
        return self.address


class Bomb:
    """What must never be unpickled."""

    went_off = False

    def __reduce__(self) -> Any:
        return setattr, (Bomb, "went_off", True)


def test_who_does_not_know_the_secret_is_hung_up_on(made: Made) -> None:
    """A process of the same user, which has read the name in /proc/net/unix: nothing that it says
    is unpickled, and nothing is answered."""
    line = made()
    address = line.address()
    assert address is not None
    name, secret = address
    frame = struct.pack("<BQ", 0, 0) + pickle.dumps(Bomb())
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.settimeout(PATIENCE_S)
        stranger.connect(name)
        stranger.sendall(frame + bytes(200))
        said = b""
        with contextlib.suppress(OSError):
            while piece := stranger.recv(1000):
                said += piece
    assert len(said) <= 64  # what it asks of the other, and its own proof
    assert not Bomb.went_off
    lines = ReadLines([Told((name, bytes(32)))])
    with pytest.raises(Unanswered):
        ask(lines, 1, "profiles", b"a")
    lines = ReadLines([Told((name, secret))])
    assert ask(lines, 1, "profiles", b"a") == b"a"
    lines.close()


def test_a_stranger_who_took_the_name_is_not_asked() -> None:
    """It repeats what it is told, which is a proof of nothing."""
    name = f"\0profile-actors-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(name)
        listener.listen()
        listener.settimeout(PATIENCE_S)

        def echo() -> None:
            line, _ = listener.accept()
            with line:
                while piece := line.recv(1000):
                    line.sendall(piece)

        thread = threading.Thread(target=echo, daemon=True)
        thread.start()
        lines = ReadLines([Told((name, bytes(32)))])
        with pytest.raises(Unanswered):
            ask(lines, 1, "profiles", b"a")
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


@pytest.mark.parametrize("said", [RuntimeError("of Ray"), ("no secret",), None])
def test_a_partition_that_cannot_say_where_its_line_is_is_asked_by_ray(said: Any) -> None:
    with pytest.raises(Unanswered):
        ask(ReadLines([Told(said)]), 1, "profiles", b"a")


def test_a_line_that_could_not_begin_begins_later(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = made()

    def none_free(**_: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(read_line, "Thread", none_free)
        with pytest.raises(RuntimeError):
            line.address()
    lines = ReadLines([Way(line)])
    assert ask(lines, 1, "profiles", b"a") == b"a"
    lines.close()


def test_who_waits_when_the_store_is_closed_is_told(made: Made) -> None:
    go_on = threading.Event()

    def slow(*_: Any) -> bytes:
        go_on.wait(PATIENCE_S)
        return b""

    way = Way(made(slow))
    lines = ReadLines([way])
    asked = lines.begin(0, 1, "profiles", b"a")
    assert asked is not None
    way.session.is_closed = True
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        lines.finish(asked)
    assert time.monotonic() - began < PROMPT_S
    go_on.set()
    lines.close()
    assert lines.begin(0, 1, "profiles", b"a") is None


def test_a_partition_that_hangs_is_asked_by_ray(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_lines, "ANSWER_WAIT_S", 0.1)
    go_on = threading.Event()

    def slow(*_: Any) -> bytes:
        go_on.wait(PATIENCE_S)
        return b""

    lines = ReadLines([Way(made(slow))])
    with pytest.raises(Unanswered):
        ask(lines, 1, "profiles", b"a")
    monkeypatch.undo()
    way = Way(made(slow))
    way.timeout_s = 0.2  # a call's patience, if it is shorter
    began = time.monotonic()
    with pytest.raises(Unanswered):
        ask(ReadLines([way]), 1, "profiles", b"a")
    assert time.monotonic() - began < PROMPT_S
    go_on.set()


def test_a_forked_child_has_no_lines(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ReadLines([Way(made())])
    assert ask(lines, 1, "profiles", b"a") == b"a"
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert lines.begin(0, 1, "profiles", b"a") is None


def test_a_closed_line_leaves_no_thread(made: Made) -> None:
    before = set(threading.enumerate())

    def begun() -> set[threading.Thread]:
        return set(threading.enumerate()) - before

    line = made()
    lines = ReadLines([Way(line)])
    assert not begun()  # nothing listens before it is asked for
    assert ask(lines, 1, "profiles", b"a") == b"a"
    assert len(begun()) == 2
    line.close()
    until(lambda: not begun())
    assert line.address() is None
