"""What records come to depends on the set of their rows alone, and a look-up reads few of them."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profile_actors.columnar.state_columns import Saving
from profile_actors.columnar.vectors import Array, differ
from profile_actors.definitions.field_types import FieldType
from profile_actors.engine.log.entry import Block, encode
from profile_actors.engine.log.in_memory import MemoryLog
from profile_actors.engine.merge import tied_rows
from profile_actors.engine.merge.documents import Row, read_records, records_of
from profile_actors.engine.merge.live_rows import LiveRows, RecordPart
from profile_actors.engine.merge.opened_blocks import OpenedBlocks
from profile_actors.engine.merge.record_reading import records_at
from profile_actors.engine.merge.record_union import Merging, union_of
from profile_actors.engine.operators.attribute_columns import Attribute, stated_of
from profile_actors.ingest.hidden_columns import APPENDED, DELETED, K0, K1, TIMESTAMP
from profile_actors.rules.tree.plan import AttributeLeaf

REPLACES = {"crm": False, "web": True, "shop": False}
BOOK = 2  # the ident whose rows are of two identities
SLOTS = np.array([0, 2, 1], np.uint32)  # of the idents
SCHEMA = pa.schema(
    [
        (TIMESTAMP, pa.int64()), ("score", pa.int64()), ("home.city", pa.string()),
        ("tags", pa.list_(pa.string())), ("limits", pa.map_(pa.string(), pa.int64())),
        (DELETED, pa.bool_()), (APPENDED, pa.list_(pa.string())), (K0, pa.uint64()),
        (K1, pa.uint64()),
    ]
)  # fmt: skip
maybe = st.none
texts = st.sampled_from(["", "a", "b"])
rows = st.fixed_dictionaries(
    {
        "dataset": st.sampled_from(sorted(REPLACES)),
        "ident": st.integers(0, 2),
        TIMESTAMP: st.integers(0, 6),
        "score": maybe() | st.integers(-1, 1),
        "home.city": maybe() | texts,
        "tags": maybe() | st.lists(texts, max_size=2),
        "limits": maybe() | st.dictionaries(texts, maybe() | st.integers(0, 2), max_size=2),
        DELETED: st.sampled_from([None, None, None, True]),
        "adds": st.booleans(),
        "primary": st.integers(0, 1),
    }
).map(lambda row: row if row["ident"] == BOOK else row | {"primary": None})


def block_of(dataset: str, mine: list[dict[str, Any]]) -> Block:
    """A block as the log has it: hidden columns only where some row needs them."""
    made = []
    for row in mine:
        is_added = row["adds"] and row["tags"] is not None and not row[DELETED]
        key = row["primary"]
        made.append(
            {
                **{name: None if row[DELETED] else row[name] for name in SCHEMA.names[1:5]},
                TIMESTAMP: row[TIMESTAMP], DELETED: row[DELETED],
                APPENDED: ["tags"] if is_added else None,
                K0: key, K1: None if key is None else 7,
            }
        )  # fmt: skip
    table = pa.Table.from_pylist(
        [{**one, "limits": None if one["limits"] is None else [*one["limits"].items()]}
         for one in made], SCHEMA,
    )  # fmt: skip
    empty = [name for name in table.column_names if table[name].null_count == len(table)]
    table = table.drop_columns(empty)
    idents = np.array([row["ident"] for row in mine])
    times = np.array([row[TIMESTAMP] for row in mine])
    return Block(dataset, table, idents, np.lexsort((times, idents)), times)


class Store:
    """Living rows beside a log. entries: of rows each."""

    def __init__(self, entries: list[list[dict[str, Any]]]) -> None:
        self.log, self.live = MemoryLog(), LiveRows(8)
        self.rows: list[list[Row]] = [[], [], []]
        self.columns = [Attribute(leaf, REPLACES, 8) for leaf in LEAVES]
        for entry in entries:
            self.take(entry)

    def take(self, entry: list[dict[str, Any]]) -> None:
        """One more entry."""
        position = self.log.head()
        blocks, parts, first = [], [], 0
        for dataset in sorted({row["dataset"] for row in entry}):
            block = block_of(dataset, [row for row in entry if row["dataset"] == dataset])
            for ident, row in zip(
                block.idents.tolist(), records_of(block, np.arange(block.rows)), strict=True
            ):
                self.rows[SLOTS[ident]].append(row)
            blocks.append(block)
            parts.append(RecordPart(block, first + np.arange(block.rows), REPLACES[dataset]))
            first += block.rows
        self.log.append_at(position, encode("rows", 0, 0, 0, blocks=blocks), 0)
        self.live.publish(self.live.step(parts, position, SLOTS, self.rows_at))
        for column in self.columns:
            before = column.current(np.arange(3))
            track = column.fold(stated_of(column, blocks, SLOTS))
            if track is not None:
                column.publish(track)
            after = column.current(np.arange(3))
            moved = set() if track is None else set(track.slots[track.changed].tolist())
            assert set(np.flatnonzero(differ(before, after)).tolist()) == moved

    def rows_at(self, positions: Array, numbers: Array) -> list[Row]:
        return read_records(self.log, positions, numbers)

    def attributes(self, path: str) -> list[Any]:
        """What rules read of a leaf, by slot."""
        (column,) = (one for one in self.columns if one.leaf.path == path)
        found = column.current(np.arange(3))
        values = found.values.tolist()
        if found.dictionary is not None:
            values = [found.dictionary[code] for code in values]
        valid = [True] * 3 if found.valid is None else found.valid.tolist()
        return [value if is_there else None for value, is_there in zip(values, valid, strict=True)]

    def read(self, slots: Array) -> dict[int, list[Row]]:
        """The living rows by slot."""
        owners, positions, numbers = self.live.gather(slots)
        return records_at(self.log, OpenedBlocks(self.log, 2), slots[owners], positions, numbers)


FEW = settings(max_examples=50)
LEAVES = [
    AttributeLeaf("score", type=FieldType("integer")),
    AttributeLeaf("home.city", type=FieldType("string")),
]
ORDERS = [None, ("web", "crm"), ("shop", "web", "crm")]


@FEW
@given(st.lists(st.lists(rows, min_size=1, max_size=6), max_size=8), st.sampled_from(ORDERS))
def test_the_living_rows_say_what_all_rows_say(
    entries: list[list[dict[str, Any]]], order: tuple[str, ...] | None
) -> None:
    merging = Merging(REPLACES, order)
    store = Store(entries)
    living = store.read(np.arange(3))
    owners, positions, numbers = store.live.gather(np.arange(3))
    together: dict[int, list[Row]] = {}
    for owner, row in zip(owners, read_records(store.log, positions, numbers), strict=True):
        together.setdefault(int(owner), []).append(row)
    assert together == living
    for slot, mine in enumerate(store.rows):
        assert union_of(living.get(slot, []), merging) == union_of(mine, merging)


@FEW
@given(st.lists(st.lists(rows, min_size=1, max_size=6), max_size=8))
def test_rules_read_what_the_union_says(entries: list[list[dict[str, Any]]]) -> None:
    store = Store(entries)
    views = [union_of(mine, Merging(REPLACES)) for mine in store.rows]
    assert store.attributes("score") == [view.get("score") for view in views]
    cities = [view.get("home", {}).get("city") for view in views]
    assert store.attributes("home.city") == cities


@FEW
@given(st.lists(rows, max_size=12), st.randoms(use_true_random=False), st.sampled_from(ORDERS))
def test_neither_order_nor_splits_nor_repetition_matter(
    entry: list[dict[str, Any]], random: Any, order: tuple[str, ...] | None
) -> None:
    merging = Merging(REPLACES, order)
    whole = Store([entry] if entry else [])
    again = entry + random.sample(entry, len(entry) // 2)
    random.shuffle(again)
    single = Store([[row] for row in again])
    for slot in range(3):
        wanted = union_of(whole.rows[slot], merging)
        assert union_of(single.rows[slot], merging) == wanted
        assert union_of(single.read(np.arange(3)).get(slot, []), merging) == wanted


@FEW
@given(st.lists(st.lists(rows, min_size=1, max_size=5), max_size=6), st.integers(0, 6))
def test_a_checkpoint_keeps_them(entries: list[list[dict[str, Any]]], saved: int) -> None:
    store, whole = Store(entries[:saved]), Store(entries)
    again = Store([])
    again.log, again.rows = store.log, store.rows
    again.live.restore(copied(store.live.saving(3)))
    for new, old in zip(again.columns, store.columns, strict=True):
        new.restore(copied(old.saving(3)))
    for entry in entries[saved:]:
        again.take(entry)
    for slot, mine in again.read(np.arange(3)).items():
        assert union_of(mine, Merging(REPLACES)) == union_of(whole.rows[slot], Merging(REPLACES))
    assert len(again.live) == len(whole.live)
    for path in ("score", "home.city"):
        assert again.attributes(path) == whole.attributes(path)


def copied(saving: Saving) -> dict[str, Array]:
    """What a checkpoint of three slots has of it."""
    for copy in saving.copies:
        copy.take(slice(0, 3), np.zeros(3, np.bool_))
        copy.complete()
    return saving.made()


def _row(time: int, **fields: Any) -> dict[str, Any]:
    none = dict.fromkeys(("score", "home.city", "tags", "limits", DELETED, "primary"))
    return {"dataset": "crm", "adds": False, TIMESTAMP: time, **none, "ident": 0, **fields}


def test_of_many_upserts_only_the_newest_of_each_leaf_live() -> None:
    entries = [[_row(time, score=time)] for time in range(50)]
    entries += [[_row(60 + time, **{"home.city": "a"})] for time in range(50)]
    entries += [[_row(200 + time, limits={"sms": time, "push": 1})] for time in range(50)]
    store = Store(entries)
    assert store.live.gather(np.array([0]))[1].tolist() == [49, 99, 149]
    assert union_of(store.read(np.array([0]))[0], Merging(REPLACES)) == {
        "score": 49, "home": {"city": "a"}, "limits": {"sms": 49, "push": 1},
    }  # fmt: skip


def test_the_arena_is_packed_and_grows_with_the_living_alone() -> None:
    store = Store([[_row(time, limits={f"key {time % 3}": time})] for time in range(800)])
    assert len(store.live) == 3
    assert store.live.size_bytes < 100_000


def test_two_identities_of_a_profile_hide_nothing_of_each_other() -> None:
    book = {"dataset": "web", "ident": BOOK}
    mine = _row(5, score=1, primary=0, **book)
    other = _row(9, primary=1, **book, **{"home.city": "b"})
    gone = _row(9, primary=1, **book, **{DELETED: True})
    slot = int(SLOTS[BOOK])
    store = Store([[mine], [other]])
    assert union_of(store.read(np.array([slot]))[slot], Merging(REPLACES)) == {
        "score": 1, "home": {"city": "b"},
    }  # fmt: skip
    assert store.attributes("score")[slot] == 1
    store = Store([[gone], [mine], [other]])
    assert union_of(store.read(np.array([slot]))[slot], Merging(REPLACES)) == {"score": 1}
    assert store.attributes("home.city")[slot] is None


def test_of_many_upserts_at_one_time_few_live() -> None:
    draw = random.Random(5)
    entries = [
        [_row(7, score=draw.randint(0, 99), limits={draw.choice("ab"): draw.randint(0, 9)})]
        for _ in range(300)
    ]
    entries += [[_row(7, **{"home.city": draw.choice("xyz")}, tags=["a"])] for _ in range(100)]
    entries += [[_row(7, tags=[draw.choice("ab")], adds=True)] for _ in range(100)]
    store = Store(entries)
    assert len(store.live) < 40
    slot = int(SLOTS[0])
    assert union_of(store.read(np.array([slot]))[slot], Merging(REPLACES)) == union_of(
        store.rows[slot], Merging(REPLACES)
    )


@FEW
@given(st.lists(st.lists(rows, min_size=1, max_size=6), max_size=8), st.sampled_from(ORDERS))
def test_what_ties_say_is_kept(
    entries: list[list[dict[str, Any]]], order: tuple[str, ...] | None
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tied_rows, "MANY_ROWS", -100)
        store = Store(entries)
        living = store.read(np.arange(3))
    for slot, mine in enumerate(store.rows):
        merging = Merging(REPLACES, order)
        assert union_of(living.get(slot, []), merging) == union_of(mine, merging)
