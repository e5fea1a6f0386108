"""Parquet files as blocks of columns: row numbers run over the row groups.

Theory: columns keep the file's types and are judged by the door as any Arrow table's are. What the
format does not promise is checked here: texts that are no UTF-8 refuse their row.

Limits: a block has at most ``MAX_ROWS`` rows, of about block_bytes of what they take unpacked, and
of a few times as much in memory: a text that comes again and again is stored once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from profile_actors.errors import SchemaError
from profile_actors.ingest.rejects import Reject
from profile_actors.ingest.row_blocks import RowBlock

MAX_ROWS = 131_072


STEP_ROWS = 2_048
"""Rows that are read at a time, since only then is known what they take."""


MAX_SPREAD = 4
"""Blocks may take so many times block_bytes in memory."""


_MIN_ROW_BYTES = 16  # a row takes so much at least, however well its columns are packed


_NO_TEXT = "expected UTF-8 text, got bytes that are none"


def parquet_blocks(file: Any, path: str, size: int, block_bytes: int) -> Iterator[RowBlock]:
    """The rows of an open Parquet file of ``size`` bytes.

    path: what errors call it. Raises SchemaError for a file that is none, or that breaks off.
    """
    try:
        opened = pyarrow.parquet.ParquetFile(file, coerce_int96_timestamp_unit="us")
        count = opened.metadata.num_rows
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SchemaError(f"expected a Parquet file, got {error} - at {path}") from None
    # Those stay as they are stored, and cannot always be joined.
    has_dictionaries = "dictionary<" in str(opened.schema_arrow)
    row = 0
    for group in range(opened.num_row_groups):
        about = opened.metadata.row_group(group)
        row_bytes = max(_MIN_ROW_BYTES, about.total_byte_size // max(1, about.num_rows))
        rows = max(1, min(MAX_ROWS, block_bytes // row_bytes))
        step = rows if has_dictionaries else min(rows, STEP_ROWS)
        read = opened.iter_batches(step, row_groups=[group], use_threads=False)
        batches = _gathered(read, rows, MAX_SPREAD * block_bytes)
        while True:
            try:
                batch = next(batches, None)
            except (pa.ArrowException, OSError, ValueError) as error:
                raise SchemaError(
                    f"expected row group {group} of a Parquet file, got {error} - at {path} row"
                    f" {row}; what was read before stays"
                ) from None
            if batch is None:
                break
            last = row + batch.num_rows
            share = size * last // max(1, count) - size * row // max(1, count)
            if batch.num_rows:
                yield _block(batch, row, share)
            row = last


def _gathered(
    batches: Iterator[pa.RecordBatch], rows: int, max_bytes: int
) -> Iterator[pa.RecordBatch]:
    """Batches of so many rows; of fewer where those take more than max_bytes."""
    waiting: list[pa.RecordBatch] = []
    count = size = 0
    for batch in batches:
        if waiting and (count + batch.num_rows > rows or size + batch.nbytes > max_bytes):
            yield _joined(waiting)
            waiting, count, size = [], 0, 0
        waiting.append(batch)
        count, size = count + batch.num_rows, size + batch.nbytes
    if waiting:
        yield _joined(waiting)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def _block(batch: pa.RecordBatch, first_row: int, size: int) -> RowBlock:
    count = batch.num_rows
    try:
        batch.validate(full=True)
        return RowBlock(first_row, count, pa.Table.from_batches([batch]), None, (), size)
    except pa.ArrowInvalid:
        # A slice of a dictionary still holds all of it.
        plain = [c.dictionary_decode() if pa.types.is_dictionary(c.type) else c for c in batch]
        batch = pa.RecordBatch.from_arrays(plain, names=batch.schema.names)
    table, broken = pa.Table.from_batches([batch]), _no_texts(batch, 0)
    kept = np.ones(count, bool)
    kept[broken] = False
    rejects = tuple(Reject(first_row + place, "", _NO_TEXT, "") for place in broken)
    return RowBlock(
        first_row, count, table.filter(pa.array(kept)), np.flatnonzero(kept), rejects, size
    )


def _no_texts(batch: pa.RecordBatch, first: int) -> list[int]:
    """The rows of which a text is no UTF-8. Cost: a pass over the texts, more where one is."""
    try:
        batch.validate(full=True)
        return []
    except pa.ArrowInvalid:
        if batch.num_rows <= 1:
            return [first]
    half = batch.num_rows // 2
    parts = ((0, half), (half, batch.num_rows - half))
    return [
        place
        for start, count in parts
        for place in _no_texts(batch.slice(start, count), first + start)
    ]
