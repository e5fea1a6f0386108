"""One profile with too many events of one campaign: a rule that compares them all in pairs has no
answer and says why; the partition, the other rules, reopenings and definitions go on."""

from __future__ import annotations

import msgspec
import pytest

from profile_actors.definitions.declared import Catalogue, ComputedAttribute, SegmentDefinition
from profile_actors.engine.fold import departures
from profile_actors.errors import Pending, RuleError
from profile_actors.ingest.identity_keys import key_of
from profile_actors.rules.evaluation import joins
from tests.model.hub import BASE, CATALOGUE, SEED, WHO, Hub, Rows

VIEWS, BUYS = 'xEvent[eventType = "view"]', 'xEvent[eventType = "buy"]'
PAIRED = {
    # Conditions asked pair by pair; pairs that are kept for a later step.
    "tried": f"exists V from {VIEWS}, B from {BUYS} where B.place = V.place and B.x > V.x + 5",
    "kept": 'CHAIN(xEvent, timestamp, [A: WHAT(eventType = "view"), B: WHAT(eventType = "buy" and'
    ' place = A.place), C: WHAT(eventType = "call" and place = B.place)])',
}
FOUND = {
    # Any number of events: what meets equal fields and times is found, and counted, as ranges.
    "found": f"exists V from {VIEWS}, B from {BUYS} where B.place = V.place",
    "chain": 'CHAIN(xEvent, timestamp, [A: WHAT(eventType = "view"), B: WHAT(eventType = "buy" and'
    " place = A.place)])",
}
VALUE = f"not ({PAIRED['tried']})"


@pytest.fixture(autouse=True)
def few_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joins, "MOST_PAIRS", 99)


def catalogue(version: int, segments: dict[str, str], computed: dict[str, str]) -> Catalogue:
    return msgspec.structs.replace(
        CATALOGUE,
        version=version,
        segments={name: SegmentDefinition(name, rule) for name, rule in segments.items()},
        computed={name: ComputedAttribute(name, rule) for name, rule in computed.items()},
    )


def visits(who: str, pairs: int, first: int) -> Rows:
    """As many views and then buys, all of one place."""
    return [
        {"who": who, "at": BASE + n, "_id": f"{who}{first + n}", "place": "oslo", "n": 1, "x": 0.1,
         "kind": "view" if n < pairs else "buy"}
        for n in range(2 * pairs)
    ]  # fmt: skip


def check(hub: Hub, failed: set[str]) -> None:
    """The rules that failed say so, and why; the others answer; nothing else is wrong."""
    (partition,) = hub.partitions
    kinds = {name: "computed" if name == "pairs" else "segment" for name in failed}
    assert set(partition.status().degraded) == {f"{kinds[name]} {name}" for name in failed}
    for name in FOUND:
        assert partition.count(name) == 2
    for name in PAIRED.keys() & failed:
        with pytest.raises(Pending, match=r"at most 99 pairs .* one profile, got 100; narrow"):
            partition.members(name)
    (profile,) = partition.profiles([key_of(WHO, "many", SEED)])
    assert profile is not None
    assert {name for name, m in profile.segments.items() if m.status == "pending"} == (
        PAIRED.keys() & failed
    )
    assert profile.computed["all"] == 20
    assert (profile.computed["pairs"] is None) == ("pairs" in failed)
    assert set(profile.pending) == failed & {"pairs"}
    assert len(partition.verify()) == len(failed)  # each is named, and nothing else is wrong
    partition.changes(-1, 1 << 30)


def test_rules_over_too_many_pairs_are_pending_and_all_else_goes_on() -> None:
    segments, computed = PAIRED | FOUND, {"pairs": VALUE, "all": "xEvent.count()"}
    hub = Hub(1, catalogue(1, segments, computed))
    assert not hub.partitions[0].state.book.rescans, "the test is of kept events"
    hub.submit([("hits", "p", visits("few", 9, 0))], BASE + 100)
    assert hub.partitions[0].status().degraded == {}
    hub.submit([("hits", "p", visits("many", 10, 0))], BASE + 200)
    check(hub, {"tried", "kept", "pairs"})
    hub.reopen()
    check(hub, {"tried", "kept", "pairs"})


def test_a_definition_over_too_many_pairs_is_taken_and_pending() -> None:
    hub = Hub(1, catalogue(1, FOUND, {"all": "xEvent.count()"}))
    hub.submit([("hits", "p", visits("few", 9, 0))], BASE + 100)
    hub.submit([("hits", "p", visits("many", 10, 0))], BASE + 200)
    (partition,) = hub.partitions
    with pytest.raises(RuleError, match="at most 99 pairs"):
        partition.preview(PAIRED["tried"], None, 3)
    more = catalogue(2, PAIRED | FOUND, {"pairs": VALUE, "all": "xEvent.count()"})
    partition.define(more, None)
    check(hub, {"tried", "kept", "pairs"})
    hub.reopen()
    check(hub, {"tried", "kept", "pairs"})
    # Another rule in their place: the whole store is well again.
    hub.partitions[0].define(catalogue(3, FOUND, {"pairs": "1", "all": "xEvent.count()"}), None)
    check(hub, set())
    hub.reopen()
    check(hub, set())


def test_a_look_ahead_over_too_much_has_no_answer_and_harms_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    best = f"{VIEWS[:-1]} and timestamp occurs <= 2 days before now].topN(n, 2).n.sum()"
    rules = {"few": f"{best} = 2", "all": "xEvent.count() > 1"}
    hub = Hub(catalogue=catalogue(1, rules, {"b": best}))
    (partition,) = hub.partitions
    hub.submit([("hits", "p", [*visits("many", 60, 0), *visits("few", 2, 0)])], BASE + 200)
    for module, name, value in ((departures, "AHEAD_CELLS", 999), (departures, "FIRST_CELLS", 64)):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(departures, "AHEAD_CELLS_EACH", 0)
    many, few = (partition.profiles([key_of(WHO, who, SEED)])[0] for who in ("many", "few"))
    assert many is not None
    assert few is not None
    assert many.segments["few"].status == "pending"
    assert few.segments["few"].status == "realized"
    assert few.segments["few"].valid_until == BASE + 2 * 86_400_000 + 1
    assert many.segments["all"].status == few.segments["all"].status == "realized"
    assert partition.status().degraded == {}
    assert partition.count("few") == 2
    assert partition.count("all") == 2
