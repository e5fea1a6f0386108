"""Rows of the log as plain documents, in order-key order; and what record rows come to.

Theory: a document has nested objects for dotted paths, no nulls, times as integer ms. Events sort
by the order key (timestamp, ``_id``; without one the xxh3 of the canonical row, dataset, key of the
identity that the row is of, occurrence number), so the order depends neither on arrival nor on
which identities are one person. Reading costs the profile's own rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import xxhash

from profile_actors.columnar.runs import starts_of
from profile_actors.columnar.time_units import DAY_MS
from profile_actors.columnar.vectors import Array
from profile_actors.engine.log.entry import Block, blocks_of_rows, table_of
from profile_actors.engine.log.ports import Log, RowGroup
from profile_actors.ingest.hidden_columns import (
    APPENDED,
    DELETED,
    ID,
    K0,
    K1,
    NAMESPACE,
    TIMESTAMP,
    TYPE,
    VALUE,
)

RENAMED = {TIMESTAMP: "timestamp", TYPE: "eventType", ID: "_id"}


Primary = tuple[int, int]
"""The key (k0, k1) of the identity that a row is of."""


Key = tuple[int, str, str, Primary, int]
"""The order key of an event."""


OF_IDENTITY = frozenset((K0, K1))
"""What a row of a profile of several identities says of itself."""


OF_RECORDS = frozenset((DELETED, APPENDED, K0, K1, NAMESPACE, VALUE))
"""What else a row of a record may say of itself."""


class Row(msgspec.Struct, frozen=True):
    """One row: its dataset, timestamp (ms) and flat fields, no hidden columns (@…) but its time,
    type and id under their document names; primary, the identity that it is of, where a profile has
    several (else None).

    Of a record: deletes, whether it says that there is no record; appends: the paths of arrays that
    it adds to; named: the primary's namespace and value.
    """

    dataset: str
    timestamp: int
    fields: dict[str, Any]
    primary: Primary | None = None
    deletes: bool = False
    appends: tuple[str, ...] = ()
    named: tuple[str, str] | None = None


class Taken(msgspec.Struct, frozen=True):
    """Rows of one dataset with the same columns: those that documents show, times as integer
    ms."""

    dataset: str
    table: pa.Table

    def rows(self) -> list[Row]:
        """The rows as documents."""
        out = []
        for record in self.table.to_pylist(maps_as_pydicts="lossy"):
            fields = {RENAMED.get(k, k): v for k, v in record.items() if v is not None}
            k0, k1 = fields.pop(K0, None), fields.pop(K1, None)
            primary = None if k0 is None else (k0, k1)
            out.append(Row(self.dataset, fields["timestamp"], fields, primary))
        return out

    def records(self) -> list[Row]:
        """The same of records, with what their rows say of themselves."""
        if OF_RECORDS.isdisjoint(self.table.column_names):
            return self.rows()
        out = []
        for row in self.rows():
            said = {
                name: row.fields.pop(name, None) for name in (DELETED, APPENDED, NAMESPACE, VALUE)
            }
            if row.primary is not None:
                said[K0], said[K1] = row.primary
            out.append(record_row(self.dataset, row.fields, said))
        return out


def record_row(dataset: str, fields: dict[str, Any], said: dict[str, Any]) -> Row:
    """A row of a record. said: what it says of itself, by hidden column."""
    if not said:
        return Row(dataset, fields["timestamp"], fields)
    k0 = said.get(K0)
    return Row(
        dataset,
        fields["timestamp"],
        fields,
        None if k0 is None else (k0, said[K1]),
        bool(said.get(DELETED)),
        tuple(said.get(APPENDED) or ()),
        None if k0 is None else (said.get(NAMESPACE) or "", said.get(VALUE) or ""),
    )


def _placed(
    log: Log, positions: Array, rows: Array, more: frozenset[str] = frozenset()
) -> list[tuple[list[int], Taken]]:
    """The given rows (entry position, row in the entry), each once: one ``Taken`` for all rows of a
    dataset that have the same columns, with their places among those given. more: hidden columns
    that are wanted besides.

    Cost: each block is opened once, and of its columns those rows are read; the rest is done for
    all of them together. Raises CorruptLog.
    """
    order = np.lexsort((rows, positions))
    positions, rows = positions[order], rows[order].astype(np.int64)
    starts = starts_of(positions).tolist() if len(positions) else []
    pieces: dict[tuple[str, pa.Schema], tuple[list[int], list[pa.Table]]] = {}
    skipped = 0
    for begin, end in zip(starts, [*starts[1:], len(positions)], strict=False):
        position, place = int(positions[begin]), begin
        if begin < skipped:
            continue
        group = log.group(position)
        if group is not None:
            skipped = int(positions.searchsorted(group.end))
            here = slice(begin, skipped)
            for dataset, table, some in _of_group(group, positions[here], rows[here]):
                places, tables = pieces.setdefault((dataset, table.schema), ([], []))
                places += order[here][some].tolist()
                tables.append(table)
            continue
        with log.view(position) as view:
            for block, local in blocks_of_rows(view, f"position {position}", rows[begin:end]):
                key = block.dataset, block.table.schema
                places, tables = pieces.setdefault(key, ([], []))
                places += order[place : place + len(local)].tolist()
                tables.append(_some(block.table, local))
                place += len(local)
    return [
        (places, Taken(dataset, _shown(pa.concat_tables(tables), more)))
        for (dataset, _), (places, tables) in pieces.items()
    ]


def _of_group(
    group: RowGroup, positions: Array, rows: Array
) -> Iterator[tuple[str, pa.Table, Array]]:
    """Rows of entries of a group: dataset, rows, and which of those asked for they are."""
    tables, places = group.located(positions, rows)
    shapes = group.shapes()
    for table in np.unique(tables).tolist():
        some = (tables == table).nonzero()[0]
        some = some[places[some].argsort()]
        yield shapes[table][0], _some(table_of(group.stream(table)), places[some]), some


def _some(table: pa.Table, local: Array) -> pa.Table:
    """The given rows. Cost: rows next to each other are not even copied."""
    first, count = int(local[0]), len(local)
    if int(local[-1]) - first == count - 1:
        return table.slice(first, count)
    return table.take(pa.array(local))


def read_rows(log: Log, positions: Array, rows: Array) -> list[Row]:
    """The given rows (entry position, row in the entry), in the order given."""
    out: list[Any] = [None] * len(positions)
    for places, taken in _placed(log, positions, rows, OF_IDENTITY):
        for place, row in zip(places, taken.rows(), strict=True):
            out[place] = row
    return out


def read_records(log: Log, positions: Array, rows: Array) -> list[Row]:
    """The same of rows of records, with what they say of themselves."""
    out: list[Any] = [None] * len(positions)
    for places, taken in _placed(log, positions, rows, OF_RECORDS):
        for place, row in zip(places, taken.records(), strict=True):
            out[place] = row
    return out


def rows_of(block: Block, local: Array) -> list[Row]:
    """The given rows of one block. local: int64[n], row numbers in the block."""
    return Taken(block.dataset, _shown(block.table.take(pa.array(local)), OF_IDENTITY)).rows()


def records_of(block: Block, local: Array) -> list[Row]:
    """The same of a block of records, with what its rows say of themselves."""
    return Taken(block.dataset, _shown(block.table.take(pa.array(local)), OF_RECORDS)).records()


def shown_columns(table: pa.Table) -> pa.Table:
    """What ``Taken.records`` is made of, from rows as the log has them."""
    return _shown(table, OF_RECORDS)


def _shown(table: pa.Table, more: frozenset[str] = frozenset()) -> pa.Table:
    """The columns that documents show, times as integer ms, and the hidden ones among ``more``."""
    names = table.column_names
    table = table.select(
        [name for name in names if name in RENAMED or name in more or not name.startswith("@")]
    )
    for index, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            milliseconds = table.column(index).cast(pa.timestamp("ms")).cast(pa.int64())
            table = table.set_column(index, field.name, milliseconds)
        elif pa.types.is_date32(field.type):
            days = table.column(index).cast(pa.int32()).cast(pa.int64())
            table = table.set_column(index, field.name, pa.compute.multiply(days, DAY_MS))
    return table


def in_order(rows: Iterable[Row]) -> list[tuple[Key, Row]]:
    """Rows of one profile with their order keys, ascending: either all of them say whose they are,
    or all are of the profile's one identity."""
    keyed: list[tuple[Key, Row]] = []
    seen: dict[tuple[int, str, str, Primary], int] = {}
    for row in rows:
        tie = id_of(row)
        base = (row.timestamp, tie, row.dataset, row.primary or (0, 0))
        occurrence = seen.get(base, 0)
        seen[base] = occurrence + 1
        keyed.append(((*base, occurrence), row))
    keyed.sort(key=lambda pair: pair[0])
    return keyed


def id_of(row: Row) -> str:
    """The row's ``_id``, else the xxh3 of the canonical row."""
    tie = row.fields.get("_id")
    if tie is None:
        canonical = msgspec.json.encode(row.fields, order="deterministic", enc_hook=str)
        tie = xxhash.xxh3_128_hexdigest(canonical)
    return str(tie)


def document(fields: dict[str, Any]) -> dict[str, Any]:
    """Dotted paths as nested objects."""
    out: dict[str, Any] = {}
    for name, value in fields.items():
        target = out
        *parents, leaf = name.split(".")
        for parent in parents:
            target = target.setdefault(parent, {})
        target[leaf] = value
    return out
