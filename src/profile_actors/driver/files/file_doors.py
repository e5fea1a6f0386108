"""The doors for files: into the store, and out of it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from profile_actors.driver.connection import Selectors
from profile_actors.driver.definition_edits import newest
from profile_actors.driver.files.exports import ExportReport, exported
from profile_actors.driver.files.file_ingest import ingest_files
from profile_actors.driver.receipts import IngestReport
from profile_actors.driver.streams.writing_doors import WritingDoors


class FileDoors(WritingDoors):
    """The part of ``Store`` that reads and writes files."""

    def ingest(
        self,
        dataset: str,
        files: str | Path | Iterable[str | Path],
        max_bad_percent: float | None = None,
        progress: bool | None = None,
        closed: bool = True,
    ) -> IngestReport:
        """Load CSV, NDJSON and Parquet files, packed or not: paths, glob patterns, folders, URIs
        (docs/INGEST.md), in the order of their names.

        Each file counts once, whatever its directory or how often it is loaded; after a crash it
        resumes. Rows of it that were rejected before are judged anew. A file that has grown goes on
        at its new rows; the same bytes under another name count once; other content is new, and
        ``report.warnings`` says so where a file is no longer what it was. closed=False: the files
        may still grow, so a last line without a line end is left for the next time.
        max_bad_percent: a file of which more rows are bad is refused whole, after a pass that only
        judges. progress: show a bar; by default on a terminal.

        A broken file (no header, truncated, unreadable, …) does not keep the others from loading:
        ``report.broken`` says which and why, and what was accepted of it stays. Raises SchemaError,
        OSError where every file is broken, CallerError where there is none.
        """
        self._check_open()
        self._submissions.settle_order()
        patterns = [files] if isinstance(files, str | Path) else files
        return ingest_files(
            self._connection, self._sender, dataset, patterns, max_bad_percent, progress, closed
        )

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
        known = self._connection
        return exported(known, lambda: newest(known), segment, path, fields, format)
