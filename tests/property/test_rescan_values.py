"""Rescanned values of every type outlive a checkpoint: the feed is the same however often reopened.

Theory: three partitions get the same rows, clock moves, slices and definitions. One is never
reopened, one is at any time from its checkpoint, one from its log alone. What they say, types and
digits included, must be the same, and so must every change in their feeds.
"""

from __future__ import annotations

import random
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profile_actors.definitions.declared import Catalogue, ComputedAttribute, Dataset, Field, Schema
from profile_actors.engine.log.in_memory import MemoryCheckpoints
from profile_actors.engine.membership.rulebook import UNKNOWN
from profile_actors.engine.membership.stored_values import decode_values, encode_values
from profile_actors.ingest.identity_keys import key_of
from tests.model.hub import BASE, DAY, HOUR, SEED, WHO, Hub

FIELDS: dict[str, tuple[str, list[Any]]] = {
    "text": ("string", ["1.50", "a", ""]),
    "whole": ("integer", [0, 1, -(2**63), 2**63 - 1]),
    "part": ("double", [0.0, -0.0, 1.0, 0.1]),
    "exact": ("decimal(2)", ["1.50", "1.5", "0", "-0.00", "123456789012345.67"]),
    "exacts": ("decimal(2)[]", [["1.50", "2"], ["1.5", "2.00"], []]),
    "yes": ("boolean", [True, False]),
    "flags": ("boolean[]", [[True], [False, True]]),
    "wholes": ("integer[]", [[1], [0, 1]]),
    "moment": ("timestamp", [BASE, BASE + 1]),
    "moments": ("timestamp[]", [[BASE], [BASE + 1]]),
    "day": ("date", ["2024-02-28", "2024-02-29"]),
    "amounts": ("map<decimal(2)>", [{"a": "1.50"}, {"a": "1.5", "b": "2"}]),
    "levels": ("map<integer>", [{"a": 1}, {"b": 2}]),
    "home.city": ("string", ["Oslo", "1.50"]),
    "home.rent": ("decimal(2)", ["1.50", "700"]),
}
PLACES = {path.split(".")[0] for path in FIELDS}
# Lists of the profile are read by no operator: all of these are evaluated again.
RULES = {
    **{path: f'if(tags.includes("a"), {path}, {path})' for path in sorted(PLACES)},
    "keyed": 'xEvent.groupBy(n).map((K, G) => mapEntry(K, if(tags.includes("a"), 1, 2)))',
    "priced": 'xEvent.groupBy(b).map((K, G) => mapEntry(K, if(tags.includes("a"), G.sum(d), 0)))',
}
SWAPS = [
    ("yes", "whole"),
    ("flags", "wholes"),
    ("whole", "part"),
    ("text", "exact"),
    ("part", "exact"),
]
"""Attributes that take each other's rule: the values are alike, the types are not."""


def catalogue(version: int, rules: dict[str, str]) -> Catalogue:
    fields: dict[str, str | Field] = {
        "tags": "string[]",
        **{path: kind for path, (kind, _) in FIELDS.items()},
    }
    return Catalogue(
        version,
        {"CRMID": WHO},
        {
            "hit": Schema("hit", "event", {"n": "integer", "b": "boolean", "d": "decimal(2)"}),
            "person": Schema("person", "record", fields),
        },
        {
            "hits": Dataset("hits", "hit", {"who": "CRMID"}, timestamp="at", event_type="hit"),
            "crm": Dataset("crm", "person", {"who": "CRMID"}, timestamp="at"),
        },
        {},
        {name: ComputedAttribute(name, rule) for name, rule in rules.items()},
    )


def drain(hub: Hub) -> None:
    while hub.partitions[0].work(1000):
        pass


def reopen(hub: Hub, how: str) -> None:
    """Again from a checkpoint, or from the log alone."""
    log, feed, checkpoints = hub.stores[0]
    if how == "checkpoint":
        job = hub.partitions[0].checkpoint_job(force=True)
        if job is not None:
            job()
    else:
        drain(hub)
        checkpoints = MemoryCheckpoints()
        hub.stores[0] = log, feed, checkpoints
    hub.reopen()


def said(hub: Hub) -> list[Any]:
    """All changes and all profiles, to type and digit."""
    drain(hub)
    one = hub.partitions[0]
    changes, reached = one.changes(-1, 1 << 40)
    keys = [key_of(WHO, who, SEED) for who in "ab"]
    profiles = [p and (p.computed, p.computed_valid_until) for p in one.profiles(keys)]
    stored = [sorted(rule.values.items()) for rule in one.state.book.rescans]
    return [*map(repr, changes), reached, repr(profiles), repr(stored)]


def rows_of(rng: random.Random, now: int) -> tuple[str, list[dict[str, Any]]]:
    if rng.random() < 0.3:
        events = [
            {
                "who": rng.choice("ab"),
                "at": now,
                "n": rng.randrange(3),
                "d": f"{rng.randrange(3)}.50",
            }
            for _ in range(2)
        ]
        return "hits", events
    row: dict[str, Any] = {"who": rng.choice("ab"), "at": now, "tags": [rng.choice("ab")]}
    for path, (_, choices) in FIELDS.items():
        if rng.random() < 0.5:
            row[path] = rng.choice(choices)
    return "crm", [row]


@pytest.mark.parametrize("seed", range(8))
def test_the_feed_is_the_same_however_often_a_store_is_reopened(seed: int) -> None:
    rng = random.Random(seed)
    # Each rule in some of the worlds, beside one that swaps with another.
    swap = SWAPS[seed % len(SWAPS)]
    names = dict.fromkeys((*swap, *rng.sample(sorted(RULES), 4)))
    rules = {name: RULES[name] for name in names}
    hubs = {how: Hub(1, catalogue(1, rules)) for how in ("never", "checkpoint", "log")}
    assert len(hubs["never"].partitions[0].state.book.rescans) == len(rules)
    now = BASE + DAY
    for step in range(6):
        now += rng.choice((0, 1, HOUR))
        dataset, rows = rows_of(rng, now)
        for hub in hubs.values():
            hub.submit([(dataset, "p", rows)], now)
        if rng.random() < 0.3:
            one, other = swap
            rules = {**rules, one: rules[other], other: rules[one]}
            for hub in hubs.values():
                hub.partitions[0].define(catalogue(step + 2, rules), None)
        if rng.random() < 0.6:
            for how in ("checkpoint", "log"):
                reopen(hubs[how], how)
    told = {how: said(hub) for how, hub in hubs.items()}
    assert told["checkpoint"] == told["never"]
    assert told["log"] == told["never"]


def test_a_decimal_is_the_same_decimal_after_a_checkpoint() -> None:
    hub = Hub(1, catalogue(1, RULES))
    row = {"who": "a", "at": BASE, "tags": ["a"], "exact": "1.50", "home.rent": "7"}
    hub.submit([("crm", "p", [row])], BASE)
    drain(hub)
    reopen(hub, "checkpoint")
    assert hub.partitions[0].owed.checkpointed == hub.partitions[0].position
    changes, end = hub.partitions[0].changes(-1)
    assert [repr(c.new) for c in changes if c.name == "exact"] == ["Decimal('1.50')"]
    hub.submit([("crm", "p", [{**row, "at": BASE + 1}])], BASE + 1)
    drain(hub)
    assert hub.partitions[0].changes(end)[0] == []


def untyped(checkpoints: MemoryCheckpoints) -> None:
    """The newest checkpoint as it used to be written: decimals as texts."""
    position, meta, arrays = checkpoints.saved[-1]
    for name in [name for name in arrays if name.endswith("/typed")]:
        values = decode_values(arrays.pop(name).tobytes())
        old = msgspec.msgpack.encode(sorted(values.items()))
        arrays[name.replace("/typed", "/values")] = np.frombuffer(old, np.uint8)
    checkpoints.saved[-1] = position, meta, arrays


@pytest.mark.parametrize(
    ("names", "is_used"),
    [
        (["text", "whole", "moment"], True),
        (["exact"], False),
        (["priced"], False),
        (["home"], False),
    ],
)
def test_an_older_checkpoint_is_used_where_no_text_may_have_been_a_decimal(
    names: list[str], is_used: bool
) -> None:
    hub = Hub(1, catalogue(1, {name: RULES[name] for name in names}))
    row = {"who": "a", "at": BASE, "tags": ["a"], "home.city": "x"}
    row |= {"text": "1.50", "exact": "1.50", "whole": 1, "moment": BASE}
    hub.submit([("crm", "p", [row])], BASE)
    hub.submit([("hits", "q", [{"who": "a", "at": BASE, "n": 1, "b": True, "d": "1.50"}])], BASE)
    wanted = said(hub)
    job = hub.partitions[0].checkpoint_job(force=True)
    assert job is not None
    job()
    untyped(hub.stores[0][2])
    hub.reopen()
    assert hub.partitions[0].owed.checkpointed == (hub.partitions[0].position if is_used else 0)
    assert said(hub) == wanted


scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text()
    | st.floats(allow_nan=False, allow_infinity=False) | st.decimals(allow_nan=False)
)  # fmt: skip
values = st.recursive(
    scalars | st.just(UNKNOWN),
    lambda inner: st.lists(inner) | st.dictionaries(scalars, inner),
    max_leaves=8,
)


@settings(max_examples=50)
@given(st.dictionaries(st.integers(0, 1 << 31), values, max_size=4))
def test_values_of_every_type_come_back_as_they_were(known: dict[int, Any]) -> None:
    assert repr(decode_values(encode_values(known))) == repr(dict(sorted(known.items())))
