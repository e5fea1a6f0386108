"""A stream: ``send`` returns at once, one thread of the driver lets rows travel in batches.

Theory: what a batch costs hardly depends on how many rows it has, so rows gather while a batch is
on its way: at low rates a row travels at once, at high ones batches grow by themselves. Only the
stream's own thread numbers rows and sends them; a signal that interrupts a caller finds nothing
half done.

What is promised: rows of one thread keep their order. Rows are durable and folded when ``flush`` or
``close`` returns without an error, or when ``receipt`` counts them. What a driver that dies had not
seen acknowledged may be there or not; with a producer the store knows which: ``start`` of the next
stream is the number of the source's rows that it has.

The first error ends a stream: what waits is not sent, every later ``send``, ``flush`` and ``close``
raises it. Batches that were on their way are still settled and counted.

On the event clock each batch carries the largest timestamp of its rows. So what is true at the end
depends on the rows alone; which changes between were seen depends on where batches ended, that is
on the pace of the sender: send fixed batches with ``submit`` where the feed has to be the same each
time.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from os import register_at_fork
from threading import current_thread
from types import TracebackType
from typing import Any

import pyarrow as pa

from profile_actors.config import Config
from profile_actors.driver.receipts import Receipt
from profile_actors.driver.sender import Rows, Sender
from profile_actors.driver.streams.travel import OnReject, Travel
from profile_actors.driver.streams.waiting_rows import WEIGHED_EVERY
from profile_actors.errors import Backpressure, CallerError, StoreUnavailable


class RowStream(Travel):
    """Rows on their way into one dataset; made by ``Store.stream``. Thread-safe.

    start: the number of the first row that is sent here. With a producer that is the store's
    cursor: how many rows of the source are in the store already, to be left out by the program;
    without, 0.
    """

    def __init__(
        self,
        sender: Sender,
        dataset: str,
        config: Config,
        *,
        linger_ms: float,
        producer: str | None,
        block: bool,
        on_reject: OnReject | None,
        start: int,
        on_change: Callable[[], object] | None = None,
    ) -> None:
        """on_change: called, under no lock, when there is room again, or rows were answered, or the
        stream has ended."""
        super().__init__(sender, dataset, config, linger_ms / 1000, producer, start)
        self.start = start
        self._block = block
        self._on_reject = on_reject
        self._on_change = on_change
        self._is_forked = False
        _LIVE.add(self)
        self._thread.start()

    def __enter__(self) -> RowStream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close, after an exception too. An error of the store does not hide the program's own:
        it is added to it as a note."""
        try:
            self.close()
        except Exception as own:
            if error is None:
                raise
            self.note(error, own)

    def note(self, error: BaseException, own: Exception) -> None:
        """Tell of what ended the stream beside the program's error."""
        if own is not error:
            error.add_note(f"{self._at} had ended: {own}")

    # -- callers' threads -------------------------------------------------------------------------

    def send(self, rows: Rows) -> None:
        """Let a row travel; returns at once, before the row was looked at.

        rows: one dict, or a list of dicts, a pa.Table or a pa.RecordBatch. A dict is copied, the
        values in it are not. Where too much waits (``Config.max_stream_rows``, ``_bytes``) this
        blocks, or raises Backpressure in a stream with block=False; more than one row is taken
        as a whole as soon as there is room for one. Raises what ended the stream, StoreUnavailable
        once it is closed, CallerError for what are no rows. An exception means that no row of this
        call was taken, unless it is one of the interpreter's own (KeyboardInterrupt). Cost: about
        0.3 us for a dict.
        """
        if self._must_look:
            self._wait_for_room()
        if type(rows) is dict:
            items = self._waiting.items
            items.append(rows.copy())
            count = len(items)
            if not count % WEIGHED_EVERY or count >= self._max_rows:
                self._weigh([rows], count)
        else:
            self._send_many(rows)
        if self._is_asleep:
            self._wake()

    def flush(self) -> Receipt:
        """Wait until everything sent before is durable and folded; returns the totals.

        Raises what ended the stream.
        """
        self._check_caller("flush")
        target = self.hurry()
        with self._lock:
            self._progress.wait_for(lambda: self.is_reached(target))
        return self.checked()

    def hurry(self) -> int:
        """Let go at once what waits; returns what ``is_reached`` takes."""
        with self._lock:
            target = self._taken + len(self._waiting.items)
            self._hurry = max(self._hurry, target)
            self._work.notify()
            return target

    def is_reached(self, target: int) -> bool:
        """Whether what was sent before ``hurry`` is answered, or the stream has ended."""
        return self._answered >= target or self._error is not None or self.is_closed

    def checked(self) -> Receipt:
        """The totals. Raises what ended the stream."""
        with self._lock:
            self._raise_error()
            return self._receipt

    def receipt(self) -> Receipt:
        """The totals of what was answered so far. rejected: the first, rows numbered as sent here,
        from ``start``."""
        with self._lock:
            return self._receipt

    def close(self) -> None:
        """Flush and end. Raises what ended the stream, each time.

        A KeyboardInterrupt meanwhile abandons what waits and is raised at once.
        """
        self._check_caller("close")
        try:
            self.begin_to_close()
            self._thread.join()
        except BaseException:  # a KeyboardInterrupt
            self._abandon("an interruption")
            raise
        self.checked()

    def begin_to_close(self) -> None:
        """Take no more rows; the stream ends when those that it has are answered."""
        with self._lock:
            self._is_closing = self._must_look = True
            self._work.notify()
            self._progress.notify_all()  # who waits for room is told

    def finish(self, timeout_s: float) -> None:
        """Close as the store does: flush within timeout_s, then give up what waits."""
        target = self.hurry()
        if current_thread() is not self._thread:
            with self._lock:
                self._progress.wait_for(lambda: self.is_reached(target), timeout_s)
        self.begin_to_close()
        if self._answered < target:
            self._abandon("a store that was closed")

    def _abandon(self, what: str) -> None:
        with self._lock:
            self._is_closing = True
            self._end(
                StoreUnavailable(
                    f"expected time to send what waited, got {what} - at {self._at}; what was not"
                    " answered may or may not be there: with a producer, store.cursor knows"
                )
            )

    def _send_many(self, rows: Rows) -> None:
        if isinstance(rows, pa.RecordBatch):
            rows = pa.Table.from_batches([rows])
        if isinstance(rows, pa.Table):
            with self._lock:
                if rows.num_rows:
                    self._waiting.add_table(rows)
                    self._look(len(self._waiting.items))
            return
        if not isinstance(rows, list | tuple | dict):
            raise CallerError(
                "expected a row as a dict, or a list of them, a pa.Table or a pa.RecordBatch, got"
                f" {type(rows).__name__} - at send"
            )
        given = [rows] if isinstance(rows, dict) else rows
        copies = [row.copy() if isinstance(row, dict) else row for row in given]
        items = self._waiting.items
        items.extend(copies)
        self._weigh(copies[::WEIGHED_EVERY], len(items))

    def _weigh(self, rows: list[Any], count: int) -> None:
        with self._lock:
            self._waiting.weigh(rows)
            self._look(count)

    def _look(self, count: int) -> None:
        """After items were added, of which count wait now."""
        if self._waiting.is_full():
            self._must_look = True
        if count >= self._batch_rows:
            self._work.notify()

    def _wake(self) -> None:
        with self._lock:
            if self.is_closed:
                self._raise_error()
                raise self._closed()
            self._is_asleep = False
            self._work.notify()

    def _closed(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"expected an open stream, got one that was closed - at {self._at}; begin another with"
            " store.stream"
        )

    def _wait_for_room(self) -> None:
        self._refuse_fork()
        with self._lock:
            while True:
                self._raise_error()
                if self._is_closing:
                    raise self._closed()
                if not self._must_look or not self._waiting.is_full():
                    return
                if not self._block or current_thread() is self._thread:
                    raise Backpressure(
                        f"expected fewer than {self._max_rows} rows that wait, got"
                        f" {len(self._waiting.items)} of {self._waiting.bytes} bytes - at"
                        " Config.max_stream_rows or max_stream_bytes; send it again later"
                    )
                self._progress.wait()

    def _refuse_fork(self) -> None:
        if self._is_forked:  # the lock may be held for ever
            raise StoreUnavailable(
                f"expected the process that began the stream, got a fork of it - at {self._at};"
                " start a store there"
            )

    def _check_caller(self, at: str) -> None:
        self._refuse_fork()
        if current_thread() is self._thread:
            raise CallerError(
                f"expected a thread of the program, got the stream's own - at {at}; on_reject is"
                " called there, and must not wait for the stream"
            )


_LIVE: weakref.WeakSet[RowStream] = weakref.WeakSet()


def _in_a_fork() -> None:
    """A forked child has none of the threads: its copies of streams refuse."""
    for stream in list(_LIVE):
        stream._is_forked = stream._must_look = True


register_at_fork(after_in_child=_in_a_fork)
