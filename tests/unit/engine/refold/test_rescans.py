"""``now`` within a value moves on with every millisecond: exact if asked, no change in the feed."""

from __future__ import annotations

from typing import Any

import pytest

from profile_actors.definitions.declared import Catalogue, ComputedAttribute, Dataset, Schema
from profile_actors.definitions.declared import SegmentDefinition as Segment
from profile_actors.ingest.identity_keys import key_of
from tests.model.hub import BASE, DAY, SEED, WHO, Hub

TIMED = BASE + 2 * DAY
COMPUTED = {
    "either": 'if(tags.includes("a"), now, moment)',
    "least": "[now, moment].min()",
    "most": "[now, moment].max()",
    "both": "[now, moment]",
    "named": "let d = (now) in if(isNull(moment), moment, d)",
    "keyed": "xEvent.groupBy(n).map((K, G) => mapEntry(K, if(G.count() > 1, now, today)))",
    "each": "xEvent.map(E => if(E.n > 0, now, E.timestamp))",
    "plain": "now",
    "read": "computed.plain",
    "midnight": "today",
}
SEGMENTS = {
    "later": "computed.either occurs > 1 day after moment",
    "soon": "computed.plain occurs <= 1 day before moment",
    "tagged": 'if(tags.includes("a"), now, moment) occurs on date(2024, 3, 2)',
}


def hub_of() -> Hub:
    """One person with tags and a moment two days ahead, and two events."""
    hub = Hub(
        1,
        Catalogue(
            1,
            {"CRMID": WHO},
            {
                "hit": Schema("hit", "event", {"n": "integer"}),
                "person": Schema("person", "record", {"tags": "string[]", "moment": "timestamp"}),
            },
            {
                "hits": Dataset("hits", "hit", {"who": "CRMID"}, timestamp="at", event_type="hit"),
                "crm": Dataset("crm", "person", {"who": "CRMID"}, timestamp="at"),
            },
            {name: Segment(name, rule) for name, rule in SEGMENTS.items()},
            {name: ComputedAttribute(name, rule) for name, rule in COMPUTED.items()},
        ),
    )
    rows: list[dict[str, Any]] = [{"who": "a", "at": BASE, "tags": ["a"], "moment": TIMED}]
    hub.submit([("crm", "p", rows)], BASE)
    hub.submit([("hits", "q", [{"who": "a", "at": BASE, "n": n} for n in (0, 1, 1)])], BASE)
    return hub


def worked(hub: Hub) -> int:
    """All rescans; the number of calls of one evaluation each."""
    calls = 0
    while hub.partitions[0].work(1):
        calls += 1
        assert calls < 2_000, "an evaluation for each millisecond"
    return calls


def look_up(hub: Hub, now: int) -> tuple[dict[str, Any], dict[str, int | None]]:
    (profile,) = hub.partitions[0].profiles([key_of(WHO, "a", SEED)], now)
    assert profile is not None
    return profile.computed, profile.computed_valid_until


def test_a_look_up_is_exact_at_any_instant() -> None:
    hub = hub_of()
    worked(hub)
    for now in (BASE, BASE + 1, BASE + DAY + 17, TIMED - 1, TIMED, TIMED + 1, TIMED + 5 * DAY):
        computed, until = look_up(hub, now)
        midnight = now - now % DAY
        assert computed == {
            "either": now,
            "least": min(now, TIMED),
            "most": max(now, TIMED),
            "both": [now, TIMED],
            "named": now,
            "keyed": {0: midnight, 1: now},
            "each": [BASE, now, now],
            "plain": now,
            "read": now,
            "midnight": midnight,
        }
        fixed: dict[str, int | None] = {"midnight": midnight + DAY}
        fixed |= {"most": TIMED + 1} if now <= TIMED else {}
        fixed |= {"least": None} if now >= TIMED else {}
        assert until == {name: fixed.get(name, now + 1) for name in computed}


def test_the_feed_goes_on_while_the_clock_moves() -> None:
    hub = hub_of()
    worked(hub)
    partition = hub.partitions[0]
    _, end = partition.changes(-1)
    partition.advance(TIMED + DAY + 1)
    worked(hub)
    changes, reached = partition.changes(end)
    assert reached == partition.position - 1
    said = {(c.name, c.at) for c in changes}
    midnight = BASE - BASE % DAY
    midnights = {midnight + day * DAY for day in range(1, (TIMED + DAY + 1 - midnight) // DAY + 1)}
    assert {at for name, at in said if name == "midnight"} == midnights
    assert {at for name, at in said if name == "keyed"} == midnights
    # These cease and begin to be now, and that is told: of equals it is the first, which is now.
    # The others are now all the time.
    assert {(name, at) for name, at in said if name in ("least", "most")} == {
        ("least", TIMED + 1),
        ("most", TIMED),
    }
    assert {name for name, _ in said} & {
        "either",
        "both",
        "named",
        "each",
        "plain",
        "read",
    } == set()
    # Of the value itself a change tells what it is when it is delivered.
    assert {c.new for c in changes if c.name == "most"} == {partition.now}
    assert partition.count("later") == 1
    assert {(name, at) for name, at in said if name in ("later", "soon")} == {
        ("later", TIMED + DAY + 1),
        ("soon", TIMED - DAY),
        ("soon", TIMED + 1),
    }


@pytest.mark.parametrize("with_checkpoint", [True, False])
def test_a_reopened_store_says_the_same(with_checkpoint: bool) -> None:
    hub = hub_of()
    worked(hub)
    if with_checkpoint:
        job = hub.partitions[0].checkpoint_job(force=True)
        assert job is not None
        job()
    wanted = look_up(hub, BASE + DAY)
    _, end = hub.partitions[0].changes(-1)
    hub.reopen()
    worked(hub)
    assert look_up(hub, BASE + DAY) == wanted
    hub.submit([("hits", "q", [{"who": "a", "at": BASE + 9, "n": 0}])], BASE + 9)
    worked(hub)
    assert {c.name for c in hub.partitions[0].changes(end)[0]} == {"each", "keyed"}
