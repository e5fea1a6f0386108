"""Decoders of cells say what Arrow says, and only so many blocks stay open."""

from __future__ import annotations

import random
from contextlib import AbstractContextManager
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from profile_actors.engine.log.entry import Block, encode, times_of
from profile_actors.engine.log.in_memory import MemoryLog
from profile_actors.engine.merge.documents import document, rows_of
from profile_actors.engine.merge.opened_blocks import OpenedBlocks, decoder
from profile_actors.ingest.hidden_columns import ID, TIMESTAMP

BEGIN = datetime(2024, 2, 29, 23, 59)

TYPES: dict[str, tuple[pa.DataType, Any]] = {
    "int64": (pa.int64(), lambda draw: draw.choice([0, -1, 2**63 - 1, -(2**63)])),
    "int8": (pa.int8(), lambda draw: draw.randint(-128, 127)),
    "int32": (pa.int32(), lambda draw: draw.randint(-5, 5)),
    "double": (pa.float64(), lambda draw: draw.choice([0.0, -0.0, 1.5, 1e300])),
    "boolean": (pa.bool_(), lambda draw: draw.random() < 0.5),
    "text": (pa.string(), lambda draw: draw.choice(["", "a", "é", "😀\0", "long " * 9])),
    "large": (pa.large_string(), lambda draw: draw.choice(["", "ß", "tail"])),
    "word": (pa.dictionary(pa.int32(), pa.string()), lambda draw: draw.choice(["", "é", "x"])),
    "small": (pa.dictionary(pa.int8(), pa.string()), lambda draw: draw.choice(["one", "two"])),
    "ms": (pa.timestamp("ms"), lambda draw: BEGIN + timedelta(seconds=draw.randint(-9, 9))),
    "us": (pa.timestamp("us", "UTC"), lambda draw: BEGIN + timedelta(seconds=draw.randint(0, 9))),
    "day": (pa.date32(), lambda draw: date(1969, 12, 28) + timedelta(days=draw.randint(0, 9))),
    "decimal": (pa.decimal128(38, 2), lambda draw: Decimal(draw.randint(-999, 999)) / 4),
    "list": (pa.list_(pa.int64()), lambda draw: [1] * draw.randint(0, 3)),
    "map": (pa.map_(pa.string(), pa.int64()), lambda draw: [("k", draw.randint(0, 3))]),
    "pets": (
        pa.list_(pa.struct([("kind", pa.string()), ("age", pa.int64())])),
        lambda draw: [{"kind": "cat", "age": draw.choice([None, 3])}],
    ),
}


def column(kind: str, size: int, nulls: float, seed: int) -> pa.Array:
    """Some cells of a type, cut out of a longer column."""
    of, make = TYPES[kind]
    draw = random.Random(f"{kind} {seed}")
    cells = [None if draw.random() < nulls else make(draw) for _ in range(size + 5)]
    return pa.array(cells, of).slice(3, size)


def table(rows: int, seed: int) -> pa.Table:
    """A block's table: hidden columns, and one of each type."""
    columns = {name: column(name, rows, seed % 3 / 3, seed) for name in TYPES}
    times = pa.array([1_000 * seed + row for row in range(rows)])
    ids = pa.array([None if row % 4 == 0 else f"e{row}" for row in range(rows)])
    nested = pa.array(list(range(rows)))
    return pa.table({TIMESTAMP: times, ID: ids, "@others": nested, "a.b": nested, **columns})


def block(rows: int, seed: int) -> Block:
    made = table(rows, seed)
    times = times_of(made)
    return Block(f"d{seed % 2}", made, times * 0, np.arange(rows), times)


class CountingLog(MemoryLog):
    """Counts what is viewed."""

    views = 0

    def view(self, position: int) -> AbstractContextManager[memoryview]:
        self.views += 1
        return super().view(position)


@pytest.fixture
def log() -> CountingLog:
    """Ten entries of two blocks each, of nine and four rows."""
    made = CountingLog()
    for position in range(10):
        blocks = [block(9, 2 * position), block(4, 2 * position + 1)]
        made.append_at(position, encode("rows", 1, 0, 1, blocks=blocks), 1)
    return made


@pytest.mark.parametrize("nulls", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("kind", TYPES)
def test_a_decoder_gives_each_cell_as_documents_have_it(kind: str, nulls: float) -> None:
    for seed in range(5):
        cells = column(kind, 40, nulls, seed)
        read = decoder(cells)
        every = np.arange(40)
        whole = Block("d", pa.table({TIMESTAMP: every, "x": cells}), every, every, every)
        expected = [row.fields.get("x") for row in rows_of(whole, every)]
        found = [read(row) for row in range(40)]
        assert found == expected
        assert [type(one) for one in found] == [type(one) for one in expected]


def test_rows_are_the_documents_of_their_entry(log: CountingLog) -> None:
    opened = OpenedBlocks(log, 3)
    for position in (4, 0, 9, 4):
        for first, number in ((0, 2 * position), (9, 2 * position + 1)):
            of = block(4 if first else 9, number)
            for place, row in enumerate(rows_of(of, of.order)):
                ((found, _),) = opened.of([position], [first + place])
                assert found.document(first + place) == document(row.fields)
                time, tie, dataset, primary = found.key(first + place, (1, 2))
                assert (time, dataset, primary) == (row.timestamp, row.dataset, (1, 2))
                assert tie == (f"e{place}" if place % 4 else tie)
                assert len(tie) == (2 if place % 4 else 32)


def test_what_was_asked_for_longest_ago_is_let_go_of(log: CountingLog) -> None:
    opened = OpenedBlocks(log, 2)
    for position in (0, 1, 0, 1, 0):
        opened.of([position], [3])[0][0].document(3)
    assert log.views == 2
    opened.of([2], [0])  # entry 1 leaves
    opened.of([0], [0])
    assert log.views == 3
    opened.of([1], [0])
    assert log.views == 4


def test_rows_of_several_entries_are_found_together(log: CountingLog) -> None:
    opened = OpenedBlocks(log, 2)
    opened.of([1], [0])
    places = [(3, 0), (1, 10), (3, 9), (0, 1), (1, 0)]
    found = opened.of([position for position, _ in places], [row for _, row in places])
    assert log.views == 3  # each entry once
    assert [block.first for block, _ in found] == [0, 9, 9, 0, 0]
    for (position, row), (block, number) in zip(places, found, strict=True):
        assert number == row
        assert block.document(row) == opened.of([position], [row])[0][0].document(row)


def test_nothing_is_kept_once_it_is_closed(log: CountingLog) -> None:
    opened = OpenedBlocks(log, 2)
    opened.of([0], [0])
    opened.close()
    opened.of([0], [0])
    opened.of([0], [0])
    assert log.views == 3
