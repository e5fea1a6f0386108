"""Anonymous connections leave nothing behind, and old stores are read as before (L5, L11)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from profile_actors.config import Config
from profile_actors.engine.log.connections import KEPT_MS, born_of, name_of
from profile_actors.engine.log.entry import Hearing, encode, read_envelope
from profile_actors.engine.log.in_memory import MemoryCheckpoints, MemoryFeed, MemoryLog
from profile_actors.engine.log.sub_batch import SubBatch
from profile_actors.engine.partition.partition import Partition
from tests.model.hub import BASE

CONFIG = Config(max_profiles=16)
WALL = 1_700_000_000_000


def sent(name: str, first: int = 0) -> SubBatch:
    return SubBatch("none", name, first or None, first + 5, 0, BASE)


def closing(name: str) -> SubBatch:
    return SubBatch("", name, 5, 5, 0, closes=True)


def again(partition: Partition, log: MemoryLog) -> list[Partition]:
    """The partition, and what is opened from its log, and from a checkpoint of it."""
    checkpoints, feed = MemoryCheckpoints(), MemoryFeed()
    saved = Partition(log, feed, checkpoints, CONFIG)
    job = saved.checkpoint_job(force=True)
    assert job is not None
    job()
    return [partition, saved, Partition(log, feed, checkpoints, CONFIG)]


@pytest.mark.parametrize("how", ["close", "silence"])
def test_ten_thousand_connections_leave_nothing_behind(how: str) -> None:
    log = MemoryLog()
    partition = Partition(log, MemoryFeed(), MemoryCheckpoints(), CONFIG)
    most = 0
    for number in range(0, 10_000, 10):
        wall = WALL + number * 10_000  # 360 an hour
        names = [name_of(wall, str(number + n)) for n in range(10)]
        replies = partition.commit([sent(name) for name in names], None, wall)
        if how == "close":
            replies += partition.commit([closing(name) for name in names], None, wall)
        assert {reply.status for reply in replies} == {"ok"}
        most = max(most, len(partition.state.cursors))
        assert len(partition.state.connections.heard) <= 380
    assert most <= (10 if how == "close" else 380)
    for number in range(10):
        partition.commit([sent("a file", 5 * number)], None, 2 * WALL)
    for opened in again(partition, log):
        assert opened.state.cursors == {"a file": 50}
        assert list(opened.state.receipts) == ["a file"]
        assert opened.state.connections.heard == {}


def test_what_comes_again_to_a_forgotten_connection_is_refused() -> None:
    log = MemoryLog()
    partition = Partition(log, MemoryFeed(), MemoryCheckpoints(), CONFIG)
    silent, closed = name_of(WALL, "silent"), name_of(WALL, "closed")
    for name in (silent, closed):
        partition.commit([sent(name)], None, WALL)
    partition.commit([closing(closed)], None, WALL + 1)
    lost = replace(sent(closed), resend=True)
    assert partition.commit([lost], None, WALL + 2)[0].status == "forgotten"
    late = WALL + KEPT_MS + 1
    new = name_of(late, "new")
    assert partition.commit([sent(new)], None, late)[0].status == "ok"
    heads = len(log.entries)
    for opened in again(partition, log):
        for name in (silent, closed):
            for batch in (sent(name), sent(name, 5)):
                for one in (batch, replace(batch, resend=True)):
                    # The real clock has no say: an entry's has.
                    assert opened.commit([one], None)[0].status == "forgotten"
        assert opened.cursor(new) == 5
    assert len(log.entries) == heads


def test_rows_and_closing_in_one_entry() -> None:
    partition = Partition(MemoryLog(), MemoryFeed(), MemoryCheckpoints(), CONFIG)
    name = name_of(WALL, "a")
    replies = partition.commit([sent(name), closing(name), sent(name, 5)], None, WALL)
    assert [reply.status for reply in replies] == ["ok", "ok", "forgotten"]
    assert partition.state.cursors == {}
    assert partition.commit([closing(name)], None, WALL)[0].status == "ok"  # twice is once


def test_a_connection_that_goes_on_is_kept_however_old() -> None:
    partition = Partition(MemoryLog(), MemoryFeed(), MemoryCheckpoints(), CONFIG)
    name = name_of(WALL, "a")
    for number in range(10):
        wall = WALL + number * (KEPT_MS - 1)
        assert partition.commit([sent(name, 5 * number)], None, wall)[0].status == "ok"
    # A clock that goes back forgets nobody.
    partition.commit([sent("other")], None, WALL - KEPT_MS)
    assert partition.cursor(name) == 50


def test_names_from_before_go_bit_by_bit() -> None:
    log = MemoryLog()
    partition = Partition(log, MemoryFeed(), MemoryCheckpoints(), CONFIG)
    for number in range(500):
        partition.commit([sent(f"~{number:032x}")], None)  # no wall time: as it was written then
    assert {read_envelope(memoryview(entry), "")[0].format for entry in log.entries} == {1}
    assert len(partition.state.connections.heard) == 500
    for number in range(10):
        partition.commit([sent("a file", 5 * number)], None, WALL)
        assert len(log.entries[-1]) < 4096
    for opened in again(partition, log):
        assert opened.state.cursors == {"a file": 50}


def test_an_entry_says_the_newer_format_only_where_it_speaks_of_connections() -> None:
    forms = []
    for hearing in (None, Hearing(WALL), Hearing(0, ("~a",))):
        parts = encode("rows", 0, 0, 0, hearing=hearing)
        envelope, _ = read_envelope(memoryview(b"".join(map(bytes, parts))), "")
        assert envelope.hearing == hearing
        forms.append(envelope.format)
    assert forms == [1, 3, 3]


def test_a_name_says_when_it_was_born() -> None:
    assert born_of(name_of(WALL, "abc")) == WALL
    assert born_of("~" + 32 * "f") == born_of("~a") == 0
