"""One file on its way into the store.

Theory: a file is a producer known by its content (``file_contents``), whose offsets are row
numbers. So the store knows how far it got, whatever the path or the size of the blocks was; rows
before the cursor are not even sent, but for those that were rejected: they are offered again, since
definitions may have changed. Which content a producer stands for is kept before its first row is
sent: a file that grows after a crash goes on where it was. While partitions fold one block the next
one is parsed.

With a limit on bad rows the file is read twice: what is refused is refused whole.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator

import msgspec
import numpy as np

from profile_actors.actors.wall_clock import wall_ms
from profile_actors.driver.connection import Connection
from profile_actors.driver.receipts import FileReport, IngestReport, PendingReceipt, Receipt, summed
from profile_actors.driver.repair import Progress, progress
from profile_actors.driver.sender import Sender
from profile_actors.errors import SchemaError
from profile_actors.ingest.door import Door
from profile_actors.ingest.files.byte_sources import packed_with
from profile_actors.ingest.files.file_contents import (
    Digests,
    FileContent,
    Recognised,
    Rest,
    complete_bytes,
    grown_from,
    place_of,
    recognised,
)
from profile_actors.ingest.files.forms import read_blocks
from profile_actors.ingest.files.json_tables import JsonTables
from profile_actors.ingest.files.mended_files import mended_from, rest_of
from profile_actors.ingest.files.places import File, form_of, size_of
from profile_actors.ingest.offsets import NONE, common
from profile_actors.ingest.row_blocks import RowBlock

OnBlock = Callable[[int, int], None]
"""Told of bytes and rows that were read."""


class BlockSender:
    """Sends the blocks of one source, each row that the store does not have, and adds up the
    receipts."""

    def __init__(
        self, connection: Connection, sender: Sender, dataset: str, on_block: OnBlock
    ) -> None:
        self._connection = connection
        self._sender = sender
        self._dataset = dataset
        self._on_block = on_block
        self._pending: deque[PendingReceipt] = deque()
        self.rows = 0
        self.known = 0
        self.bytes = 0
        self.done = Receipt()

    def report(self, form: str, packing: str | None, seconds: float) -> FileReport:
        """What became of the rows, so far."""
        return FileReport(
            form=form,
            packing=packing,
            rows=self.rows,
            accepted=self.done.accepted,
            duplicate=self.known + self.done.duplicate,
            late=self.done.late,
            rejected_count=self.done.rejected_count,
            bytes=self.bytes,
            seconds=seconds,
            placeholders=self.done.placeholders,
        )

    def send(
        self, blocks: Iterator[RowBlock], producer: str | None, source: str, before: Progress
    ) -> None:
        """All of them, and wait for their receipts. before: how far the store is with producer.

        Raises SchemaError, OSError for a broken file, when what was read before is answered.
        """
        try:
            while True:
                began = time.perf_counter()
                block = next(blocks, None)
                self._sender.spent("parse", began)
                if block is None:
                    break
                self._send_block(block, producer, source, before)
                while self._pending and self._pending[0].done():
                    self._take()
        except (SchemaError, OSError):
            self._take_all()
            raise
        self._take_all()

    def _send_block(
        self, block: RowBlock, producer: str | None, source: str, before: Progress
    ) -> None:
        self.bytes += block.size_bytes
        self._on_block(block.size_bytes, len(block))
        self.rows += len(block)
        known = min(max(0, before.cursor - block.first_row), len(block))
        again = common(before.waiting, np.array([[block.first_row, block.first_row + known]]))
        self.known += known - int((again[:, 1] - again[:, 0]).sum())
        parts = [block[:known].only(again)] if len(again) else []
        if known < len(block):
            parts.append(block[known:] if known else block)
        for part in parts:
            offset = None if producer is None else part.first_row
            self._pending.append(
                self._sender.submit(
                    self._dataset, part, producer, offset, later=True, source=source
                )
            )

    def _take_all(self) -> None:
        while self._pending:
            self._take()

    def _take(self) -> None:
        receipt = self._pending.popleft().result()
        self.done = summed([self.done, receipt], self._connection.config.max_receipt_rejects)


def report_of(
    name: str, one: FileReport, warnings: list[str], fault: Exception | None = None
) -> IngestReport:
    """The report of a load of one file. fault: why it is broken."""
    is_refused = one.rejected_count > 0 and one.accepted + one.duplicate == 0
    return IngestReport(
        files=1,
        rows=one.rows,
        accepted=one.accepted,
        duplicate=one.duplicate,
        late=one.late,
        rejected_count=one.rejected_count,
        bytes=one.bytes,
        seconds=one.seconds,
        warnings=warnings,
        refused=[name] if is_refused and fault is None else [],
        broken={} if fault is None else {name: str(fault)},
        by_file={name: one},
        placeholders=one.placeholders,
    )


class FileLoad:
    """One file on its way."""

    def __init__(
        self,
        connection: Connection,
        sender: Sender,
        dataset: str,
        file: File,
        max_bad_percent: float | None,
        closed: bool,
    ) -> None:
        self._connection = connection
        self._sender = sender
        self._dataset = dataset
        self._file = file
        self._max_bad_percent = max_bad_percent
        self._closed = closed
        self._form = form_of(file.name) or ""
        self._packing: str | None = None
        self._warnings: list[str] = []
        self.fault: SchemaError | OSError | None = None

    def run(self, on_block: OnBlock) -> IngestReport:
        """Send what the store has not, wait for all of it.

        Where the file is broken, ``fault`` says how; what was read before stays sent.
        """
        began = time.perf_counter()
        sent = BlockSender(self._connection, self._sender, self._dataset, on_block)
        try:
            self._load(sent, on_block)
        except (SchemaError, OSError) as error:
            self.fault = error
        name = str(self._file)
        one = sent.report(self._form, self._packing, time.perf_counter() - began)
        texts = (f"{self._file.name}: {text}" for text in sent.done.warnings)
        return report_of(name, one, [*self._warnings, *texts], self.fault)

    def _load(self, sent: BlockSender, on_block: OnBlock) -> None:
        """Raises SchemaError, OSError for a broken file."""
        self._packing = packed_with(self._file)
        size = size_of(self._file)
        is_plain = self._form != "parquet" and self._packing is None
        is_growing = is_plain and not self._closed
        if is_growing:
            size = complete_bytes(self._file, size)
        if self._max_bad_percent is not None:
            self._check_share(size, self._max_bad_percent, on_block)
        found = self._recognised(size, is_plain)
        self._warnings = list(found.warnings)
        content = found.content
        # Two files of one name may both have bad rows: the name alone would mix them up.
        source = f"{content.name}#{content.producer[:SHORT]}"
        before = progress(self._connection, content.producer)
        is_done = 0 <= content.rows <= before.cursor and not len(before.waiting)
        if is_done:  # nothing in it is news: it need not be read
            sent.rows = sent.known = content.rows
            sent.bytes = content.bytes
            on_block(content.bytes, content.rows)
            return
        # Without a line the names of a growing file's columns may not be whole yet.
        try:
            if content.bytes or not is_growing:
                sent.send(self._blocks(content.bytes), content.producer, source, before)
        finally:
            self._sender.forget(content.producer)
        # Of a text that may grow the last row may be left out, so all rows are not known.
        rows = sent.rows if self._closed or self._form == "parquet" else content.rows
        rest = self._rest(content, sent) if is_plain else None
        self._keep(msgspec.structs.replace(content, rows=rows, rest=rest))
        sent.bytes = sent.bytes or content.bytes  # a header alone is in no block

    def _blocks(self, size: int) -> Iterator[RowBlock]:
        catalogue = self._connection.catalogue
        ignore = catalogue.datasets[self._dataset].ignore
        return read_blocks(
            self._file,
            self._form,
            self._packing,
            self._connection.config.ingest_block_bytes,
            JsonTables(catalogue, self._dataset),
            size,
            self._closed,
            ignore == "*" or "" in tuple(ignore),
        )

    def _check_share(self, size: int, limit: float, on_block: OnBlock) -> None:
        """Read and judge all of the file. Raises SchemaError if too much of it is bad."""
        known = self._connection
        door = Door(known.catalogue, self._dataset, known.seed, known.config)
        rows, bad, first = 0, 0, None
        for block in self._blocks(size):
            on_block(block.size_bytes, 0)
            rejects = door.prepare(block, block.first_row, wall_ms()).rejects
            rows, bad = rows + len(block), bad + len(rejects)
            first = first or next(iter(rejects), None)
        if first is not None and 100 * bad > limit * rows:
            raise SchemaError(
                f"expected at most {limit:g} percent bad rows, got {100 * bad / rows:.3g} percent"
                f" ({bad} of {rows}), the first: {first.reason} - at {self._file} row {first.row},"
                f" {first.path or 'the whole row'}; nothing of the file was taken"
            )

    def _rest(self, content: FileContent, sent: BlockSender) -> Rest | None:
        """What tells the file again when its rejected rows have been put right in place."""
        if not sent.done.rejected_count:
            return None
        rejected = progress(self._connection, content.producer).waiting
        return rest_of(self._file, self._form, content.bytes, sent.rows, rejected)

    def _recognised(self, size: int, is_plain: bool) -> Recognised:
        """What the store knows of the file; kept before any row of it is sent."""
        ask = self._connection.coordinator.call
        same_name: list[FileContent] = ask("files_of_name", self._dataset, self._file.name)
        if self._form == "parquet":
            # Its last bytes say what is in it: one that begins as another did is not the same one.
            same_name_sizes = (c.bytes for c in same_name if c.bytes == size)
        else:
            same_name_sizes = (c.bytes for c in same_name)
        digests = Digests(self._dataset, self._file, size, same_name_sizes)
        digests.is_open = digests.is_open and is_plain
        digest = digests.at[digests.size]
        same_bytes = ask("file_of_bytes", self._dataset, digest) if digests.size else None
        if same_bytes is not None and form_of(same_bytes.name) != self._form:
            same_bytes = None  # read as what it is not, it had other rows
        mended = None
        if is_plain and same_bytes is None and grown_from(digests, same_name) is None:
            where = place_of(self._file)
            mended = mended_from(self._file, where, self._form, size, same_name)
        found = recognised(self._file, digests, same_name, same_bytes, mended)
        self._keep(found.content)
        return found

    def _keep(self, content: FileContent) -> None:
        if content.bytes:
            self._connection.coordinator.call("keep_file", self._dataset, content)


SHORT = 6
"""Characters of a file's producer that tell files of one name apart in quarantine."""


UNKNOWN = Progress(0, NONE, NONE)
"""Of a source that the store does not know."""
