"""Look-ups: answers as columns, of all rules or of some, and how far ahead they look."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from typing import Any

import numpy as np
import pytest

from profile_actors.config import Config
from profile_actors.definitions.declared import (
    Catalogue,
    ComputedAttribute,
    Dataset,
    Namespace,
    Schema,
    SegmentDefinition,
)
from profile_actors.engine.log.in_memory import MemoryCheckpoints, MemoryFeed, MemoryLog
from profile_actors.engine.log.ports import Feed, Log
from profile_actors.engine.log.sub_batch import SubBatch
from profile_actors.engine.partition.partition import Partition
from profile_actors.engine.reading import look_ahead
from profile_actors.engine.reading.answers import Profile
from profile_actors.engine.reading.fields import EVERYTHING, Fields
from profile_actors.engine.reading.profile_columns import Answer
from profile_actors.ingest.door import Door
from profile_actors.ingest.identity_keys import key_of

DAY = 86_400_000
NOW = 1_709_812_800_000  # 2024-03-07T12:00Z
SEED = 7


class World:
    """One partition in memory, of people with a record and events. files: instead, its log and its
    feed."""

    def __init__(
        self,
        segments: dict[str, str],
        computed: dict[str, str],
        files: tuple[Log, Feed] | None = None,
    ) -> None:
        self.catalogue = Catalogue(
            1,
            {"CRMID": Namespace("CRMID", "cross_device")},
            {
                "person": Schema(
                    "person",
                    "record",
                    {
                        "last": "timestamp",
                        "born": "timestamp",
                        "name.first": "string",
                        "name.last": "string",
                        "pets[].kind": "string",
                        "pets[].age": "integer",
                        "scores": "map<integer>",
                    },
                ),
                "hit": Schema("hit", "event", {"price": "double"}),
            },
            {
                "people": Dataset("people", "person", {"who": "CRMID"}, timestamp="at"),
                "hits": Dataset(
                    "hits", "hit", {"who": "CRMID"}, timestamp="at", event_type_field="kind"
                ),
            },
            {name: SegmentDefinition(name, rule) for name, rule in segments.items()},
            {name: ComputedAttribute(name, rule) for name, rule in computed.items()},
        )
        log, feed = files or (MemoryLog(), MemoryFeed())
        config = Config(max_profiles=1_024 if files is None else 1 << 14)
        self.partition = Partition(log, feed, MemoryCheckpoints(), config, epoch=1)
        self.partition.define(self.catalogue, None)
        self._sent: dict[str, int] = {}

    def send(self, dataset: str, rows: list[dict[str, Any]]) -> None:
        """Submit rows, all of which must be right."""
        sent = self._sent.get(dataset, 0)
        prepared = Door(self.catalogue, dataset, SEED, Config()).prepare(rows, sent, NOW)
        assert not prepared.rejects
        after = sent - 1 if sent else None
        last = sent + len(rows) - 1
        batch = SubBatch(dataset, dataset, after, last, 1, prepared.clock, prepared.table)
        (reply,) = self.partition.commit([batch], None)
        assert reply.status == "ok"
        self._sent[dataset] = sent + len(rows)

    def profiles(self, names: list[str], *fields: Fields, now: int | None = None) -> list[Any]:
        """Of these people, as of an instant."""
        return list(self.answer(names, *fields, now=now).profiles())

    def answer(self, names: list[str], *fields: Fields, now: int | None = None) -> Answer:
        """The same, as it is sent."""
        code = self.catalogue.namespaces["CRMID"]
        keys = np.array([key_of(code, name, SEED) for name in names], np.uint64)
        return self.partition.look_up(keys, now, *fields)

    def profile(self, name: str, *fields: Fields) -> Profile:
        (found,) = self.profiles([name], *fields)
        assert isinstance(found, Profile)
        return found


def test_an_age_is_known_beyond_the_year_in_which_all_timed_rules_change() -> None:
    """Rules of time are looked for within 400 days first. When all of them change there, an age
    that reaches its limit later still has its instant."""
    recent = "not (last occurs >= 600 days before now)"
    world = World({"recent": recent, "of_today": "last occurs today"}, {})
    world.send("people", [{"who": "ann", "at": NOW, "last": NOW}])
    segments = world.profile("ann").segments
    assert segments["of_today"].valid_until == NOW - NOW % DAY + DAY
    assert segments["recent"].valid_until == NOW + 600 * DAY


RULES = {
    "any": "xEvent.count() > 0",
    "fresh": "xEvent[timestamp occurs <= 7 days before now].count() > 0",
    "ann": 'name.first = "Ann"',
}
VALUES = {
    "spent": "xEvent.sum(price)",
    "week": "xEvent[timestamp occurs <= 7 days before now].sum(price)",
    "first": "name.first",
}


def test_fields_are_parts_of_the_whole_answer() -> None:
    """What is asked is what the whole answer says of it, and nothing else is there."""
    world = World(RULES, VALUES)
    pets = [{"kind": "cat", "age": 3}, {"kind": "dog"}]
    ann = {"who": "ann", "at": NOW, "name.first": "Ann", "name.last": "Lee", "pets": pets}
    world.send("people", [ann, {"who": "bob", "at": NOW, "scores": {"x": 1}}])
    world.send("hits", [{"who": n, "at": NOW - DAY, "price": 2.5, "kind": "buy"} for n in "ab"])
    world.send("hits", [{"who": "ann", "at": NOW, "price": 1.5, "kind": "buy"}])
    names = ["bob", "nobody", "ann", "a", "b", "ann"]
    for instant in (NOW, NOW + 30 * DAY):
        whole = world.profiles(names, now=instant)
        some = Fields(False, ("name.first", "pets.kind", "scores"), ("fresh",), ("week", "first"))
        assert whole[1] is None
        for found, asked in zip(whole, world.profiles(names, some, now=instant), strict=True):
            if found is None:
                assert asked is None
                continue
            assert asked.segments == {k: v for k, v in found.segments.items() if k == "fresh"}
            assert asked.computed == {name: found.computed[name] for name in ("week", "first")}
            validity = found.computed_valid_until
            assert asked.computed_valid_until == {n: validity[n] for n in ("week", "first")}
            assert asked.identities == []
            assert (asked.now, asked.last_modified) == (found.now, found.last_modified)
    bob, _, ann_, *_ = world.profiles(names, some)
    assert bob.attributes == {"scores": {"x": 1}}
    assert ann_.attributes == {
        "name": {"first": "Ann"},
        "pets": [{"kind": "cat"}, {"kind": "dog"}],
    }
    nothing = Fields(True, (), (), ())
    (only,) = world.profiles(["ann"], nothing)
    assert [one.value for one in only.identities] == ["ann"]
    assert (only.attributes, only.segments, only.computed) == ({}, {}, {})


def test_asking_for_less_folds_less() -> None:
    """The streams and rules that are not asked are not touched."""
    world = World(RULES, VALUES)
    world.send("hits", [{"who": "ann", "at": NOW, "price": 1.5, "kind": "buy"}])
    look_ups = world.partition.reader.look_ups
    whole = look_ups.sheet(Fields())
    spent = look_ups.sheet(Fields(computed=("spent",), segments=()))
    assert len(whole.streams) == 2
    assert len(spent.streams) == 1
    assert not spent.book.ladders
    assert look_ups.sheet(Fields()) is whole


def test_values_of_any_namespace_and_script_come_back() -> None:
    """Identities are read as one text, cut where each ends."""
    world = World(RULES, VALUES)
    names = ["ann", "zoë", "ä", "李雷", "bob"]
    world.send("hits", [{"who": n, "at": NOW, "price": 1.0, "kind": "buy"} for n in names])
    found = world.profiles([*names, "ann"])
    assert [p.identities[0].value for p in found] == [*names, "ann"]


def test_many_contributions_in_a_window_are_no_objects() -> None:
    """A look-up makes no Python object per contribution of its windows."""
    world = World(
        {**RULES, "many": "xEvent[timestamp occurs <= 7 days before now].count() >= 9"}, VALUES
    )
    rows = [
        {"who": "ann", "at": NOW - 60_000 + i, "price": 1.0, "kind": "buy"} for i in range(30_000)
    ]
    world.send("hits", rows)
    world.profile("ann")
    tracemalloc.start()
    ann = world.profile("ann")
    blocks = sum(one.count for one in tracemalloc.take_snapshot().statistics("filename"))
    tracemalloc.stop()
    gone = NOW - 60_000 + 7 * DAY + 1
    assert ann.segments["fresh"].valid_until == gone + 29_999
    assert ann.segments["many"].valid_until == gone + 29_991
    assert ann.computed_valid_until["week"] == gone
    assert blocks < 5_000


KINDS = "abcd"
OF_CREWS = {
    f"{kind}_{least}": f'xEvent[eventType = "{kind}" and timestamp occurs <= 7 days before now]'
    f".count() >= {least}"
    for kind in KINDS
    for least in (1, 2, 4)
}
SUMS = {
    f"{name}_{kind}": f'xEvent[eventType = "{kind}" and timestamp occurs <= 7 days before now]'
    f".{call}"
    for name, call in (("count", "count()"), ("sum", "sum(price)"), ("best", "max(price)"))
    for kind in KINDS
}


@pytest.mark.parametrize("is_wide", [False, True])
def test_streams_that_go_ahead_together_say_what_each_says_alone(
    is_wide: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of some profiles and of one, at instants before, between and after what is due; also what
    enters later, and sums that are wide."""
    rng = np.random.default_rng(8)
    world = World(OF_CREWS | RULES, SUMS | VALUES)
    names = [f"p{number}" for number in range(9)]
    for _ in range(4):
        hits = [
            {
                "who": str(rng.choice(names)),
                "at": NOW + int(rng.choice([200_000, *rng.integers(-9 * DAY, 0, 4)])),
                "kind": str(rng.choice([*KINDS])),
                "price": float(rng.choice([0.1, 2.5, 1e300 if is_wide else 7.0])),
            }
            for _ in range(30)
        ]  # fmt: skip
        world.send("hits", hits)
    together = Counter[bool]()
    ahead = look_ahead._together

    def counted(*args: Any) -> list[Any]:
        found = ahead(*args)
        together[bool(found)] += 1
        return found

    some = Fields(True, (), ("a_1", "d_4"), ("sum_b", "best_c"))
    asked = [(of, fields) for of in (names, names[:1], names[3:5]) for fields in (EVERYTHING, some)]
    now = world.partition.now
    assert now is not None
    instants = [
        now,
        now + 150_000,
        now + DAY // 2,
        *(now + days * DAY for days in (3, 6, 40)),
    ]
    monkeypatch.setattr(look_ahead, "_together", counted)
    found = [world.profiles(of, fields, now=at) for of, fields in asked for at in instants]
    assert bool(together[True]) is not is_wide  # wide sums are added one by one
    monkeypatch.setattr(look_ahead, "FEW_MEMBERS", 1_000)
    assert found == [world.profiles(of, fields, now=at) for of, fields in asked for at in instants]
    assert world.partition.verify() == []
