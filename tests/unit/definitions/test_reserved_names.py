"""Names with a meaning of their own: refused, or kept apart so that every answer agrees."""

from __future__ import annotations

from typing import Any

import pytest

from profile_actors.config import Config
from profile_actors.definitions.catalogue_changes import decode, encode, extended
from profile_actors.definitions.declared import (
    Catalogue,
    Dataset,
    Namespace,
    Schema,
    SegmentDefinition,
)
from profile_actors.engine.log.in_memory import MemoryCheckpoints, MemoryFeed, MemoryLog
from profile_actors.engine.log.sub_batch import SubBatch
from profile_actors.engine.partition.partition import Partition
from profile_actors.errors import DefinitionError, SchemaError
from profile_actors.ingest.door import Door
from profile_actors.ingest.identity_keys import key_of

BASE = 1_709_100_000_000
WHO = Namespace("C", kind="cross_device")


def events(fields: dict[str, Any], **options: Any) -> list[Any]:
    return [WHO, Schema("hit", "event", fields), Dataset("hits", "hit", **_mapping(options))]


def records(fields: dict[str, Any], **options: Any) -> list[Any]:
    return [WHO, Schema("person", "record", fields), Dataset("crm", "person", **_mapping(options))]


def _mapping(options: dict[str, Any]) -> dict[str, Any]:
    return {"identities": {"who": "C"}, "timestamp": "at"} | options


REFUSED: list[tuple[list[Any], str]] = [
    (records({"_id": "string"}), "no row has of its own, got '_id'"),
    (records({"timestamp": "timestamp"}), "no row has of its own, got 'timestamp'"),
    (records({"timestamp": "timestamp"}, timestamp="timestamp"), "need not be a field"),
    (records({"_id.x": "string"}), "got '_id.x'"),
    (records({"timestamp[].x": "string"}), "got 'timestamp"),
    (records({"xEvent": "string"}), "rules do not reserve"),
    (records({"computed.a": "string"}), "rules do not reserve"),
    (events({"xEvent[].a": "string"}), "rules do not reserve"),
    (events({"_id": "string"}), "expected id='_id'"),
    (events({"_id": "string"}, id="key"), "expected id='_id'.* got 'key'"),
    (events({"_id": "integer"}, id="_id"), "type string of an event's _id, got integer"),
    (events({"_id.x": "string"}), "an event's _id, got an object"),
    (events({"eventType[].x": "string"}), "an event's eventType, got an object"),
    (events({"timestamp.x": "string"}), "an event's timestamp, got an object"),
    (events({"timestamp": "timestamp"}), "expected timestamp='timestamp'"),
    (events({"eventType": "string"}, event_type="buy"), "expected event_type_field='eventType'"),
    (events({"@k0": "string"}), "'@' in front"),
    (events({"a.@k0": "string"}), "'@' in front"),
    (events({"a`b": "string"}), "between back-ticks"),
    (events({"caf\xe9": "string", "cafe\u0301": "string"}), "two spellings of Unicode"),
    (events({"caf\xe9": "string"}, identities={"cafe\u0301": "C"}), "two spellings of Unicode"),
    (events({"a": "string", "a.b": "string"}), "one meaning of 'a'"),
    (events({"a.b": "string", "a": "string"}), "one type of a path"),
    (events({"a": "string[]", "a[].b": "string"}), "one meaning of 'a'"),
    (events({"a[].b": "string", "a.c": "string"}), "one meaning of 'a'"),
    (events({"a": "string"}, identities={"a.b": "C"}), "'a' to be a column or an object"),
    (events({"n": "string"}, id="at.x"), "'at' to be a column or an object"),
    (events({"n": "string"}, identities={"at": "C"}), "column of its own as timestamp"),
    (events({"n": "string"}, identity_map="who"), "column of its own as identity_map"),
]


@pytest.mark.parametrize(("items", "words"), REFUSED)
def test_a_name_that_would_mean_two_things_is_refused(items: list[Any], words: str) -> None:
    with pytest.raises((SchemaError, DefinitionError), match=words):
        extended(Catalogue(), items)


def test_schemas_of_one_behavior_do_not_spell_a_name_in_two_ways() -> None:
    first = extended(Catalogue(), events({"caf\xe9": "string"}))
    with pytest.raises(SchemaError, match="two spellings"):
        extended(first, [Schema("other", "event", {"cafe\u0301": "string"})])
    extended(first, [Schema("other", "record", {"cafe\u0301": "string"})])


NAMES = ("inSegment", "count", "now", "true", "CHAIN", "a b", "$1", "1", "\xe9", "segments", "this")


def test_every_other_name_answers_the_same_everywhere() -> None:
    """Names that events have of their own, further in; words of the language; odd columns."""
    inner = {"o._id": "string", "o.timestamp": "integer", "items[]._id": "string"}
    inner |= {"items[].timestamp": "string", "items[].eventType": "string"}
    plain = dict.fromkeys(NAMES, "string")
    hits = events(
        inner | plain | {"_id": "string"},
        timestamp="@timestamp",
        id="_id",
        event_type_field="@type",
    )
    people = records(inner | plain | {"eventType": "string"})
    rules = {f"profile {name}": f'`{name}` = "v"' for name in NAMES}
    rules |= {f"event {name}": f'xEvent[`{name}` = "v"].count() = 1' for name in NAMES}
    rules |= {
        "inner id": 'xEvent[o._id = "in" and _id = "real"].count() = 1',
        "inner time": "xEvent[o.timestamp = 5].max(timestamp) occurs after date(2024, 1, 1)",
        "item": 'xEvent[items[_id = "in" and timestamp = "t" and eventType = "e"].count() = 1'
        ' and eventType = "buy"].count() = 1',
        "record id": 'o._id = "in" and o.timestamp = 5 and eventType = "z"',
        "record item": 'items[_id = "in" and timestamp = "t"].count() = 1',
    }
    segments = [SegmentDefinition(name, rule) for name, rule in rules.items()]
    catalogue = extended(Catalogue(), [*hits, *people, *segments])
    row: dict[str, Any] = dict.fromkeys(NAMES, "v") | {"who": "a"}
    row |= {"o": {"_id": "in", "timestamp": 5}}
    row |= {"items": [{"_id": "in", "timestamp": "t", "eventType": "e"}]}
    partition = stored(
        catalogue,
        {
            "hits": row | {"@timestamp": BASE, "_id": "real", "@type": "buy"},
            "crm": row | {"at": BASE, "eventType": "z"},
        },
    )
    (profile,) = partition.profiles([key_of(WHO, "a", 0)], None)
    assert profile is not None
    assert {name for name, one in profile.segments.items() if one.status == "realized"} == set(
        rules
    )
    assert partition.verify() == []


def stored(catalogue: Catalogue, rows: dict[str, dict[str, Any]]) -> Partition:
    """A partition with one row of each dataset."""
    partition = Partition(MemoryLog(), MemoryFeed(), MemoryCheckpoints(), Config(max_profiles=4096))
    partition.define(catalogue, None)
    for dataset, row in rows.items():
        prepared = Door(catalogue, dataset, 0, Config()).prepare([row], 0, BASE)
        assert not prepared.rejects
        batch = SubBatch(dataset, dataset, None, 1, catalogue.version, BASE, prepared.table)
        (reply,) = partition.commit([batch], None)
        assert reply.status == "ok"
    while partition.work(1000):
        pass
    return partition


def test_a_catalogue_from_before_these_checks_opens_and_goes_on() -> None:
    old_schema = Schema("person", "record", {"_id": "string", "timestamp": "timestamp"})
    old_event = Schema("hit", "event", {"_id": "string", "n": "integer"})
    people = Dataset("crm", "person", **_mapping({}))
    hits = Dataset("hits", "hit", **_mapping({"id": "key"}))
    old = Catalogue(
        4,
        {"C": WHO},
        {"person": old_schema, "hit": old_event},
        {"crm": people, "hits": hits},
    )
    again = decode(encode(old))
    assert again == old
    assert extended(again, [WHO, old_schema, old_event, people, hits]) is again
    more = Schema("person", "record", {**old_schema.fields, "city": "string"})
    grown = extended(again, [more, SegmentDefinition("s", "xEvent.count() > 0")])
    assert grown.version == 5
    with pytest.raises(SchemaError, match="got 'timestamp'"):
        extended(again, [Schema("new", "record", {"timestamp": "timestamp"})])
    with pytest.raises(DefinitionError, match="expected id='_id'"):
        extended(again, [Dataset("more", "hit", **_mapping({}))])
