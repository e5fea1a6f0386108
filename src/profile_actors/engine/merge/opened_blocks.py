"""Blocks of the log that stay open, and decoders of their cells: for pages of events.

Theory: the ten events of a page stand in ten blocks, and what a page costs is to open them: a
transaction, an envelope, a schema, columns. So a block is opened once and kept, with one decoder
per column that reads a cell where it lies, in the log's mapped file; the entries that were asked
for longest ago are let go of. A document costs a call per cell then, wherever its block is.

The few living rows of a record are read in the same way. Of entries that are kept in a group
(``entry_groups``) the group's tables are opened, once for all of them.

Law: ``Opened.document`` and ``Opened.record`` are what ``documents`` makes of the same row.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from profile_actors.columnar.time_units import DAY_MS
from profile_actors.engine.log.entry import BlockPart, block_parts, table_of
from profile_actors.engine.log.ports import Log, RowGroup
from profile_actors.engine.merge.documents import (
    OF_RECORDS,
    RENAMED,
    Primary,
    Row,
    document,
    id_of,
    record_row,
)
from profile_actors.ingest.hidden_columns import ID, K0, K1, TIMESTAMP

Decoder = Callable[[int], Any]
"""The plain value of a cell by its row; None for null."""


MAX_GROUPS = 64
"""Groups of entries that stay open; each has the rows of some thousands."""


FIXED = {
    pa.int8(): np.int8,
    pa.int16(): np.int16,
    pa.int32(): np.int32,
    pa.int64(): np.int64,
    pa.uint64(): np.uint64,
    pa.float64(): np.float64,
}


class Opened:
    """One block. first: the number of its first row in the entry; end: one past its last."""

    def __init__(self, part: BlockPart) -> None:
        self.first, self.end = part.first, part.first + part.rows
        self._part = part
        self._columns: list[tuple[str, Decoder]] | None = None
        self._is_nested = False
        self._about: dict[str, Decoder] = {}
        self._time: Decoder | None = None
        self._id: Decoder | None = None

    def document(self, number: int) -> dict[str, Any]:
        """One row as a document, by its number in the entry."""
        fields = self._fields(number)
        return document(fields) if self._is_nested else fields

    def _fields(self, number: int) -> dict[str, Any]:
        place, out = number - self.first, {}
        for name, decode in self._columns or self._prepared():
            value = decode(place)
            if value is not None:
                out[name] = value
        return out

    def record(self, number: int) -> Row:
        """One row of a record, by its number in the entry."""
        fields = self._fields(number)
        place = number - self.first
        said = {name: decode(place) for name, decode in self._about.items()}
        return record_row(self._part.dataset, fields, said)

    def key(self, number: int, own: Primary) -> tuple[int, str, str, Primary]:
        """The row's order key, but for the number among equal ones. own: the identity that it is
        of, unless it says so itself.

        Cost: less than a microsecond with an ``_id``, without one what the document costs.
        """
        if self._columns is None:
            self._prepared()
        assert self._time is not None
        place, dataset = number - self.first, self._part.dataset
        time, id_ = self._time(place), None if self._id is None else self._id(place)
        tie = id_of(Row(dataset, time, self._fields(number))) if id_ is None else str(id_)
        if K0 in self._about:
            own = self._about[K0](place), self._about[K1](place)
        return time, tie, dataset, own

    def _prepared(self) -> list[tuple[str, Decoder]]:
        table, columns = table_of(self._part.stream), []
        for name in table.column_names:
            if name in RENAMED or not name.startswith("@"):
                column = decoder(table.column(name).combine_chunks())
                columns.append((RENAMED.get(name, name), column))
                self._is_nested |= "." in name
                if name == TIMESTAMP:
                    self._time = column
                if name == ID:
                    self._id = column
            elif name in OF_RECORDS:
                self._about[name] = decoder(table.column(name).combine_chunks())
        self._columns = columns
        return columns


class _OpenGroup:
    """A group of entries, one block per table; rows are numbered by their places there."""

    def __init__(self, group: RowGroup) -> None:
        self.group = group
        shapes = enumerate(group.shapes())
        self.tables = [
            Opened(BlockPart(dataset, 0, rows, group.stream(table)))
            for table, (dataset, rows) in shapes
        ]


class OpenedBlocks:
    """The entries that were read last, at most so many, their blocks open. Any thread."""

    def __init__(self, log: Log, most: int) -> None:
        self._log = log
        self._most = most
        self._known: dict[int, list[Opened]] = {}
        self._groups: dict[int, _OpenGroup] = {}
        self._lock = threading.Lock()
        self._is_closed = False

    def of(self, positions: list[int], rows: list[int]) -> list[tuple[Opened, int]]:
        """The block that holds each row of an entry, and the row's number there. Raises
        CorruptLog."""
        grouped = self._of_groups(positions, rows)
        if len(grouped) < len(positions):
            alone = [at for at in range(len(positions)) if at not in grouped]
            found = self._alone([positions[at] for at in alone], [rows[at] for at in alone])
            grouped.update(zip(alone, found, strict=True))
        return [grouped[at] for at in range(len(positions))]

    def _of_groups(self, positions: list[int], rows: list[int]) -> dict[int, tuple[Opened, int]]:
        """Of the rows whose entries are kept in groups, by their places among those asked for."""
        out: dict[int, tuple[Opened, int]] = {}
        places = np.argsort(np.array(positions, np.int64), kind="stable")
        sorted_at, begin = np.array(positions, np.int64)[places], 0
        while begin < len(places):
            position = int(sorted_at[begin])
            group = None if position in self._known else self._group(position)
            if group is None:
                begin = int(sorted_at.searchsorted(position, side="right"))
                continue
            end = int(sorted_at.searchsorted(group.group.end))
            here = places[begin:end]
            numbers = np.array([rows[at] for at in here.tolist()], np.int64)
            tables, found = group.group.located(sorted_at[begin:end], numbers)
            blocks = [group.tables[table] for table in tables.tolist()]
            out.update(zip(here.tolist(), zip(blocks, found.tolist(), strict=True), strict=True))
            begin = end
        return out

    def _group(self, position: int) -> _OpenGroup | None:
        """The group that has an entry, its tables open."""
        with self._lock:
            for first, known in self._groups.items():
                if first <= position < known.group.end:
                    self._groups[first] = self._groups.pop(first)
                    return known
        group = self._log.group(position)
        if group is None:
            return None
        opened = _OpenGroup(group)
        with self._lock:
            if not self._is_closed:
                self._groups[group.first] = opened
            while len(self._groups) > MAX_GROUPS:
                del self._groups[next(iter(self._groups))]
        return opened

    def _alone(self, positions: list[int], rows: list[int]) -> list[tuple[Opened, int]]:
        known, found = self._known, list[tuple[Opened, int]]()
        with self._lock:
            entries = {at: known.pop(at, None) for at in dict.fromkeys(positions)}
            known.update((at, blocks) for at, blocks in entries.items() if blocks is not None)
        for position, row in zip(positions, rows, strict=True):
            blocks = entries[position]
            if blocks is None:
                blocks = entries[position] = self._open(position)
            is_only = len(blocks) == 1
            found.append(
                (blocks[0] if is_only else next(b for b in blocks if b.first <= row < b.end), row)
            )
        return found

    def _open(self, position: int) -> list[Opened]:
        with self._log.view(position) as view:
            blocks = [Opened(part) for part in block_parts(view, f"position {position}")]
        with self._lock:
            if not self._is_closed:
                self._known[position] = blocks
            while len(self._known) > self._most:
                del self._known[next(iter(self._known))]
        return blocks

    def close(self) -> None:
        """Let go of all of them, and keep none any more: they hold the log's files open."""
        with self._lock:
            self._is_closed = True
        self.let_go()

    def let_go(self) -> None:
        """Let go of all of them: of log segments that another form has taken the place of."""
        with self._lock:
            self._known.clear()
            self._groups.clear()


def decoder(column: pa.Array) -> Decoder:
    """How to read one cell of a column, worked out once for all of them.

    Times come as integer ms, as documents have them. What is not a number, a text or a time is read
    by Arrow, ten times slower.
    """
    kind = column.type
    if pa.types.is_timestamp(kind) and kind.unit == "ms":
        found = _fixed(column, np.int64, 1)
    elif pa.types.is_timestamp(kind):
        return decoder(column.cast(pa.timestamp("ms")))
    elif pa.types.is_date32(kind):
        found = _fixed(column, np.int32, DAY_MS)
    elif kind in FIXED:
        found = _fixed(column, FIXED[kind], 1)
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        found = _texts(column)
    elif pa.types.is_dictionary(kind):
        codes, words = decoder(column.indices), decoder(column.dictionary)

        def found(row: int) -> Any:
            code = codes(row)
            return None if code is None else words(code)

        return found
    else:

        def found(row: int) -> Any:
            return column.slice(row, 1).to_pylist(maps_as_pydicts="lossy")[0]

        return found
    if not column.null_count:
        return found
    is_there, values = column.is_valid().to_numpy(zero_copy_only=False), found
    return lambda row: values(row) if is_there[row] else None


def _fixed(column: pa.Array, dtype: Any, scale: int) -> Decoder:
    cells = np.frombuffer(column.buffers()[1], dtype)[column.offset : column.offset + len(column)]
    read = cells.data.__getitem__  # half of what the array's own costs
    return read if scale == 1 else lambda row: read(row) * scale


def _texts(column: pa.Array) -> Decoder:
    is_large = pa.types.is_large_string(column.type)
    _, ends, data = column.buffers()
    offsets = np.frombuffer(ends, np.int64 if is_large else np.int32)
    ends_at = offsets[column.offset : column.offset + len(column) + 1].data
    text = memoryview(b"" if data is None else data)
    return lambda row: str(text[ends_at[row] : ends_at[row + 1]], "utf-8")
