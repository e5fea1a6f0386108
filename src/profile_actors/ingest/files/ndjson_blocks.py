"""NDJSON files: one JSON object per line, as blocks of rows that get the verdicts of dicts.

Theory: the authority is a line by itself: msgspec decodes it, and a name that an object has twice
refuses the row, since no reader knows which was meant. A block whose lines Arrow's parser takes too
is taken whole (``json_tables``): as columns where that is provably the same, else as objects of
which only the duplicate names need no second look.

Limits: UTF-8 (a byte-order mark is skipped), LF or CRLF. Lines of blanks are no rows. A file that
is one array of objects is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from profile_actors.errors import SchemaError
from profile_actors.ingest.files.byte_sources import WHOLE, ByteSource
from profile_actors.ingest.files.json_tables import JsonTables
from profile_actors.ingest.files.text_pieces import pieces
from profile_actors.ingest.rejects import Reject
from profile_actors.ingest.row_blocks import Lines, RowBlock

_BOM = b"\xef\xbb\xbf"
_ANYTHING = msgspec.json.Decoder()
BLANKS = b" \t\r"


def ndjson_blocks(
    file: ByteSource,
    path: str,
    block_bytes: int,
    tables: JsonTables,
    size: int = WHOLE,
    closed: bool = True,
) -> Iterator[RowBlock]:
    """The rows of an open file in blocks of about block_bytes.

    path: what errors call it. tables: of the dataset. size: read only so many bytes. closed: the
    last line is a row though it has no line end; else it is left out. Cost: 1.4 us a row of six
    columns. Raises SchemaError for a file that is no NDJSON, and for a line without an end.
    """
    row, extra = 0, skip_mark(file, path)
    lacking = "a line end that is missing"
    for data, _ in pieces(file, block_bytes, size, path, last_line_end, lacking):
        if not closed and data.nbytes and data[-1] != ord("\n"):
            data = data[: bytes(data).rfind(b"\n") + 1]
        block = _parsed(data, row, extra, tables)
        row, extra = row + block.count, 0
        if block.count:
            yield block
        else:
            extra = block.size_bytes


def last_line_end(data: bytes) -> tuple[int, bool]:
    return data.rfind(b"\n") + 1, False


def skip_mark(file: ByteSource, path: str) -> int:
    """Skip a byte-order mark; how long it was. Raises SchemaError for what begins otherwise."""
    start = file.read(64)
    mark = len(_BOM) if start.startswith(_BOM) else 0
    file.seek(mark - len(start), 1)
    first = start[mark:].lstrip(b" \t\r\n")[:1]
    if first == b"[":
        raise SchemaError(
            f"expected one JSON object per line, got an array - at {path} line 1; write each of its"
            " objects on a line of its own"
        )
    return mark


def _parsed(data: memoryview, first_row: int, extra: int, tables: JsonTables) -> RowBlock:
    """The rows of whole lines."""
    size = extra + len(data)
    lines = _lines_of(data)
    if tables.are_sound(lines):
        table = tables.table(lines)
        if table is not None:
            count = len(lines.starts)
            rows = table if tables.is_plain(table) else _objects(lines)
            return RowBlock(first_row, count, rows, None, (), size, lines=lines)
    return _line_by_line(lines, first_row, size)


def _lines_of(data: memoryview) -> Lines:
    """Lines without their ends; empty ones are left out."""
    codes = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(codes == ord("\n"))
    if len(codes) and codes[-1] != ord("\n"):
        ends = np.append(ends, len(codes))
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    if len(ends):
        ends = ends - ((ends > starts) & (codes[ends - 1] == ord("\r")))
        if (ends == starts).any():
            starts, ends = starts[ends > starts], ends[ends > starts]
    return Lines(data, starts, ends)


def _objects(lines: Lines) -> list[Any]:
    """What the lines hold, which is known to be sound."""
    data, decode = lines.data, _ANYTHING.decode
    pairs = zip(lines.starts.tolist(), lines.ends.tolist(), strict=True)
    return [decode(data[start:end]) for start, end in pairs]


def _line_by_line(lines: Lines, first_row: int, size: int) -> RowBlock:
    """Each line by itself. Cost: 2 us a line, and 2 more where texts have colons."""
    starts, ends, rows, places, rejects = [], [], [], [], []
    place = 0
    for start, end in zip(lines.starts.tolist(), lines.ends.tolist(), strict=True):
        line = bytes(lines.data[start:end]).strip(BLANKS)
        if not line:
            continue
        value, problem = judged_line(line)
        if problem is None:
            starts.append(start)
            ends.append(end)
            rows.append(value)
            places.append(place)
        else:
            whole = Lines(lines.data, np.array([start]), np.array([end]))
            rejects.append(Reject(first_row + place, "", problem, whole.raw(0)))
        place += 1
    kept = Lines(lines.data, np.array(starts, np.int64), np.array(ends, np.int64))
    numbers = np.array(places, np.int64) if rejects else None
    return RowBlock(first_row, place, rows, numbers, tuple(rejects), size, lines=kept)


def judged_line(line: bytes) -> tuple[Any, str | None]:
    """What a line holds, or why it is no row. What is no object is the door's to refuse."""
    try:
        value = _ANYTHING.decode(line)
    except UnicodeDecodeError as error:
        return None, f"expected UTF-8 text, got byte {error.object[error.start]:#04x}"
    except (msgspec.DecodeError, ValueError) as error:
        return None, f"expected a JSON object, got what is no JSON: {error}"
    except RecursionError:
        return None, "expected a JSON object, got one that is nested too deeply"
    # Each name has a colon: as many colons as names of the outer object leave no room for a second.
    if isinstance(value, dict) and line.count(b":") != len(value):
        try:
            json.loads(line, object_pairs_hook=_named_once)
        except _Twice as twice:
            return None, f"expected each name once in an object, got {twice.args[0]!r} twice"
        except (ValueError, RecursionError) as error:
            return None, f"expected a JSON object, got what is no JSON: {error}"
    return value, None


class _Twice(Exception):
    """An object has this name twice."""


def _named_once(pairs: list[tuple[str, Any]]) -> None:
    names = {name for name, _ in pairs}
    if len(names) != len(pairs):
        known: set[str] = set()
        for name, _ in pairs:
            if name in known:
                raise _Twice(name[:100])
            known.add(name)
