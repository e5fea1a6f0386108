"""The courier over real partitions, called in this process, where a try can be lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event, current_thread, main_thread

import pytest

from tests.model.hub import BASE
from tests.model.test_repairs_model import Way
from tests.unit.driver.files.test_file_load import World
from tests.waiting import PATIENCE_S


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    opened = World(tmp_path / "store")
    yield opened
    opened.close()


@pytest.mark.parametrize("fate", ["lost before", "lost after"])
def test_rows_that_are_offered_again_count_once_though_a_try_is_lost(
    world: World, fate: str
) -> None:
    """What is sent again for want of an answer gets its own answer, not that of the same rows'
    first submission, which somebody had already."""
    rows = [{"who": "abc"[n % 3], "at": BASE, "n": n} for n in range(9)]
    assert world.sender.submit("calls", rows, "p", 0, later=False).result().accepted == 9
    calls: list[str] = []

    def before(way: Way, method: str) -> str:
        calls.append(method)
        return fate if method == "submit" and calls.count("submit") <= 2 else ""

    for way in world.link.partitions:
        assert isinstance(way, Way)
        way.before = before
    again = world.sender.submit("calls", rows, "p", 0, later=False).result()
    assert calls.count("submit") == 4
    assert (again.accepted, again.duplicate) == (0, 9)
    more = [{"who": "abc"[n % 3], "at": BASE, "n": n} for n in range(9, 18)]
    calls.clear()
    assert world.sender.submit("calls", more, "p", 9, later=False).result().accepted == 9


@pytest.mark.parametrize("producer", ["p", None], ids=["named", "anonymous"])
def test_a_gap_that_was_answered_before_the_resend_is_asked_again(
    world: World, producer: str | None
) -> None:
    """The answer is older than what fills the gap: it says nothing when it is read."""
    both_sent = Event()
    lost: list[str] = []

    def fate(way: Way, method: str) -> str:
        if method != "submit":
            return ""
        if current_thread() is not main_thread():
            both_sent.wait(PATIENCE_S)
        elif way.name not in lost:
            lost.append(way.name)
            return "lost before"
        return ""

    for way in world.link.partitions:
        assert isinstance(way, Way)
        way.before = fate
    rows = [[{"who": "abc"[n % 3], "at": BASE, "n": n} for n in range(k, k + 9)] for k in (0, 9)]
    first, second = (
        world.sender.submit("calls", some, producer, None if producer is None else k, later=True)
        for k, some in zip((0, 9), rows, strict=True)
    )
    both_sent.set()
    assert (first.result(PATIENCE_S).accepted, second.result(PATIENCE_S).accepted) == (9, 9)
    assert world.stored() == list(range(18))
