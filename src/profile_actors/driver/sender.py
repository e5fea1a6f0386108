"""Rows from the door to the partitions: prepare, number, split, send.

Theory: a submission is cut into pieces of at most ``Config.max_batch_rows``; each is validated at
the door, its rejected rows go to the quarantine *before* anything is sent (once a cursor has passed
a row, nobody would offer it again), and the accepted ones travel as one table per partition.

Who gets a sub-batch: on the wall clock, an anonymous stream reaches only partitions that own rows.
A named producer's range, and rows appended to one, go to every partition, with rows or without, so
that the smallest of their cursors is what the store has of the producer. On the event clock every
submission goes to every partition with the largest accepted timestamp of the *whole* submission.
"""

from __future__ import annotations

import itertools
import secrets
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import Lock
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from msgspec import structs

from profile_actors.actors.calls import call_all
from profile_actors.actors.wall_clock import wall_ms
from profile_actors.definitions.declared import named
from profile_actors.driver.arguments import check_stream
from profile_actors.driver.connection import Connection
from profile_actors.driver.courier import Courier, Parcel, ProducerRows
from profile_actors.driver.definition_edits import newest
from profile_actors.driver.receipts import PendingReceipt, Receipt, RowCounts
from profile_actors.driver.repair import progress, receipt_of
from profile_actors.driver.terminal import instant_text
from profile_actors.engine.log.connections import name_of
from profile_actors.engine.log.sub_batch import Reply, SubBatch
from profile_actors.errors import CallerError, ClockError, DefinitionError, OffsetGap
from profile_actors.ingest.door import Door, Prepared
from profile_actors.ingest.offsets import packed, ranges_of
from profile_actors.ingest.record_deletions import DeletionDoor
from profile_actors.ingest.rejects import quarantined
from profile_actors.ingest.route import split
from profile_actors.ingest.row_blocks import RowBlock

LAST_WORD_S = 2.0
"""How long a connection that closes tries to say so."""


Rows: TypeAlias = Sequence[dict[str, Any]] | Any
"""Dicts, a pa.Table, a pa.RecordBatch or a RowBlock (pyarrow has no types to name)."""


class Sender:
    """The writing half of a driver's connection. Thread-safe: submissions are numbered in turn."""

    def __init__(
        self, connection: Connection, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """monotonic: seconds, by which a connection's own stream ages."""
        self._monotonic = monotonic
        self._connection = connection
        self._courier = Courier(
            connection.path,
            connection.partitions,
            connection.deliver,
            connection.config.max_in_flight,
        )
        self._lock = Lock()
        self._anonymous: ProducerRows | None = None
        self._named: dict[str, ProducerRows] = {}
        self._doors: dict[tuple[int, str], Door] = {}
        self.stage_s: dict[str, float] = {}
        self._now: int | None = None

    def submit(
        self,
        dataset: str,
        rows: Rows,
        producer: str | None = None,
        offset: int | None = None,
        *,
        later: bool,
        block: bool = True,
        source: str | None = None,
        by_row: RowCounts | None = None,
        door: Door | DeletionDoor | None = None,
    ) -> PendingReceipt:
        """Send rows. later: return before the answers are there (the courier waits for them).

        source: what the quarantine calls the origin of the rows. by_row: is told which rows were
        duplicate or late, before the result is there. door: another than the dataset's. Raises
        OffsetGap, Backpressure, DefinitionError; other errors come with the result.
        """
        check_stream(producer, offset)
        pieces = _in_pieces(rows, self._connection.config.max_batch_rows)
        if not pieces:
            self.check_dataset(dataset)
            return PendingReceipt([], 0)
        limit = self._connection.config.max_receipt_rejects
        with self._lock:
            door = door or self._door(dataset)
            streams, first = self._streams(producer, offset)
            stamp = None if door.dataset.timestamp is not None else self.store_now()
            self._courier.reserve(block)
            try:
                prepared, at = [], first
                for piece in pieces:
                    began = time.perf_counter()
                    prepared.append((at, door.prepare(piece, at, wall_ms(), stamp)))
                    self.spent("validate", began)
                    at += len(piece)
                self._quarantine(dataset, source, streams, first, [p for _, p in prepared])
            except BaseException:
                self._courier.release()
                raise
            parcels = self._send_all(
                dataset, streams, prepared, first, source, later=later, by_row=by_row
            )
        if not later and len(parcels) == 1:
            self._courier.await_answers(parcels[0])
        return PendingReceipt([p.result for p in parcels], limit)

    def _send_all(
        self,
        dataset: str,
        streams: tuple[ProducerRows, ...],
        prepared: list[tuple[int, Prepared]],
        first: int,
        source: str | None,
        *,
        later: bool,
        by_row: RowCounts | None,
    ) -> list[Parcel]:
        """Send the pieces of one submission, for which one place is reserved."""
        clock = max((p.clock for _, p in prepared if p.clock is not None), default=None)
        parcels: list[Parcel] = []
        is_reserved = True
        try:
            for at, piece in prepared:
                if not is_reserved:
                    self._courier.reserve()
                is_reserved = True
                parcel = self._send(dataset, streams, at, piece, clock, first, source, by_row)
                is_reserved = False
                parcels.append(parcel)
                if later or len(prepared) > 1:
                    self._courier.settle_later(parcel)
        except BaseException:
            # Offsets are taken for which nothing may have been sent: nobody goes on from them.
            for stream in streams:
                stream.broken = True
            if is_reserved:
                self._courier.release()
            raise
        return parcels

    def cursor(self, producer: str) -> int:
        """The offset of the next row that the store needs of a producer; 0 if it is unknown."""
        cursors = call_all(self._connection.partitions, "cursor", producer)
        return min(0 if cursor is None else int(cursor) for cursor in cursors)

    def forget(self, producer: str) -> None:
        """Let go of a named producer's stream (a file that is done)."""
        with self._lock:
            self._named.pop(producer, None)

    def flush(self) -> None:
        """Wait until everything sent so far is answered."""
        with self._lock:
            self._courier.drain()

    def close(self) -> None:
        """Refuse what is new; wait until what was begun is answered, a call's patience at most."""
        self._courier.close(self._connection.config.call_timeout_s)
        if self._anonymous is not None:
            self._courier.say_closed(self._anonymous, LAST_WORD_S)

    def end(self) -> None:
        """End the courier's thread, after calls were refused: every result is there then."""
        self._courier.end()

    def advance(self, now: int, clocks: Sequence[int | None]) -> None:
        """Move the event clock of every partition, which stand at these. Raises ClockError."""
        partitions = self._connection.partitions
        latest = max((clock for clock in clocks if clock is not None), default=None)
        if latest is not None and now < latest:
            raise ClockError(
                f"expected an instant at or after {instant_text(latest)}, got {instant_text(now)} -"
                " at advance_to; the event clock never goes back"
            )
        call_all(partitions, "advance", now, timeout_s=self._connection.long_timeout_s)
        self.reached(now)

    def reached(self, now: int) -> None:
        """The event clock is at least there now."""
        self._now = max(now, self._now or now)

    def store_now(self) -> int | None:
        """On the event clock: the time of rows that bring none, which is the store's now: that of
        the partitions, and of what this driver has on its way to them.

        None where the wall clock rules, and in an event store before its first instant.
        """
        if self._connection.clock == "event":
            for clock in call_all(self._connection.partitions, "hello"):
                if clock is not None:
                    self.reached(clock)
        return self._now

    def check_dataset(self, dataset: str, at: str = "submit") -> None:
        """Raises DefinitionError if there is no such dataset. at: what was called."""
        datasets = self._connection.catalogue.datasets
        if named(datasets, dataset) is None:  # another driver may have applied it since
            datasets = newest(self._connection).datasets
        if named(datasets, dataset) is None:
            known = ", ".join(sorted(datasets)) or "none yet"
            raise DefinitionError(
                f"expected the name of a dataset, got {dataset!r} - at {at}; known: {known}"
            )

    def spent(self, stage: str, began_s: float) -> None:
        """Count the time since began_s (perf_counter) to a stage of the door."""
        self.stage_s[stage] = self.stage_s.get(stage, 0.0) + time.perf_counter() - began_s

    def _door(self, dataset: str) -> Door:
        self.check_dataset(dataset)
        key = (self._connection.catalogue.version, dataset)
        if key not in self._doors:
            self._doors = {k: d for k, d in self._doors.items() if k[0] == key[0]}
            self._doors[key] = self._new_door(dataset)
        return self._doors[key]

    def _new_door(self, dataset: str) -> Door:
        known = self._connection
        return Door(known.catalogue, dataset, known.seed, known.config)

    def odd_times(self, dataset: str, groups: Sequence[Rows]) -> list[dict[str, int]]:
        """What receipts say of the times of several groups of rows. Takes no lock."""
        door = self._new_door(dataset)
        return [door.prepare(rows, 0, wall_ms()).odd_times for rows in groups]

    def _streams(
        self, producer: str | None, offset: int | None
    ) -> tuple[tuple[ProducerRows, ...], int]:
        """The stream that numbers the rows, the named one they are appended to if any, and the
        offset of the submission's first row in the former.

        Rows without an offset are numbered in a stream of this connection alone, so whatever others
        send under the producer's name, and however often these are resent, each counts once.
        """
        if producer is None:
            own = self._own()
            return (own,), own.next_offset
        named = self._named.get(producer)
        if named is None or named.broken:
            known = progress(self._connection, producer)
            named = self._named[producer] = ProducerRows(
                producer, named=True, next_offset=known.cursor, passed=known.waiting
            )
        if offset is None:
            own = self._own()
            return (own, named), own.next_offset
        offset = int(offset)
        if offset > named.next_offset:
            named.next_offset = max(named.next_offset, self.cursor(producer))
        if offset > named.next_offset:
            raise OffsetGap(
                f"expected offset {named.next_offset} or an earlier one, got {offset} - at producer"
                f" {producer!r}; resend from store.cursor(producer)",
                named.next_offset,
            )
        return (named,), offset

    def _own(self) -> ProducerRows:
        """The stream of this connection that numbers rows without an offset."""
        own, now_s = self._anonymous, self._monotonic()
        if own is not None and own.may_go_on(now_s):
            return own
        if own is not None:  # rows keep their order across names
            self._courier.drain(self._connection.config.call_timeout_s)
        name = name_of(max(call_all(self._connection.partitions, "born")), uuid.uuid4().hex)
        blank: list[int | None] = [None] * len(self._connection.partitions)
        own = self._anonymous = ProducerRows(name, named=False, sent=blank, began_s=now_s)
        return own

    def _quarantine(
        self,
        dataset: str,
        source: str | None,
        streams: tuple[ProducerRows, ...],
        first: int,
        prepared: list[Prepared],
    ) -> None:
        """Keep the rejected rows, numbered in the stream that their caller named."""
        rejects = [reject for piece in prepared for reject in piece.rejects]
        if not rejects:
            return
        named = streams[-1]
        if len(streams) > 1:
            # Others may have appended meanwhile.
            named.next_offset = max(named.next_offset, self.cursor(named.producer))
            shift = named.next_offset - first
            rejects = [structs.replace(reject, row=reject.row + shift) for reject in rejects]
        elif named.named:
            # A row that is stored needs no record, though this driver's definitions be older.
            offsets = np.array([reject.row for reject in rejects])
            stored = progress(self._connection, named.producer).stored(offsets).tolist()
            rejects = [one for one, known in zip(rejects, stored, strict=True) if not known]
        records = quarantined(source or named.producer, rejects)
        self._connection.coordinator.call("reject", dataset, records, len(streams) > 1)

    def _send(
        self,
        dataset: str,
        streams: tuple[ProducerRows, ...],
        at: int,
        prepared: Prepared,
        clock: int | None,
        first: int,
        source: str | None,
        by_row: RowCounts | None,
    ) -> Parcel:
        """Split one piece, link its parts into the partitions' chains, send them."""
        stream, target = streams[0], streams[-1]
        credit = (target.producer, prepared.rows, target.least) if len(streams) > 1 else None
        through = at + prepared.rows
        count, is_shared = len(self._connection.partitions), self._connection.is_shared(dataset)
        tables: list[pa.Table | None] = [None] * count
        if prepared.table is not None and prepared.table.num_rows:
            began = time.perf_counter()
            tables = split(prepared.table, self._connection.assignment, count, is_shared)
            self.spent("split", began)
        clock = clock if self._connection.clock == "event" else None
        if clock is not None:
            self.reached(clock)
        rejected = b""
        if prepared.rejects and target.named:
            passed = np.array([reject.row for reject in prepared.rejects])
            rejected = packed(ranges_of(passed if stream.named else passed - at))
        batches = []
        token = (
            secrets.randbits(63) if stream.named else 0
        )  # others' rows have numbers of their own
        for partition, table in enumerate(tables):
            if table is None and clock is None and not target.named:
                continue
            # Offset 0 begins a stream: no partition can lack anything before it.
            after = (at or None) if stream.named else stream.sent[partition]
            batch = SubBatch(
                dataset, stream.producer, after, through, self._connection.catalogue.version,
                clock, table, credit=credit, rejected=rejected, by_row=by_row is not None,
                token=token,
            )  # fmt: skip
            batches.append((partition, batch))
            if not stream.named:
                stream.sent[partition] = through
        stream.next_offset = max(stream.next_offset, through)
        if credit is not None:
            target.next_offset += prepared.rows
        elif stream.named:
            stream.least = max(stream.least, through)
        began = time.perf_counter()

        def finish(replies: list[Reply]) -> Receipt:
            if by_row is not None:
                by_row.take(replies[:1] if is_shared else replies, first, prepared.placeholders)
            return receipt_of(
                self._connection, stream, batches, replies, prepared, first, source, is_shared
            )

        parcel = self._courier.send(streams, batches, finish)
        self.spent("send", began)
        return parcel


def _in_pieces(rows: Rows, limit: int) -> list[Any]:
    """Pieces of at most limit rows; none of nothing. Raises CallerError for what are no rows."""
    if not isinstance(rows, pa.Table | pa.RecordBatch | RowBlock | list):
        if isinstance(rows, str | bytes | Mapping) or not isinstance(rows, Iterable):
            raise CallerError(
                "expected rows as dicts, a pa.Table or a pa.RecordBatch, got"
                f" {type(rows).__name__} - at submit; put a single row into a list"
            )
        rows = list(rows)
    if isinstance(rows, RowBlock) and rows.numbers is not None:
        # So many rows; what has none in between is no work.
        bounds = [0, *rows.numbers[limit::limit].tolist(), len(rows)]
        return [rows[start:stop] for start, stop in itertools.pairwise(bounds)] if len(rows) else []
    starts = range(0, len(rows), limit)
    if isinstance(rows, pa.Table | pa.RecordBatch):
        return [rows.slice(start, limit) for start in starts]
    return [rows[start : start + limit] for start in starts]
