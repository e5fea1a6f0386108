"""The door: hidden columns, every kind of rejection, and the count law (L8)."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from profile_actors.config import Config
from profile_actors.definitions.catalogue_changes import extended
from profile_actors.definitions.declared import Catalogue, Dataset, Field, Namespace, Schema
from profile_actors.errors import DefinitionError, SchemaError
from profile_actors.ingest.door import Door, Prepared
from profile_actors.ingest.files.csv_blocks import read_csv_blocks
from profile_actors.ingest.identity_keys import key_of
from profile_actors.ingest.rejects import QuarantineRecord, Reject, quarantined

WALL_MS = 1_800_000_000_000
CATALOGUE = extended(
    Catalogue(),
    [
        Namespace("CRM", kind="cross_device", normalize="lower"),
        Schema(
            "order",
            behavior="event",
            fields={
                "n": Field("integer", minimum=0, maximum=9),
                "value": "double",
                "home.city": Field("string", enum=("Rom", "Ulm")),
                "items[].sku": Field("string", pattern="^[A-Z]+$", required=True),
                "tags": "string[]",
                "code": Field("string", max_length=3),
            },
        ),
        Dataset(
            "orders", schema="order", identities={"who": "CRM"}, timestamp="at", event_type="buy"
        ),
        Schema(
            "visit",
            behavior="event",
            fields={"eventType": "string", "timestamp": "timestamp", "url": "string"},
        ),
        Dataset(
            *("visits", "visit"),
            identities={"who": "CRM"},
            timestamp="timestamp",
            id="_id",
            event_type_field="eventType",
        ),
        Schema("person", behavior="record", fields={"who": "integer", "name": "string"}),
        Dataset("people", schema="person", identities={"who": "CRM"}),
    ],
)


def door(dataset: str = "orders") -> Door:
    return Door(CATALOGUE, dataset, 7, Config())


def prepare(rows: Any, dataset: str = "orders", first: int = 0) -> Prepared:
    prepared = door(dataset).prepare(rows, first, WALL_MS)
    assert prepared.table.num_rows + len(prepared.rejects) == prepared.rows == len(rows)
    return prepared


def test_an_accepted_row_has_payload_and_hidden_columns() -> None:
    rows = [
        {
            "who": "A1",
            "at": dt.date(1997, 1, 1),
            "n": 2,
            "value": 3,
            "home": {"city": "Rom"},
            "items": [{"sku": "X"}, None],
            "tags": ["a", None],
        },
        {"who": 4, "at": "1997-01-02 00:00:01"},
    ]
    prepared = prepare(rows, first=100)
    assert prepared.rejects == []
    assert prepared.clock == 852_163_201_000
    k0, k1 = key_of(CATALOGUE.namespaces["CRM"], "a1", 7)
    assert prepared.table.to_pylist()[0] == {
        "n": 2,
        "value": 3.0,
        "home.city": "Rom",
        "items": [{"sku": "X"}],
        "tags": ["a"],
        "code": None,
        "@type": "buy",
        "@k0": k0,
        "@k1": k1,
        "@value": "a1",
        "@namespace": "CRM",
        "@timestamp": 852_076_800_000,
        "@row": 100,
    }
    assert prepared.table["@value"].to_pylist() == ["a1", "4"]
    kinds = {
        name: str(prepared.table.schema.field(name).type) for name in prepared.table.column_names
    }
    assert kinds == {
        "n": "int64",
        "value": "double",
        "home.city": "string",
        "code": "string",
        "items": "list<item: struct<sku: string>>",
        "tags": "list<item: string>",
        "@type": "dictionary<values=string, indices=int32, ordered=0>",
        "@namespace": "dictionary<values=string, indices=int16, ordered=0>",
        "@k0": "uint64",
        "@k1": "uint64",
        "@value": "string",
        "@timestamp": "int64",
        "@row": "int64",
    }


def test_an_events_own_time_and_type_are_not_payload() -> None:
    rows = [{"who": "a", "timestamp": 5, "_id": 7, "eventType": None, "url": "u"}]
    table = prepare(rows, "visits").table
    assert table.to_pylist() == [
        {
            "url": "u",
            "@type": None,
            "@id": "7",
            "@value": "a",
            "@namespace": "CRM",
            "@timestamp": 5,
            "@row": 0,
            "@k0": table["@k0"][0].as_py(),
            "@k1": table["@k1"][0].as_py(),
        }
    ]


def test_records_without_a_time_get_the_doors() -> None:
    prepared = prepare([{"who": 4, "name": "x"}], "people")
    assert prepared.table.to_pylist()[0]["@timestamp"] == WALL_MS
    assert prepared.table.to_pylist()[0]["@value"] == "4"
    assert prepared.table.to_pylist()[0]["who"] == 4
    assert prepared.clock is None
    assert "@type" not in prepared.table.column_names
    stamped = door("people").prepare([{"who": 4}], 0, WALL_MS, stamp_ms=9)
    assert stamped.table["@timestamp"].to_pylist() == [9]


GOOD = {"who": "a", "at": 5}
BAD: list[tuple[Any, str, str]] = [
    (GOOD | {"n": "2"}, "n", "expected integer, got string '2'"),
    (GOOD | {"n": 2.0}, "n", "expected integer, got number 2.0"),
    (GOOD | {"n": True}, "n", "expected integer, got boolean True"),
    (GOOD | {"n": 2**63}, "n", "expected an integer within int64"),
    (GOOD | {"n": -1}, "n", "expected at least 0, got -1"),
    (GOOD | {"n": 10}, "n", "expected at most 9, got 10"),
    (GOOD | {"value": float("nan")}, "value", "expected a finite number"),
    (GOOD | {"value": 10**400}, "value", "expected a finite number"),
    (
        GOOD | {"home": {"city": "Bonn"}},
        "home.city",
        "expected one of ['Rom', 'Ulm'], got string 'Bonn'",
    ),
    (GOOD | {"home": "Rom"}, "home", "expected an object, got string 'Rom'"),
    (GOOD | {"home": {"zip": 3}}, "home.zip", "expected a field of the schema, got an unknown one"),
    (
        GOOD | {"home": {"city": "Rom"}, "home.city": "Ulm"},
        "home.city",
        "expected one value, got two",
    ),
    (GOOD | {"items": [{"sku": "x"}]}, "items[].sku", "expected text with the pattern '^[A-Z]+$'"),
    (GOOD | {"items": [{}]}, "items[].sku", "expected string, got none"),
    (GOOD | {"items": [{"sku": "X", "n": 3}]}, "items[].n", "got an unknown one"),
    (GOOD | {"tags": [1]}, "tags[]", "expected string, got integer 1"),
    (GOOD | {"tags": "a"}, "tags", "expected array, got string 'a'"),
    (GOOD | {"code": "abcd"}, "code", "expected at most 3 characters, got 4"),
    (GOOD | {"code": "\ud800"}, "code", "expected UTF-8 text"),
    (GOOD | {"stray": 0}, "stray", "expected a field of the schema, got an unknown one"),
    (GOOD | {3: 0}, "3", "expected a field of the schema, got an unknown one"),
    ({"who": "a"}, "at", "expected a timestamp, got none"),
    ({"who": "a", "at": "soon"}, "at", "expected timestamp, got string 'soon'"),
    ({"who": "a", "at": WALL_MS + 300_001}, "at", "300000 ms ahead of the wall clock"),
    ({"at": 5}, "who", "expected an identity, got none"),
    ({"who": "", "at": 5}, "who", "expected an identity of 1 to 1024 characters"),
    ({"who": "x" * 1025, "at": 5}, "who", "in namespace 'CRM', got 1025"),
    ({"who": 2.5, "at": 5}, "who", "expected string or integer, got number 2.5"),
    ("text", "", "expected an object, got string 'text'"),
]


@pytest.mark.parametrize(("row", "path", "reason"), BAD)
def test_a_bad_row_is_rejected_and_the_good_ones_load(row: Any, path: str, reason: str) -> None:
    prepared = prepare([GOOD, row, GOOD], first=10)
    assert [reject.row for reject in prepared.rejects] == [11]
    assert prepared.rejects[0].path == path
    assert reason in prepared.rejects[0].reason
    assert prepared.rejects[0].raw
    assert prepared.table["@row"].to_pylist() == [10, 12]


def test_the_first_reason_has_a_fixed_order() -> None:
    row = {"who": "", "at": "soon", "n": -1, "stray": 1}
    for path in ("stray", "n", "at", "who"):
        assert prepare([row]).rejects[0].path == path
        row = {**row, path: {"stray": None, "n": 1, "at": 5, "who": "a"}[path]}
    assert prepare([row]).rejects == []


def test_a_null_id_is_rejected_and_the_limit_ahead_is_inclusive() -> None:
    rows = [
        {"who": "a", "timestamp": 5, "_id": None},
        {"who": "a", "timestamp": WALL_MS + 300_000, "_id": ""},
    ]
    prepared = prepare(rows, "visits")
    assert [(r.row, r.path, r.reason) for r in prepared.rejects] == [
        (0, "_id", "expected an id, got none")
    ]
    assert prepared.clock == WALL_MS + 300_000


def test_tables_give_what_dicts_give() -> None:
    rows = [
        {"who": "a", "at": 5, "n": 3, "home": {"city": "Rom"}, "tags": ["x"], "stray": None},
        {"who": "b", "at": 6, "n": 30, "home": {"city": "Rom"}, "tags": None, "stray": None},
        {"who": None, "at": 7, "n": None, "home": None, "tags": [], "stray": None},
        {"who": "c", "at": 8, "n": None, "home": {"city": "Kiel"}, "tags": [], "stray": None},
        {"who": "c", "at": 8, "n": None, "home": {"city": None}, "tags": [], "stray": 3},
    ]
    table = pa.Table.from_pylist(rows)
    for way in (table, table.to_batches()[0], pa.concat_tables([table[:2], table[2:]]), table[:5]):
        prepared = prepare(way)
        expected = prepare(rows)
        assert prepared.table.to_pylist() == expected.table.to_pylist()
        assert prepared.table.schema == expected.table.schema
        assert [(r.row, r.path, r.reason) for r in prepared.rejects] == [
            (r.row, r.path, r.reason) for r in expected.rejects
        ]
    assert {r.path for r in prepare(table).rejects} == {"n", "who", "home.city", "stray"}
    assert prepare(table[3:], first=3).rejects[0].row == 3


ITEM: dict[str, Any] = {"sku": "X", "junk": 1}


@pytest.mark.parametrize(
    ("ignore", "row", "path"),
    [
        ((), {"note": 1}, "note"),
        (("note",), {"note": 1}, None),
        (("note",), {"note": {"a": [1]}}, None),
        (("note",), {"notes": 1}, "notes"),
        (("note",), {"note": 1, "n": "x"}, "n"),
        (("home.zip",), {"home": {"zip": 1, "city": "Rom"}}, None),
        (("home.zip",), {"home": {"street": 1}}, "home.street"),
        (("geo",), {"home": {"city": "Rom"}, "geo": {"lat": 1.5}}, None),
        (("items[].junk",), {"items": [ITEM]}, None),
        (("items[].junk",), {"items": [ITEM | {"more": 2}]}, "items[].more"),
        ("*", {"a": 1, "b": None, "home": {"zip": {"x": 1}}, "items": [ITEM], "": 4}, None),
        ("*", {"home": 3}, "home"),
        ("*", {"n": "x"}, "n"),
        (("",), {"": 4}, None),
    ],
)
def test_what_nobody_wants_is_left_out(ignore: Any, row: dict[str, Any], path: str | None) -> None:
    orders = msgspec.structs.replace(CATALOGUE.datasets["orders"], ignore=ignore)
    made = Door(extended(CATALOGUE, [orders]), "orders", 7, Config())
    row = {"who": "a", "at": 0, **row}
    kept: dict[str, Any] = {
        name: row.get(name) for name in ("who", "at", "items", "n") if name in row
    }
    kept |= {"home": {"city": row["home"].get("city")}} if isinstance(row.get("home"), dict) else {}
    kept |= {"items": [{"sku": "X"}]} if "items" in row else {}
    for rows in ([row], pa.Table.from_pylist([row])):
        prepared = made.prepare(rows, 0, WALL_MS)
        assert [r.path for r in prepared.rejects] == ([] if path is None else [path])
        if path is None:
            assert prepared.table.to_pylist() == prepare([kept]).table.to_pylist()


@pytest.mark.parametrize("ignore", [("who",), ("at",), ("home",), ("items",), ("home.city",), "x"])
def test_what_is_needed_cannot_be_left_out(ignore: Any) -> None:
    orders = msgspec.structs.replace(CATALOGUE.datasets["orders"], ignore=ignore)
    with pytest.raises(DefinitionError, match="ignore"):
        extended(CATALOGUE, [orders])


def test_a_table_that_names_a_column_twice_is_an_error() -> None:
    twice = pa.table([pa.array(["a"]), pa.array(["b"])], names=["who", "who"])
    with pytest.raises(SchemaError, match="got 'who' twice"):
        door().prepare(twice, 0, WALL_MS)


def test_an_unknown_dataset_is_an_error() -> None:
    with pytest.raises(DefinitionError, match="expected a defined dataset, got 'x'"):
        door("x")


def test_nothing_submitted_is_nothing_prepared() -> None:
    ways: list[Any] = [[], pa.table({"who": pa.array([], pa.string())})]
    for rows in ways:
        prepared = prepare(rows)
        assert (prepared.rows, prepared.table.num_rows, prepared.clock) == (0, 0, None)
        assert "@k0" in prepared.table.column_names


def test_csv_types_come_from_the_schema(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text(
        "who,at,n,value,home.city,tags,code\n"
        '00004,1997-01-01,2,29.33,Rom,"[""a""]",007\n'
        "00004,852076800000,02,1e2,,,\n"
        "5,1997-01-01T00:00Z,x,1,,,\n"
        "6,1997-01-01,1,nan,,,\n"
        "7,1997-01-01,1\n"
        '8,1997-01-01,1,,,,""\n',
        encoding="utf-8",
    )
    blocks = list(read_csv_blocks(path, 60))
    assert len(blocks) > 2
    prepared = [door().prepare(block, block.first_row, WALL_MS) for block in blocks]
    rows = [row for part in prepared for row in part.table.to_pylist()]
    keys = ("@value", "@timestamp", "@row", "n", "value", "home.city", "tags", "code")
    assert [tuple(row[key] for key in keys) for row in rows] == [
        ("00004", 852_076_800_000, 0, 2, 29.33, "Rom", ["a"], "007"),
        ("00004", 852_076_800_000, 1, 2, 100.0, None, None, None),
        ("8", 852_076_800_000, 5, 1, None, None, None, ""),
    ]
    rejects = [reject for part in prepared for reject in part.rejects]
    assert [(r.row, r.path, r.reason) for r in rejects] == [
        (2, "n", "expected integer, got string 'x'"),
        (3, "value", "expected double, got string 'nan'"),
        (4, "", "expected 7 cells, got 3"),
    ]
    assert sum(part.rows for part in prepared) == len(rows) + len(rejects) == 6


def test_a_block_may_be_sent_at_another_offset(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text("who,at\na,5\nb\n,6\n", encoding="utf-8")
    (block,) = read_csv_blocks(path, 1000)
    prepared = door().prepare(block, 50, WALL_MS)
    assert prepared.table["@row"].to_pylist() == [50]
    assert [reject.row for reject in prepared.rejects] == [51, 52]


def test_raw_text_is_bounded_and_rejects_can_be_kept() -> None:
    prepared = prepare([GOOD | {"code": "x" * 5000}, GOOD | {"code": "\ud800", "value": 10**5000}])
    assert [len(reject.raw) <= 1000 for reject in prepared.rejects] == [True, True]
    kept = quarantined("shop.csv", prepared.rejects)
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(kept), type=list[QuarantineRecord])
    assert again == kept
    assert kept[0].source == "shop.csv"
    assert Reject(0, "code", kept[0].reason, kept[0].raw) == prepared.rejects[0]
    (strange,) = quarantined("shop.csv", prepare([GOOD | {"\ud800": 1}]).rejects)
    assert strange.path == "\\ud800"
    assert msgspec.msgpack.encode(strange)
