"""What the doors return about writing and about the store: receipts, reports, status."""

from __future__ import annotations

import concurrent.futures
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from profile_actors.actors.actor_status import ActorStatus, ErasureProgress, LedgerAccount
from profile_actors.actors.consumers import Consumer, of_all
from profile_actors.actors.edges.edge_accounts import EdgeStatus
from profile_actors.actors.mail.postman import Outbox
from profile_actors.engine.identity.messages import LEDGER
from profile_actors.engine.log.sub_batch import Reply
from profile_actors.ingest.offsets import offsets_of, unpacked
from profile_actors.ingest.placeholder_columns import NONE_PASSED, PassedOver, added, joined


class Receipt(msgspec.Struct, frozen=True):
    """What became of the rows of one submission; they are durable and folded.

    accepted + duplicate + rejected_count is the number of rows submitted. late counts, among the
    accepted, those older than what was already folded for their profile; forwarding those that are
    not in their person's profile yet, since identities are just being joined, and will be
    shortly. rejected: the first ``Config.max_receipt_rejects`` as
    (row number, path, reason), rows numbered as submitted, from 0; all are in the quarantine.
    odd_times: rows whose time makes sense only in another unit than declared, by what to say of
    them; they were treated as any row, and ``warnings`` says it in full. placeholders: values in
    the place of an identity that name nobody and were passed over (``LinkingRules``), and how
    often; the 100 most frequent, all further ones together under "…".
    """

    accepted: int = 0
    duplicate: int = 0
    late: int = 0
    forwarding: int = 0
    rejected_count: int = 0
    rejected: list[tuple[int, str, str]] = []
    odd_times: dict[str, int] = {}
    placeholders: dict[str, int] = {}

    @property
    def warnings(self) -> list[str]:
        """What the sender should look at, in sentences."""
        return [
            f"{rows:,} {'row' if rows == 1 else 'rows'} {what}"
            for what, rows in self.odd_times.items()
        ]


def summed(receipts: Sequence[Receipt], max_rejects: int) -> Receipt:
    """One receipt for several."""
    odd: Counter[str] = Counter()
    for receipt in receipts:
        odd.update(receipt.odd_times)
    return Receipt(
        accepted=sum(r.accepted for r in receipts),
        duplicate=sum(r.duplicate for r in receipts),
        late=sum(r.late for r in receipts),
        forwarding=sum(r.forwarding for r in receipts),
        rejected_count=sum(r.rejected_count for r in receipts),
        rejected=[row for r in receipts for row in r.rejected][:max_rejects],
        odd_times=dict(odd),
        placeholders=added(receipt.placeholders for receipt in receipts),
    )


class RowCounts:
    """Which rows of one batch were duplicates, and which were late: ascending numbers from its
    first row, int64[n]; and the placeholders in them. Filled when the batch is answered."""

    def __init__(self) -> None:
        self.duplicate = self.late = np.zeros(0, np.int64)
        self.placeholders = NONE_PASSED

    def take(self, replies: Sequence[Reply], first: int, passed: PassedOver) -> None:
        """Of the partitions' replies; first: the offset of the batch's first row. passed: by
        offset."""
        passed = PassedOver(passed.rows - first, passed.values)
        self.placeholders = joined([self.placeholders, passed])
        told = [reply.rows for reply in replies if reply.rows is not None]
        duplicate = [offsets_of(unpacked(one)) for one, _ in told]
        late = [offsets_of(unpacked(one)) for _, one in told]
        self.duplicate = np.sort(np.concatenate([self.duplicate, *duplicate])) - first
        self.late = np.sort(np.concatenate([self.late, *late])) - first


class PendingReceipt:
    """A submission on its way. It needs no attention: it is resent until answered."""

    def __init__(
        self, pieces: Sequence[concurrent.futures.Future[Receipt]], max_rejects: int
    ) -> None:
        self._pieces = pieces
        self._max_rejects = max_rejects

    def done(self) -> bool:
        return all(piece.done() for piece in self._pieces)

    def result(self, timeout_s: float | None = None) -> Receipt:
        """Wait for the receipt. Raises what went wrong, TimeoutError if timeout_s passes first."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        receipts = [
            piece.result(None if end is None else max(0.0, end - time.monotonic()))
            for piece in self._pieces
        ]
        return summed(receipts, self._max_rejects)

    def whole(self) -> Receipt:
        """The result with every rejected row, however many."""
        receipts = [piece.result() for piece in self._pieces]
        return summed(receipts, sum(len(receipt.rejected) for receipt in receipts))

    def when_done(self, tell: Callable[[], object]) -> None:
        """Call ``tell`` when the last piece is answered, in the thread that settles it."""
        self._pieces[-1].add_done_callback(lambda _: tell())


class Explanation:
    """How a rule runs: ``report`` is plain data (see ``rules.explain``), its text is for people."""

    def __init__(self, report: dict[str, Any]) -> None:
        self.report = report

    def __str__(self) -> str:
        from profile_actors.rules.explain.wording import render

        return render(self.report)


class FileReport(msgspec.Struct, frozen=True):
    """What became of the rows of one file. form: 'csv', 'ndjson' or 'parquet'. packing: what packed
    it, as its bytes say ('gzip', 'zstd', 'bz2', 'lz4'), or None. The rest is as in IngestReport."""

    form: str = ""
    packing: str | None = None
    rows: int = 0
    accepted: int = 0
    duplicate: int = 0
    late: int = 0
    rejected_count: int = 0
    bytes: int = 0
    seconds: float = 0.0
    placeholders: dict[str, int] = {}


class IngestReport(msgspec.Struct, frozen=True):
    """What became of the rows of the files of one ``ingest``.

    refused: the files of which rows were rejected, and none was accepted or known already: they are
    probably not what the dataset expects. broken: file -> why it could not be read to its end; what
    was read before is counted, and stays. warnings: per file, what to look at, in sentences.
    skipped: what folders held besides -> why it was passed over. by_file: file -> its own counts.
    placeholders: as of a receipt.
    bytes: of the files, as they are packed, that were read. seconds: elapsed. stage_s: seconds the
    driver spent by stage (parse, validate, split, send), the time it waited not counted.
    """

    files: int = 0
    rows: int = 0
    accepted: int = 0
    duplicate: int = 0
    late: int = 0
    rejected_count: int = 0
    bytes: int = 0
    seconds: float = 0.0
    stage_s: dict[str, float] = {}
    warnings: list[str] = []
    refused: list[str] = []
    broken: dict[str, str] = {}
    skipped: dict[str, str] = {}
    by_file: dict[str, FileReport] = {}
    placeholders: dict[str, int] = {}

    def plus(self, other: IngestReport) -> IngestReport:
        """Two files' counts together."""
        return IngestReport(
            files=self.files + other.files,
            rows=self.rows + other.rows,
            accepted=self.accepted + other.accepted,
            duplicate=self.duplicate + other.duplicate,
            late=self.late + other.late,
            rejected_count=self.rejected_count + other.rejected_count,
            bytes=self.bytes + other.bytes,
            warnings=self.warnings + other.warnings,
            refused=self.refused + other.refused,
            broken=self.broken | other.broken,
            skipped=self.skipped | other.skipped,
            by_file=self.by_file | other.by_file,
            placeholders=added([self.placeholders, other.placeholders]),
        )


class StoreStatus(msgspec.Struct, frozen=True):
    """The store's account of itself. now: ms, the newest of its partitions', None if none has one.

    halted: partition -> why it does not write. rejected: rows ever rejected, per dataset;
    quarantined: those of them that can be looked at and offered again; repaired: those of them that
    were offered again and stored. The rest was dropped at ``Config.max_quarantine_rows`` or
    ``max_quarantine_bytes``. notes: what an operator should know since the store was started, in
    sentences. consumers: the readers of the change feed that gave a name (``Store.changes``), the
    one farthest behind first. edges: by destination. ledger: of who is one person, None in a store
    without links. outbox: messages between partitions and the ledger ("L") that are on their way,
    as "from-to". erasure: the one that goes on, None if none does; partitions stand still
    meanwhile.
    """

    path: str
    clock: str
    catalogue: int
    now: int | None
    profiles: int
    events: int
    records: int
    late: int
    duplicate: int
    changes: int
    changes_by_clock: int
    bytes: int
    rejected: dict[str, int]
    halted: dict[int, str]
    partitions: list[ActorStatus]
    quarantined: dict[str, int] = {}
    repaired: dict[str, int] = {}
    notes: list[str] = []
    consumers: dict[str, Consumer] = {}
    edges: dict[str, EdgeStatus] = {}
    ledger: LedgerAccount | None = None
    outbox: dict[str, Outbox] = {}
    erasure: ErasureProgress | None = None


def store_status(
    path: str,
    clock: str,
    catalogue: int,
    rejected: dict[str, tuple[int, int, int]],
    actors: list[ActorStatus],
    notes: Sequence[str] = (),
    ledger: LedgerAccount | None = None,
) -> StoreStatus:
    """Add up the partitions' own accounts, and the ledger's."""
    boxes = {str(index): actor.outbox for index, actor in enumerate(actors)}
    if ledger is not None:
        boxes[LEDGER] = ledger.outbox
    parts = [actor.partition for actor in actors if actor.partition is not None]
    return StoreStatus(
        path=path,
        clock=clock,
        catalogue=catalogue,
        notes=list(notes),
        now=max((part.now for part in parts if part.now is not None), default=None),
        profiles=sum(part.profiles for part in parts),
        events=sum(part.events for part in parts),
        records=sum(part.records for part in parts),
        late=sum(part.late for part in parts),
        duplicate=sum(part.duplicate for part in parts),
        changes=sum(part.changes for part in parts),
        changes_by_clock=sum(part.changes_by_clock for part in parts),
        bytes=sum(part.log_bytes + part.feed_bytes for part in parts)
        + (ledger.ledger.log_bytes if ledger is not None and ledger.ledger is not None else 0),
        rejected={name: total for name, (total, _, _) in rejected.items()},
        quarantined={name: kept for name, (_, kept, _) in rejected.items()},
        repaired={name: repaired for name, (_, _, repaired) in rejected.items()},
        halted={index: actor.halted for index, actor in enumerate(actors) if actor.halted},
        partitions=actors,
        consumers=of_all([actor.consumers for actor in actors]),
        ledger=ledger,
        outbox={
            f"{source}-{to}": told
            for source, box in boxes.items()
            for to, told in box.items()
            if told.depth
        },
    )
