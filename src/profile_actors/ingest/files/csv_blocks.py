"""CSV files as blocks of text columns, in bounded memory, with every row numbered.

Theory: the file is cut into blocks at line ends outside quotes, and each block is parsed by Arrow
with every column as text: types are the schema's affair, so nothing is guessed. An empty cell is a
null, a quoted empty cell is the empty text. Rows are numbered from 0 after the header, the broken
ones included, so a row's number is its offset for exactly-once, whatever the block size.

Limits: UTF-8 (a byte-order mark is skipped), comma, double quotes, LF or CRLF. A single row must
fit into a few blocks.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from profile_actors.errors import SchemaError
from profile_actors.ingest.files.byte_sources import WHOLE, ByteSource
from profile_actors.ingest.files.text_pieces import pieces
from profile_actors.ingest.rejects import MAX_RAW_CHARS, Reject, raw_text
from profile_actors.ingest.row_blocks import RowBlock

MAX_COLUMNS = 10_000


MAX_HEADER_BYTES = 1 << 20
"""Of a file that is no CSV the first line may be all of it."""


_SKIPPED = "\0"  # before the number of a column that is left out


CELL_STARTS = np.zeros(256, bool)  # bytes after which a quote opens, or doubles the one before


CELL_STARTS[list(b',\n\r"')] = True


def read_csv_blocks(
    path: Path | str,
    block_bytes: int,
    use_threads: bool = False,
    size: int | None = None,
    closed: bool = True,
    skip_unnamed: bool = False,
) -> Iterator[RowBlock]:
    """The rows of a plain CSV file; see ``csv_blocks``. size: by default all that it has now."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size if size is None else size
        yield from csv_blocks(file, str(path), block_bytes, size, use_threads, closed, skip_unnamed)


def csv_blocks(
    file: ByteSource,
    path: str,
    block_bytes: int,
    size: int = WHOLE,
    use_threads: bool = False,
    closed: bool = True,
    skip_unnamed: bool = False,
) -> Iterator[RowBlock]:
    """The rows of an open CSV file in blocks of about block_bytes.

    path: what errors call it. size: read only so many bytes. closed: the last line is a row though
    it has no line end, and a quote that is open at the end is never closed, so the rest is one
    broken row; else such a line is left out. skip_unnamed: leave out columns without a name, as an
    index that was written along has none.

    Cost: 120 ns a row of six columns. Raises SchemaError for a header that is missing, not UTF-8,
    longer than MAX_HEADER_BYTES, or names a column twice, and for a row without an end.
    """
    header = header_line(file, path)
    if not closed and not _end_of_header(header):
        return  # the names may not be whole yet
    names = _names(header, path, skip_unnamed)
    row, extra = 0, len(header)
    lacking = "a quote that is not closed"
    for data, is_open in pieces(file, block_bytes, size, path, last_line_end, lacking):
        if not closed and data[-1] != ord("\n"):
            data = data[: last_line_end(bytes(data))[0]]
        if not closed and (is_open or not data.nbytes):
            return
        block = (
            _unclosed(data, names, row, extra)
            if is_open
            else _parsed(data, names, row, extra, use_threads)
        )
        row, extra = row + block.count, 0
        if block.count:
            yield block
        else:
            extra = block.size_bytes


def header_line(file: ByteSource, path: str) -> bytes:
    """Up to and with the first line end outside quotes, or all of a file without one."""
    for size in (MAX_HEADER_BYTES >> 4, MAX_HEADER_BYTES):
        start = file.read(size)
        end = _end_of_header(start) or (len(start) if len(start) < size else 0)
        file.seek(end - len(start), 1)
        if end or not start:
            return start[:end]
    raise SchemaError(
        f"expected the end of the header within {MAX_HEADER_BYTES} bytes, got none - at {path} line"
        " 1; look for a line end that is missing, or a quote that is not closed"
    )


def _end_of_header(data: bytes) -> int:
    """The place after the first line end with an even number of quotes before it; 0: none."""
    end, quotes = 0, 0
    while line_end := data.find(b"\n", end) + 1:
        quotes += data.count(b'"', end, line_end)
        end = line_end
        if quotes % 2 == 0:
            return end
    return 0


def _names(line: bytes, path: str, skip_unnamed: bool) -> list[str]:
    """The names of columns; one to leave out is called _SKIPPED and its number."""
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SchemaError(f"expected a header in UTF-8, got {error} - at {path} line 1") from None
    try:
        names = next(csv.reader([text], strict=False), [])
    except csv.Error as error:  # a lone CR is no line end here
        raise SchemaError(
            f"expected a header line that ends in LF or CRLF, got {error} - at {path} line 1"
        ) from None
    if not names or not text.strip():
        raise SchemaError(f"expected a header line with column names, got none - at {path} line 1")
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if len(names) > MAX_COLUMNS:
        raise SchemaError(f"expected at most {MAX_COLUMNS} columns, got {len(names)} - at {path}")
    unnamed = [place for place, name in enumerate(names) if not name]
    if unnamed and (len(unnamed) == len(names) or not skip_unnamed):
        raise SchemaError(
            f"expected a name for each column: column {unnamed[0] + 1} has no name - at {path} line"
            " 1; name it, or leave it out with ignore=[''] on the dataset (or ignore='*')"
        )
    if twice:
        raise SchemaError(
            f"expected each column named once, got {twice[0]!r} twice - at {path} line 1; rename"
            " one of them"
        )
    for place in unnamed:
        names[place] = f"{_SKIPPED}{place}"
    _check_separator(names, path)
    return names


def _check_separator(names: list[str], path: str) -> None:
    """Refuse a file of one column whose name holds what other programs write between cells: its
    rows could only all be rejected, each for a reason that says nothing."""
    for separator, word in (("\t", "tabs"), (";", "semicolons"), ("|", "bars")):
        if len(names) == 1 and separator in names[0]:
            raise SchemaError(
                f"expected columns separated by commas, got one column {names[0][:80]!r} - at"
                f" {path} line 1; it looks as if {word} separated them: write the file with commas"
            )


def last_line_end(data: bytes) -> tuple[int, bool]:
    """The place after the last line end that is outside quotes (0: none); is a quote left open?"""
    if b'"' not in data:
        return data.rfind(b"\n") + 1, False
    # Quotes pair up, doubled ones included, if each first of a pair stands at the start of a cell
    # or right after the quote before; then a place with an even number of quotes before it is
    # outside. Otherwise there are quotes that the parser takes as plain characters.
    quotes = np.flatnonzero(np.frombuffer(data, np.uint8) == ord('"'))
    before = np.frombuffer(data, np.uint8)[np.maximum(quotes[::2], 1) - 1]
    if not CELL_STARTS[before].all():
        return _last_line_end_slowly(data)
    line_end = data.rfind(b"\n")
    while line_end >= 0 and (count := int(np.searchsorted(quotes, line_end))) % 2:
        line_end = data.rfind(b"\n", 0, int(quotes[count - 1]))
    return line_end + 1, len(quotes) % 2 == 1


def _last_line_end_slowly(data: bytes) -> tuple[int, bool]:
    """The same, quote by quote: one opens only at the start of a cell. Cost: 0.3 us a quote."""
    end, place, size = 0, 0, len(data)
    while place < size:
        quote = data.find(b'"', place)
        end = max(end, data.rfind(b"\n", place, size if quote < 0 else quote) + 1)
        if quote < 0:
            break
        if quote and data[quote - 1] not in b",\n\r":
            place = quote + 1
            continue
        place = closing_quote(data, quote + 1) + 1
        if place == 0:
            return end, True
    return end, False


def closing_quote(data: bytes, start: int) -> int:
    """The place of the quote that ends a quoted cell, -1 if it is not in the data."""
    while True:
        quote = data.find(b'"', start)
        if quote < 0 or data[quote + 1 : quote + 2] != b'"':
            return quote
        start = quote + 2


def _unclosed(view: memoryview, names: list[str], row: int, extra: int) -> RowBlock:
    """The rest of a file after a quote that is never closed: one row, which is rejected."""
    kept = [name for name in names if not name.startswith(_SKIPPED)]
    empty = pa.table({name: pa.array([], pa.string()) for name in kept})
    text = str(view[: 4 * MAX_RAW_CHARS], "utf-8", "backslashreplace")
    reason = "expected a closing quote, got the end of the file"
    reject = Reject(row, "", reason, raw_text(text))
    return RowBlock(
        row, 1, empty, np.zeros(0, np.int64), (reject,), extra + len(view), is_text=True
    )


def _parsed(
    view: memoryview, names: list[str], first_row: int, extra: int, use_threads: bool
) -> RowBlock:
    """Parse one block; rows with a wrong number of cells or bytes that are no UTF-8 are rejects."""
    sound = _is_utf8(view)
    # Arrow cannot hand out a broken row that is no UTF-8; as Latin-1 every byte is a character.
    source = view if sound else memoryview(str(view, "latin-1").encode())
    table, skipped = _read(source, names, use_threads)
    if any(number is None for number, _, _ in skipped):
        # Arrow numbers the rows it skips only when it reads in one thread.
        table, skipped = _read(source, names, use_threads=False)
    broken: dict[int, Reject] = {}
    for number, reason, text in skipped:
        place = int(number or 0) - 1
        text = text if sound else text.encode("latin-1").decode("utf-8", "backslashreplace")
        broken[place] = Reject(first_row + place, "", reason, raw_text(text))
    count = table.num_rows + len(broken)
    numbers = np.delete(np.arange(count), list(broken)) if broken else None
    if table.num_rows and table.column(0).num_chunks > 1:
        table = table.combine_chunks()
    if not sound:
        numbers = np.arange(count) if numbers is None else numbers
        table, numbers = _decoded(table, numbers, first_row, broken)
    rejects = tuple(broken[place] for place in sorted(broken))
    return RowBlock(first_row, count, table, numbers, rejects, extra + len(view), is_text=True)


def _is_utf8(view: memoryview) -> bool:
    # The whole piece, tail included, in ASCII is the common case and takes no copy.
    if isinstance(view.obj, bytes) and view.obj.isascii():
        return True
    try:
        str(view, "utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _read(
    data: memoryview, names: list[str], use_threads: bool
) -> tuple[pa.Table, list[tuple[int | None, str, str]]]:
    """The rows with the right number of cells, and (number from 1, reason, text) of the others."""
    skipped: list[tuple[int | None, str, str]] = []

    def skip(row: pyarrow.csv.InvalidRow) -> str:
        reason = f"expected {row.expected_columns} cells, got {row.actual_columns}"
        skipped.append((row.number, reason, row.text))
        return "skip"

    table = pyarrow.csv.read_csv(
        pa.py_buffer(data),
        pyarrow.csv.ReadOptions(
            use_threads=use_threads, block_size=len(data) + 1, column_names=names
        ),
        pyarrow.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=skip),
        pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            include_columns=[name for name in names if not name.startswith(_SKIPPED)],
            check_utf8=False,  # the whole block was checked at once
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
        ),
    )
    return table, skipped


def _decoded(
    table: pa.Table, numbers: np.ndarray, first_row: int, broken: dict[int, Reject]
) -> tuple[pa.Table, np.ndarray]:
    """Cells read as Latin-1 as the UTF-8 they are; rows that are not are added to broken."""
    columns: dict[str, list[str | None]] = {name: [] for name in table.column_names}
    sound = np.ones(table.num_rows, bool)
    for name, column in zip(table.column_names, table.columns, strict=True):
        for row, cell in enumerate(column.to_pylist()):
            data = None if cell is None else cell.encode("latin-1")
            try:
                columns[name].append(None if data is None else data.decode())
            except UnicodeDecodeError as error:
                columns[name].append(None)
                if sound[row]:
                    sound[row] = False
                    raw = ",".join(table[n][row].as_py() or "" for n in table.column_names)
                    raw = raw.encode("latin-1").decode("utf-8", "backslashreplace")
                    place = int(numbers[row])
                    reason = f"expected UTF-8 text, got byte {error.object[error.start]:#04x}"
                    broken[place] = Reject(first_row + place, name, reason, raw_text(raw))
    decoded = pa.table({name: pa.array(cells, pa.string()) for name, cells in columns.items()})
    return decoded.filter(pa.array(sound)).combine_chunks(), numbers[sound]
