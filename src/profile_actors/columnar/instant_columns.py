"""One instant per slot, or none: columns that are read one by one and kept together.

Instants up to the year 8920 are kept as they are; later ones read as that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count
from typing import NamedTuple

import msgspec
import numpy as np

from profile_actors.columnar.instant_rows import InstantRows
from profile_actors.columnar.runs import last_of_runs
from profile_actors.columnar.slot_pairs import Part
from profile_actors.columnar.state_columns import UNSET, Saving, reserve
from profile_actors.columnar.vectors import Array

MOST = 2**48 - 1


FEW = 20
"""A table of up to so many columns is six bytes for each of them and every slot."""


class InstantCells:
    """As ``InstantRows``, of few columns."""

    def __init__(self, capacity: int, columns: int) -> None:
        self.columns = columns
        self._low = reserve(capacity * columns, np.uint32).reshape(capacity, columns)
        self._high = reserve(capacity * columns, np.uint16).reshape(capacity, columns)

    def size_bytes(self, slots: int) -> int:
        """Bytes in use when there are so many slots."""
        return 6 * self.columns * slots

    def of(self, column: int, slots: Array) -> Array:
        """Codes of a column. int64[n]"""
        high = self._high[slots, column].astype(np.int64)
        return np.asarray((high << 32) | self._low[slots, column])

    def all_of(self, slots: Array) -> Array:
        """Codes of all columns. int64[n, columns]"""
        return np.asarray((self._high[slots].astype(np.int64) << 32) | self._low[slots])

    def put(self, parts: Sequence[Part]) -> None:
        """Set codes of many columns at once."""
        for column, slots, codes in parts:
            self._low[slots, column] = codes & 0xFFFFFFFF
            self._high[slots, column] = codes >> 32

    def restore(self, codes: Mapping[int, Array]) -> None:
        """Set the codes of the first slots. codes: int64[slots] by column."""
        self.put([(column, np.arange(len(given)), given) for column, given in codes.items()])

    def saving(self, slots: int) -> Saving:
        """Everything about the first slots, for a checkpoint."""
        return Saving.of({"low": self._low, "high": self._high}, slots)

    @staticmethod
    def of_arrays(capacity: int, arrays: dict[str, Array]) -> InstantCells:
        """The table that ``saving`` gave."""
        made = InstantCells(capacity, arrays["low"].shape[1])
        made._low[: len(arrays["low"])] = arrays["low"]
        made._high[: len(arrays["high"])] = arrays["high"]
        return made


Table = InstantRows | InstantCells


def _table(capacity: int, columns: int) -> Table:
    return (InstantCells if columns <= FEW else InstantRows)(capacity, columns)


class Instants:
    """A column of ``rows``. Those that change together belong into one table."""

    __slots__ = ("capacity", "column", "rows")

    def __init__(self, capacity: int, rows: Table | None = None, column: int = 0) -> None:
        self.capacity = capacity
        self.rows = _table(capacity, 1) if rows is None else rows
        self.column = column

    def put(self, slots: Array, at: Array | int) -> None:
        """Set the slots' instants; of equal slots the last counts."""
        slots = np.asarray(slots)
        if len(slots) > 1 and not (slots[1:] > slots[:-1]).all():
            slots, last = np.unique(slots[::-1], return_index=True)
            at = at if isinstance(at, int) else at[::-1][last]
        self.rows.put([(self.column, slots, _codes(at))])

    def of(self, slot: int) -> int | None:
        """The slot's instant, None when it has none."""
        code = int(self.rows.of(self.column, np.array([slot]))[0])
        return code + UNSET - 1 if code else None

    def at(self, slots: Array) -> Array:
        """The instants of the slots, in any order, each below UNSET where it has none. int64 ms"""
        return self.rows.of(self.column, slots) + (UNSET - 1)

    def copy(self, slots: int) -> Instants:
        """The instants of the first slots, in a column of its own."""
        made = Instants(self.capacity)
        made.rows.restore({0: self.rows.of(self.column, np.arange(slots))})
        return made


def instant_columns(capacity: int, count: int) -> list[Instants]:
    """Columns of one table."""
    rows = _table(capacity, count)
    return [Instants(capacity, rows, column) for column in range(count)]


FEW_OF_MANY = 8
"""Less than a table's columns by this factor are read one by one."""


class ColumnSet:
    """Columns that are read together again and again: which tables hold them is found out once.

    Law: ``at`` gives what each column's own would, side by side.
    """

    def __init__(self, columns: Sequence[Instants]) -> None:
        self._width = len(columns)
        tables: dict[int, list[int]] = {}
        for place, one in enumerate(columns):
            tables.setdefault(id(one.rows), []).append(place)
        self._whole: list[tuple[Table, list[int], Array]] = []
        self._single: list[tuple[Table, int, int]] = []
        for mine in tables.values():
            table, numbers = columns[mine[0]].rows, [columns[place].column for place in mine]
            if len(mine) * FEW_OF_MANY < table.columns:
                self._single += [(table, n, p) for n, p in zip(numbers, mine, strict=True)]
            else:
                self._whole.append((table, mine, np.array(numbers, np.intp)))

    def at(self, slots: Array) -> Array:
        """The instants of the slots, each below UNSET where it has none. int64[n, columns] ms.

        Cost: a fixed number of passes for each table of theirs."""
        if len(self._whole) == 1 and len(self._whole[0][1]) == self._width:
            table, _, numbers = self._whole[0]
            out = table.all_of(slots).take(numbers, axis=1)
        else:
            out = np.empty((len(slots), self._width), np.int64)
            for table, places, numbers in self._whole:
                out[:, places] = table.all_of(slots).take(numbers, axis=1)
            for single, number, place in self._single:
                out[:, place] = single.of(number, slots)
        out += UNSET - 1
        return out


class Columns:
    """Columns among which a put chooses: which tables hold them is found out once."""

    __slots__ = ("_numbers", "_table_of", "_tables")

    def __init__(self, of: Sequence[Instants]) -> None:
        self._tables = list({id(one.rows): one.rows for one in of}.values())
        self._numbers = np.array([one.column for one in of], np.intp)
        place = {id(table): number for number, table in enumerate(self._tables)}
        self._table_of = np.array([place[id(one.rows)] for one in of], np.intp)

    def parts(self, which: Array, slots: Array, codes: Array | int) -> Iterator[tuple[Table, Part]]:
        """Of each table what is put there. which: of each slot its column's place."""
        if len(self._tables) == 1:
            yield self._tables[0], (self._numbers.take(which), slots, codes)
            return
        table_of = self._table_of.take(which)
        for number, table in enumerate(self._tables):
            some = (table_of == number).nonzero()[0]
            if len(some):
                few = codes if isinstance(codes, int) else codes[some]
                yield table, (self._numbers.take(which[some]), slots[some], few)


class Put(NamedTuple):
    """Instants to be set. of: the columns that it may be, or the only one; which: of each slot its
    column's place among them. at: of each slot, or one of all, ms.

    A column's slots stand in one part only: once each where the instant is one number, else, in
    order of ``which``, ascending by (slot, instant), of which the last of a slot counts.
    """

    of: Columns | Instants
    which: Array | None
    slots: Array
    at: Array | int


def put_all(parts: Iterable[Put]) -> None:
    """Put the slots' instants of many columns at once. Cost: a fixed number of passes over what is
    put, and a few calls for each part."""
    tables: dict[int, tuple[Table, list[Part]]] = {}
    for of, which, slots, at in parts:
        if not len(slots):
            continue
        codes = _codes(at)
        if not isinstance(codes, int) and len(slots) > 1:
            last = last_of_runs(slots) if which is None else last_of_runs(slots, which)
            if not last.all():
                slots, codes = slots[last], codes[last]
                which = None if which is None else which[last]
        if isinstance(of, Instants):
            tables.setdefault(id(of.rows), (of.rows, []))[1].append((of.column, slots, codes))
            continue
        assert which is not None
        for table, part in of.parts(which, slots, codes):
            tables.setdefault(id(table), (table, []))[1].append(part)
    for rows, mine in tables.values():
        rows.put(mine)


def table_savings(columns: Mapping[str, Instants], slots: int) -> Iterator[tuple[str, Saving]]:
    """For a checkpoint: tables as they are, and which of their columns has which name."""
    for i, rows in enumerate(_tables(columns)):
        names = {name: one.column for name, one in columns.items() if one.rows is rows}
        text = np.frombuffer(msgspec.json.encode(names), np.uint8)
        yield f"instants/{i}/", Saving((), partial(dict, columns=text))
        yield f"instants/{i}/rows/", rows.saving(slots)


_COLUMNS = msgspec.json.Decoder(dict[str, int])


def restore_tables(columns: Mapping[str, Instants], arrays: dict[str, Array], slots: int) -> None:
    """Take columns from a checkpoint's arrays. What was in other tables there is put into those of
    the columns; checkpoints from before there were tables have an array of codes by each name."""
    saved = {name: arrays[name] for name in columns if name in arrays}
    for i in count():
        if f"instants/{i}/columns" not in arrays:
            break
        names = _COLUMNS.decode(arrays[f"instants/{i}/columns"].tobytes())
        prefix = f"instants/{i}/rows/"
        parts = {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}
        some = columns[next(iter(names))]
        kind = InstantRows if "pools" in parts else InstantCells
        rows = kind.of_arrays(some.capacity, parts)
        mine = {name: one for name, one in columns.items() if one.rows is some.rows}
        if {name: one.column for name, one in mine.items()} == names:
            for one in mine.values():
                one.rows = rows
        else:
            saved |= {name: rows.of(number, np.arange(slots)) for name, number in names.items()}
    for table in _tables(columns):
        mine = {name: one for name, one in columns.items() if one.rows is table}
        table.restore({one.column: saved[name] for name, one in mine.items() if name in saved})


def _tables(columns: Mapping[str, Instants]) -> list[Table]:
    return list({id(one.rows): one.rows for one in columns.values()}.values())


def _codes(at: Array | int) -> Array | int:
    if isinstance(at, int):
        return min(at - UNSET + 1, MOST)
    return np.minimum(at, MOST - 1 + UNSET).astype(np.int64) + (1 - UNSET)
