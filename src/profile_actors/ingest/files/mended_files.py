"""A file whose rejected rows were put right in place, recognised by its other rows.

Theory: of a content with rejected rows the store keeps which they were and a digest of all others,
in order, as their bytes without line ends. A file that stands where that content stood, and whose
rows at the other numbers are the same, is that content mended: it goes on under the same producer,
so what was accepted counts once, and what was rejected is offered again, as what stands there now.
Of a content without an accepted row the number of rows decides, whatever the header says by then.

Cost: one more pass, 0.3 us a row, over files that have rejected rows when they end, and over those
that changed and had some. Limits: plain CSV and NDJSON; up to MAX_RUNS runs of rejected rows; rows
that were added or removed before others make it new content.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import xxhash

from profile_actors.columnar.vectors import Array
from profile_actors.ingest.files.byte_sources import ByteSource
from profile_actors.ingest.files.csv_blocks import (
    CELL_STARTS,
    closing_quote,
    header_line,
    last_line_end,
)
from profile_actors.ingest.files.file_contents import FileContent, Rest
from profile_actors.ingest.files.ndjson_blocks import BLANKS, skip_mark
from profile_actors.ingest.files.ndjson_blocks import last_line_end as last_end
from profile_actors.ingest.files.places import File
from profile_actors.ingest.files.text_pieces import pieces
from profile_actors.ingest.offsets import contains, packed, unpacked

MAX_RUNS = 65_536
"""Runs of rejected rows that are kept of a file, 16 bytes each."""
_PIECE_BYTES = 1 << 22


class _Others(NamedTuple):
    """digest: of the rows that are not left out, "" where none is. rows: how many there are, with
    those."""

    digest: str
    rows: int


def rest_of(path: File, form: str, size: int, rows: int, rejected: Array) -> Rest | None:
    """What is to be kept of a content with rejected rows.

    size, rows: how much of the file was read. rejected: the rows' numbers, ranges int64[k, 2].
    None if they are too many, or if the rows cannot be told apart here as they were read.
    Raises SchemaError, OSError.
    """
    if not 0 < len(rejected) <= MAX_RUNS:
        return None
    others = _others(path, form, size, rows, rejected)
    return Rest(rows, packed(rejected), others.digest) if others.rows == rows else None


def mended_from(
    path: File, where: str, form: str, size: int, contents: Sequence[FileContent]
) -> FileContent | None:
    """The content of which the file at this place is the mended form. As ``rest_of``."""
    for content in contents:
        rest = content.rest
        if rest is None or content.path != where:
            continue
        others = _others(path, form, size, rest.rows, unpacked(rest.rejected))
        if others.digest == rest.digest and (
            others.rows >= rest.rows if rest.digest else others.rows == rest.rows
        ):
            return content
    return None


def _others(path: File, form: str, size: int, rows: int, left_out: Array) -> _Others:
    digest, count, kept = xxhash.xxh3_128(), 0, 0
    with path.open("rb") as file:
        if form == "csv":
            digest.update(
                header_line(file, str(path)).removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")
            )
            read = _csv_rows(file, str(path), size)
        else:
            read = _ndjson_rows(file, str(path), size)
        for texts in read:
            numbers = np.arange(count, count + len(texts), dtype=np.int64)
            count += len(texts)
            wanted = np.flatnonzero(~contains(left_out, numbers) & (numbers < rows)).tolist()
            kept += len(wanted)
            digest.update(b"".join([texts[number] + b"\n" for number in wanted]))
    return _Others(digest.hexdigest() if kept else "", count)


def _csv_rows(file: ByteSource, path: str, size: int) -> Iterator[list[bytes]]:
    """The rows after the header, without line ends; numbered as ``csv_blocks`` does."""
    lacking = "a quote that is not closed"
    for view, is_open in pieces(file, _PIECE_BYTES, size, path, last_line_end, lacking):
        data = bytes(view)
        if is_open:
            yield [data]
            continue
        lines = data.split(b"\n") if b'"' not in data else _lines(data)
        yield [text for line in lines if (text := line.rstrip(b"\r\n"))]


def _ndjson_rows(file: ByteSource, path: str, size: int) -> Iterator[list[bytes]]:
    """The lines that are rows; numbered as ``ndjson_blocks`` does."""
    skip_mark(file, path)
    lacking = "a line end that is missing"
    for view, _ in pieces(file, _PIECE_BYTES, size, path, last_end, lacking):
        yield [text for line in bytes(view).split(b"\n") if (text := line.strip(BLANKS))]


def _lines(data: bytes) -> list[bytes]:
    """The data cut at the line ends that are outside quotes."""
    octets = np.frombuffer(data, np.uint8)
    quotes, ends = np.flatnonzero(octets == ord('"')), np.flatnonzero(octets == ord("\n"))
    if CELL_STARTS[octets[np.maximum(quotes[::2], 1) - 1]].all():
        ends = ends[np.searchsorted(quotes, ends) % 2 == 0]
    else:
        ends = ends[~_is_quoted(data, ends)]
    bounds = [0, *(ends + 1).tolist(), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(bounds)]


def _is_quoted(data: bytes, ends: Array) -> Array:
    """Which line ends are inside quotes, where some quotes are plain characters. bool[n]."""
    quoted, place = np.zeros(len(ends), np.bool_), 0
    while (quote := data.find(b'"', place)) >= 0:
        place = quote + 1
        if quote and data[quote - 1] not in b",\n\r":
            continue
        close = closing_quote(data, place)
        place = len(data) if close < 0 else close + 1
        low, high = np.searchsorted(ends, (quote, place))
        quoted[low:high] = True
    return quoted
