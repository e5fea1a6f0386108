"""Iterators over what spans partitions: a segment's members, the change feed.

Theory: each partition's feed is ordered by position; the feeds are merged by ``at`` as they are
delivered, which leaves the order within each profile exact (a profile lives in one partition). The
cursor says how far it is in each (``engine.log.feed_cursors``): so a reader may stop after any
change and resume at the next. Where a person was erased from a partition's log since, its feed is
another one, which cannot say who left without naming her: then the cursor has expired.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa

from profile_actors.definitions.declared import Catalogue
from profile_actors.driver.arguments import whole_number
from profile_actors.driver.connection import Connection, Selectors
from profile_actors.engine.identity.identity import Identity
from profile_actors.engine.log.change_columns import ChangeColumns
from profile_actors.engine.log.feed_cursors import FeedPlace, cursor_places, cursor_text
from profile_actors.engine.reading.answers import Change
from profile_actors.engine.reading.fields import Fields
from profile_actors.errors import CallerError, CursorExpired, Pending

T = TypeVar("T")

MEMBERS_PAGE = 10_000
"""Identities per call: about 300 kB, far below what a message may hold."""

CHANGES_PAGE_BYTES = 256_000
"""Packed bytes of the feed per call; 1.5 to 7 bytes a change before they are expanded."""

LONG_PAGE_CHANGES = 10_000
"""After a page of so many changes the next one is asked for while this one is delivered."""

CHANGES_AT_ONCE = 4_000
"""So many changes are made into objects at a time."""

BATCH_ROWS = 65_536
"""Changes of one record batch, at most, if nothing else is asked."""

FOLLOW_PAUSE_S = 0.05
"""Pause of a follower that has reached the present."""


def patiently(connection: Connection, read: Callable[[], T]) -> T:
    """Read, waiting for rescans up to ``Config.pending_wait_ms``. Raises Pending after that."""
    deadline_s = time.monotonic() + connection.config.pending_wait_ms / 1000
    while True:
        try:
            return read()
        except Pending:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(FOLLOW_PAUSE_S)


class Members:
    """The profiles that are in a segment, by canonical identity; iterates afresh each time."""

    def __init__(self, connection: Connection, segment: str) -> None:
        self._connection = connection
        self._segment = segment

    def count(self) -> int:
        """How many there are; costs one call per partition, whatever their number."""
        return patiently(
            self._connection, lambda: int(sum(self._connection.read_all("count", self._segment)))
        )

    def __iter__(self) -> Iterator[Identity]:
        for partition in range(len(self._connection.partitions)):
            after: int | None = -1
            while after is not None:
                page, after = self._page(partition, after)
                yield from page

    def _page(self, partition: int, after: int) -> tuple[list[Identity], int | None]:
        def read() -> tuple[list[Identity], int | None]:
            page, following = self._connection.read(
                partition, "members", self._segment, after, MEMBERS_PAGE
            )
            return page, following

        return patiently(self._connection, read)


Scan: TypeAlias = pa.RecordBatchReader
"""Profiles as Arrow record batches."""


def scanned(
    connection: Connection,
    newest: Callable[[], Catalogue],
    fields: Selectors,
    segment: str | None,
    batch_rows: int,
) -> Scan:
    """All profiles, or a segment's, as record batches of ``batch_rows`` at most, partition by
    partition; the columns are those of ``engine.reading.scans``.

    Who is in it is fixed now, at one position of each partition's log; the values of a batch are as
    of its own position, at or after that one, which stands in its schema's metadata. Memory is
    bounded by a batch, and four bytes a profile. Cost: some 15 us a profile of 100 segments; a
    partition is held as long as for a look-up of a batch. newest: the definitions in force.
    Raises CallerError, DefinitionError for unknown names, and Pending as ``members`` does.
    """
    schema, _, batches = scan_parts(connection, newest, fields, segment, batch_rows)
    return pa.RecordBatchReader.from_batches(schema, batches)


def scan_parts(
    connection: Connection,
    newest: Callable[[], Catalogue],
    fields: Selectors,
    segment: str | None,
    batch_rows: int,
) -> tuple[pa.Schema, dict[int, int], Iterator[pa.RecordBatch]]:
    """What ``scanned`` is made of: the schema of all batches, the position of each partition as of
    which the profiles are those that they are, and the batches."""
    batch_rows = whole_number(batch_rows, "batch_rows", "scan", 1)
    asked, every = scan_slots(connection, newest, fields, segment)
    from profile_actors.engine.reading.scans import ScanColumns

    columns = ScanColumns(connection.catalogue, asked)

    def batches() -> Iterator[pa.RecordBatch]:
        for partition, (_, slots) in enumerate(every):
            for first in range(0, len(slots), batch_rows):
                some = slots[first : first + batch_rows].tobytes()
                yield from columns.batches(connection.read(partition, "scan_page", some, asked))

    starts = {partition: position for partition, (position, _) in enumerate(every)}
    return columns.schema, starts, batches()


def scan_slots(
    connection: Connection, newest: Callable[[], Catalogue], fields: Selectors, segment: str | None
) -> tuple[Fields, list[tuple[int, Any]]]:
    """What is asked, and each partition's position and slots of the segment then. int32[n]"""
    if segment is not None:
        connection.check_segment(segment, newest, "scan")
    asked = connection.asked_of(segment, fields, newest)
    return asked, patiently(connection, lambda: connection.read_all("scan_slots", segment))


class _Feed:
    """One partition's feed from a place on (``FeedPlace``)."""

    def __init__(
        self, connection: Connection, consumer: str, partition: int, place: FeedPlace
    ) -> None:
        self._connection = connection
        self._consumer = consumer
        self.partition = partition
        self.position, self.taken, self.renewed = place
        self._is_checked = self.renewed is None
        self._fetched = self.position
        self._page: ChangeColumns | None = None
        self._coming: Callable[[], ChangeColumns] | None = None  # the page after it
        self._next = 0  # the first change of the page that was not delivered
        self._made: list[Change] = []  # from there on, the last one first
        self._waiting_since_s: float | None = None
        self._ask_again_s = 0.0

    def peek(self, end: int | None) -> int | None:
        """When the next change happened, None if there is none (none at a position up to end)."""
        while self._page is None:
            if self._is_checked and self._is_known_dry(end):
                return None
            page = (self._coming or self._ask())()
            self._coming = None
            self._check(page.renewed)
            if page.reached <= self._fetched:
                if end is None:
                    self._ask_again_s = time.monotonic() + FOLLOW_PAUSE_S
                if end is None or self._is_known_dry(end):
                    return None
                self._wait(end)
                continue
            self._waiting_since_s = None
            is_begun = self.taken and len(page) and page.position[0] == self.position + 1
            self._next = self.taken if is_begun else 0
            self._fetched = page.reached
            if len(page) >= LONG_PAGE_CHANGES and (end is None or page.reached < end - 1):
                self._coming = self._ask()
            if self._next < len(page):
                self._page = page
            else:
                self.position, self.taken = self._fetched, 0
        if self._made:
            change = self._made[-1]
            return None if end is not None and change.position > end else change.at
        if end is not None and self._page.position[self._next] > end:
            return None
        return int(self._page.at[self._next])

    @property
    def place(self) -> FeedPlace:
        """Where it stands."""
        return FeedPlace(self.position, self.taken, self.renewed)

    def _check(self, renewed: int) -> None:
        """Whether the log is still the one that was read. Raises CursorExpired."""
        if self.renewed not in (None, renewed):
            raise CursorExpired(f"expected erasure {self.renewed}, got {renewed}")
        self.renewed, self._is_checked = renewed, True

    def _ask(self) -> Callable[[], ChangeColumns]:
        return self._connection.ahead(
            self.partition, "change_columns", self._fetched, CHANGES_PAGE_BYTES, self._consumer
        )

    def _is_known_dry(self, end: int | None) -> bool:
        """Whether nothing can have come, or just now nothing had: then the partition is not asked,
        which would cost a call per change of the others."""
        if end is None:
            return time.monotonic() < self._ask_again_s
        return self._fetched >= end - 1

    def _wait(self, end: int) -> None:
        """Entries up to end have rescans outstanding: wait a little. Raises Pending in the end."""
        now_s = time.monotonic()
        if self._waiting_since_s is None:
            self._waiting_since_s = now_s
        if now_s - self._waiting_since_s > self._connection.config.pending_wait_ms / 1000:
            raise Pending(
                f"expected the changes up to entry {end - 1} of partition {self.partition}, got"
                f" rules that are still being evaluated again for entries after {self._fetched};"
                " ask again in a moment, or raise Config.pending_wait_ms"
            )
        time.sleep(FOLLOW_PAUSE_S)

    def take(self) -> Change:
        """The next change; after a ``peek`` that found one."""
        page = self._page
        assert page is not None, "a peek comes first"
        if not self._made:
            from profile_actors.engine.reading.change_delivery import changes_of

            self._made = changes_of(page, self._next, self._next + CHANGES_AT_ONCE)[::-1]
        change = self._made.pop()
        if change.position - 1 != self.position:
            self.position, self.taken = change.position - 1, 0
        self.taken += 1
        self._next += 1
        if self._next == len(page):
            self._finish()
        return change

    def take_batch(self, rows: int, end: int | None) -> pa.RecordBatch:
        """The next changes, ``rows`` at most; after a ``peek`` that found one."""
        page = self._page
        assert page is not None, "a peek comes first"
        stop = min(self._next + rows, len(page))
        if end is not None:
            stop = min(stop, int(np.searchsorted(page.position, end, side="right")))
        batch = page.batch(self._next, stop)
        self._made = []
        position = int(page.position[stop - 1])
        if position - 1 != self.position:
            self.position, self.taken = position - 1, 0
        # Of that entry, the changes that this batch has.
        self.taken += stop - max(self._next, int(np.searchsorted(page.position, position)))
        self._next = stop
        if stop == len(page):
            self._finish()
        return batch

    def _finish(self) -> None:
        """The page is delivered whole."""
        self.position, self.taken, self._page = self._fetched, 0, None


class Changes:
    """Membership and computed-attribute changes, from a cursor on, as an iterator.

    ``cursor`` is, at any time, where the iteration stands: pass it as ``after`` to go on.
    Ends at the present (as of the first step) unless follow.
    """

    def __init__(
        self, connection: Connection, after: str | None, follow: bool, consumer: str = ""
    ) -> None:
        """consumer: the reader's name, if it has one. Raises CallerError for a cursor that this
        store did not give."""
        self._follow = follow
        count = len(connection.partitions)
        places = [FeedPlace()] * count if after is None else _parse(connection, after)
        self._feeds = [_Feed(connection, consumer, i, place) for i, place in enumerate(places)]
        self._connection = connection
        self._ends: list[int] | None = None
        self._heap: list[tuple[int, int]] = []
        self._dry = list(range(count))

    @property
    def cursor(self) -> str:
        return cursor_text((feed.place for feed in self._feeds), self._connection.restored)

    def __iter__(self) -> Changes:
        return self

    def __next__(self) -> Change:
        feed = self._following()
        if feed is None:
            raise StopIteration
        return feed.take()

    def batches(self, rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """The changes as Arrow record batches, each of one partition and of ``rows`` at most.

        The columns are those of ``engine.log.change_columns``; order within a partition, values and
        errors are those of the rows. ``cursor`` stands behind the last batch that was given; rows
        and batches may be taken in turn. Cost: some 0.2 us a change.
        """
        rows = whole_number(rows, "rows", "changes", 1)
        while (feed := self._following()) is not None:
            end = None if self._ends is None else self._ends[feed.partition]
            yield feed.take_batch(rows, end)

    def _following(self) -> _Feed | None:
        """The feed that has the next change, the earliest of all; None at the present. Waits for
        one if changes are followed."""
        if not self._follow and self._ends is None:
            self._ends = list(self._connection.read_all("head"))
        while True:
            self._refill()
            if self._heap:
                _, partition = heapq.heappop(self._heap)
                self._dry.append(partition)
                return self._feeds[partition]
            if not self._follow:
                return None
            time.sleep(FOLLOW_PAUSE_S)

    def _refill(self) -> None:
        """Look at the next change of every partition that is not in the heap."""
        dry = []
        for partition in self._dry:
            end = None if self._ends is None else self._ends[partition]
            try:
                at = self._feeds[partition].peek(end)
            except CursorExpired:
                raise self._expired() from None
            if at is None:
                dry.append(partition)
            else:
                heapq.heappush(self._heap, (at, partition))
        self._dry = dry

    def _expired(self) -> CursorExpired:
        """Names the oldest cursor from which this reader can go on."""
        kept: list[tuple[int, int]] = self._connection.read_all("feed_kept")
        places, why = (
            [],
            "what came before has been dropped (Config.feed_retention_days and _bytes)",
        )
        for feed, (first, renewed) in zip(self._feeds, kept, strict=True):
            is_other = feed.renewed not in (None, renewed)
            if is_other:
                why = "somebody was erased since, and no change says who left"
            is_kept = feed.position >= first - 1 and not is_other
            places.append(feed.place if is_kept else FeedPlace(first - 1, 0, renewed))
        return CursorExpired(
            f"expected the cursor {cursor_text(places, self._connection.restored)!r} or a later"
            f" one, got {self.cursor!r} - at changes; {why}: read members or profiles anew, then"
            " changes from that cursor, or from the present"
        )


def oldest_cursor(connection: Connection) -> str:
    """The cursor from which everything follows that the feed still has."""
    kept: list[tuple[int, int]] = connection.read_all("feed_kept")
    places = (FeedPlace(first - 1, 0, renewed) for first, renewed in kept)
    return cursor_text(places, connection.restored)


def _parse(connection: Connection, cursor: str) -> list[FeedPlace]:
    """Raises CursorExpired for one that another store gave, which this one was restored from."""
    try:
        places, restored = cursor_places(cursor, len(connection.partitions))
    except (AttributeError, TypeError, ValueError):
        raise CallerError(
            f"expected a cursor that this store's changes() gave, got {cursor!r} - at after=;"
            " pass Changes.cursor unchanged, or None for everything that is kept"
        ) from None
    if restored != connection.restored:
        raise CursorExpired(
            f"expected the cursor {oldest_cursor(connection)!r} or a later one, got {cursor!r} - at"
            " changes; the store was restored from a backup since, and what follows is not what"
            " followed: read members or profiles anew, then changes from that cursor"
        )
    return places
