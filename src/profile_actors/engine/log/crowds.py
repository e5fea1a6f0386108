"""Crowded seconds: which rows of a (profile, second) with very many rows the log has already.

Theory: a row that may repeat one of the log is compared with the rows of its identity in the same
second, which are few, but for a column of dates alone, or a clock that stands still: there one
second has all rows of a day, and to read them again for every entry would be quadratic. Of such
seconds the rows' keys (128-bit hash of dataset, timestamp, ``_id``) are kept in a table; each time
it is asked, only what has come since is read from the log and added. Derived: made anew when asked
for after a restart, or after it had to go for others.

Cost: a row of a crowd is read once, some 2 us, and takes 40 to 80 bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import xxhash

from profile_actors.columnar.hash_table import KeyTable
from profile_actors.columnar.vectors import Array, one_array
from profile_actors.engine.log.entry import decode, table_of, times_of
from profile_actors.engine.log.ports import Log
from profile_actors.engine.log.row_locator import Locator
from profile_actors.ingest.hidden_columns import ID

CROWD_ROWS = 512
"""With more rows than this in a second, they are kept rather than read again."""


Only = tuple[str, Array]
"""Of which dataset, and at which instants (int64, ascending)."""


class RowIds(NamedTuple):
    """What rows of one block of the log are compared by, in the order asked."""

    asked: Array
    """int64[k]: which of the rows asked for they are."""
    dataset: str
    times: Array
    """int64[k]"""
    ids: pa.Array
    """string[k], null without an ``_id``."""


ReadIds = Callable[[Array, Array, Only | None], list[RowIds]]
"""(positions, rows, only) -> the ids of rows of the log."""


class Crowds:
    """The crowded seconds that were asked about, least recently asked first. For the writer.

    limit: rows kept in all of them (the newest one is kept whatever its size).
    """

    def __init__(self, limit: int, read_ids: ReadIds) -> None:
        self.read_ids = read_ids
        self._limit = limit
        self._known: dict[int, tuple[KeyTable, int]] = {}  # by key: rows, entries read so far

    @property
    def rows(self) -> int:
        """How many rows are kept."""
        return sum(table.count for table, _ in self._known.values())

    def has(
        self, key: int, locator: Locator, head: int, dataset: str, times: Array,
        ids: list[str | None],
    ) -> Array:  # fmt: skip
        """Which rows of one locator key are in the log, of which ``head`` entries are. bool[n]"""
        table, seen = self._known.pop(key, (KeyTable(), 0))
        positions, rows = locator.rows_from(key, seen)
        if len(positions):
            for found in self.read_ids(positions, rows, None):
                table.number(*_hashed(found.dataset, found.times, found.ids.to_pylist()))
        self._known[key] = table, head
        while self.rows > self._limit and len(self._known) > 1:
            del self._known[next(iter(self._known))]
        return table.find(*_hashed(dataset, times, ids)) >= 0


def read_ids(log: Log, positions: Array, rows: Array, only: Only | None) -> list[RowIds]:
    """Ids of rows in the log, by block. For duplicates.

    Cost: an entry is decoded once, one that is kept in a group not at all: of the group those
    tables are opened that have the rows. A row that is not among ``only`` costs a comparison of its
    instant, since its id is never touched.
    """
    found: list[RowIds] = []
    order = np.argsort(positions, kind="stable")
    sorted_at, begin = positions[order].astype(np.int64), 0
    while begin < len(order):
        position = int(sorted_at[begin])
        group = log.group(position)
        end = int(sorted_at.searchsorted(position + 1 if group is None else group.end))
        wanted, begin = order[begin:end], end
        if group is None:
            with log.view(position) as view:
                found += _of_entry(view, position, wanted, rows, only)
            continue
        tables, places = group.located(positions[wanted].astype(np.int64), rows[wanted])
        for number in np.unique(tables).tolist():
            dataset, is_here = group.shapes()[number][0], tables == number
            if only is None or only[0] == dataset:
                table, here = table_of(group.stream(number)), wanted[is_here]
                found += _of_table(dataset, table, times_of(table), here, places[is_here], only)
    return found


def _of_entry(
    view: memoryview, position: int, wanted: Array, rows: Array, only: Only | None
) -> Iterator[RowIds]:
    """Of these rows of an entry."""
    base = 0
    for block in decode(view, f"position {position}").blocks:
        here = wanted[(rows[wanted] >= base) & (rows[wanted] < base + block.rows)]
        local = rows[here].astype(np.int64) - base
        base += block.rows
        yield from _of_table(block.dataset, block.table, block.timestamps, here, local, only)


def _of_table(
    dataset: str, table: pa.Table, times: Array, here: Array, local: Array, only: Only | None
) -> Iterator[RowIds]:
    """Of the rows ``local`` of a table, which are those asked for as ``here``."""
    if only is not None:
        if dataset != only[0]:
            return
        instants = only[1]
        at = np.minimum(instants.searchsorted(times[local]), len(instants) - 1)
        is_asked = instants[at] == times[local]
        here, local = here[is_asked], local[is_asked]
    if len(here):
        yield RowIds(here, dataset, np.array(times[local]), _ids(table, local))


def _ids(table: pa.Table, rows: Array) -> pa.Array:
    """The ``_id`` of some rows, as copies. string[n]"""
    if ID not in table.column_names:
        return pa.nulls(len(rows), pa.string())
    return one_array(table.column(ID).take(pa.array(rows))).cast(pa.string())


def _hashed(dataset: str, times: Array, ids: list[str | None]) -> tuple[np.ndarray, np.ndarray]:
    """uint64[n] twice: a 128-bit key of each (dataset, timestamp, id)."""
    digest = xxhash.xxh3_128_digest
    keys = b"".join(
        digest(f"{time}\0{dataset}\0{'' if text is None else '=' + text}".encode())
        for time, text in zip(times.tolist(), ids, strict=True)
    )
    halves = np.frombuffer(keys, np.uint64)
    return halves[0::2].copy(), halves[1::2].copy()
