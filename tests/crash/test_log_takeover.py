"""A writer that lost its lock file, at every line of the opening that takes its log over.

Whatever it was told is stored is there afterwards, nothing of it comes later, and its rotations
neither lose an entry nor fork the log.
"""

from __future__ import annotations

import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import pytest

from profile_actors.storage import lmdb_log
from profile_actors.storage.lmdb_log import LmdbLog
from tests.crash.log_child import SMALL, entry, is_whole
from tests.crash.test_log_crash import ENVIRONMENT, ROOT
from tests.memory import scratch

SHORT, ROTATING = 1, 4
"""Appends that stay in a log segment, and so many that a new one must be begun."""


class Child:
    """Another process that holds a log open, and does what it is told."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.log_child", "-", "steered", "1", "-", "0"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            cwd=ROOT,
            env=ENVIRONMENT,
        )

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")

    def hear(self) -> tuple[str, str]:
        assert self._process.stdout is not None
        word, what = self._process.stdout.readline().split()
        return word, what

    def ask(self, line: str) -> tuple[str, int]:
        self.tell(line)
        word, head = self.hear()
        return word, int(head)

    def is_silent(self, seconds: float) -> bool:
        assert self._process.stdout is not None
        return not select.select([self._process.stdout], [], [], seconds)[0]

    def loses_its_lock(self, directory: Path, entries: int) -> None:
        """It has a log with so many entries there, and its lock file is gone."""
        self.ask(f"open {directory} 1")
        assert self.ask(f"append {entries}") == ("acked", entries)
        (directory / "lock").unlink()

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def quick_path() -> Iterator[Path]:
    with scratch() as name:
        yield Path(name)


@pytest.fixture(scope="module")
def zombie() -> Iterator[Child]:
    child = Child()
    yield child
    child.end()


@pytest.fixture(scope="module")
def successor() -> Iterator[Child]:
    child = Child()
    yield child
    child.end()


class AtLine:
    """While it is entered, ``action`` runs once: before the n-th line of ``lmdb_log`` that runs,
    each line counted where it runs first.
    """

    def __init__(self, line: int, action: Callable[[], None]) -> None:
        self._number = line
        self._lines: set[int] = set()
        self._action = action
        self.was_reached = False

    def __enter__(self) -> AtLine:
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: Any, trace: TracebackType | None
    ) -> None:
        sys.settrace(self._before)

    def _trace(self, frame: FrameType, event: str, arg: object) -> Any:
        if frame.f_code.co_filename != lmdb_log.__file__ or self.was_reached:
            return None
        if event == "line":
            self._lines.add(frame.f_lineno)
            if len(self._lines) == self._number:
                self.was_reached = True
                sys.settrace(None)
                self._action()
        return self._trace


@pytest.mark.parametrize("number", [SHORT, ROTATING])
def test_a_writer_between_any_two_lines_of_the_opening(
    quick_path: Path, zombie: Child, number: int
) -> None:
    line, fenced = 0, 0
    while True:
        line += 1
        directory = quick_path / str(line)
        zombie.loses_its_lock(directory, 3)
        answers: list[tuple[str, int]] = []

        def act(answers: list[tuple[str, int]] = answers) -> None:
            answers.append(zombie.ask(f"append {number}"))

        with AtLine(line, act) as at:
            log = LmdbLog(directory, SMALL, epoch=2)
        if not at.was_reached:
            break
        ((word, head),) = answers
        # All of it before the epoch, or nothing after it.
        assert (word, head) in (("acked", 3 + number), ("fenced", 3))
        fenced += word == "fenced"
        assert log.head() == head
        for _ in range(ROTATING):
            log.append_at(log.head(), [entry(log.head())], 2)
        assert zombie.ask(f"append {ROTATING}") == ("fenced", head)
        assert is_whole(log)
        log.close()
        again = LmdbLog(directory, SMALL, epoch=3)
        assert again.head() == head + ROTATING
        assert is_whole(again)
        again.close()
    assert 0 < fenced < line > 30


@pytest.mark.parametrize(
    ("point", "is_in_time"),
    [
        ("log.before_put", False),
        ("log.before_commit", True),
        ("log.rotate.segment_made", True),
        ("log.rotate.manifest_aside", True),
        ("log.rotate.manifest_renamed", False),
    ],
)
def test_a_writer_that_halts_within_its_append(
    quick_path: Path, zombie: Child, successor: Child, point: str, is_in_time: bool
) -> None:
    """What it is doing when the opening comes is done or fenced out, never half."""
    zombie.loses_its_lock(quick_path, 3)
    zombie.tell(f"append {ROTATING} {point}")
    assert zombie.hear() == ("at", point)
    successor.tell(f"open {quick_path} 2")
    if is_in_time:
        assert successor.is_silent(0.2), "it waits for a transaction that is open"
    else:
        _, found = successor.hear()  # and for nothing else
    zombie.tell("go on")
    word, head = zombie.hear()
    if is_in_time:
        assert successor.hear() == ("acked", head)
    else:
        assert (word, head) == ("fenced", found)
    assert successor.ask(f"append {ROTATING}") == ("acked", int(head) + ROTATING)
    assert zombie.ask(f"append {ROTATING}") == ("fenced", int(head))
    assert successor.ask("check 0") == ("whole", int(head) + ROTATING)
