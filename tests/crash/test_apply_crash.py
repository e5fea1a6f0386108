"""SIGKILL at each step of ``apply``: either nothing was applied, or everything is.

The coordinator dies before and after the catalogue's commit, partitions during the back-fill and
before and after each step of putting the rules in place, the driver between them; alone, and all
at one moment. Whatever happened, the store answers like one that applied once and was never killed,
the same ``apply`` again changes nothing, and nothing is pending. SIGKILL does not lose the page
cache: this says nothing about power loss.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import profile_actors as pf
from tests.cluster.shop import answers, orders, ray_runtime, shop

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_runtime")]
__all__ = ["ray_runtime"]

ROWS = 900
CONFIG = pf.Config(max_entry_rows=200)
POINTS = [
    "catalogue.before_commit",
    "catalogue.after_commit",
    "partition.between_steps",
    "partition.before_switch",
    "log.before_put",
    "log.before_commit",
    "log.after_commit",
    "feed.after_append",
    "partition.after_switch",
]
DRIVERS = ["driver.before_tell", "driver.between_partitions", "driver.after_define"]
SHORT = ["catalogue.after_commit", "log.before_commit"]
"""What a test of every day kills: the catalogue has it and no partition was told; one was told."""


class KillWhenArmed:
    """A hook that kills its process, and whoever else the order names, at the point ordered."""

    def __init__(self, order: Path) -> None:
        self.order = str(order)

    def __call__(self, point: str) -> None:
        try:
            wanted, *others = Path(self.order).read_text().split()
            if wanted != point:
                return
            os.unlink(self.order)
        except (FileNotFoundError, ValueError):  # no order, or another process was first
            return
        for pid in [*map(int, others), os.getpid()]:
            os.kill(pid, signal.SIGKILL)


def arm(order: Path, point: str, *others: int) -> None:
    aside = order.with_suffix(".aside")
    aside.write_text(" ".join([point, *map(str, others)]))
    aside.rename(order)


def rules(number: int) -> list[pf.Definition]:
    """A segment and an attribute kept by increments, and a segment evaluated profile by profile."""
    return [
        pf.SegmentDefinition(f"many{number}", f"xEvent.count() >= {10 + number}"),
        pf.ComputedAttribute(f"dear{number}", f"xEvent[price > {number % 7}].count()"),
        pf.SegmentDefinition(
            f"pair{number}",
            f"exists A from xEvent, B from xEvent where B.price > A.price + {number % 6}",
        ),
    ]


def told(store: pf.Store) -> dict[str, Any]:
    """All that a reader can ask, and whom the rules applied here let in."""
    names = list(store.definitions().segments)
    out = answers(store)
    out["members"] = {name: sorted(store.members(name)) for name in names}
    # Which of two partitions is told of first is no answer; the order within one is.
    changes = [
        (c.partition, c.identity, c.name, c.kind, c.old, c.new, c.at, c.cause)
        for c in store.changes()
    ]
    out["changes"] = sorted(changes, key=lambda change: change[0])
    return out


def check_applied(store: pf.Store, number: int, version: int) -> None:
    """Everything is applied, once; again it changes nothing; nothing is pending."""
    assert store.apply(*rules(number)) == version
    assert store.definitions().version == version
    status = store.status()
    taken = [actor.partition and actor.partition.catalogue for actor in status.partitions]
    assert taken == [version] * 2
    assert [actor.halted for actor in status.partitions] == [""] * 2
    assert store.verify() == []
    assert store.apply(*rules(number)) == version


def load(store: pf.Store) -> int:
    version = store.apply(*shop())
    for first in range(0, ROWS, 100):
        store.submit("orders", orders(100, first=first))
    return version


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "points", [pytest.param(SHORT, id="commits"), pytest.param(POINTS, id="all",
    marks=pytest.mark.slow)]
)  # fmt: skip
def test_a_kill_in_apply_goes_unnoticed(tmp_path: Path, points: list[str]) -> None:
    """One store is killed at another point in each ``apply``; one beside it never is."""
    order = tmp_path / "order"
    hook = KillWhenArmed(order)
    with (
        pf.start(tmp_path / "s", 2, "event", CONFIG, hook=hook) as store,
        pf.start(tmp_path / "beside", 2, "event", CONFIG) as beside,
    ):
        version = load(store)
        load(beside)
        for number, point in enumerate(points):
            arm(order, point)
            version += 1
            assert store.apply(*rules(number)) == version, point
            assert not order.exists(), f"the point {point} was never reached"
            check_applied(store, number, version)
            beside.apply(*rules(number))
        before = told(store)
        assert before == told(beside)
    with pf.start(tmp_path / "s") as store:
        assert told(store) == before
        check_applied(store, len(points) - 1, version)


DRIVER = """
import os, signal, sys
from pathlib import Path
import profile_actors as pf
from profile_actors.driver import definition_edits
from tests.crash import test_apply_crash as test

if __name__ == "__main__":
    folder, point, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    tell, call_all = definition_edits.tell, definition_edits.call_all

    def die(*args, **options):
        os.kill(os.getpid(), signal.SIGKILL)

    def die_after_define(partitions, name, *args, **options):
        if name != "define":
            return call_all(partitions, name, *args, **options)
        call_all(partitions[:1], name, *args, **options)
        die()

    hook = test.KillWhenArmed(folder / "order")
    with pf.start(folder / "s", config=test.CONFIG, hook=hook) as store:
        if point == "driver.before_tell":
            pf.client.tell = die
        elif point == "driver.between_partitions":
            definition_edits.call_all = die_after_define
        elif point == "driver.after_define":
            definition_edits.call_all = lambda *a, **o: (call_all(*a, **o), die())
        else:
            test.arm(folder / "order", point, os.getpid())
        store.apply(*test.rules(number))
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "points", [DRIVERS, POINTS[:4], POINTS[4:]], ids=["driver", "first", "last"]
)
def test_driver_and_actors_die_together_in_apply(tmp_path: Path, points: list[str]) -> None:
    """Nobody is left to go on: the next start finds nothing applied, or goes on by itself."""
    with pf.start(tmp_path / "s", 2, "event", CONFIG) as store:
        version = load(store)
    with pf.start(tmp_path / "beside", 2, "event", CONFIG) as beside:
        load(beside)
        for number, point in enumerate(points):
            env = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
            driver = subprocess.run(
                [sys.executable, "-c", DRIVER, str(tmp_path), point, str(number)],
                cwd=Path(__file__).resolve().parents[2],
                env=env,
                check=False,
                capture_output=True,
                text=True,
            )
            assert driver.returncode == -signal.SIGKILL, (point, driver.stderr)
            before_commit = point == "catalogue.before_commit"
            beside.apply(*rules(number))
            with pf.start(tmp_path / "s") as store:
                found = store.definitions().version
                assert found == version if before_commit else found in (version, version + 1)
                if not before_commit:
                    assert store._placement.coordinator.call("catalogue").version == version + 1
                version += 1
                check_applied(store, number, version)
                assert told(store) == told(beside), point
