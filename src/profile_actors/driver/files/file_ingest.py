"""Files into the store: those that a call names, one after the other, with a progress bar."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from pathlib import Path

import msgspec
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from profile_actors.driver.connection import Connection
from profile_actors.driver.files.file_load import FileLoad
from profile_actors.driver.receipts import IngestReport
from profile_actors.driver.sender import Sender
from profile_actors.driver.terminal import one_line
from profile_actors.errors import CallerError
from profile_actors.ingest.files.places import File, matching, size_of


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
    found = matching(patterns)
    files = found.files
    began = time.perf_counter()
    before = dict(sender.stage_s)
    show = sys.stderr.isatty() if progress is None else progress
    passes = 1 if max_bad_percent is None else 2
    bar = _bar() if show else None
    total = passes * _bytes_of(files) if show else 0
    task = TaskID(0) if bar is None else bar.add_task(f"{len(files)} files", total=total, rows=0)
    report = IngestReport(skipped=found.skipped)
    faults: list[Exception] = []
    with bar or nullcontext():
        for file in files:

            def on_block(size: int, rows: int) -> None:
                if bar is not None:
                    done = int(bar.tasks[0].fields["rows"]) + rows
                    name = escape(one_line(file.name))  # noqa: B023
                    bar.update(task, advance=size, rows=done, description=name)

            one = FileLoad(connection, sender, dataset, file, max_bad_percent, closed)
            report = report.plus(one.run(on_block))
            if one.fault is not None:
                faults.append(one.fault)
    if len(faults) == len(files):
        raise faults[0]
    stages = {name: s - before.get(name, 0.0) for name, s in sender.stage_s.items()}
    return msgspec.structs.replace(report, seconds=time.perf_counter() - began, stage_s=stages)


def _bytes_of(files: Iterable[File]) -> int:
    total = 0
    for file in files:
        with suppress(OSError):  # one may go meanwhile
            total += size_of(file)
    return total


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("{task.fields[rows]:,} rows"),
        TimeRemainingColumn(),
        transient=True,
    )
