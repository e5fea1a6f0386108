"""A row keeps all its identities: chosen at the door, stored in the log, shown nowhere yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profile_actors.config import Config
from profile_actors.definitions.declared import Catalogue, Dataset, Namespace, Schema
from profile_actors.engine.log.entry import decode
from profile_actors.engine.log.sub_batch import SubBatch
from profile_actors.engine.partition.partition import Partition
from profile_actors.ingest.door import Door
from profile_actors.ingest.further_identities import OTHERS, keyed
from profile_actors.ingest.hidden_columns import HIDDEN
from profile_actors.ingest.identity_keys import key_of
from profile_actors.ingest.route import default_assignment, split
from profile_actors.storage.checkpoint_files import FileCheckpoints
from profile_actors.storage.lmdb_feed import LmdbFeed
from profile_actors.storage.lmdb_log import LmdbLog

NOW = 1_700_000_000_000
CONFIG = Config(max_profiles=1000, log_map_bytes=1 << 24)
EMAIL = Namespace("Email", "cross_device", priority=3, normalize="lower")
CATALOGUE = Catalogue(
    1,
    {
        "Email": EMAIL,
        "CRMID": Namespace("CRMID", "cross_device", priority=1),
        "ECID": Namespace("ECID", "cookie", priority=5),
    },
    {"hit": Schema("hit", "event", {"n": "integer"})},
    {
        "columns": Dataset(
            "columns", "hit", {"crm": "CRMID", "mail": "Email", "other": "Email"},
            timestamp="at", event_type="hit",
        ),
        "mapped": Dataset(
            "mapped", "hit", {"mail": "Email"}, timestamp="at", event_type="hit", identity_map="ids"
        ),
        "single": Dataset("single", "hit", {"crm": "CRMID"}, timestamp="at", event_type="hit"),
    },
)  # fmt: skip


def table(dataset: str, rows: list[dict[str, Any]]) -> pa.Table:
    """Rows through the door, at one time."""
    rows = [{"at": NOW, **row} for row in rows]
    prepared = Door(CATALOGUE, dataset, 0, CONFIG).prepare(rows, 0, NOW)
    assert prepared.rejects == []
    return prepared.table


def others(found: pa.Table) -> list[list[tuple[str, str]] | None]:
    """The hidden column in short."""
    return [
        cell and [(pair["namespace"], pair["value"]) for pair in cell]
        for cell in found.column("@others").to_pylist()
    ]


def test_each_identity_that_is_not_primary_is_kept_once_and_normalised() -> None:
    found = table(
        "columns",
        [
            {"crm": "1", "mail": "A@x", "other": "b@x"},
            {"crm": "2"},
            {"mail": "a@x", "other": "A@X"},
            {"crm": "3", "mail": "Same@x", "other": "same@x"},
            {"crm": None, "mail": "c@x", "other": "d@x"},
        ],
    )
    primaries = list(zip(found["@namespace"].to_pylist(), found["@value"].to_pylist(), strict=True))
    assert primaries[:4] == [("CRMID", "1"), ("CRMID", "2"), ("Email", "a@x"), ("CRMID", "3")]
    assert others(found)[:4] == [
        [("Email", "a@x"), ("Email", "b@x")],
        None,
        None,
        [("Email", "same@x")],
    ]
    # Of equals the smaller key is primary; together they are both, whichever it is.
    assert {primaries[4], *(others(found)[4] or [])} == {("Email", "c@x"), ("Email", "d@x")}


@pytest.mark.parametrize("name", ["columns", "mapped"])
def test_they_bring_their_keys(name: str) -> None:
    ids = {"ECID": [{"id": "e1"}, {"id": "é2"}], "Email": [{"id": "C@x"}]}
    rows: list[dict[str, object]] = [{"crm": "1", "mail": "Ä@x", "other": "b@x"}, {"crm": "2"}]
    if name == "mapped":
        rows = [{"mail": "Ä@x", "ids": ids}, {"mail": "d@x"}, {"ids": ids}]
    column = table(name, rows)["@others"].combine_chunks()
    assert column.type == OTHERS
    found = [one for row in column.to_pylist() for one in row or ()]
    assert len(found) == (2 if name == "columns" else 5)
    for one in found:
        space = CATALOGUE.namespaces[one["namespace"]]
        assert (one["k0"], one["k1"]) == key_of(space, one["value"], 0)
    # What a log has that was written before they were there.
    bare = pa.list_(pa.struct([("namespace", pa.string()), ("value", pa.string())]))
    fields = ("namespace", "value")
    texts = [row and [{k: one[k] for k in fields} for one in row] for row in column.to_pylist()]
    for old in (pa.array(texts, bare), pa.array([None, *texts], bare)[1:]):
        assert keyed(old, CATALOGUE.namespaces, 0).equals(column)
    assert keyed(column, {}, 0) is column


def test_an_identity_map_and_columns_together() -> None:
    ids = {
        "ECID": [{"id": "e1"}, {"id": "e2", "primary": True}],
        "Email": [{"id": "M@x"}, {"id": "n@x"}],
    }
    found = table(
        "mapped", [{"mail": "m@x", "ids": ids}, {"mail": "m@x"}, {"ids": {"ECID": [{"id": "e"}]}}]
    )
    # Of two addresses the smaller key is primary; the mark on a device does not count for an event.
    first, *rest = found["@value"].to_pylist()
    assert rest == ["m@x", "e"]
    assert first in ("m@x", "n@x")
    beside, *none = others(found)
    other = "n@x" if first == "m@x" else "m@x"
    assert sorted(beside or []) == [("ECID", "e1"), ("ECID", "e2"), ("Email", other)]
    assert none == [None, None]


def test_there_is_no_column_where_no_row_has_more_than_one() -> None:
    assert "@others" not in table("single", [{"crm": "1"}]).column_names
    assert "@others" not in table("columns", [{"crm": "1"}, {"mail": "a@x"}]).column_names
    assert "@others" not in table("mapped", [{"mail": "m@x"}, {"mail": "n@x"}]).column_names
    rows = [{"at": NOW, "crm": "1"}, {"at": "?", "crm": "2", "mail": "a@x"}]
    prepared = Door(CATALOGUE, "columns", 0, CONFIG).prepare(rows, 0, NOW)
    assert len(prepared.rejects) == 1
    assert "@others" not in prepared.table.column_names


names = st.none() | st.sampled_from(["a", "b", "A"])


@given(st.lists(st.tuples(names, names, names).filter(any), min_size=1, max_size=12))
def test_primary_and_others_are_the_rows_identities(rows: list[tuple[str | None, ...]]) -> None:
    found = table(
        "columns", [dict(zip(("crm", "mail", "other"), row, strict=True)) for row in rows]
    )
    kept = others(found) if "@others" in found.column_names else [None] * len(rows)
    for row, rest, code, value in zip(
        rows, kept, found["@namespace"].to_pylist(), found["@value"].to_pylist(), strict=True
    ):
        wanted = {
            (space, text if space == "CRMID" else text.lower())
            for space, text in zip(("CRMID", "Email", "Email"), row, strict=True)
            if text is not None
        }
        assert {(code, value), *(rest or [])} == wanted
        assert len(rest or []) == len(wanted) - 1


def opened(directory: Path) -> Partition:
    log = LmdbLog(directory, CONFIG, epoch=1, lock_wait_s=0.1)
    return Partition(log, LmdbFeed(directory, CONFIG), FileCheckpoints(directory), CONFIG, epoch=1)


def test_they_are_in_the_log_for_good_and_in_no_document(tmp_path: Path) -> None:
    partition = opened(tmp_path)
    partition.define(CATALOGUE, NOW)
    many = table("columns", [{"crm": "1", "mail": "A@x", "n": 1}, {"crm": "2", "n": 2}])
    few = table("columns", [{"crm": "1", "n": 3}])
    batches = [
        SubBatch("columns", "p", 0, 2, 1, table=many),
        SubBatch("columns", "q", 0, 1, 1, table=few),
    ]
    assert [reply.accepted for reply in partition.commit(batches, NOW)] == [2, 1]
    key = key_of(CATALOGUE.namespaces["CRMID"], "1", 0)
    documents = partition.events(key).events
    assert {document["n"] for document in documents} == {1, 3}
    for document in documents:
        assert document == {"timestamp": NOW, "eventType": "hit", "n": document["n"]}
    partition.close()
    partition = opened(tmp_path)
    assert partition.events(key).events == documents
    with partition.log.view(1) as view:
        (block,) = decode(view, "position 1").blocks
        assert others(block.table) == [[("Email", "a@x")], None, None]
        assert block.table["n"].to_pylist() == [1, 2, 3]
    # The other identity is evidence, not yet a way to find the profile.
    assert partition.profiles([key_of(EMAIL, "a@x", 0)]) == [None]
    partition.close()


def test_they_travel_with_their_row_to_its_partition() -> None:
    rows = [{"crm": f"{i}", "mail": f"{i}@x"} for i in range(1, 21)]
    parts = split(table("columns", rows), default_assignment(3), 3)
    assert sum(part is not None for part in parts) == 3
    for part in parts:
        assert part is not None
        for value, rest in zip(part["@value"].to_pylist(), others(part), strict=True):
            assert rest == [("Email", f"{value}@x")]


def test_hidden_columns_are_all_known() -> None:
    found = table("columns", [{"crm": "1", "mail": "a@x"}])
    assert {name for name in found.column_names if name.startswith("@")} <= set(HIDDEN)
    assert np.array_equal(found["@row"].to_numpy(), [0])


def test_no_rows_have_no_identities() -> None:
    """A block of a file whose rows are all broken, of a dataset with an identity map."""
    assert table("mapped", []).num_rows == 0


def test_a_namespace_without_a_value_is_not_there() -> None:
    """A column of structs has every namespace in every row; so has a column of maps no dict."""
    ids = [{"ECID": [{"id": "e1"}]}, {"Email": [{"id": "M@x"}]}]
    whole = [{name: row.get(name) for name in ("ECID", "Email")} for row in ids]
    assert table("mapped", [{"ids": row} for row in whole]).equals(
        table("mapped", [{"ids": row} for row in ids])
    )
    kind = pa.map_(pa.string(), pa.list_(pa.struct([("id", pa.string())])))
    for column in (pa.array(whole), pa.array([[*row.items()] for row in ids], kind)):
        found = Door(CATALOGUE, "mapped", 0, CONFIG).prepare(
            pa.table({"ids": column, "at": [NOW, NOW]}), 0, NOW
        )
        assert found.table["@value"].to_pylist() == ["e1", "m@x"]
