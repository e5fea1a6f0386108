"""The doors for files: into the store, and out of it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from profile_actors.driver.arguments import check_stream, whole_number
from profile_actors.driver.connection import Selectors
from profile_actors.driver.definition_edits import newest
from profile_actors.driver.receipts import IngestReport, Receipt
from profile_actors.driver.streams.writing_doors import WritingDoors
from profile_actors.errors import CallerError
from profile_actors.ingest.rejects import QuarantineRecord

if TYPE_CHECKING:
    from ray.data import Dataset

    from profile_actors.driver.files.exports import ExportReport


class FileDoors(WritingDoors):
    """The part of ``Store`` that reads and writes files."""

    def ingest(
        self,
        dataset: str,
        files: str | Path | Iterable[str | Path] | Dataset,
        max_bad_percent: float | None = None,
        progress: bool | None = None,
        closed: bool = True,
        *,
        format: Literal["csv", "ndjson"] | None = None,
        producer: str | None = None,
    ) -> IngestReport:
        """Load CSV, NDJSON and Parquet files, packed or not: paths, glob patterns, folders, URIs
        (docs/INGEST.md), in the order of their names.

        Each file counts once, whatever its directory or how often it is loaded; after a crash it
        resumes. Rows of it that were rejected before are judged anew. A file that has grown goes on
        at its new rows; the same bytes under another name count once; other content is new, and
        the report's ``warnings`` say so where a file is no longer what it was. closed=False: they
        may still grow, so a last line without a line end is left for the next time.
        max_bad_percent: a file of which more rows are bad is refused whole, after a pass that only
        judges. progress: show a bar; by default on a terminal.

        A Dataset of Ray Data (extra ``data``) is taken block by block; with a producer in the order
        of its sources, its rows numbered from 0: what was read before counts once.

        "-" alone is standard input, CSV or NDJSON (format: if its first byte does not tell). With a
        producer its rows are numbered from 0: what was read before counts once.

        A broken file (no header, truncated, unreadable, …) does not keep the others from loading:
        the report's ``broken`` says which and why, and what was accepted of it stays. Raises
        SchemaError, OSError where every file is broken, CallerError where there is none.
        """
        self._check_open()
        from profile_actors.driver.files.file_ingest import ingest_files
        from profile_actors.driver.files.ray_datasets import ingest_dataset, is_dataset
        from profile_actors.driver.files.stdin_load import STDIN, ingest_stream

        self._submissions.settle_order()
        if is_dataset(files):
            _refuse_twice("a Dataset", max_bad_percent)
            check_stream(producer, None)
            if format is not None:
                raise CallerError("expected no format with a Dataset, got one - at ingest")
            return ingest_dataset(self._connection, self._sender, dataset, files, producer)
        if files == STDIN:
            check_stream(producer, None)
            _refuse_twice("standard input", max_bad_percent)
            if sys.stdin is None:
                raise CallerError("expected standard input, got a closed one - at ingest")
            stdin = sys.stdin.buffer
            return ingest_stream(self._connection, self._sender, dataset, stdin, format, producer)
        if format is not None or producer is not None:
            raise CallerError(
                "expected format with '-' alone and producer with '-' or a Dataset, got them with"
                " files - at ingest"
            )
        patterns: Any = [files] if isinstance(files, str | Path) else files
        return ingest_files(
            self._connection, self._sender, dataset, patterns, max_bad_percent, progress, closed
        )

    def follow(
        self,
        dataset: str,
        folder: str | Path,
        every_s: float = 2.0,
        max_bad_percent: float | None = None,
        closed: bool = True,
    ) -> Iterator[IngestReport]:
        """Load a folder's files as they come, for ever: a report for each, as ``ingest`` gives.

        The folder, or one of a URI, is looked at every so many seconds, with the folders in it. A
        file is loaded when it looks the same twice, and again when it has changed: what has grown
        goes on, what shrank or was altered is new and ``warnings`` say so. Each row counts
        once, across restarts too. End it by leaving the loop. Raises CallerError for no folder.
        """
        self._check_open()
        self._submissions.settle_order()
        from profile_actors.driver.files.following import followed

        known, sender = self._connection, self._sender
        return followed(known, sender, dataset, folder, every_s, max_bad_percent, closed)

    def quarantine(self, dataset: str, limit: int = 100) -> list[QuarantineRecord]:
        """Rejected rows of a dataset, the oldest kept first: source, row, path, reason, raw."""
        self._check_open()
        limit = whole_number(limit, "limit", "quarantine", 0)
        self._sender.check_dataset(dataset, "quarantine")
        rows: list[QuarantineRecord] = self._connection.coordinator.call(
            "quarantine", dataset, limit
        )
        return rows

    def resubmit(self, dataset: str, records: Iterable[Mapping[str, Any]]) -> Receipt:
        """Offer rejected rows again, mended: each counts once, as the row that it was.

        records: of ``quarantine`` as objects with ``source`` and ``row``, and the mended row as an
        object under ``mended``; those without one are left out. A row that waits in quarantine is
        stored and leaves it; one that was repaired meanwhile is a duplicate. Rows that came without
        a producer or a file have no number of their own: submit those as new ones. Raises
        CallerError, before any is offered, for a record that names no row, for two of one row, and
        for a row that the store has not come to (a load was killed: end it first); DefinitionError.
        """
        self._check_open()
        self._submissions.settle_order()
        from profile_actors.driver.files.mended_rows import resubmitted

        return resubmitted(self._connection, self._sender, dataset, records)

    def export(
        self,
        segment: str | None,
        path: str | Path,
        fields: Selectors = None,
        format: Literal["parquet", "csv", "ndjson"] | None = None,
    ) -> ExportReport:
        """Write a segment's profiles, or everybody's (None), to a local path or a URI.

        fields: as in ``scan``; by default everything. format: by default the suffix says:
        ``.parquet``, ``.csv`` or ``.ndjson``, the latter two also packed (``.csv.gz``). Members are
        those of one position of each partition's log, values as of that or a later one; the report
        names both, and a Parquet file's metadata too. The file is there when it is whole. CSV has
        structs as columns with dotted names, lists and maps as JSON; ``ingest`` reads the same
        values back. Memory does not grow with the members. Raises Pending as ``members`` does,
        CallerError, DefinitionError for unknown names, OSError.
        """
        self._check_open()
        from profile_actors.driver.files.exports import exported

        known = self._connection
        return exported(known, lambda: newest(known), segment, path, fields, format)

    def ray_dataset(self, segment: str | None = None, fields: Selectors = None) -> Dataset:
        """A segment's profiles, or everybody's (None), as a Dataset of Ray Data (extra ``data``).

        Its columns are those of ``scan``, with statuses as plain texts. It is made at once, by
        tasks of the store's Ray, in blocks of up to 131,072 profiles that stay in its object store
        (what does not fit there, Ray puts on disk); so it shows that moment, and goes when Ray
        does: with a store that was started here, when that is closed. Members are those of one
        position of each partition's log, values as of that or a later one. Raises ConfigError
        without the extra, Pending as ``members`` does, DefinitionError for unknown names.
        """
        self._check_open()
        from profile_actors.driver.files.ray_datasets import ray_dataset

        known = self._connection
        found: Dataset = ray_dataset(known, lambda: newest(known), segment, fields)
        return found


def _refuse_twice(given: str, max_bad_percent: float | None) -> None:
    """Raises CallerError if what can be read once is to be read twice."""
    if max_bad_percent is not None:
        raise CallerError(
            f"expected files with max_bad_percent, got {given}, which cannot be read twice - at"
            " ingest; write it to a file first"
        )
