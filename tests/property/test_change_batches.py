"""Batches of the change feed are its rows: the same changes, order, cursors and errors.

Theory: one iteration is read row by row, and is the expectation. Others take batches of any size,
rows in between, stop anywhere and go on from the cursor in a new iteration; what each partition
gave, put together, must be that, over pages of the feed as small as they can be.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any, cast

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profile_actors.config import Config
from profile_actors.driver import iterators
from profile_actors.driver.connection import Connection
from profile_actors.driver.iterators import Changes
from profile_actors.engine.log.change_columns import SCHEMA
from profile_actors.engine.reading.answers import Change
from profile_actors.errors import CallerError, Pending
from tests.model.hub import BASE, HOUR, Hub
from tests.property.test_change_feed import catalogue, write

Row = tuple[Any, ...]


class Direct:
    """A connection to partitions of this process, of a store that was not restored."""

    config = Config(pending_wait_ms=1)
    restored = ""

    def __init__(self, hub: Hub) -> None:
        self.partitions = hub.partitions
        self.calls = 0

    def read(self, partition: int, name: str, *args: Any) -> Any:
        """Ask one partition."""
        self.calls += 1
        one = self.partitions[partition]
        if name == "head":
            return one.position
        assert args[2:] == ("",)
        return getattr(one, name)(*args[:2])

    def ahead(self, partition: int, name: str, *args: Any) -> Callable[[], Any]:
        """Ask one partition now."""
        answer = self.read(partition, name, *args)
        return lambda: answer

    def read_all(self, name: str, *args: Any) -> list[Any]:
        """Ask every partition."""
        return [self.read(index, name, *args) for index in range(len(self.partitions))]


def changes(hub: Hub, after: str | None = None) -> Changes:
    """The feed from a cursor on, up to the present."""
    return Changes(cast(Connection, Direct(hub)), after, follow=False)


def of_row(change: Change) -> Row:
    """What a batch must say of a change."""
    c, value = change, change.new
    columns: list[Any] = [None] * 4
    if c.kind == "computed" and value is not None:
        kinds = [type(value) is int, type(value) is float, type(value) is bool, True]
        text = value if isinstance(value, str) else str(value)
        is_text = isinstance(value, str | Decimal)
        columns[kinds.index(True)] = (
            value if True in kinds[:3] else text if is_text else json.dumps(value)
        )
    old, new = (c.old, c.new) if c.kind == "membership" else (None, None)
    place = (
        c.partition,
        c.position,
        c.at,
        c.kind,
        c.name,
        *(c.identity.namespace, c.identity.value),
    )
    return (*place, old, new, *columns, c.cause)


def of_batch(batch: pa.RecordBatch) -> list[Row]:
    """The rows of a batch."""
    assert batch.schema == SCHEMA
    index = SCHEMA.get_field_index("at")
    batch = batch.set_column(index, "at", batch.column(index).cast(pa.int64()))
    return [tuple(row.values()) for row in batch.to_pylist()]


def by_partition(rows: list[Row]) -> dict[int, list[Row]]:
    out: dict[int, list[Row]] = {}
    for row in rows:
        out.setdefault(row[0], []).append(row)
    return out


def without_values(rows: list[Row]) -> dict[int, list[Row]]:
    """By partition, without the values of computed attributes, which are those at delivery."""
    return by_partition([row[:9] + row[-1:] for row in rows])


def world(seed: int) -> tuple[random.Random, Hub]:
    """Two partitions that have written for a while, and owe nothing."""
    rng = random.Random(seed)
    hub, now = Hub(2, catalogue()), BASE
    for _ in range(rng.randrange(2, 12)):
        now += rng.choice((0, 1, HOUR, 5 * HOUR))
        write(rng, hub, now)
    for one in hub.partitions:
        while one.work(1000):
            pass
    return rng, hub


@settings(max_examples=8)
@given(st.integers(0, 1 << 32))
def test_batches_of_any_size_are_the_rows(seed: int) -> None:
    rng, hub = world(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(iterators, "CHANGES_PAGE_BYTES", rng.choice((1, 100, 400, 1 << 20)))
        patch.setattr(iterators, "CHANGES_AT_ONCE", rng.choice((1, 3, 1000)))
        patch.setattr(iterators, "LONG_PAGE_CHANGES", rng.choice((1, 1, 4, 1000)))
        expected = [of_row(change) for change in changes(hub)]
        got: list[Row] = []
        cursor = None
        while True:
            feed = changes(hub, cursor)
            before = len(got)
            for batch in feed.batches(rng.choice((1, 2, 5, 1000))):
                assert len(set(batch.column("partition").to_pylist())) == 1
                got += of_batch(batch)
                cursor = feed.cursor
                if rng.random() < 0.3:
                    break
            for _ in range(rng.choice((0, 0, 2))):
                got += [of_row(change) for change in [next(feed, None)] if change is not None]
            cursor = feed.cursor
            if len(got) == before:
                break
    assert by_partition(got) == by_partition(expected)


@settings(max_examples=10)
@given(st.integers(0, 1 << 32))
def test_reads_beside_two_writers_with_rescans_outstanding_are_the_whole_feed(seed: int) -> None:
    """The cursor of several partitions passes no entry whose rescans are still to tell."""
    rng = random.Random(seed)
    hub, now = Hub(2, catalogue()), BASE
    got: list[Row] = []
    cursor: str | None = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(iterators, "CHANGES_PAGE_BYTES", rng.choice((1, 100, 400)))
        for _ in range(rng.randrange(4, 16)):
            now += rng.choice((0, 1, HOUR, 5 * HOUR))
            write(rng, hub, now)
            if rng.random() < 0.5:
                hub.partitions[1].work(rng.choice((1, 2, 7)))
            feed = changes(hub, cursor)
            try:
                for _ in range(rng.choice((0, 1, 3, 20))):
                    change = next(feed, None)
                    if change is None:
                        break
                    got.append(of_row(change))
            except Pending:  # of what is outstanding; what was told before stays told
                pass
            cursor = feed.cursor
        for one in hub.partitions:
            while one.work(1000):
                pass
        got += [of_row(change) for change in changes(hub, cursor)]
    whole = [of_row(change) for change in changes(hub)]
    assert without_values(got) == without_values(whole)


def test_batches_are_merged_by_time_and_bounded() -> None:
    _, hub = world(3)
    sizes = [batch.num_rows for batch in changes(hub).batches(4)]
    assert max(sizes) <= 4
    with pytest.raises(CallerError, match="rows"):
        next(changes(hub).batches(0))


def test_batches_wait_for_rules_that_are_evaluated_again_as_rows_do() -> None:
    _, hub = world(5)
    later = BASE + 99 * HOUR
    hub.submit([("crm", "p", [{"who": "u", "at": later, "tags": ["a"]}])], later)
    with pytest.raises(Pending):
        list(changes(hub).batches())
    for one in hub.partitions:
        while one.work(1000):
            pass
    assert pa.Table.from_batches(changes(hub).batches()).num_rows == len(list(changes(hub)))


@pytest.mark.parametrize("follow", [False, True])
def test_a_partition_that_has_no_more_is_not_asked_at_each_change_of_others(follow: bool) -> None:
    hub = Hub(2, catalogue())
    for i in range(40):
        hub.submit([("hits", "p", [{"who": "u", "at": BASE + i, "n": i}])], BASE + i)
    for one in hub.partitions:
        while one.work(1000):
            pass
    direct = Direct(hub)
    feed = Changes(cast(Connection, direct), None, follow)
    count = len(list(changes(hub)))
    started = time.monotonic()
    assert len([next(feed) for _ in range(count)]) == count > 40
    pauses = (time.monotonic() - started) / iterators.FOLLOW_PAUSE_S
    assert direct.calls <= 8 + (3 * pauses if follow else 0)
