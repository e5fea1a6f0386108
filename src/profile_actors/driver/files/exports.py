"""Profiles into a file: a segment's members, or everybody, as Parquet, CSV or NDJSON.

Theory: an export is a scan (``engine.reading.scans``) that is written page by page, so its memory
does not grow with the members. Who is in it is fixed at one position of each partition's log; the
values of a page are as of a position at or after that one. The report names both, and so do the
metadata of a Parquet file. A file under the asked name is a whole one (``whole_files``).

CSV has no structs: their fields become columns with dotted names, lists and maps JSON texts.
Nothing is lost: null is the empty cell, the empty text is quoted, and ``ingest`` reads the same
values.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from profile_actors.definitions.declared import Catalogue
from profile_actors.driver.connection import Connection, Selectors
from profile_actors.driver.files.whole_files import bytes_of, check_place, whole_file
from profile_actors.driver.iterators import scan_parts
from profile_actors.errors import CallerError
from profile_actors.ingest.files.places import PACKED_SUFFIXES, form_of

PAGE_ROWS = 10_000
"""Profiles of one call."""


GROUP_ROWS = 131_072
"""Profiles of one row group of Parquet, at most."""


GROUP_BYTES = 32 << 20
"""Bytes of them, after which it is written."""


_CODECS = dict(zip(PACKED_SUFFIXES, ("gzip", "zstd", "bz2", "lz4"), strict=True))


class ExportReport(msgspec.Struct, frozen=True):
    """What was written. fields: the columns. positions: partition -> the number of entries of its
    log as of which the members are, and as of which the last values are. bytes: of the file."""

    path: str
    form: str
    segment: str | None
    columns: list[str]
    rows: int
    bytes: int
    seconds: float
    positions: dict[int, tuple[int, int]]


class Writer(Protocol):
    """Writes record batches of one schema."""

    def write(self, batch: pa.RecordBatch) -> None: ...

    def close(self, about: dict[str, str]) -> None: ...


def exported(
    connection: Connection,
    newest: Callable[[], Catalogue],
    segment: str | None,
    path: str | Path,
    fields: Selectors,
    form: str | None,
) -> ExportReport:
    """Write the profiles of a segment, None for all, to a local path or a URI.

    fields: as in ``scan``. form: 'parquet', 'csv' or 'ndjson'; by default the suffix says. CSV and
    NDJSON are packed if the name ends so (``.gz .zst .bz2 .lz4``). Cost: some 10 us a profile of 8
    columns. Raises CallerError for an unknown form and for a place in the store's own directory,
    DefinitionError for unknown names, Pending as ``members`` does, OSError.
    """
    name = str(path)
    known = form or form_of(name)
    if known not in _WRITERS or (known == "parquet" and _codec(name) is not None):
        raise CallerError(
            f"expected a file of {', '.join(_WRITERS)}, got {form or name!r} - at export; name it"
            " so, or say format="
        )
    check_place(name, connection.path, "export")
    schema, starts, parts = scan_parts(connection, newest, fields, segment, PAGE_ROWS)
    return written(name, known, segment, schema, starts, parts)


def written(
    name: str,
    form: str,
    segment: str | None,
    schema: pa.Schema,
    starts: dict[int, int],
    parts: Iterable[pa.RecordBatch],
) -> ExportReport:
    """Write batches as a file of a form. starts: the position of each partition; the others are in
    the batches' metadata. Raises OSError."""
    began, rows = time.perf_counter(), 0
    reached, told = dict(starts), dict[str, Any]()
    # Without record schemas there are no attributes, and no form has a struct of nothing.
    kept = [f.name for f in schema if not (pa.types.is_struct(f.type) and not f.type.num_fields)]
    schema = pa.schema([schema.field(name) for name in kept])
    with whole_file(name, _codec(name)) as out:
        writer = _WRITERS[form](out, schema)
        try:
            for batch in parts:
                about = batch.schema.metadata
                partition, position = int(about[b"partition"]), int(about[b"position"])
                reached[partition] = max(reached[partition], position)
                rows += batch.num_rows
                writer.write(batch.select(kept).replace_schema_metadata(None))
            positions = {at: (starts[at], reached[at]) for at in starts}
            told = {"segment": segment, "rows": rows, "positions": positions}
        finally:  # also of what fails: the file is not kept then
            writer.close({"profile_actors": msgspec.json.encode(told).decode()} if told else {})
    seconds = time.perf_counter() - began
    return ExportReport(name, form, segment, schema.names, rows, bytes_of(name), seconds, positions)


def _codec(name: str) -> str | None:
    return next((c for suffix, c in _CODECS.items() if name.lower().endswith(suffix)), None)


class _Parquet:
    """Row groups of many pages."""

    def __init__(self, out: Any, schema: pa.Schema) -> None:
        self._writer = pyarrow.parquet.ParquetWriter(out, schema, compression="zstd")
        self._schema = schema
        self._waiting: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0

    def write(self, batch: pa.RecordBatch) -> None:
        self._waiting.append(batch)
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        if self._rows >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
            self._flush()

    def close(self, about: dict[str, str]) -> None:
        self._flush()
        self._writer.add_key_value_metadata(about)
        self._writer.close()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting, self._schema))
        self._waiting, self._rows, self._bytes = [], 0, 0


class _Csv:
    """Flat columns; texts in quotes, nothing as nothing."""

    def __init__(self, out: Any, schema: pa.Schema) -> None:
        self._names, flat = _flat(pa.RecordBatch.from_pylist([], schema))
        kinds = [(name, column.type) for name, column in zip(self._names, flat, strict=True)]
        options = pyarrow.csv.WriteOptions(quoting_style="needed")
        self._writer = pyarrow.csv.CSVWriter(out, pa.schema(kinds), write_options=options)

    def write(self, batch: pa.RecordBatch) -> None:
        names, columns = _flat(batch)
        self._writer.write_batch(pa.RecordBatch.from_arrays(columns, names=names))

    def close(self, about: dict[str, str]) -> None:
        self._writer.close()


def _flat(batch: pa.RecordBatch) -> tuple[list[str], list[pa.Array]]:
    """The columns without structs, lists and maps, and their names."""
    names, columns = [], []
    pending = list(zip(batch.schema.names, batch.columns, strict=True))[::-1]
    while pending:
        name, column = pending.pop()
        kind = column.type
        if pa.types.is_struct(kind):
            inner = [kind.field(i).name for i in range(kind.num_fields)]
            parts = zip(inner, column.flatten(), strict=True)
            pending += [(f"{name}.{at}", part) for at, part in parts][::-1]
            continue
        if pa.types.is_nested(kind):
            cells = column.to_pylist(maps_as_pydicts="strict")
            column = pa.array([None if c is None else _JSON.encode(c).decode() for c in cells])
            column = column.cast(pa.string())
        elif pa.types.is_dictionary(kind):
            column = column.dictionary_decode()
        elif pa.types.is_null(kind):
            column = column.cast(pa.string())
        names.append(name)
        columns.append(column)
    return names, columns


class _Ndjson:
    """An object per line, nested as the columns are; what has no value is left out."""

    def __init__(self, out: Any, schema: pa.Schema) -> None:
        self._out = out

    def write(self, batch: pa.RecordBatch) -> None:
        cells = [_cells(column) for column in batch.columns]
        self._out.write(_JSON.encode_lines(_objects(batch.schema.names, cells)))

    def close(self, about: dict[str, str]) -> None:
        pass


def _cells(column: pa.Array) -> list[Any]:
    """A column as JSON has it: instants as texts, structs and maps as objects."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        column = column.cast(pa.string())
    if not pa.types.is_struct(kind):
        return column.to_pylist(maps_as_pydicts="strict")  # type: ignore[no-any-return]
    names = [kind.field(i).name for i in range(kind.num_fields)]
    rows = _objects(names, [_cells(part) for part in column.flatten()])
    if not column.null_count:
        return rows
    return [
        row if kept else None for row, kept in zip(rows, column.is_valid().to_pylist(), strict=True)
    ]


def _objects(names: list[str], columns: list[list[Any]]) -> list[Any]:
    return [
        {name: value for name, value in zip(names, row, strict=True) if value is not None}
        for row in zip(*columns, strict=True)
    ]


_JSON = msgspec.json.Encoder(decimal_format="number")


_WRITERS: dict[str, Callable[[Any, pa.Schema], Writer]] = {
    "parquet": _Parquet,
    "csv": _Csv,
    "ndjson": _Ndjson,
}
