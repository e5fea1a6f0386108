"""Clock work in slices, and what may come in its midst: rows, failures, reopenings, verification.

Twelve people of one event each, so that all is due at the same instants, two of them per slice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest

from profile_actors.actors.writer import Writer
from profile_actors.config import Config
from profile_actors.definitions.catalogue_changes import extended
from profile_actors.definitions.declared import ComputedAttribute, SegmentDefinition
from profile_actors.engine.histories import kept_events
from profile_actors.engine.log.in_memory import MemoryCheckpoints, MemoryFeed, MemoryLog
from profile_actors.engine.log.sub_batch import SubBatch
from profile_actors.engine.operators.extremes import Extreme
from profile_actors.engine.partition import clock_steps
from profile_actors.engine.partition.partition import Partition
from profile_actors.engine.reading import verification
from profile_actors.engine.reading.answers import Change
from profile_actors.errors import Pending
from profile_actors.ingest.door import Door
from tests.model.hub import BASE, CATALOGUE, DAY, HOUR, SEED, Rows
from tests.waiting import until

PEOPLE = [f"w{n:02}" for n in range(12)]
FAR = BASE + 10 * DAY
SEGMENTS = {
    "two": "xEvent[timestamp occurs <= 2 days before now].count() > 0",
    "least": "xEvent[timestamp occurs <= 1 day before now].min(n) > 0",
    "pair": 'exists A from xEvent[eventType = "buy"], B from'
    " xEvent[timestamp occurs <= 2 days before now]"
    ' where B.eventType = "view" and B.place = A.place',
    # Its count goes and its time comes at one instant: nobody is ever in.
    "never": "xEvent[timestamp occurs <= 2 days before now].count() >"
    ' xEvent[eventType = "call"].count() and xEvent.max(timestamp) occurs > 2 days before now',
}
COMPUTED = {
    "sum": "xEvent[timestamp occurs <= 2 days before now].sum(x)",
    "top": "xEvent[timestamp occurs <= 2 days before now].topN(x, 1).sum(x)",
}


class Bench:
    """A partition of two due rows per step, and how to put rows in on the wall clock."""

    def __init__(self, limit: int = 2) -> None:
        self.config = Config(max_profiles=4096, max_ahead_ms=1 << 50, max_due_rows=limit)
        self.stores = (MemoryLog(), MemoryFeed(), MemoryCheckpoints())
        self.partition = Partition(*self.stores, self.config)
        self.catalogue = msgspec.structs.replace(
            CATALOGUE,
            segments={name: SegmentDefinition(name, rule) for name, rule in SEGMENTS.items()},
            computed={name: ComputedAttribute(name, rule) for name, rule in COMPUTED.items()},
        )
        self.partition.define(self.catalogue, BASE)
        self.sent = 0
        self.put(PEOPLE, BASE, BASE)
        self.put(PEOPLE, BASE, BASE, "view")

    def put(self, people: list[str], at: int, now: int | None, kind: str = "buy") -> None:
        """One entry: an event of each of them."""
        rows: Rows = [
            {"_id": f"{self.sent + i}", "who": who, "at": at, "kind": kind, "n": 1, "x": 1.0,
             "place": "oslo"}
            for i, who in enumerate(people)
        ]  # fmt: skip
        self.send(rows, now)

    def send(self, rows: Rows, now: int | None) -> None:
        door = Door(self.catalogue, "hits", SEED, self.config)
        table = door.prepare(rows, self.sent, FAR).table
        assert table is not None
        first, self.sent = self.sent, self.sent + len(rows)
        version = self.partition.catalogue.version
        batch = SubBatch("hits", "q", first, self.sent, version, None, table)
        reply = self.partition.commit([batch], now)[0]
        assert reply.status == "ok", reply

    def to_slices(self, past: int = BASE) -> None:
        """Let the wall clock's work go on until it is in the midst of slices, later than past."""
        for _ in range(1000):
            self.partition.tick(FAR)
            drain = self.partition.state.drain
            if drain is not None and drain.at > past and 0 < drain.next < drain.total - 4:
                return
            self.partition.work(1)
        raise AssertionError("never in the midst of slices")

    def finish(self) -> None:
        """Let all work of the wall clock be done."""
        for _ in range(1000):
            if self.partition.next_due() > FAR and not self.partition.work(1 << 10):
                return
            self.partition.tick(FAR)
            self.partition.work(1 << 10)
        raise AssertionError("the clock's work has no end")

    def reopened(self) -> Partition:
        """Another process opens the same log."""
        self.partition = Partition(*self.stores, self.config)
        return self.partition

    def lines(self) -> dict[tuple[str, str], list[Change]]:
        """Changes by segment and person."""
        out: dict[tuple[str, str], list[Change]] = {}
        for change in self.partition.changes(-1, 1 << 30)[0]:
            if change.kind == "membership":
                out.setdefault((change.name, change.identity.value), []).append(change)
        return out

    def check_look_ups(self) -> None:
        """Everybody's answers are the reference evaluator's."""
        state = self.partition.state
        slots = np.arange(state.directory.slots, dtype=np.uint32)
        for slot, profile in self.partition.reader.profiles_of(slots, state.now).items():
            assert (
                list(verification.reference_differences(state, self.stores[0], slot, profile)) == []
            )

    def check(self) -> None:
        """State, look-ups and feed are right."""
        assert list(verification.refold_differences(self.partition.state, self.stores[0])) == []
        self.check_look_ups()
        for key, line in self.lines().items():
            stands = [(c.old or "exited", c.new) for c in line]
            assert stands[0][0] == "exited", (key, line)
            assert all(a[1] == b[0] for a, b in pairwise(stands)), (key, line)
            by_clock = [c.at for c in line if c.cause == "clock"]
            assert len(by_clock) == len(set(by_clock)), f"twice at one instant: {key} {line}"
            assert [c.at for c in line] == sorted(c.at for c in line), (key, line)


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock_steps, "FEWEST_SLOTS", 2)
    monkeypatch.setattr(kept_events, "MIN_ROWS", 2)


@pytest.mark.parametrize("past", [BASE, BASE + DAY, BASE + 2 * DAY])
def test_rows_in_the_midst_leave_to_others_what_they_are_owed(past: int) -> None:
    bench = Bench()
    bench.to_slices(past)
    before = {key: list(line) for key, line in bench.lines().items()}
    for who in (PEOPLE[-1], PEOPLE[0], PEOPLE[-1], "new one"):
        bench.put([who], BASE + HOUR, FAR)  # late, of one who is owed, done, early, or unknown
        bench.check_look_ups()
    for _ in range(30):  # so many that the kept events are packed, without what has gone
        bench.put([PEOPLE[0]], BASE + HOUR, FAR)
    mine = {PEOPLE[-1], PEOPLE[0], "new one"}
    moved = {who for (name, who), line in bench.lines().items() if line != before.get((name, who))}
    assert moved <= mine, f"others moved by an entry without rows of theirs: {moved - mine}"
    assert bench.partition.state.drain is not None
    bench.finish()
    bench.check()
    assert not any(name == "never" for name, _ in bench.lines())
    for name in COMPUTED:
        marks = Counter(
            change.identity.value
            for change in bench.partition.changes(-1, 1 << 30)[0]
            if change.name == name and change.cause == "clock" and change.at >= BASE + 2 * DAY
        )
        assert marks.keys() >= set(PEOPLE), f"{name} goes to null, and is told"
        assert {marks[who] for who in PEOPLE[1:-1]} == {1}
    told = bench.lines()
    bench.reopened()
    bench.check()
    assert bench.lines() == told


class LockAfter:
    """The partition's lock, got only after the writer has done something once more."""

    def __init__(self, lock: Any, first: Callable[[], None]) -> None:
        self.lock = lock
        self.first: list[Callable[[], None]] = [first]

    def __enter__(self) -> None:
        if self.first:
            self.first.pop()()
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()


@pytest.mark.parametrize("ask", ["members", "count"])
def test_members_never_mix_two_instants(ask: str) -> None:
    """The writer comes to its first slice just before a reader gets the lock."""
    bench = Bench()
    lock: Any = LockAfter(bench.partition.lock, bench.to_slices)
    bench.partition.reader._lock = lock
    with pytest.raises(Pending, match="step by step"):
        getattr(bench.partition, ask)("two")
    assert not lock.first


def test_a_verification_in_the_midst_finds_nothing() -> None:
    bench = Bench()
    bench.to_slices()
    assert bench.partition.verify() == []


def test_a_definition_in_the_midst_goes_behind_what_is_owed() -> None:
    bench = Bench()
    bench.to_slices()
    more = SegmentDefinition("more", "xEvent[timestamp occurs <= 5 days before now].count() > 1")
    job = bench.partition.backfill(extended(bench.catalogue, [more]), lambda: True)
    bench.put([PEOPLE[-1]], BASE + HOUR, FAR)
    bench.partition.define(extended(bench.catalogue, [more]), FAR, job)
    assert bench.partition.state.drain is None
    bench.check()
    assert bench.partition.count("more") == 0
    told = bench.lines()
    bench.reopened()
    bench.check()
    assert bench.lines() == told


def test_a_checkpoint_waits_until_nobody_is_owed_anything() -> None:
    bench = Bench()
    bench.to_slices()
    assert bench.partition.checkpoint_job(force=True) is None
    bench.finish()
    job = bench.partition.checkpoint_job(force=True)
    assert job is not None
    job()
    told, position = bench.lines(), bench.partition.position
    assert bench.reopened().position == position
    bench.check()
    assert bench.lines() == told


@pytest.mark.parametrize("clock", ["event", "wall"])
def test_a_store_reopened_in_the_midst_goes_on_by_itself(clock: str) -> None:
    bench = Bench()
    bench.to_slices()
    partition = bench.reopened()
    at = partition.state.now
    with pytest.raises(Pending):
        partition.count("two")
    writer = Writer(partition, bench.config, clock=clock, wall=lambda: at)
    writer.start()
    try:
        until(lambda: partition.state.drain is None, "nobody goes on")
        assert partition.count("two") >= 0
    finally:
        writer.stop()
    bench.check()


@pytest.mark.parametrize("limit", [2, 1 << 20])
def test_what_failed_is_not_due_for_ever(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that folds no more leaves its rows in its lines: they must not keep the clock busy,
    writing one entry after the other."""
    sound = Extreme.fold

    def fold(self: Extreme, step: Any) -> Any:
        if step.rows is not None and any((v == 13).any() for v in step.rows.columns.values()):
            raise ZeroDivisionError("planted")
        return sound(self, step)

    monkeypatch.setattr(Extreme, "fold", fold)
    bench = Bench(limit)
    bench.send([{"_id": "bad", "who": "w00", "at": BASE, "kind": "buy", "n": 13}], BASE)
    assert set(bench.partition.state.book.pending) == {("segment", "least")}
    bench.finish()
    position = bench.partition.position
    bench.partition.tick(FAR + DAY)
    assert bench.partition.position == position, "an entry without anything to do"
    assert bench.partition.count("two") == 0
    with pytest.raises(Pending, match="planted"):
        bench.partition.count("least")
    told = bench.lines()
    bench.reopened()
    assert bench.lines() == told
