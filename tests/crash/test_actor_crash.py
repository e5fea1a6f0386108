"""Partition and coordinator actors are killed with SIGKILL, under load and at named points.

What was acknowledged must be there exactly once, drivers in flight must not notice, and the answers
after a reopening must be those before it. SIGKILL does not lose the page cache: this says nothing
about power loss.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import profile_actors as pf
from profile_actors.actors.comeback import REST_S
from profile_actors.storage.files.atomic_files import CRASH_POINTS
from profile_actors.storage.files.layout import reset_derived
from tests.cluster.shop import DAY, START, answers, orders, ray_runtime, shop
from tests.waiting import until

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_runtime")]
__all__ = ["ray_runtime"]

ROWS = 2000
BATCH = 50


class KillOnce:
    """A hook that kills its process at the nth passing of a point, once in all."""

    def __init__(self, point: str, nth: int, mark: Path) -> None:
        self.point = point
        self.nth = nth
        self.mark = str(mark)
        self.passed = 0

    def __call__(self, point: str) -> None:
        if point != self.point:
            return
        self.passed += 1
        if self.passed >= self.nth:
            try:
                with open(self.mark, "x") as file:
                    os.fsync(file.fileno())
            except FileExistsError:  # another partition was first, maybe at this very moment
                return
            os.kill(os.getpid(), signal.SIGKILL)


def drive(store: pf.Store, rows: int = ROWS) -> list[pf.Receipt]:
    """Send everything in pipelined batches; the receipts, in order."""
    pending = [
        store.submit_async("orders", orders(BATCH, first=first)) for first in range(0, rows, BATCH)
    ]
    return [future.result() for future in pending]


def check_exactly_once(store: pf.Store, receipts: list[pf.Receipt], rows: int = ROWS) -> None:
    """Every row was accepted once, is in its profile once, and the fold agrees with the log."""
    assert [r.accepted for r in receipts] == [BATCH] * (rows // BATCH)
    assert sum(r.duplicate for r in receipts) == 0
    assert store.status().events == rows
    wanted = orders(rows)
    found = store.profiles([("CRMID", f"c{n:04}") for n in range(50)])
    for number, profile in enumerate(found):
        assert profile is not None
        assert profile.computed["orders"] == rows // 50
        assert profile.computed["spent"] == sum(row["price"] for row in wanted[number::50])
    seen = [event["_id"] for event in store.events("CRMID", "c0007", limit=1000).events]
    assert seen == [row["_id"] for row in wanted[7::50]]
    assert store.verify() == []


POINTS = [point for point in CRASH_POINTS if not point.startswith("log.rotate")]


@pytest.mark.parametrize(
    "point",
    ["writer.before_reply", *(pytest.param(p, marks=pytest.mark.slow) for p in POINTS)],
)
def test_a_kill_at_a_named_point_goes_unnoticed(tmp_path: Path, point: str) -> None:
    mark = tmp_path / "killed"
    config = pf.Config(checkpoint_rows=300, max_entry_rows=200)
    hook = KillOnce(point, 1 if point == "log.named" else 2, mark)
    with pf.start(tmp_path / "s", 1, "event", config, hook=hook) as store:
        store.apply(*shop())
        receipts = drive(store)
        check_exactly_once(store, receipts)
        assert mark.exists(), f"the point {point} was never reached"
        before = answers(store)
    with pf.start(tmp_path / "s") as store:
        assert answers(store) == before


@pytest.mark.parametrize(
    "point",
    ["partition.before_switch"]
    + [pytest.param(p, marks=pytest.mark.slow) for p in ("log.before_commit", "log.after_commit")],
)
def test_a_kill_during_a_back_fill_goes_unnoticed(tmp_path: Path, point: str) -> None:
    hook = KillOnce(point, 2 if point == "partition.before_switch" else 20, tmp_path / "killed")
    config = pf.Config(max_entry_rows=200)
    with pf.start(tmp_path / "s", 1, "event", config, hook=hook) as store:
        store.apply(*shop())
        receipts = [store.submit("orders", orders(BATCH, first=n)) for n in range(0, 900, BATCH)]
        many = pf.SegmentDefinition("many", "xEvent.count() >= 18")
        store.apply(many)
        assert (tmp_path / "killed").exists(), f"the point {point} was never reached"
        assert store.members("many").count() == 50
        assert sum(receipt.accepted for receipt in receipts) == 900
        assert store.verify() == []
        changes = [c for c in store.changes() if c.name == "many"]
        assert {c.cause for c in changes} == {"definition"}
        assert len(changes) == 50


@contextmanager
def killer(pids: list[int], seed: int) -> Iterator[list[int]]:
    """Kill one of the processes at a random moment, again and again; yields the kills so far."""
    chance = random.Random(seed)
    kills: list[int] = []
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(chance.uniform(0.05, 0.6)):
            pid = chance.choice(pids)
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            kills.append(pid)
            pids.remove(pid)
            if not pids:
                return

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield kills
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize(
    ("seed", "rounds"),
    [(0, 1), *(pytest.param(n, 3, marks=pytest.mark.slow) for n in (1, 2, 3))],
)
def test_kills_at_any_moment_under_load(tmp_path: Path, seed: int, rounds: int) -> None:
    config = pf.Config(checkpoint_rows=500)
    with pf.start(tmp_path / "s", 2, "event", config) as store:
        store.apply(*shop())
        receipts: list[pf.Receipt] = []
        killed = 0
        for round_number in range(rounds):
            pids = [actor.pid for actor in store.status().partitions]
            with killer(pids, seed * 10 + round_number) as kills:
                first = round_number * ROWS
                while not kills or len(receipts) * BATCH < first + ROWS:
                    start = len(receipts) * BATCH
                    pending = [
                        store.submit_async("orders", orders(BATCH, first=start + n * BATCH))
                        for n in range(20)
                    ]
                    receipts += [future.result() for future in pending]
            killed += len(kills)
        assert killed >= rounds
        check_exactly_once(store, receipts, len(receipts) * BATCH)
        before = answers(store)
    with pf.start(tmp_path / "s") as store:
        assert answers(store) == before


@pytest.mark.slow
def test_reads_and_clock_moves_survive_kills(tmp_path: Path) -> None:
    with pf.start(tmp_path / "s", 1, "event") as store:
        store.apply(*shop())
        store.submit("orders", orders(500))
        before = answers(store)
        for actor in store.status().partitions:
            os.kill(actor.pid, signal.SIGKILL)
        assert answers(store) == before
        for actor in store.status().partitions:
            os.kill(actor.pid, signal.SIGKILL)
        store.advance_to(START + 8 * DAY)
        assert store.members("fresh").count() == 0
        for actor in store.status().partitions:
            os.kill(actor.pid, signal.SIGKILL)
        store.apply(pf.SegmentDefinition("many", "xEvent.count() >= 10"))
        assert store.members("many").count() == 50


def test_a_killed_coordinator_comes_back(tmp_path: Path) -> None:
    import ray

    with pf.start(tmp_path / "s", 1, "event") as store:
        store.apply(*shop())
        coordinator = store._placement.coordinator
        os.kill(ray.get(coordinator.handle.pid.remote()), signal.SIGKILL)
        bad = orders(10)
        bad[2]["price"] = -5.0
        assert store.submit("orders", bad).rejected_count == 1
        os.kill(coordinator.call("pid"), signal.SIGKILL)
        assert store.apply(pf.SegmentDefinition("many", "xEvent.count() >= 10")) == 2
        assert [row.row for row in store.quarantine("orders")] == [2]
        for actor in store.status().partitions:
            os.kill(actor.pid, signal.SIGKILL)
        assert store.status().events == 9


DRIVER = """
import sys
import profile_actors as pf
from tests.cluster.shop import orders, shop

if __name__ == "__main__":
    with pf.start(sys.argv[1], 2, "event") as store:
        store.apply(*shop())
        rows = orders(100_000)
        print("ready", flush=True)
        for first in range(0, len(rows), 50):
            store.submit_async("orders", rows[first : first + 50], producer="p", offset=first)
"""


@pytest.mark.slow
def test_a_killed_driver_resumes_at_its_cursor(tmp_path: Path) -> None:
    """A driver is killed, with its Ray, in the middle of a stream; the next one goes on."""
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path / "s")],
        cwd=Path(__file__).resolve().parents[2],
        stdout=subprocess.PIPE,
    )
    with driver:
        assert driver.stdout is not None
        assert b"ready" in driver.stdout.readline()
        time.sleep(1.0)
        driver.kill()
    with pf.start(tmp_path / "s") as store:
        cursor = store.cursor("p")
        assert 0 < cursor < 100_000
        assert cursor % 50 == 0
        rows = orders(cursor + 1000)
        receipt = store.submit("orders", rows[cursor:], producer="p", offset=cursor)
        assert receipt.accepted + receipt.duplicate == 1000
        assert store.status().events == cursor + 1000
        for number in (0, 17, 49):
            profile = store.profile("CRMID", f"c{number:04}")
            assert profile is not None
            assert profile.computed["orders"] == len(rows[number::50])
        assert store.verify() == []


def test_deleted_derived_files_change_no_answer(tmp_path: Path) -> None:
    config = pf.Config(checkpoint_rows=300)
    with pf.start(tmp_path / "s", 1, "event", config) as store:
        store.apply(*shop())
        for first in range(0, 3000, 100):
            store.submit("orders", orders(100, first=first))
        store.advance_to(START + 8 * DAY)
        before = answers(store)
    assert list(tmp_path.rglob("checkpoint-*")), "the test needs a checkpoint to delete"
    reset_derived(tmp_path / "s" / "partitions" / "0")
    with pf.start(tmp_path / "s") as store:
        assert answers(store) == before


def test_a_flipped_byte_is_named_and_never_served(tmp_path: Path) -> None:
    with pf.start(tmp_path / "s", 1, "event") as store:
        store.apply(*shop())
        for first in range(0, 1000, 100):
            store.submit("orders", orders(100, first=first))
    reset_derived(tmp_path / "s" / "partitions" / "0")
    (data,) = (tmp_path / "s" / "partitions" / "0" / "log").rglob("data.mdb")
    content = bytearray(data.read_bytes())
    at = content.find(b"o555")
    assert at > 0
    content[at] ^= 0x10
    data.write_bytes(content)
    with pytest.raises(pf.CorruptLog, match=r"data\.mdb"):
        pf.start(tmp_path / "s")


def test_a_killed_actor_is_back_soon(tmp_path: Path) -> None:
    """No pauses add up: it takes no longer than a store takes to open, on the same machine. One
    time of several, since it may be busy with something else for a while."""
    began = time.monotonic()
    with pf.start(tmp_path / "s", 1, "wall") as store:
        opened_s, back_s = time.monotonic() - began, list[float]()
        store.apply(*shop())
        store.submit("orders", orders(100))
        while not back_s or (min(back_s) >= 3 * opened_s and len(back_s) < 8):
            os.kill(store.status().partitions[0].pid, signal.SIGKILL)
            began = time.monotonic()
            assert store.profile("CRMID", "c0001") is not None
            assert store.profile("CRMID", "c0002") is not None
            back_s.append(time.monotonic() - began)
        assert min(back_s) < 3 * opened_s, back_s


def test_a_partition_that_could_not_write_goes_on_when_it_can(tmp_path: Path) -> None:
    """A limit that no free bytes tell of, as a quota is: on the size of the log's file."""
    with pf.start(tmp_path / "s", 1, "event") as store:
        store.apply(*shop())
        store.submit("orders", orders(100))
        pid = store.status().partitions[0].pid
        (data,) = (tmp_path / "s" / "partitions" / "0" / "log").rglob("data.mdb")
        limit = data.stat().st_size + (1 << 14)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        sent = 100

        def fill() -> None:
            nonlocal sent
            for sent in range(100, 5000, 100):
                store.submit("orders", orders(100, first=sent))

        with pytest.raises(pf.StorageFull, match="goes on by itself when there is room"):
            fill()
        assert store.profile("CRMID", "c0001") is not None
        assert "StorageFull" in store.status().partitions[0].halted
        time.sleep(REST_S + 1.5)  # the limit still holds: nothing is tried for good
        assert store.status().partitions[0].pid == pid
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        until(lambda: not store.status().partitions[0].halted)
        receipt = store.submit("orders", orders(100, first=sent))
        assert receipt.accepted + receipt.duplicate == 100  # what was cut off may have been kept
        assert store.status().events == sent + 100
        assert store.verify() == []
