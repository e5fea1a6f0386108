"""The writer over a real partition in memory: order, group commit, bounds, clock, halting."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from profile_actors.actors import writer as writer_module
from profile_actors.actors.calls import Stopped
from profile_actors.actors.writer import Writer
from profile_actors.config import Config
from profile_actors.definitions.catalogue_changes import extended
from profile_actors.definitions.declared import (
    Catalogue,
    Dataset,
    Namespace,
    Schema,
    SegmentDefinition,
)
from profile_actors.engine.exchange import carried_rows
from profile_actors.engine.identity.mailbox import Post
from profile_actors.engine.identity.messages import CUT, LINK, Message, Named, Op
from profile_actors.engine.log.in_memory import MemoryCheckpoints, MemoryFeed, MemoryLog
from profile_actors.engine.log.ports import Buffer
from profile_actors.engine.log.sub_batch import Reply, SubBatch
from profile_actors.engine.partition.partition import Partition
from profile_actors.errors import ClockError, Halt, StorageFull
from profile_actors.ingest.door import Door
from profile_actors.storage.files.atomic_files import Room
from tests.waiting import PATIENCE_S, until

HOUR = 3_600_000
DAY = 24 * HOUR
START = 1_760_000_000_000
CATALOGUE = extended(
    Catalogue(),
    [
        Namespace("CRMID", kind="cross_device"),
        Schema("visit", behavior="event", fields={"x": "integer"}),
        Dataset("visits", schema="visit", identities={"who": "CRMID"}, timestamp="at"),
        SegmentDefinition("fresh", "xEvent[timestamp occurs <= 7 days before now].count() >= 1"),
    ],
)


class Wall:
    """A wall clock that a test moves."""

    def __init__(self, ms: int) -> None:
        self.ms = ms
        self.looks = 0

    def __call__(self) -> int:
        self.looks += 1
        return self.ms


class FullLog(MemoryLog):
    """A log on a disk that fills up when told."""

    is_full = False

    def append_at(self, position: int, parts: Sequence[Buffer], epoch: int) -> None:
        if self.is_full:
            raise StorageFull("expected room, got a full disk - at the test")
        super().append_at(position, parts, epoch)


class Bench:
    """A running writer, its partition, and a door for rows."""

    def __init__(
        self,
        clock: str = "event",
        config: Config | None = None,
        after: Bench | None = None,
        wall_ms: int = START,
    ) -> None:
        """after: go on with what it has written, as after a restart."""
        self.config = config or Config(max_profiles=1000, max_tick_ms=5)
        self.log: FullLog = FullLog() if after is None else after.log
        self.feed: MemoryFeed = MemoryFeed() if after is None else after.feed
        self.partition = Partition(
            self.log, self.feed, MemoryCheckpoints(), self.config, index=0, epoch=1,
            post=Post("0", lambda _: "0"),
        )  # fmt: skip
        if after is None:
            self.partition.define(CATALOGUE, wall_ms if clock == "wall" else None)
        self.wall = Wall(wall_ms)
        self.free = 1 << 40
        room = Room(Path("/data"), self.config.min_free_bytes, lambda path: self.free)
        self.writer = Writer(
            self.partition, self.config, clock=clock, wall=self.wall, room=room.lack
        )
        self.clock = clock
        self.door = Door(CATALOGUE, "visits", 1, self.config)
        self.replies: dict[int, Reply | BaseException] = {}
        self.threads: list[threading.Thread] = []

    def batch(self, first: int, rows: int = 1, producer: str = "p") -> SubBatch:
        """Rows [first, first + rows) of a producer, a customer each."""
        documents = [{"who": f"w{first + n}", "at": START, "x": 1} for n in range(rows)]
        prepared = self.door.prepare(documents, first, START)
        clock = START if self.clock == "event" else None
        return SubBatch(
            "visits", producer, first or None, first + rows, 1, clock=clock, table=prepared.table
        )

    def send(self, batch: SubBatch) -> None:
        """Submit on a thread of its own; the reply comes into ``replies`` by its first offset."""

        def run() -> None:
            try:
                self.replies[batch.after or 0] = self.writer.submit(batch)
            except BaseException as error:
                self.replies[batch.after or 0] = error

        queued = self.writer.queued()
        thread = threading.Thread(target=run)
        thread.start()
        self.threads.append(thread)
        until(lambda: self.writer.queued() != queued or bool(self.replies))

    def join(self) -> None:
        for thread in self.threads:
            thread.join(PATIENCE_S)


@contextmanager
def running(bench: Bench) -> Iterator[Bench]:
    bench.writer.start()
    try:
        yield bench
    finally:
        bench.writer.stop()


@contextmanager
def blocked(bench: Bench) -> Iterator[None]:
    """Hold the writer in control work, so that the queue fills."""
    entered, leave = threading.Event(), threading.Event()

    def work() -> None:
        entered.set()
        leave.wait(PATIENCE_S)

    thread = threading.Thread(target=bench.writer.run, args=(work,))
    thread.start()
    entered.wait(PATIENCE_S)
    try:
        yield
    finally:
        leave.set()
        thread.join(PATIENCE_S)


def test_what_waits_together_becomes_one_entry() -> None:
    with running(Bench("wall")) as bench:
        before = bench.partition.position
        with blocked(bench):
            for first in range(5):
                bench.send(bench.batch(first))
            bench.send(bench.batch(7, producer="q"))
        bench.join()
        assert bench.partition.position == before + 1
        assert bench.partition.status().events == 5
        ok = [r for r in bench.replies.values() if isinstance(r, Reply) and r.status == "ok"]
        assert len(ok) == 5


def test_entries_are_bounded_in_rows_and_batches() -> None:
    config = Config(max_profiles=1000, max_entry_rows=5, max_entry_batches=3)
    with running(Bench("wall", config)) as bench:
        before = bench.partition.position
        with blocked(bench):
            for n in range(4):
                bench.send(bench.batch(2 * n, rows=2))
        bench.join()
        assert bench.partition.position == before + 2
        assert bench.partition.status().events == 8


def test_entries_are_bounded_in_bytes() -> None:
    config = Config(max_profiles=1000, max_entry_bytes=1)
    with running(Bench("wall", config)) as bench:
        before = bench.partition.position
        with blocked(bench):
            for first in range(3):
                bench.send(bench.batch(first))
        bench.join()
        assert bench.partition.position == before + 3


@pytest.mark.parametrize("seed", range(3))
def test_entries_of_several_batches_on_the_event_clock_change_no_answer(seed: int) -> None:
    """In any order of arrival, and again from the log, which says where entries end."""
    told = []
    for most in (1, 4):
        config = Config(max_profiles=1000, max_event_entry_batches=most)
        with running(Bench("event", config)) as bench:
            before, producers = bench.partition.position, [f"p{n}" for n in range(10)]
            Random(seed).shuffle(producers)
            with blocked(bench):
                for producer in producers:
                    number = int(producer[1:])
                    one = bench.batch(number, producer=producer)
                    bench.send(replace(one, after=None, clock=START + number * HOUR))
            bench.join()
            wanted = 10 if most == 1 else 3
            assert bench.partition.position == before + wanted
            feed = bench.partition.changes(-1)[0]
            again = Partition(bench.log, MemoryFeed(), MemoryCheckpoints(), config)
            assert again.changes(-1)[0] == feed
            assert again.verify() == bench.writer.run(bench.partition.verify) == []
            told.append(sorted(one.value for one in again.members("fresh")[0]))
    assert told[0] == told[1] == sorted(f"w{n}" for n in range(10))


def test_on_the_event_clock_entries_do_not_depend_on_timing() -> None:
    with running(Bench("event")) as bench:
        before = bench.partition.position
        with blocked(bench):
            for first in range(3):
                bench.send(bench.batch(first))
        bench.join()
        assert bench.partition.position == before + 3


def test_a_producers_batches_are_put_in_order() -> None:
    with running(Bench()) as bench:
        with blocked(bench):
            for first in (3, 1, 2, 0):
                bench.send(bench.batch(first))
        bench.join()
        assert bench.partition.cursor("p") == 4
        assert {type(r) for r in bench.replies.values()} == {Reply}
        assert all(isinstance(r, Reply) and r.status == "ok" for r in bench.replies.values())


def test_a_gap_is_answered_after_a_short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "EARLY_WAIT_S", 0.02)
    with running(Bench()) as bench:
        reply = bench.writer.submit(bench.batch(5))
        assert (reply.status, reply.expected) == ("gap", 0)
        assert bench.writer.submit(bench.batch(0, rows=5)).status == "ok"
        assert bench.writer.submit(bench.batch(5)).status == "ok"


def test_a_full_queue_says_busy() -> None:
    config = Config(max_profiles=1000, max_queue_batches=2)
    with running(Bench(config=config)) as bench:
        with blocked(bench):
            bench.send(bench.batch(0))
            bench.send(bench.batch(1))
            assert bench.writer.submit(bench.batch(2)).status == "busy"
        bench.join()
        assert bench.writer.submit(bench.batch(2)).status == "ok"


def test_the_wall_clock_ticks_by_itself() -> None:
    with running(Bench("wall")) as bench:
        assert bench.writer.submit(bench.batch(0, rows=3)).status == "ok"
        assert bench.partition.count("fresh") == 3
        before = bench.partition.position
        bench.wall.ms += DAY // 2
        for _ in range(14):
            bench.wall.ms += DAY // 2
            seen = bench.wall.ms
            until(lambda: bench.writer.now() == seen)  # noqa: B023
            bench.writer.run(lambda: None)
        until(lambda: bench.partition.count("fresh") == 0)
        assert bench.partition.position == before + 1
        assert (bench.partition.now or 0) <= bench.wall.ms


def test_a_jump_of_the_wall_clock_expires_nobody() -> None:
    with running(Bench("wall")) as bench:
        bench.writer.submit(bench.batch(0, rows=3))
        now = bench.partition.now
        bench.wall.ms += 30 * DAY
        until(lambda: bench.writer.clock_error is not None)
        with pytest.raises(ClockError, match="jump"):
            bench.writer.submit(bench.batch(3))
        assert bench.partition.count("fresh") == 3
        assert bench.writer.now() == now
        bench.wall.ms = START + 1000
        until(lambda: bench.writer.clock_error is None)
        assert bench.writer.submit(bench.batch(3)).status == "ok"
        assert bench.partition.count("fresh") == 4


def test_time_never_goes_back() -> None:
    with running(Bench("wall")) as bench:
        bench.wall.ms += 5000
        bench.writer.submit(bench.batch(0))
        bench.wall.ms -= 3000
        bench.writer.submit(bench.batch(1))
        assert bench.partition.now == START + 5000
        assert bench.writer.now() == START + 5000


def told(bench: Bench) -> list[tuple[str, str | None, int]]:
    """The whole feed: who, what now, when."""
    changes, _ = bench.partition.changes()
    return [(change.identity.value, change.new, change.at) for change in changes]


def looks_in(bench: Bench, seconds: float) -> float:
    """How often a second the writer's loop looks at the clock meanwhile."""
    before, began = bench.wall.looks, time.monotonic()
    time.sleep(seconds)
    return (bench.wall.looks - before) / (time.monotonic() - began)


EXPIRY = START + 7 * DAY + 1
RARELY = Config(max_profiles=1000, max_tick_ms=50)


@pytest.mark.parametrize("jump", [-HOUR, -2 * DAY, -10 * 365 * DAY, 2 * DAY, 30 * DAY])
@pytest.mark.parametrize("before", [3 * DAY, EXPIRY - START - 1000])
def test_a_wall_clock_that_jumps_makes_nobody_busy_and_time_goes_on(jump: int, before: int) -> None:
    with running(Bench("wall", RARELY)) as bench:
        bench.writer.submit(bench.batch(0, rows=3))
        for _ in range(0, before, DAY // 2):  # a clock that just goes, half a day at a time
            bench.wall.ms = min(bench.wall.ms + DAY // 2, START + before)
            bench.writer.run(lambda: None)
        position, at = bench.partition.position, bench.wall.ms
        bench.wall.ms = at + jump
        assert looks_in(bench, 0.3) < 600  # twenty rounds of the loop; one that spins: thousands
        assert bench.partition.position == position  # nothing was due by itself
        assert bench.partition.count("fresh") == 3
        assert (bench.writer.now() or 0) >= (bench.partition.now or 0)
        bench.wall.ms = at
        until(lambda: bench.writer.clock_error is None)
        while bench.wall.ms < EXPIRY:
            bench.wall.ms = min(bench.wall.ms + DAY // 2, EXPIRY)
            bench.writer.run(lambda: None)
        until(lambda: bench.partition.count("fresh") == 0)
        assert sorted(told(bench)) == sorted(
            (f"w{n}", new, when)
            for n in range(3)
            for new, when in (("realized", START), ("exited", EXPIRY))
        )


def test_rows_that_come_while_the_clock_is_behind_count_once_and_at_the_logged_instant() -> None:
    with running(Bench("wall", RARELY)) as bench:
        bench.wall.ms = START + HOUR
        bench.writer.submit(bench.batch(0))
        bench.wall.ms = START
        for first in range(1, 4):
            assert bench.writer.submit(bench.batch(first)).status == "ok"
        assert bench.partition.now == START + HOUR
        assert looks_in(bench, 0.3) < 600
        assert [when for _, _, when in told(bench)] == [START + HOUR] * 4
        bench.wall.ms = START + 2 * HOUR
        bench.writer.submit(bench.batch(4))
        assert bench.partition.now == START + 2 * HOUR


@pytest.mark.parametrize("jump", [-HOUR, -2 * DAY, 0, 2 * DAY, 30 * DAY])
def test_a_clock_that_jumps_between_two_runs_expires_nobody_twice(jump: int) -> None:
    first = Bench("wall", RARELY)
    with running(first):
        first.writer.submit(first.batch(0, rows=3))
        for _ in range(13):
            first.wall.ms += DAY // 2
            first.writer.run(lambda: None)
        first.writer.submit(first.batch(3))
    closed = first.wall.ms
    again = Bench("wall", RARELY, after=first, wall_ms=closed + jump)
    assert again.partition.now == closed
    with running(again):
        assert again.writer.clock_error is None  # a restart accepts the time that it finds
        due = closed + jump >= EXPIRY
        until(lambda: again.partition.count("fresh") == (0 if due else 4))
        assert again.writer.now() == max(closed, closed + jump)
        assert looks_in(again, 0.3) < 600
    # The next run has the right time again, and later all has run out: once each.
    with running(Bench("wall", RARELY, after=first, wall_ms=EXPIRY + DAY)) as last:
        until(lambda: last.partition.count("fresh") == 0)
        exits = [(who, when) for who, new, when in told(last) if new == "exited"]
        assert sorted(exits) == [(f"w{n}", EXPIRY) for n in range(4)]
        assert last.partition.verify() == []


def test_messages_go_into_the_next_entry_however_full_the_queue_is() -> None:
    bench = Bench(config=Config(max_profiles=1000, max_tick_ms=5, max_queue_batches=1))
    told: list[int] = []

    def deliver() -> None:
        ops = (Op(CUT, Named(1, 2, "CRMID", "w0"), version=START),)
        told.append(bench.writer.deliver([Message("1", 1, START, 0)], ops))

    with running(bench):
        with blocked(bench):
            bench.send(bench.batch(0))
            assert bench.writer.submit(bench.batch(1)).status == "busy"
            thread = threading.Thread(target=deliver)
            thread.start()
            until(lambda: len(bench.writer._letters) == 1)
        thread.join(PATIENCE_S)
        bench.join()
        assert bench.partition.position == 2, "one entry for rows, message and withdrawn links"
        assert told == [2]
        assert bench.partition.mailbox.cursor("1") == 1
        assert [m.ops[0].kind for m in bench.partition.outgoing("L", 0, 9)] == [CUT]
        bench.log.is_full = True
        with pytest.raises(StorageFull):
            bench.writer.deliver([Message("1", 2, START, 0)])
        assert bench.partition.mailbox.cursor("1") == 1


def test_who_brings_messages_hears_of_those_about_the_past() -> None:
    """Links of rows from before there was a ledger are told of by the writer's own work."""
    both = extended(
        CATALOGUE,
        [
            Namespace("ECID", kind="cookie"),
            Dataset("logins", "visit", {"who": "CRMID", "device": "ECID"}, timestamp="at"),
        ],
    )
    old = Bench()
    old.partition = Partition(old.log, old.feed, MemoryCheckpoints(), old.config, epoch=1)
    old.partition.define(both, None)
    door = Door(both, "logins", 1, old.config)
    rows = door.prepare([{"who": "ann", "device": "d", "at": START}], 0, START).table
    old.partition.commit([SubBatch("logins", "p", None, 1, both.version, START, rows)], None)
    bench = Bench(after=old)
    heard: list[dict[str, int]] = []
    bench.writer = Writer(
        bench.partition, bench.config, clock="event", wall=bench.wall,
        written=lambda: heard.append(bench.partition.mailbox.heads()),
    )  # fmt: skip
    with running(bench):
        until(lambda: bool(heard))
    assert heard[-1] == {"L": 1}
    assert [op.kind for op in bench.partition.outgoing("L", 0, 9)[0].ops] == [LINK]


def test_messages_that_travel_together_end_where_they_get_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    with running(bench):
        for number in range(1, 4):
            ops = (Op(CUT, Named(1, number, "CRMID", "w0"), version=START),)
            bench.writer.deliver([Message("1", number, START, 0)], ops)
    numbers = [message.number for message in bench.partition.outgoing("L", 0, 9)]
    assert numbers == [1, 2, 3]
    monkeypatch.setattr(carried_rows, "OUTGOING_BYTES", 1)
    assert [message.number for message in bench.partition.outgoing("L", 1, 9)] == [2]


def test_a_full_disk_halts_the_writing_and_reads_go_on() -> None:
    with running(Bench()) as bench:
        bench.writer.submit(bench.batch(0, rows=3))
        bench.log.is_full = True
        with pytest.raises(StorageFull):
            bench.writer.submit(bench.batch(3))
        assert isinstance(bench.writer.halted, StorageFull)
        bench.log.is_full = False
        with pytest.raises(StorageFull):
            bench.writer.submit(bench.batch(3))
        with pytest.raises(StorageFull):
            bench.writer.run(lambda: None)
        assert bench.partition.count("fresh") == 3


def test_a_defect_halts_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(Bench()) as bench:

        def broken(*_: object, **__: object) -> list[Reply]:
            raise ZeroDivisionError("planted")

        monkeypatch.setattr(bench.partition, "commit", broken)
        with pytest.raises(Halt, match="planted"):
            bench.writer.submit(bench.batch(0))


def test_stopping_commits_what_is_queued() -> None:
    bench = Bench()
    bench.writer.start()
    with blocked(bench):
        bench.send(bench.batch(0, rows=4))
    bench.writer.stop()
    bench.join()
    assert bench.partition.status().events == 4
    with pytest.raises(Stopped, match="stopped"):
        bench.writer.submit(bench.batch(4))


@pytest.mark.parametrize("clock", ["wall", "event"])
def test_without_room_nothing_is_written_and_with_room_it_goes_on(clock: str) -> None:
    with running(Bench(clock)) as bench:
        assert bench.writer.submit(bench.batch(0)).status == "ok"
        entries = len(bench.log.entries)
        bench.free = bench.config.min_free_bytes - 1
        for _ in range(3):
            with pytest.raises(StorageFull, match=r"min_free_bytes.*by itself"):
                bench.writer.submit(bench.batch(1))
            with pytest.raises(StorageFull):
                bench.writer.run(lambda: bench.partition.advance(START + DAY))
        bench.wall.ms += DAY
        until(lambda: bench.writer.room_error is not None)
        assert len(bench.log.entries) == entries
        assert bench.writer.halted is None
        assert bench.partition.status().events == 1
        assert bench.partition.count("fresh") == 1
        assert bench.writer.run(lambda: bench.partition.verify(None), writes=False) == []
        bench.free = bench.config.min_free_bytes
        until(lambda: bench.writer.room_error is None)
        assert bench.writer.submit(bench.batch(1)).status == "ok"
        assert bench.partition.status().events == 2


def test_what_is_due_while_there_is_no_room_happens_when_there_is() -> None:
    with running(Bench("wall")) as bench:
        assert bench.writer.submit(bench.batch(0)).status == "ok"
        bench.free = 0
        until(lambda: bench.writer.room_error is not None)
        for _ in range(8):
            bench.wall.ms += DAY
            with pytest.raises(StorageFull):
                bench.writer.submit(bench.batch(1))
        assert bench.partition.count("fresh") == 1
        bench.free = 1 << 40
        until(lambda: bench.partition.count("fresh") == 0)
