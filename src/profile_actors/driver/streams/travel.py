"""A stream's own thread: it decides when rows travel, numbers and sends them, counts answers.

Theory: a row travels at once when nothing of the stream is on its way, else with those that came
within ``linger_ms`` or the time that the batch before took, whichever is longer, or that fill a
batch. (An entry costs the same for one row and for fifty: where the store is slower than the
stream, more batches would only queue there. Measured under load: half the latency.) Answers come in
the order of batches. Only this thread takes rows out of ``waiting``, so numbers and order are its
own business; callers tell it under the lock what they want.

Rules for editors: the thread calls the program (``on_reject``, ``on_change``) and the sender under
no lock. What ends a stream goes through ``_end``.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from threading import Condition, Lock, Thread
from types import TracebackType

from msgspec import structs

from profile_actors.config import Config
from profile_actors.driver.receipts import PendingReceipt, Receipt, summed
from profile_actors.driver.sender import Rows, Sender
from profile_actors.driver.streams.waiting_rows import WaitingRows

OnReject = Callable[[int, str, str], object]
"""Called with a rejected row's number, the path in it, and the reason."""


ON_WAY = 4
"""Batches of one stream that are on their way at most."""


class Travel:
    """What callers and the thread share, and the thread."""

    def __init__(
        self,
        sender: Sender,
        dataset: str,
        config: Config,
        linger_s: float,
        producer: str | None,
        first_row: int,
    ) -> None:
        self._sender = sender
        self._dataset = dataset
        self._at = f"the stream into {dataset!r}"
        self._producer = producer
        self._linger_s = linger_s
        self._batch_rows = min(config.max_stream_batch_rows, config.max_batch_rows)
        self._max_rows = config.max_stream_rows
        self._max_rejects = config.max_receipt_rejects
        self._max_on_way = min(ON_WAY, config.max_in_flight)
        self._on_reject: OnReject | None = None
        self._on_change: Callable[[], object] | None = None
        self._waiting = WaitingRows(config.max_stream_rows, config.max_stream_bytes)
        self._lock = Lock()
        self._work = Condition(self._lock)  # what the thread waits for
        self._progress = Condition(self._lock)  # what callers wait for
        self._must_look = False  # send looks before it takes a row: full, closing, ended
        self._is_asleep = False  # the thread waits for a first row
        self._is_closing = False
        self.is_closed = False
        self._error: BaseException | None = None
        self._trace: TracebackType | None = None
        # Items ever taken from ``waiting``, of these answered, and up to where somebody waits.
        self._taken = 0
        self._answered = 0
        self._hurry = 0
        self._next_row = first_row
        self._on_way: deque[tuple[PendingReceipt, int, int, float]] = deque()  # when, s
        self._took_s = 0.0  # from sending the batch answered last to its answer
        self._gathering_since: float | None = None
        self._receipt = Receipt()
        self._thread = Thread(target=self._run, name="stream", daemon=True)

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error.with_traceback(self._trace)

    def _run(self) -> None:
        try:
            while self._step():
                pass
        except BaseException as error:  # a defect: callers must not wait for ever
            with self._lock:
                self._end(error)
        with self._lock:
            self.is_closed = self._is_asleep = True
            self._progress.notify_all()
        self._tell()

    def _step(self) -> bool:
        """Count an answer, or send a batch, or wait for either; whether there is more to come."""
        if self._is_answered():
            self._settle(*self._on_way.popleft())
            return True
        with self._lock:
            pause_s = self._pause_s()
            if pause_s is None:
                return False
            if pause_s > 0:
                if not self._is_answered():  # whoever answers after this look notifies
                    self._work.wait(min(pause_s, threading.TIMEOUT_MAX))
                return True
            rows, items = self._waiting.take(self._batch_rows)
            self._gathering_since = None
            self._taken += items
            is_room = self._must_look and not self._is_closing and self._waiting.has_room()
            if is_room:
                self._must_look = False
                self._progress.notify_all()
        if is_room:
            self._tell()
        self._travel(rows, items)
        return True

    def _is_answered(self) -> bool:
        return bool(self._on_way) and self._on_way[0][0].done()

    def _pause_s(self) -> float | None:
        """Seconds to wait before something is to be sent, 0 for now; None at the end."""
        if self._error is not None:
            self._waiting.drop()  # rows after those that were not sent must not take their numbers
        count = len(self._waiting.items)
        if not count:
            is_over = self._is_closing or self._error is not None
            is_end = is_over and not self._on_way
            self._is_asleep, self.is_closed = True, is_end
            # Whoever appends after this look sees that nobody is awake, or that nobody ever will.
            if not self._waiting.items:
                return None if is_end else math.inf
            self._is_asleep = self.is_closed = False
        if self._gathering_since is None:
            self._gathering_since = time.monotonic()
        if len(self._on_way) >= self._max_on_way:
            return math.inf
        if not self._on_way or self._is_closing or self._taken < self._hurry:
            return 0
        if count >= self._batch_rows:
            return 0
        wait_s = max(self._linger_s, self._took_s)
        return max(0.0, self._gathering_since + wait_s - time.monotonic())

    def _travel(self, rows: Rows, items: int) -> None:
        """Number rows and put them on their way."""
        offset = None if self._producer is None else self._next_row
        began = time.monotonic()
        try:
            pending = self._sender.submit(self._dataset, rows, self._producer, offset, later=True)
        except Exception as error:
            with self._lock:
                self._end(error)
            return
        self._on_way.append((pending, self._next_row, items, began))
        self._next_row += len(rows)
        pending.when_done(self._nudge)

    def _nudge(self) -> None:
        with self._lock:
            self._work.notify()

    def _settle(self, pending: PendingReceipt, first: int, items: int, began: float) -> None:
        """Count what became of one batch."""
        self._took_s = time.monotonic() - began
        try:
            found = pending.whole()
            rejected = [(first + row, path, reason) for row, path, reason in found.rejected]
            with self._lock:
                self._receipt = summed(
                    [self._receipt, structs.replace(found, rejected=rejected)], self._max_rejects
                )
            if self._on_reject is not None:
                for one in rejected:
                    self._on_reject(*one)
        except Exception as error:
            with self._lock:
                self._end(error)
        with self._lock:
            self._answered += items
            self._progress.notify_all()
        self._tell()

    def _end(self, error: BaseException) -> None:
        """Take nothing more, for this reason unless there is one already. Under the lock."""
        if self._error is None:
            self._error, self._trace = error, error.__traceback__
        self._must_look = True
        self._waiting.drop()
        self._work.notify()
        self._progress.notify_all()

    def _tell(self) -> None:
        if self._on_change is not None:
            self._on_change()
