"""Partitions are killed in the midst of slices of one instant's work, on the wall clock.

Everybody leaves at one instant, in slices of some profiles each; rows come all the while. After the
kill the slices go on by themselves, and each change is told once, at its own instant.
"""

from __future__ import annotations

import inspect
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

import profile_actors as pf
from profile_actors.storage.files.layout import reset_derived
from tests.cluster.shop import DAY, order, ray_runtime, shop
from tests.waiting import PATIENCE_S, until, wall_ms

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_runtime")]
__all__ = ["ray_runtime"]

PEOPLE = 600
WEEK = "timestamp occurs <= 7 days before now"
RULES = [
    pf.SegmentDefinition("silent", "xEvent.max(timestamp) occurs > 7 days before now"),
    pf.SegmentDefinition(
        "pair", f"exists A from xEvent[{WEEK}], B from xEvent[{WEEK}] where B.sku = A.sku"
    ),
]


class KillInSlices:
    """A hook that makes slices small, and kills its process when a slice passes a point for the nth
    time, once in all."""

    def __init__(self, point: str, nth: int, folder: Path) -> None:
        self.point = point
        self.nth = nth
        self.folder = str(folder)
        self.passed = 0

    def __call__(self, point: str) -> None:
        from profile_actors.engine.partition import clock_steps as drains

        drains.FEWEST_SLOTS = 8
        if point != self.point:
            return
        if not any(frame.function == "_write_slice" for frame in inspect.stack(0)):
            return
        self.passed += 1
        if self.passed >= self.nth:
            try:
                with open(Path(self.folder, "killed"), "x") as file:
                    os.fsync(file.fileno())
            except FileExistsError:
                return
            os.kill(os.getpid(), signal.SIGKILL)


def left(store: pf.Store) -> bool:
    try:
        return store.members("fresh").count() == 0
    except pf.Pending:
        return False


def told(store: pf.Store) -> dict[tuple[str, str, int], list[tuple[int, str, str]]]:
    """Membership changes of each person, in order."""
    out: dict[tuple[str, str, int], list[tuple[int, str, str]]] = {}

    def whole() -> list[pf.Change]:
        with suppress(pf.Pending):  # what is evaluated profile by profile comes last
            return list(store.changes())
        return []

    for c in until(whole):
        if c.kind == "membership":
            key = (c.name, c.identity.value, c.partition)
            out.setdefault(key, []).append((c.at, c.new, c.cause))
    return out


def check(store: pf.Store, gone: int) -> None:
    """Each of the people left both windows, and fell silent, once, at that very instant."""
    changes = told(store)
    for name, first, then in (
        ("fresh", "realized", "exited"),
        ("pair", "realized", "exited"),
        ("silent", "", "realized"),
    ):
        mine = {who: line for (of, who, _), line in changes.items() if of == name and who[0] == "c"}
        assert len(mine) == PEOPLE, name
        for line in mine.values():
            assert [new for _, new, _ in line] == [new for new in (first, then) if new], (
                name,
                line,
            )
            assert line[-1] == (gone, then, "clock"), (name, line)
    assert store.verify() == []


@pytest.mark.parametrize(
    ("point", "nth", "derived"),
    [
        ("log.before_commit", 4, True),
        pytest.param("log.after_commit", 7, False, marks=pytest.mark.slow),
    ],
)
def test_slices_go_on_after_a_kill(tmp_path: Path, point: str, nth: int, derived: bool) -> None:
    for lead_ms in (6_000, 60_000):
        if slices_go_on(tmp_path / str(lead_ms), lead_ms, point, nth, derived):
            return
    raise AssertionError("it took more than a minute to send the rows")


def slices_go_on(place: Path, lead_ms: int, point: str, nth: int, derived: bool) -> bool:
    """False if the instant was there before everybody was: this machine needs more time."""
    config = pf.Config(max_due_rows=40, max_tick_ms=20)
    hook = KillInSlices(point, nth, place)
    with pf.start(place / "s", 1, "wall", config, hook=hook) as store:
        store.apply(*shop(), *RULES)
        at = wall_ms() - 7 * DAY + lead_ms
        gone = at + 7 * DAY + 1
        store.submit("orders", [order(n, n, at) for n in range(PEOPLE)])
        count = store.members("fresh").count()
        if wall_ms() >= gone:
            return False
        assert count == PEOPLE
        sent, deadline = 0, time.monotonic() + lead_ms / 1_000 + PATIENCE_S
        while not left(store):
            late = order(10_000 + sent, 0, at - 30 * DAY) | {"customer": f"x{sent % 7}"}
            assert store.submit("orders", [late]).accepted == 1
            sent += 1
            assert time.monotonic() < deadline
        assert (place / "killed").exists(), f"the point {point} was never reached"
        check(store, gone)
        before = told(store)
        assert store.status().events == PEOPLE + sent
    if not derived:
        reset_derived(place / "s" / "partitions" / "0")
    with pf.start(place / "s") as store:
        assert told(store) == before
        assert left(store)
        check(store, gone)
    return True
