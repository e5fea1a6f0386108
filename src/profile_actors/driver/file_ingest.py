"""Files into the store: each counts once, resumes after a crash, pipelined, with a progress bar.

Theory: a file is a producer known by its content (``file_contents``), whose offsets are row
numbers. So the store knows how far it got, whatever the path or the size of the blocks was; rows
before the cursor are not even sent, but for those that were rejected: they are offered again, since
definitions may have changed. Which content a producer stands for is kept before its first row is
sent: a file that grows after a crash goes on where it was. While partitions fold one block the next
one is parsed.
"""

from __future__ import annotations

import glob
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path

import msgspec
import numpy as np
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from profile_actors.driver.connection import Connection
from profile_actors.driver.receipts import IngestReport, PendingReceipt, Receipt, summed
from profile_actors.driver.repair import progress
from profile_actors.driver.sender import Sender
from profile_actors.driver.terminal import one_line
from profile_actors.errors import CallerError, SchemaError
from profile_actors.ingest.csv_blocks import read_csv_blocks
from profile_actors.ingest.file_contents import (
    Digests,
    FileContent,
    Recognised,
    complete_bytes,
    recognised,
)
from profile_actors.ingest.offsets import common

SUFFIXES = (".csv",)


MIN_ROWS_FOR_PERCENT = 1_000
"""Before so many rows of a file a share of bad ones means little; at its end it always counts."""


OnBlock = Callable[[int, int], None]
"""Told of bytes and rows that were read."""


def ingest_files(
    connection: Connection,
    sender: Sender,
    dataset: str,
    patterns: Iterable[str | Path],
    max_bad_percent: float | None,
    progress: bool | None,
    closed: bool = True,
) -> IngestReport:
    """Load files and wait until everything is durable and folded; see ``Store.ingest``.

    A broken file ends its own load, not the others'. Raises its error where no file was whole.
    """
    sender.check_dataset(dataset, "ingest")
    if max_bad_percent is not None and not (
        isinstance(max_bad_percent, int | float) and 0 <= max_bad_percent <= 100
    ):
        raise CallerError(
            f"expected max_bad_percent from 0 to 100, got {max_bad_percent!r} - at ingest"
        )
    files = matching(patterns)
    began = time.perf_counter()
    before = dict(sender.stage_s)
    total = sum(file.stat().st_size for file in files if file.is_file())  # one may go meanwhile
    show = sys.stderr.isatty() if progress is None else progress
    bar = _bar() if show else None
    task = TaskID(0) if bar is None else bar.add_task(f"{len(files)} files", total=total, rows=0)
    report = IngestReport()
    faults: list[Exception] = []
    with bar or nullcontext():
        for file in files:

            def on_block(size: int, rows: int) -> None:
                if bar is not None:
                    done = int(bar.tasks[0].fields["rows"]) + rows
                    name = escape(one_line(file.name))  # noqa: B023
                    bar.update(task, advance=size, rows=done, description=name)

            one = _FileLoad(connection, sender, dataset, file, max_bad_percent, closed)
            report = report.plus(one.run(on_block))
            if one.fault is not None:
                faults.append(one.fault)
    if len(faults) == len(files):
        raise faults[0]
    stages = {name: s - before.get(name, 0.0) for name, s in sender.stage_s.items()}
    return msgspec.structs.replace(report, seconds=time.perf_counter() - began, stage_s=stages)


def matching(patterns: Iterable[str | Path]) -> list[Path]:
    """The files that paths and glob patterns name, each once, sorted. Raises CallerError."""
    found: set[Path] = set()
    patterns = list(patterns) if isinstance(patterns, Iterable) else [patterns]
    for pattern in patterns:
        if not isinstance(pattern, str | Path):
            raise CallerError(
                f"expected paths of files or glob patterns, got {pattern!r} - at ingest"
            )
        text = str(pattern)
        # A name that no file can have is no file's: Path would raise OSError.
        names = [text] if os.path.isfile(text) else glob.glob(text, recursive=True)
        files = [Path(name) for name in names if os.path.isfile(name)]
        if not files:
            hint = f"; name its files: '{text}/*.csv'" if os.path.isdir(text) else ""
            raise CallerError(f"expected a file, got none that matches {text!r} - at ingest{hint}")
        found.update(files)
    odd = sorted(str(file) for file in found if file.suffix.lower() not in SUFFIXES)
    if odd:
        raise CallerError(
            f"expected {' or '.join(SUFFIXES)} files, got {odd[0]!r} - at ingest; convert it first"
        )
    return sorted(found)


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[rows]:,} rows"),
        TimeRemainingColumn(),
        transient=True,
    )


class _FileLoad:
    """One file on its way."""

    def __init__(
        self,
        connection: Connection,
        sender: Sender,
        dataset: str,
        file: Path,
        max_bad_percent: float | None,
        closed: bool,
    ) -> None:
        self._connection = connection
        self._sender = sender
        self._dataset = dataset
        self._file = file
        self._max_bad_percent = max_bad_percent
        self._closed = closed
        self._pending: deque[PendingReceipt] = deque()
        self._rows = 0
        self._known = 0
        self._bytes = 0
        self._done = Receipt()
        self._warnings: list[str] = []
        self.fault: SchemaError | OSError | None = None

    def run(self, on_block: OnBlock) -> IngestReport:
        """Send what the store has not, wait for all of it.

        Where the file is broken, ``fault`` says how; what was read before stays sent.
        """
        try:
            self._load(on_block)
        except (SchemaError, OSError) as error:
            self.fault = error
            while self._pending:
                self._take()
        done, fault = self._done, self.fault
        duplicate = self._known + done.duplicate
        is_refused = done.rejected_count > 0 and done.accepted + duplicate == 0 and fault is None
        return IngestReport(
            files=1,
            rows=self._rows,
            accepted=done.accepted,
            duplicate=duplicate,
            late=done.late,
            rejected_count=done.rejected_count,
            bytes=self._bytes,
            warnings=[*self._warnings, *(f"{self._file.name}: {text}" for text in done.warnings)],
            refused=[str(self._file)] if is_refused else [],
            broken={} if fault is None else {str(self._file): str(fault)},
        )

    def _load(self, on_block: OnBlock) -> None:
        """Raises SchemaError, OSError for a broken file."""
        found = self._recognised()
        self._warnings = list(found.warnings)
        content = found.content
        producer = content.producer
        # Two files of one name may both have bad rows: the name alone would mix them up.
        source = f"{content.name}#{producer[:6]}"
        before = progress(self._connection, producer)
        cursor, waiting = before.cursor, before.waiting
        blocks = read_csv_blocks(
            self._file,
            self._connection.config.ingest_block_bytes,
            size=content.bytes,
            closed=self._closed,
            skip_unnamed=self._skips_unnamed(),
        )
        # Without a line the names of a growing file's columns may not be whole yet.
        while self._closed or content.bytes:
            began = time.perf_counter()
            block = next(blocks, None)
            self._sender.spent("parse", began)
            if block is None:
                break
            self._bytes += block.size_bytes
            on_block(block.size_bytes, len(block))
            self._rows += len(block)
            known = min(max(0, cursor - block.first_row), len(block))
            again = common(waiting, np.array([[block.first_row, block.first_row + known]]))
            self._known += known - int((again[:, 1] - again[:, 0]).sum())
            parts = [block[:known].only(again)] if len(again) else []
            if known < len(block):
                parts.append(block[known:] if known else block)
            self._pending += [
                self._sender.submit(
                    self._dataset, part, producer, part.first_row, later=True, source=source
                )
                for part in parts
            ]
            while self._pending and self._pending[0].done():
                self._take()
            self._check_share(MIN_ROWS_FOR_PERCENT)
        while self._pending:
            self._take()
        self._check_share(0)
        self._sender.forget(producer)
        self._keep(msgspec.structs.replace(content, rows=self._rows))
        self._bytes = self._bytes or content.bytes  # a header alone is in no block

    def _skips_unnamed(self) -> bool:
        ignore = self._connection.catalogue.datasets[self._dataset].ignore
        return ignore == "*" or "" in tuple(ignore)

    def _recognised(self) -> Recognised:
        """What the store knows of the file; kept before any row of it is sent."""
        size = self._file.stat().st_size
        if not self._closed:
            size = complete_bytes(self._file, size)
        ask = self._connection.coordinator.call
        same_name: list[FileContent] = ask("files_of_name", self._dataset, self._file.name)
        digests = Digests(self._dataset, self._file, size, (c.bytes for c in same_name))
        digest = digests.at[digests.size]
        same_bytes = ask("file_of_bytes", self._dataset, digest) if digests.size else None
        found = recognised(self._file, digests, same_name, same_bytes)
        self._keep(found.content)
        return found

    def _keep(self, content: FileContent) -> None:
        if content.bytes:
            self._connection.coordinator.call("keep_file", self._dataset, content)

    def _take(self) -> None:
        receipt = self._pending.popleft().result()
        self._done = summed([self._done, receipt], self._connection.config.max_receipt_rejects)

    def _check_share(self, min_rows: int) -> None:
        limit = self._max_bad_percent
        answered = self._done.accepted + self._done.duplicate + self._done.rejected_count
        if limit is None or answered <= min_rows or not self._done.rejected_count:
            return
        share = 100 * self._done.rejected_count / answered
        if share > limit:
            row, path, reason = self._done.rejected[0]
            raise SchemaError(
                f"expected at most {limit:g} percent bad rows, got {share:.3g} percent"
                f" ({self._done.rejected_count} of {answered}), the first: {reason} - at"
                f" {self._file} row {row}, {path or 'the whole row'}; the others are in"
                f" quarantine({self._dataset!r}); what was accepted stays"
            )
