"""Small submissions travel together: one pass of the door and one call per partition for many.

Theory: what a submission of ten rows costs is its own door, its own sub-batch and its own entry's
overhead, all of which hardly grow with rows. So those that ``submit_async`` was given while others
were on their way are sent as one batch, in the order in which they came. Each keeps its receipt:
the partitions say which rows were duplicates or late, and rejected rows have their numbers.

Which: dicts without a producer, on the wall clock, where the timing decides about entries anyway.
On the event clock every submission is an entry of its own, so that the change feed is the same each
time (decision 0009). All else goes straight to the ``Sender``, after what waits here, so that rows
are numbered in the order of calls.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import chain
from threading import Condition, Lock, Thread
from typing import Any

import numpy as np
from msgspec import structs

from profile_actors.actors.calls import closed_store
from profile_actors.config import Config
from profile_actors.driver.receipts import PendingReceipt, Receipt, RowCounts
from profile_actors.driver.sender import Rows, Sender
from profile_actors.driver.streams.waiting_rows import WEIGHED_EVERY, bytes_of
from profile_actors.errors import Backpressure

SMALL = 4
"""A submission is small if so many of them fit into one batch."""


NESTED = frozenset({dict, list})
"""Types of values that a caller may change after the call; anything else odd is rejected anyway."""


@dataclass(slots=True)
class Submission:
    """One call's rows, and where its caller waits."""

    dataset: str
    rows: list[Any]
    bytes: int
    result: Future[Receipt] = field(default_factory=Future)


class Submissions:
    """The queue of small submissions of one connection, and the thread that sends them."""

    def __init__(self, sender: Sender, config: Config, clock: str, path: str) -> None:
        self._sender = sender
        self._path = path
        self._gathers = clock == "wall"
        self._config = config
        self._batch_rows = min(config.max_stream_batch_rows, config.max_batch_rows)
        self._lock = Lock()
        self._work = Condition(self._lock)
        self._progress = Condition(self._lock)
        self._waiting: deque[Submission] = deque()
        self._rows = self._bytes = 0  # of those
        self._in_hand = 0  # submissions that are being numbered at this moment
        self._sent = 0  # submissions that have their numbers
        self._on_way = 0  # batches
        self._is_closed = False
        self._thread: Thread | None = None

    def submit(
        self, dataset: str, rows: Rows, producer: str | None, offset: int | None
    ) -> PendingReceipt:
        """Send at once, after what waits."""
        self.settle_order()
        return self._sender.submit(dataset, rows, producer, offset, later=False)

    def submit_later(
        self, dataset: str, rows: Rows, producer: str | None, offset: int | None, block: bool
    ) -> PendingReceipt:
        """Queue a small submission; send another as ``Sender`` does."""
        if not self._is_small(rows) or producer is not None or offset is not None:
            self.settle_order()
            return self._sender.submit(dataset, rows, producer, offset, later=True, block=block)
        self._sender.check_dataset(dataset)
        copies = _copies(rows)
        weight = WEIGHED_EVERY * sum(map(bytes_of, copies[::WEIGHED_EVERY]))
        one = Submission(dataset, copies, weight)
        with self._lock:
            self._wait_for_room(block)
            if self._thread is None:
                self._thread = Thread(target=self._run, name="submissions", daemon=True)
                self._thread.start()
            self._waiting.append(one)
            self._rows += len(copies)
            self._bytes += weight
            self._work.notify()
        return PendingReceipt([one.result], self._config.max_receipt_rejects)

    def settle_order(self) -> None:
        """Wait until everything queued so far has its numbers: what is sent now comes after it."""
        if self._waiting or self._in_hand:
            with self._lock:
                target = self._sent + self._in_hand + len(self._waiting)
                self._progress.wait_for(lambda: self._sent >= target)

    def close(self, timeout_s: float) -> None:
        """Take nothing more; let go what waits, as far as there is time."""
        with self._lock:
            self._is_closed = True
            self._progress.notify_all()
            self._work.notify()
            self._progress.wait_for(lambda: not self._waiting and not self._in_hand, timeout_s)
            left, self._waiting = self._waiting, deque()
            self._sent += len(left)
            self._work.notify()
            self._progress.notify_all()
        for one in left:
            one.result.set_exception(closed_store(self._path))

    def _is_small(self, rows: Rows) -> bool:
        return (
            self._gathers
            and isinstance(rows, list)
            and 0 < SMALL * len(rows) <= self._batch_rows
            and SMALL * len(rows) <= self._config.max_stream_rows
        )

    def _wait_for_room(self, block: bool) -> None:
        config = self._config
        while not self._is_closed and (
            self._rows >= config.max_stream_rows or self._bytes >= config.max_stream_bytes
        ):
            if not block:
                raise Backpressure(
                    f"expected fewer than {config.max_stream_rows} rows of small submissions that"
                    f" wait, got {self._rows} of {self._bytes} bytes - at Config.max_stream_rows or"
                    " max_stream_bytes; wait for a result, or submit with block=True"
                )
            self._progress.wait()
        if self._is_closed:
            raise closed_store(self._path)

    def _run(self) -> None:
        while True:
            with self._lock:
                self._work.wait_for(self._may_go)
                if not self._waiting:
                    return
                batch = self._take()
                self._in_hand = len(batch)
                self._on_way += 1
            self._send(batch)
            with self._lock:
                self._sent += len(batch)
                self._in_hand = 0
                self._progress.notify_all()

    def _may_go(self) -> bool:
        if self._waiting:
            return self._on_way < self._config.max_in_flight
        return self._is_closed

    def _take(self) -> list[Submission]:
        """The oldest that fit into one batch of one dataset."""
        batch = [self._waiting.popleft()]
        rows = len(batch[0].rows)
        while self._waiting and self._waiting[0].dataset == batch[0].dataset:
            rows += len(self._waiting[0].rows)
            if rows > self._batch_rows:
                break
            batch.append(self._waiting.popleft())
        left = bool(self._waiting)  # nothing is counted where nothing waits
        self._rows = left * (self._rows - sum(len(one.rows) for one in batch))
        self._bytes = left * (self._bytes - sum(one.bytes for one in batch))
        return batch

    def _send(self, batch: list[Submission]) -> None:
        counts = RowCounts()
        rows = [row for one in batch for row in one.rows]
        try:
            pending = self._sender.submit(batch[0].dataset, rows, later=True, by_row=counts)
        except BaseException as error:
            self._answered(batch, None, error)
            return
        pending.when_done(lambda: self._settle(batch, pending, counts))

    def _settle(self, batch: list[Submission], pending: PendingReceipt, counts: RowCounts) -> None:
        """Each submission's part of the answer. In the thread that settles it."""
        try:
            found, error = self._parts(batch, pending.whole(), counts), None
        except BaseException as failure:
            found, error = None, failure
        self._answered(batch, found, error)

    def _answered(
        self,
        batch: list[Submission],
        receipts: list[Receipt] | None,
        error: BaseException | None,
    ) -> None:
        with self._lock:
            self._on_way -= 1
            self._work.notify()
        for number, one in enumerate(batch):
            if receipts is None:
                one.result.set_exception(error)
            else:
                one.result.set_result(receipts[number])

    def _parts(self, batch: list[Submission], whole: Receipt, counts: RowCounts) -> list[Receipt]:
        if len(batch) == 1:
            return [whole]
        bounds = np.cumsum([0, *(len(one.rows) for one in batch)])
        duplicate, late = (
            np.diff(np.searchsorted(rows, bounds)).tolist()
            for rows in (counts.duplicate, counts.late)
        )
        refused = np.array([row for row, _, _ in whole.rejected], np.int64)
        ends = np.searchsorted(refused, bounds).tolist()
        starts = bounds.tolist()
        out = []
        for i, one in enumerate(batch):
            first = starts[i]
            mine = whole.rejected[ends[i] : ends[i + 1]]
            out.append(
                Receipt(
                    accepted=len(one.rows) - len(mine) - duplicate[i],
                    duplicate=duplicate[i],
                    late=late[i],
                    # Whose they are is not known: of each as many as there may be.
                    forwarding=min(whole.forwarding, len(one.rows) - len(mine) - duplicate[i]),
                    rejected_count=len(mine),
                    rejected=[(row - first, path, reason) for row, path, reason in mine],
                    placeholders=counts.placeholders.counts(first, starts[i + 1]),
                )
            )
        if whole.odd_times:  # rare: whose they are is asked once more
            odd = self._sender.odd_times(batch[0].dataset, [one.rows for one in batch])
            out = [structs.replace(one, odd_times=n) for one, n in zip(out, odd, strict=True)]
        return out


def _copies(rows: Sequence[Any]) -> list[Any]:
    """The rows as they are now. Cost: 0.2 us each where all are dicts of plain values."""
    if set(map(type, rows)) == {dict}:
        values = chain.from_iterable(map(dict.values, rows))
        if NESTED.isdisjoint(map(type, values)):
            return list(map(dict.copy, rows))
    return list(map(_copied, rows))


def _copied(row: Any) -> Any:
    """The row as it is now: its caller may change it after the call."""
    if type(row) is not dict:
        return copy.deepcopy(row)
    return row.copy() if NESTED.isdisjoint(map(type, row.values())) else copy.deepcopy(row)
