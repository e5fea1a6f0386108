"""Rows that wait in the driver until they travel, and how much memory they take.

Theory: one list, of which senders append at the end and one taker removes at the front. Each of
the two is a single operation of the interpreter, so a row costs no lock. What a dict weighs is
estimated from every sixteenth one; a table says it exactly.

Rules for editors: what is not a plain append happens under the stream's lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from sys import getsizeof
from typing import Any

import pyarrow as pa

WEIGHED_EVERY = 16
"""Of so many rows one is weighed; a power of two."""


class TableOfRows:
    """A table among the waiting rows; one of the caller's own classes can not be taken for it."""

    __slots__ = ("table",)

    def __init__(self, table: pa.Table) -> None:
        self.table = table


def bytes_of(row: Any) -> int:
    """About what a row keeps in memory: a dict and its values, not what is inside of those."""
    if not isinstance(row, dict):
        return getsizeof(row)
    return getsizeof(row) + sum(map(getsizeof, row.values()))


class WaitingRows:
    """See the module. items: dicts (or whatever the caller calls a row) and tables, in order."""

    def __init__(self, max_rows: int, max_bytes: int) -> None:
        self.items: list[Any] = []
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._tables = 0
        self._table_bytes = 0
        self._row_bytes = 0.0

    @property
    def bytes(self) -> int:
        """Bytes of what waits, as far as it was weighed."""
        return self._table_bytes + int(self._row_bytes)

    def is_full(self) -> bool:
        return len(self.items) >= self._max_rows or self.bytes >= self._max_bytes

    def has_room(self) -> bool:
        """Whether so much was taken that those who wait may go on: a quarter is free.

        Waking them for each row that leaves would cost more than the rows do.
        """
        is_few = 4 * len(self.items) <= 3 * self._max_rows
        return is_few and 4 * self.bytes <= 3 * self._max_bytes

    def weigh(self, rows: Sequence[Any]) -> None:
        """Count the bytes of rows, each of which stands for ``WEIGHED_EVERY``."""
        self._row_bytes += WEIGHED_EVERY * sum(map(bytes_of, rows))

    def add_table(self, table: pa.Table) -> None:
        self._tables += 1
        self._table_bytes += table.nbytes
        self.items.append(TableOfRows(table))

    def take(self, limit: int) -> tuple[list[Any] | pa.Table, int]:
        """Remove the oldest rows that can travel together: at most limit of them.

        They are dicts, or a table of one schema. Second: how many items are gone for good; a table
        that is longer than the limit stays with its rest, and counts when that is gone.
        """
        if self._tables and isinstance(self.items[0], TableOfRows):
            return self._take_tables(limit)
        before = len(self.items)
        rows = self.items[:limit]
        if self._tables:
            found = (i for i, item in enumerate(rows) if isinstance(item, TableOfRows))
            rows = rows[: next(found, limit)]
        del self.items[: len(rows)]
        self._row_bytes *= max(0.0, 1 - len(rows) / (before - self._tables))
        return rows, len(rows)

    def _take_tables(self, limit: int) -> tuple[pa.Table, int]:
        head: pa.Table = self.items[0].table
        if head.num_rows > limit:
            taken, rest = head.slice(0, limit), head.slice(limit)
            self._table_bytes += rest.nbytes - head.nbytes
            self.items[0] = TableOfRows(rest)
            return taken, 0
        tables, count = [head], head.num_rows
        for item in self.items[1:limit]:
            if not isinstance(item, TableOfRows) or item.table.schema != head.schema:
                break
            count += item.table.num_rows
            if count > limit:
                break
            tables.append(item.table)
        del self.items[: len(tables)]
        self._tables -= len(tables)
        self._table_bytes -= sum(table.nbytes for table in tables)
        return pa.concat_tables(tables), len(tables)

    def drop(self) -> None:
        """Let go of everything."""
        self.items.clear()
        self._tables = self._table_bytes = 0
        self._row_bytes = 0.0
