"""Rows that add to an array: the items come out, and which rows add."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from profile_actors.config import Config
from profile_actors.definitions.declared import Catalogue, Dataset, Namespace, Schema
from profile_actors.ingest.door import Door
from profile_actors.ingest.hidden_columns import APPENDED

CATALOGUE = Catalogue(
    1,
    {"U": Namespace("U", "cookie")},
    {
        "fan": Schema("fan", "record", {"tags": "string[]", "pets[].name": "string"}),
        "hit": Schema("hit", "event", {"tags": "string[]"}),
    },
    {
        "fans": Dataset("fans", "fan", {"u": "U"}, timestamp="at"),
        "hits": Dataset("hits", "hit", {"u": "U"}, timestamp="at"),
    },
)


def prepared(dataset: str, rows: Any) -> Any:
    return Door(CATALOGUE, dataset, 7, Config()).prepare(rows, 0, 10)


def test_some_rows_add_and_some_state() -> None:
    rows = [
        {"u": "a", "at": 1, "tags": {"append": ["x", "y"]}, "pets": [{"name": "rex"}]},
        {"u": "a", "at": 1, "tags": ["z"], "pets": {"append": [{"name": "ada"}]}},
        {"u": "a", "at": 1},
    ]
    found = prepared("fans", rows)
    assert not found.rejects
    assert found.table["tags"].to_pylist() == [["x", "y"], ["z"], None]
    assert found.table["pets"].to_pylist() == [[{"name": "rex"}], [{"name": "ada"}], None]
    assert found.table[APPENDED].to_pylist() == [["tags"], ["pets"], None]
    assert APPENDED not in prepared("fans", rows[2:]).table.column_names


def test_a_table_of_additions() -> None:
    table = pa.table({"u": ["a", "b"], "at": [1, 2], "tags": [{"append": ["x"]}, None]})
    found = prepared("fans", table)
    assert found.table["tags"].to_pylist() == [["x"], None]
    assert found.table[APPENDED].to_pylist() == [["tags"], None]


@pytest.mark.parametrize("cell", [{"append": 3}, {"append": ["x"], "more": 1}, {"add": ["x"]}])
def test_what_is_no_addition_is_refused_as_it_was(cell: Any) -> None:
    found = prepared("fans", [{"u": "a", "at": 1, "tags": cell}])
    assert [reject.path for reject in found.rejects] == ["tags"]


def test_events_are_whole() -> None:
    found = prepared("hits", [{"u": "a", "at": 1, "tags": {"append": ["x"]}}])
    assert [reject.path for reject in found.rejects] == ["tags"]
