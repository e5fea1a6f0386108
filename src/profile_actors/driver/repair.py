"""Rejected rows offered again: the driver's part of a repair.

Theory: ``engine/log/repairs`` has it. A row comes here when the partition that owns it has answered
that its offset was rejected before. It is stored if the quarantine still has its record, which is
closed then; a row whose record was dropped (``Config.max_quarantine_rows``, ``_bytes``) is rejected
with that reason, so that how much is to be known of old rejects stays bounded.

Cost: four short entries per partition and submission, in turn, and three calls to the coordinator.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from profile_actors.actors.calls import LONGEST_PAUSE_S, Lost, Patience, call_all
from profile_actors.actors.wire import pack
from profile_actors.columnar.vectors import Array
from profile_actors.driver.connection import Connection
from profile_actors.driver.courier import ProducerRows
from profile_actors.driver.receipts import Receipt
from profile_actors.engine.log.repairs import offsets_of_rows
from profile_actors.engine.log.sub_batch import Reply, SubBatch
from profile_actors.errors import DefinitionError, StoreUnavailable
from profile_actors.ingest.door import Prepared
from profile_actors.ingest.offsets import (
    NONE,
    contains,
    packed,
    ranges_of,
    union,
    unpacked,
    without,
)

DROPPED = (
    "expected a rejected row that is still in quarantine, got one whose record was dropped at"
    " Config.max_quarantine_rows or max_quarantine_bytes: it can no longer be repaired; submit it"
    " as a new row"
)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the store is with a producer. cursor: the smallest of the partitions'. open: offsets
    that some partition has passed over as rejected; taken: those of them that are stored already,
    in a repair that has not ended. Ranges, int64[k, 2]."""

    cursor: int
    open: Array
    taken: Array

    @property
    def waiting(self) -> Array:
        """Offsets that are to be offered again."""
        return union(self.open, self.taken)

    def stored(self, offsets: Array) -> Array:
        """Which offsets are sure to be in the store. bool[n]."""
        is_passed = (offsets < self.cursor) & ~contains(self.open, offsets)
        return np.asarray(is_passed | contains(self.taken, offsets))


def progress(connection: Connection, producer: str) -> Progress:
    """Ask every partition."""
    cursors, is_open, taken = [], NONE, NONE
    for cursor, opened, took in call_all(connection.partitions, "progress", producer):
        cursors.append(0 if cursor is None else int(cursor))
        is_open, taken = union(is_open, unpacked(opened)), union(taken, unpacked(took))
    return Progress(min(cursors), is_open, taken)


@dataclass(slots=True)
class Repaired:
    """What became of the rows. dropped: offsets that can no longer be repaired."""

    accepted: int = 0
    duplicate: int = 0
    late: int = 0
    dropped: list[int] = field(default_factory=list)


def not_stored(
    connection: Connection,
    stream: ProducerRows,
    batch: SubBatch,
    rejects: list[tuple[int, str, str]],
    source: str | None,
) -> list[tuple[int, str, str]]:
    """Rejected rows but for those whose offset is in the store: a repeat is a repeat, however
    it looks to this driver, and has no record."""
    if not rejects:
        return rejects
    offsets = np.array([row for row, _, _ in rejects])
    stored = progress(connection, stream.producer).stored(offsets)
    if stored.any():
        finish(connection, batch, source or stream.producer, offsets[stored])
    return [one for one, known in zip(rejects, stored.tolist(), strict=True) if not known]


def offered_again(
    connection: Connection,
    stream: ProducerRows,
    batches: list[tuple[int, SubBatch]],
    replies: list[Reply],
    source: str | None,
    is_shared: bool,
) -> Repaired:
    """Rows of a submission that had been rejected before. is_shared: as of ``receipt_of``."""
    tables: dict[int, pa.Table] = {}
    stored: list[Array] = []
    for (partition, batch), reply in zip(batches, replies, strict=True):
        if batch.table is None:
            continue
        offsets = offsets_of_rows(batch.table)
        waits = contains(unpacked(reply.open), offsets)
        if waits.any():
            tables[partition] = batch.table.filter(pa.array(waits))
        # Stored here, but passed over elsewhere, by drivers that died before they had said so.
        stored.append(offsets[contains(stream.passed, offsets) & ~waits])
    batch, origin = batches[0][1], source or stream.producer
    done = np.concatenate(stored) if stored else np.zeros(0, np.int64)
    if len(done):
        finish(connection, batch, origin, done)
    repaired = repair(connection, batch, origin, tables, is_shared) if tables else Repaired()
    settled = [done, *(offsets_of_rows(table) for table in tables.values())]
    stream.passed = without(stream.passed, ranges_of(np.concatenate(settled)))
    return repaired


def repair(
    connection: Connection,
    batch: SubBatch,
    source: str,
    tables: dict[int, pa.Table],
    is_shared: bool = False,
) -> Repaired:
    """Store rows that were rejected before, each once; see the module.

    batch: one of the submission they came with (which has moved the clock), for its dataset,
    producer and catalogue. source: what the quarantine calls their origin. tables: the rows by
    partition, with their offsets. is_shared: they are the same for all partitions, and each is to
    have all of them; counted are those of the first. Raises StoreUnavailable, DefinitionError if
    the dataset is gone.
    """
    return _Repair(connection, batch, source, is_shared).run(tables)


def finish(connection: Connection, batch: SubBatch, source: str, offsets: Array) -> None:
    """Rows that some partition had passed over as rejected are stored: say so everywhere."""
    _Repair(connection, batch, source).close(offsets)


class _Repair:
    """The steps of one repair, over one connection."""

    def __init__(
        self, connection: Connection, batch: SubBatch, source: str, is_shared: bool = False
    ) -> None:
        self._connection = connection
        self._is_shared = is_shared
        self._batch = replace(
            batch, after=None, through=0, clock=None, table=None, resend=False, credit=None,
            rejected=b"",
        )  # fmt: skip
        self._source = source
        self._attempt = 0

    def run(self, tables: dict[int, pa.Table]) -> Repaired:
        out = Repaired()
        end = time.monotonic() + self._connection.config.call_timeout_s
        pause = 0.01
        while tables:
            tables = self._try(tables, out)
            if tables:  # another driver repairs rows of this producer: let it, then go on
                if time.monotonic() > end:
                    raise StoreUnavailable(
                        "expected the repair of rejected rows to be let through, got others that"
                        f" repair rows of producer {self._batch.producer!r} all the time - at"
                        f" dataset {self._batch.dataset!r}; submit the rows again"
                    )
                time.sleep(random.uniform(0, pause))
                pause = min(2 * pause, 4 * LONGEST_PAUSE_S)
        return out

    def _try(self, tables: dict[int, pa.Table], out: Repaired) -> dict[int, pa.Table]:
        """One attempt; what is left of the rows when a newer attempt came between."""
        offsets = {partition: offsets_of_rows(table) for partition, table in tables.items()}
        offered = np.concatenate(list(offsets.values()))
        dataset = self._batch.dataset
        self._attempt = self._connection.coordinator.call("attempt", dataset, self._attempt)
        replies = self._step("fence", offered, range(len(self._connection.partitions)))
        if self._is_fenced(replies):
            return tables
        taken = NONE
        for reply in replies.values():
            taken = union(taken, unpacked(reply.taken))
        takes: dict[int, pa.Table] = {}
        for partition, mine in offsets.items():
            took = unpacked(replies[partition].taken) if self._is_shared else taken
            waits = contains(unpacked(replies[partition].open), mine) & ~contains(took, mine)
            kept = np.zeros(len(mine), np.bool_)
            rows = mine[waits].tolist()
            kept[waits] = self._connection.coordinator.call("kept", dataset, self._source, rows)
            if self._is_counted(partition):
                out.dropped += mine[waits & ~kept].tolist()
                out.duplicate += int((~waits).sum())
            if kept.any():
                takes[partition] = tables[partition].filter(pa.array(kept))
        replies = self._take(takes)
        left = {p: table for p, table in takes.items() if replies[p].status == "fenced"}
        stored = [offered[contains(taken, offered)]]
        for partition, table in takes.items():
            if partition not in left:
                reply = replies[partition]
                if self._is_counted(partition):
                    out.accepted += reply.accepted
                    out.duplicate += reply.duplicate
                    out.late += reply.late
                stored.append(offsets_of_rows(table))
        self._is_fenced(replies)
        self.close(np.concatenate(stored))
        return left

    def _is_counted(self, partition: int) -> bool:
        return not (self._is_shared and partition)

    def close(self, offsets: Array) -> None:
        """These offsets are stored: no partition has them open, nor the quarantine."""
        if len(offsets) == 0:
            return
        everyone = range(len(self._connection.partitions))
        self._step("close", offsets, everyone)
        self._connection.coordinator.call(
            "repaired", self._batch.dataset, self._source, np.sort(offsets).tolist()
        )
        self._step("settle", offsets, everyone)

    def _is_fenced(self, replies: dict[int, Reply]) -> bool:
        """Whether a newer attempt was met; the next one is above it."""
        fences = [r.expected for r in replies.values() if r.status == "fenced"]
        self._attempt = max([self._attempt, *fences])
        return bool(fences)

    def _step(self, name: str, offsets: Array, partitions: range) -> dict[int, Reply]:
        step = (self._attempt, name, packed(ranges_of(offsets)))
        return self._call({p: replace(self._batch, repair=step) for p in partitions})

    def _take(self, tables: dict[int, pa.Table]) -> dict[int, Reply]:
        """Send the rows to their owners."""
        step, batches = (self._attempt, "take", b""), {}
        for partition, table in tables.items():
            through = int(offsets_of_rows(table)[-1]) + 1
            batches[partition] = replace(self._batch, repair=step, table=table, through=through)
        return self._call(batches)

    def _call(self, batches: dict[int, SubBatch]) -> dict[int, Reply]:
        """Send all at once; each until it is answered 'ok' or 'fenced'."""
        actors = self._connection.partitions
        begun = {p: actors[p].begin("submit", *pack(batch)) for p, batch in batches.items()}
        return {p: self._answer(p, batches[p], answer) for p, answer in begun.items()}

    def _answer(self, partition: int, batch: SubBatch, answer: object) -> Reply:
        actor = self._connection.partitions[partition]
        patience = Patience(actor.timeout_s)
        while True:
            try:
                reply: Reply = actor.finish(answer, patience)
            except Lost:
                batch = replace(batch, resend=True)
            else:
                if reply.status in ("ok", "fenced"):
                    return reply
                patience.reason = reply.status
                if reply.status == "unknown":
                    raise DefinitionError(
                        f"expected a dataset, got {batch.dataset!r}, which was deleted - at the"
                        " repair of rejected rows; read store.definitions() again"
                    )
                if reply.status == "behind":
                    self._connection.deliver(partition)
            patience.wait_or_raise(actor.name)
            answer = actor.begin("submit", *pack(batch))


def receipt_of(
    connection: Connection,
    stream: ProducerRows,
    batches: list[tuple[int, SubBatch]],
    replies: list[Reply],
    prepared: Prepared,
    first: int,
    source: str | None,
    is_shared: bool = False,
) -> Receipt:
    """The receipt of one piece of a submission, after the repair of rows that wait for one.

    first: the offset of the submission's first row. source: of quarantine records. is_shared: every
    partition was sent all of its rows; what the first one says of them is counted.
    """
    rejects = [(r.row, r.path, r.reason) for r in prepared.rejects]
    repaired, refused = Repaired(), rejects
    is_again = stream.named and bool(rejects or len(stream.passed))
    if is_again or any(reply.open for reply in replies):
        repaired = offered_again(connection, stream, batches, replies, source, is_shared)
        refused = not_stored(connection, stream, batches[0][1], rejects, source)
        refused = sorted(refused + [(row, "", DROPPED) for row in repaired.dropped])
    known = len(rejects) + len(repaired.dropped) - len(refused)
    replies = replies[:1] if is_shared else replies
    return Receipt(
        accepted=sum(reply.accepted for reply in replies) + repaired.accepted,
        duplicate=sum(reply.duplicate for reply in replies) + repaired.duplicate + known,
        late=sum(reply.late for reply in replies) + repaired.late,
        forwarding=sum(reply.forwarding for reply in replies),
        rejected_count=len(refused),
        rejected=[(row - first, path, reason) for row, path, reason in refused],
        odd_times=prepared.odd_times,
        placeholders=prepared.placeholders.counts(),
    )
