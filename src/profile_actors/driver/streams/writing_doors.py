"""The doors through which a program sends rows: a submission at a time, or in a stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from weakref import WeakSet

from profile_actors.driver.arguments import (
    Instant,
    check_stream,
    identity_pairs,
    instant_ms,
)
from profile_actors.driver.connection import Connection
from profile_actors.driver.receipts import PendingReceipt, Receipt
from profile_actors.driver.sender import Rows, Sender
from profile_actors.driver.streams.async_stream import AsyncRowStream
from profile_actors.driver.streams.numbered_rows import by_row, numbered
from profile_actors.driver.streams.row_stream import RowStream
from profile_actors.driver.streams.submissions import Submissions
from profile_actors.driver.streams.travel import OnReject
from profile_actors.engine.identity.identity import Identity
from profile_actors.errors import CallerError
from profile_actors.ingest.record_deletions import Deletion, DeletionDoor


class WritingDoors:
    """The part of ``Store`` that sends rows."""

    _connection: Connection
    _sender: Sender

    def _begin_writing(self) -> None:
        known = self._connection
        self._submissions = Submissions(self._sender, known.config, known.clock, known.path)
        self._streams: WeakSet[RowStream] = WeakSet()

    def _finish_streams(self) -> None:
        for stream in list(self._streams):
            stream.finish(self._connection.config.call_timeout_s)

    def submit(
        self,
        dataset: str,
        rows: Rows,
        producer: str | None = None,
        offset: int | None = None,
        *,
        offsets: Sequence[int] | None = None,
        through: int | None = None,
    ) -> Receipt:
        """Store rows; returns when they are durable and folded.

        rows: dicts, a pa.Table or a pa.RecordBatch. producer, offset: a stream of your own whose
        rows you number; rows below ``cursor(producer)`` count as duplicates, but for those that
        were rejected: they are judged anew, and stored once if they are right now. Without an
        offset rows are appended at the cursor, wherever it stands by then: several drivers may
        append under one name.

        offsets, through: of rows whose numbers have holes, as a topic's offsets or a database's
        sequence: a number for each row, ascending, and where the range ends (by default after the
        last); it begins at ``offset``, or at the first of them. The cursor is ``through`` then, so
        what has no row in the range never comes. No rows at all may have a range, too.
        Raises DefinitionError, OffsetGap, CallerError, StoreUnavailable, Halt.
        """
        self._check_open()
        if offsets is not None or through is not None:
            block = numbered(rows, offset, () if offsets is None else offsets, through)
            begun = self._submissions.submit(dataset, block, producer, block.first_row)
            return by_row(begun.result(), block)
        return self._submissions.submit(dataset, rows, producer, offset).result()

    def delete_record(
        self, dataset: str, identity: tuple[str, str] | Identity, at: Instant | None = None
    ) -> Receipt:
        """Take back what a dataset of records says of one identity (namespace and value), up to
        ``at``; by default the store's now. Returns when that is durable and folded.

        A deletion is a statement like a row: what the dataset says later counts, what it said
        before does not, also if it comes after. Of a person with several identities the records of
        the others stay. As with any row, an identity that nobody named before is known from here
        on. Raises DefinitionError for a dataset that is not of records or a namespace
        that it has not, CallerError, StoreUnavailable, Halt.
        """
        self._check_open()
        ((namespace, value),) = identity_pairs([identity])
        self._sender.check_dataset(dataset, "delete_record")
        known = self._connection
        door = DeletionDoor(known.catalogue, dataset, known.seed, known.config)
        door.namespace(namespace)
        when = self._sender.store_now() if at is None else instant_ms(at)
        self._submissions.settle_order()
        rows = [Deletion(namespace, value, when)]
        return self._sender.submit(dataset, rows, later=False, door=door).result()

    def submit_async(
        self,
        dataset: str,
        rows: Rows,
        producer: str | None = None,
        offset: int | None = None,
        *,
        block: bool = True,
    ) -> PendingReceipt:
        """Like ``submit``, but returns at once: ``.result()`` waits for the receipt.

        With ``Config.max_in_flight`` batches unacknowledged it blocks, or raises Backpressure if
        block is False. On the wall clock small submissions of dicts that come meanwhile travel
        together, up to ``Config.max_stream_batch_rows`` rows a batch, and block when
        ``max_stream_rows`` wait; each has its own receipt.
        """
        self._check_open()
        return self._submissions.submit_later(dataset, rows, producer, offset, block)

    def stream(
        self,
        dataset: str,
        *,
        linger_ms: float = 5,
        producer: str | None = None,
        block: bool = True,
        on_reject: OnReject | None = None,
    ) -> RowStream:
        """Send rows one by one, which travel in batches: ``with store.stream("orders") as s:``.

        ``s.send(row)`` returns at once; ``s.flush()`` waits until what was sent is durable and
        folded; ``s.receipt()`` has the totals. A row travels at once when nothing of the stream is
        on its way, else with those that came within linger_ms (or the time that the batch before
        took, if longer), or that fill a batch (``Config.max_stream_batch_rows``). block=False:
        ``send`` raises Backpressure instead of waiting for room.

        producer: rows are numbered in a stream of your own, from ``cursor(producer)``, which is
        ``s.start``: leave out so many rows of your source and each counts exactly once, however
        often the program dies. Rejected rows count. One stream at a time per producer.

        on_reject: called with each rejected row's number (as sent here, from ``s.start``), path and
        reason, in the stream's thread, in order, when the row's batch is answered; it must not wait
        for the stream. The rows are in the quarantine.

        The first error of the store ends the stream: the next ``send`` and ``close`` raise it. The
        block closes the stream, after an exception too. Raises DefinitionError, CallerError.
        """
        self._check_open()
        self._check_arguments(dataset, linger_ms, producer)
        return self._begin(dataset, linger_ms, producer, block, on_reject, None)

    def astream(
        self,
        dataset: str,
        *,
        linger_ms: float = 5,
        producer: str | None = None,
        block: bool = True,
        on_reject: OnReject | None = None,
    ) -> AsyncRowStream:
        """``stream`` for asyncio: ``async with store.astream("orders") as s: await s.send(row)``.

        ``send`` waits only where there is no room, ``flush`` and the end of the block for the
        store's answer; neither blocks the loop. on_reject is called in the loop.
        """
        self._check_open()
        self._check_arguments(dataset, linger_ms, producer)

        def opening(rejected: OnReject | None, changed: Callable[[], object]) -> RowStream:
            return self._begin(dataset, linger_ms, producer, False, rejected, changed)

        return AsyncRowStream(opening, block=block, on_reject=on_reject)

    def _begin(
        self,
        dataset: str,
        linger_ms: float,
        producer: str | None,
        block: bool,
        on_reject: OnReject | None,
        on_change: Callable[[], object] | None,
    ) -> RowStream:
        made = RowStream(
            self._sender,
            dataset,
            self._connection.config,
            linger_ms=linger_ms,
            producer=producer,
            block=block,
            on_reject=on_reject,
            on_change=on_change,
            start=0 if producer is None else self._sender.cursor(producer),
        )
        self._streams.add(made)  # its thread keeps it there until it has ended
        return made

    def _check_arguments(self, dataset: str, linger_ms: float, producer: str | None) -> None:
        check_stream(producer, None)
        self._sender.check_dataset(dataset, "stream")
        is_number = isinstance(linger_ms, int | float) and not isinstance(linger_ms, bool)
        if not is_number or not 0 <= linger_ms < 60_000:
            raise CallerError(
                f"expected linger_ms as 0 to 60000 milliseconds, got {linger_ms!r} - at stream"
            )

    def _check_open(self) -> None:
        raise NotImplementedError
