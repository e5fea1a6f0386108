"""Groups of entries: every byte as it was written, every row where its address says."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profile_actors.engine.log import entry_groups
from profile_actors.engine.log.entry import Block, Mail, NewIdentities, decode, encode, times_of
from profile_actors.engine.log.entry_groups import Group, Packing, digest_of, is_group
from profile_actors.engine.log.in_memory import MemoryLog
from profile_actors.engine.merge.documents import read_records, read_rows
from profile_actors.engine.merge.opened_blocks import OpenedBlocks
from profile_actors.errors import CorruptLog
from profile_actors.ingest.hidden_columns import ID, ROW, TIMESTAMP, TYPE

FIRST = 1_000

KINDS = st.sampled_from(("clock", "mail", "one", "one", "one", "two", "many", "nested"))


def table(draw: random.Random, rows: int, kind: str) -> pa.Table:
    word = [draw.choice(["view", "buy", None, f"kind {draw.random()}"]) for _ in range(rows)]
    columns = {
        TIMESTAMP: pa.array([draw.randrange(-5_000, 5_000) for _ in range(rows)]),
        TYPE: pa.array(word, pa.string()).dictionary_encode(),
        ROW: pa.array(range(rows)),
        "n": pa.array([draw.choice([None, draw.randrange(9)]) for _ in range(rows)], pa.int64()),
        "text": pa.array(["é" * draw.randrange(30) for _ in range(rows)]),
    }
    if kind == "nested":
        columns["a.b"] = pa.array([[{"sku": draw.choice("xy")}] for _ in range(rows)])
    if draw.random() < 0.5:
        columns[ID] = pa.array([f"e{draw.randrange(99)}" for _ in range(rows)])
    return pa.table(columns)


def made(kind: str, seed: int) -> bytes:
    draw = random.Random(seed)
    rows = {"one": [1], "two": [1, 1], "many": [40], "nested": [3, 1]}.get(kind, [])
    blocks = []
    for number, count in enumerate(rows):
        of = table(draw, count, kind)
        idents, times = np.array([draw.randrange(4) for _ in range(count)]), times_of(of)
        order = np.lexsort((times, idents))
        blocks.append(Block(f"d{(number + seed) % 3}", of, idents, order, times))
    mail = Mail((("0", seed, 17),), (), b"operations %d" % seed) if kind == "mail" else Mail()
    fresh = pa.table({"@k0": pa.array([seed], pa.uint64()), "@value": ["somebody"]})
    parts = encode(
        "clock" if kind == "clock" else "rows", 1, seed, 2, mail=mail, blocks=blocks,
        identities=NewIdentities(seed, fresh) if draw.random() < 0.2 else None,
    )  # fmt: skip
    return b"".join(bytes(part) for part in parts)


def packed(entries: list[bytes]) -> bytes:
    packing = Packing(FIRST)
    for one in entries:
        packing.add(memoryview(one))
    assert packing.end == FIRST + len(entries)
    return b"".join(packing.parts())


@given(kinds=st.lists(KINDS, min_size=1, max_size=40), seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_a_group_says_what_its_entries_say(kinds: list[str], seed: int) -> None:
    entries = [made(kind, seed + at) for at, kind in enumerate(kinds)]
    chunk, few = entry_groups.CHUNK_BYTES, entry_groups.FEW_BLOCKS
    entry_groups.CHUNK_BYTES, entry_groups.FEW_BLOCKS = 1 + seed % 9_000, 1 + seed % 7
    try:
        content = packed(entries)
    finally:
        entry_groups.CHUNK_BYTES, entry_groups.FEW_BLOCKS = chunk, few
    group = Group(memoryview(content), "here")
    assert is_group(content)
    assert not any(is_group(one) for one in entries)
    places = list(range(len(entries)))
    random.Random(seed).shuffle(places)
    for at in places:
        assert group.entry(FIRST + at) == entries[at]
        assert group.digest(FIRST + at) == digest_of(FIRST + at, entries[at])

    alone, together = MemoryLog(), MemoryLog()
    alone.entries = together.entries = [b""] * FIRST + entries
    together.groups = [group]
    rows = [sum(b.rows for b in decode(memoryview(one), "x").blocks) for one in entries]
    every = [(FIRST + at, row) for at, count in enumerate(rows) for row in range(count)]
    random.Random(seed).shuffle(every)
    positions, numbers = np.array(every, np.int64).reshape(-1, 2).T
    for read in (read_rows, read_records):
        assert read(together, positions, numbers) == read(alone, positions, numbers)
    one_by_one = OpenedBlocks(alone, 99).of(positions.tolist(), numbers.tolist())
    in_tables = OpenedBlocks(together, 99).of(positions.tolist(), numbers.tolist())
    for (block, row), (other, place) in zip(one_by_one, in_tables, strict=True):
        assert other.document(place) == block.document(row)
        assert other.record(place) == block.record(row)
        assert other.key(place, (1, 2)) == block.key(row, (1, 2))


def test_rows_of_one_person_lie_side_by_side_in_time() -> None:
    entries = [made("one", seed) for seed in range(300)]
    group = Group(memoryview(packed(entries)), "here")
    for number, (dataset, count) in enumerate(group.shapes()):
        found: list[tuple[int, int]] = [(0, 0)] * count
        for at, one in enumerate(entries):
            (block,) = decode(memoryview(one), "x").blocks
            (of,), (place,) = group.located(np.array([FIRST + at]), np.array([0]))
            if of == number:
                assert block.dataset == dataset
                found[place] = int(block.idents[0]), int(block.timestamps[0])
        assert found == sorted(found)


def test_single_events_take_a_tenth_of_their_bytes() -> None:
    entries = [made("one", seed) for seed in range(1, 2_000)]
    assert len(packed(entries)) < len(b"".join(entries)) / 5


@pytest.mark.parametrize("part", [0, 1, 2, 6, 7])
def test_a_damaged_byte_raises_or_changes_nothing(part: int) -> None:
    """Whatever the file's checksum says: an entry is compared with its own."""
    entries = [made("one", seed) for seed in range(50)]
    whole = packed(entries)
    group = Group(memoryview(whole), "here")
    offset, size = group.note.parts[min(part, len(group.note.parts) - 1)]
    base = len(whole) - sum((s + 63) // 64 * 64 for _, s in group.note.parts)
    for at in range(base + offset, base + offset + size, max(1, size // 40)):
        spoilt = bytearray(whole)
        spoilt[at] ^= 64
        for position in range(FIRST, FIRST + 50, 7):
            try:
                found = Group(memoryview(bytes(spoilt)), "here").entry(position)
            except (CorruptLog, IndexError, ValueError):
                continue
            assert found == entries[position - FIRST]


def test_a_newer_group_is_refused() -> None:
    whole = bytearray(packed([made("one", 1)]))
    assert whole[8:10] == b"\x95\x01"  # an array of five, the first of them 1
    whole[9] = 2
    with pytest.raises(CorruptLog, match="newer version"):
        Group(memoryview(bytes(whole)), "here")
