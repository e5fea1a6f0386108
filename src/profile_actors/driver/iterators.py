"""Iterators over what spans partitions: a segment's members, the change feed.

Theory: each partition's feed is ordered by position; the feeds are merged by ``at`` as they are
delivered, which leaves the order within each profile exact (a profile lives in one partition). The
cursor is one text that says, per partition, how many log positions were delivered whole and how
many changes of the next one: so a reader may stop after any change and resume at the next.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import msgspec

from profile_actors.driver.connection import Connection
from profile_actors.engine.identity.identity import Identity
from profile_actors.engine.reading.answers import Change
from profile_actors.errors import CallerError, Pending

T = TypeVar("T")


MEMBERS_PAGE = 10_000
"""Identities per call: about 300 kB, far below what a message may hold."""


CHANGES_PAGE_BYTES = 256_000
"""Packed bytes of the feed per call; about 7 bytes a change before they are expanded."""


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


class _Feed:
    """One partition's feed from a place on. position: delivered whole; taken: of the next one."""

    def __init__(self, connection: Connection, partition: int, position: int, taken: int) -> None:
        self._connection = connection
        self.partition = partition
        self.position = position
        self.taken = taken
        self._fetched = position
        self._page: list[Change] = []
        self._waiting_since_s: float | None = None

    def peek(self, end: int | None) -> Change | None:
        """The next change, None if there is none (none at a position up to end)."""
        while not self._page:
            page, reached = self._connection.read(
                self.partition, "changes", self._fetched, CHANGES_PAGE_BYTES
            )
            if reached <= self._fetched:
                if end is None or self._fetched >= end - 1:
                    return None
                self._wait(end)
                continue
            self._waiting_since_s = None
            skip = 0
            if self.taken and page and page[0].position == self.position + 1:
                skip = self.taken
            page.reverse()
            self._page = page[: len(page) - skip]
            self._fetched = reached
            if not self._page:
                self.position, self.taken = reached, 0
        change = self._page[-1]
        return None if end is not None and change.position > end else change

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
        change = self._page.pop()
        if change.position - 1 != self.position:
            self.position, self.taken = change.position - 1, 0
        self.taken += 1
        if not self._page:
            self.position, self.taken = self._fetched, 0
        return change


class Changes:
    """Membership and computed-attribute changes, from a cursor on, as an iterator.

    ``cursor`` is, at any time, where the iteration stands: pass it as ``after`` to go on.
    Ends at the present (as of the first step) unless follow.
    """

    def __init__(self, connection: Connection, after: str | None, follow: bool) -> None:
        """Raises CallerError if the cursor is not one of this store's."""
        self._follow = follow
        count = len(connection.partitions)
        places = [(-1, 0)] * count if after is None else _parse(after, count)
        self._feeds = [_Feed(connection, i, *place) for i, place in enumerate(places)]
        self._connection = connection
        self._ends: list[int] | None = None
        self._heap: list[tuple[int, int]] = []
        self._dry = list(range(count))

    @property
    def cursor(self) -> str:
        return "-".join(f"{feed.position + 1}.{feed.taken}" for feed in self._feeds)

    def __iter__(self) -> Changes:
        return self

    def __next__(self) -> Change:
        if not self._follow and self._ends is None:
            self._ends = list(self._connection.read_all("head"))
        while True:
            self._refill()
            if self._heap:
                _, partition = heapq.heappop(self._heap)
                self._dry.append(partition)
                return self._feeds[partition].take()
            if not self._follow:
                raise StopIteration
            time.sleep(FOLLOW_PAUSE_S)

    def _refill(self) -> None:
        """Look at the next change of every partition that is not in the heap."""
        dry = []
        for partition in self._dry:
            end = None if self._ends is None else self._ends[partition]
            change = self._feeds[partition].peek(end)
            if change is None:
                dry.append(partition)
            else:
                heapq.heappush(self._heap, (change.at, partition))
        self._dry = dry


def _parse(cursor: str, partitions: int) -> list[tuple[int, int]]:
    try:
        places = [tuple(map(int, place.split("."))) for place in cursor.split("-")]
        places = msgspec.convert(places, list[tuple[int, int]])
    except (AttributeError, ValueError, msgspec.ValidationError):
        places = []
    numbers = [number for place in places for number in place]
    if len(places) != partitions or not 0 <= min(numbers) <= max(numbers) < 2**63:
        raise CallerError(
            f"expected a cursor that this store's changes() gave, got {cursor!r} - at after=;"
            " pass Changes.cursor unchanged, or None for everything that is kept"
        )
    return [(position - 1, taken) for position, taken in places]
