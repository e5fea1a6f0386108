"""A file of any form, packed or not, as blocks of numbered rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pyarrow as pa

from profile_actors.errors import SchemaError
from profile_actors.ingest.files.byte_sources import WHOLE, ByteSource, Stream, plain_bytes
from profile_actors.ingest.files.csv_blocks import csv_blocks
from profile_actors.ingest.files.json_tables import JsonTables
from profile_actors.ingest.files.ndjson_blocks import ndjson_blocks
from profile_actors.ingest.files.parquet_blocks import parquet_blocks
from profile_actors.ingest.files.places import File
from profile_actors.ingest.row_blocks import RowBlock


def read_blocks(
    file: File,
    form: str,
    packing: str | None,
    block_bytes: int,
    tables: JsonTables,
    size: int,
    closed: bool = True,
    skip_unnamed: bool = False,
) -> Iterator[RowBlock]:
    """The rows of a file, in blocks of about block_bytes of what it holds.

    form, packing: as ``form_of`` and ``packed_with`` say. size: of the file; of a plain text, how
    much of it is to be read. closed: nobody writes to it any more (``csv_blocks``). skip_unnamed:
    leave out columns of a CSV file that have no name. The sizes of blocks are those in the file.
    Raises SchemaError, OSError.
    """
    if form == "parquet":
        if packing is not None:
            raise SchemaError(
                f"expected a Parquet file, got one packed with {packing} - at {file}; unpack it:"
                " Parquet packs its own columns"
            )
        with file.open("rb") as opened, _faults_of(form, str(file)):
            yield from parquet_blocks(opened, str(file), size, block_bytes)
        return
    with plain_bytes(file, packing) as source:
        plain = size if packing is None else WHOLE
        yield from text_blocks(
            source, form, str(file), block_bytes, tables, plain, closed, skip_unnamed
        )


def text_blocks(
    source: ByteSource,
    form: str,
    name: str,
    block_bytes: int,
    tables: JsonTables,
    size: int = WHOLE,
    closed: bool = True,
    skip_unnamed: bool = False,
) -> Iterator[RowBlock]:
    """The rows of an open CSV or NDJSON file; name: what errors call it."""
    blocks = (
        csv_blocks(source, name, block_bytes, size, False, closed, skip_unnamed)
        if form == "csv"
        else ndjson_blocks(source, name, block_bytes, tables, size, closed)
    )
    behind = 0
    with _faults_of(form, name):
        for block in blocks:
            if isinstance(source, Stream):
                now = source.packed_place()
                block = replace(block, size_bytes=now - behind)
                behind = now
            yield block


@contextmanager
def _faults_of(form: str, name: str) -> Iterator[None]:
    """What a reader trips over without a word for it is the file's fault, not the program's."""
    try:
        yield
    except (pa.ArrowException, ValueError) as error:
        raise SchemaError(
            f"expected a file of {form}, got {error} - at {name}; what was read before stays"
        ) from None
