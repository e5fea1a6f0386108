"""What the index does not reach would not have changed: each entry is folded with and without it.

An index that misses one reader, of any sort, must show: that is planted for every one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from profile_actors.definitions.catalogue_changes import extended
from profile_actors.definitions.declared import ComputedAttribute, SegmentDefinition
from profile_actors.engine.fold.delta import Delta
from profile_actors.engine.fold.entry_fold import EntryDelta, fold_rows
from profile_actors.engine.fold.state import State
from profile_actors.engine.membership.reach import Reach, Readers, TypeIndex, in_order
from profile_actors.engine.membership.rulebook import Rulebook
from profile_actors.engine.membership.rulebook_builder import indexed
from profile_actors.engine.partition import entry_writer
from tests.model.hub import BASE, CATALOGUE, DAY, HOUR, Hub

BUYS, LOOKS = 'xEvent[eventType = "buy"]', 'xEvent[eventType = "look"]'
RULES = extended(
    CATALOGUE,
    [
        # What is read must move alone at times: else its list may be empty and nothing shows.
        SegmentDefinition("ratio", f"{BUYS}.sum(x) / {LOOKS}.count() > 0.04"),
        SegmentDefinition("few", f'{BUYS}.count() >= 2 and not inSegment("gold")'),
        SegmentDefinition("late", f"{LOOKS}.max(timestamp) occurs > 5 hours before now"),
        SegmentDefinition(
            "twice",
            f"CHAIN({LOOKS}, timestamp,"
            " [A: WHAT(n = 1), B: WHAT(n = 2) WHEN(<= 50 hours after A)])",
        ),
        ComputedAttribute("looks", f"{LOOKS}.count()"),
        ComputedAttribute("idle", "xEvent.max(timestamp) occurs > 20 hours before now"),
        ComputedAttribute("share", f"{LOOKS}.count() / {BUYS}.count()"),
    ],
)


def seen(book: Rulebook, delta: EntryDelta) -> dict[str, Any]:
    """What an entry changes, whatever order it was found in."""
    fold: Delta = delta.fold
    numbers = {id(stream): number for number, stream in enumerate(book.streams)}
    gauges = {id(gauge): number for number, gauge in enumerate(book.gauges)}
    timers = {id(timer): number for number, timer in enumerate(book.timers())}
    return {
        "groups": sorted(map(repr, delta.groups)),
        "streams": sorted(numbers[id(stream)] for stream, _ in fold.streams),
        "histories": sorted(repr(history.spec) for history, _ in fold.histories),
        "gauges": sorted(
            (gauges[id(gauge)], slots.tolist(), levels.tolist())
            for gauge, slots, levels in fold.gauges
        ),
        "timers": sorted(
            (timers[id(timer)], slots.tolist(), upcoming.tolist())
            for timer, slots, upcoming in fold.timers
            if len(slots)
        ),
    }


def every_filter(index: TypeIndex, _types: object) -> set[int]:
    """All filters that an index was told of."""
    return {*index.of_any, *(number for found in index.by_type.values() for number in found)}


def every_reader(readers: Readers, _inputs: object) -> set[int]:
    """All ladders or trees that an index was told of."""
    return set(readers.every)


@pytest.fixture
def missed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the index missed, entry by entry."""
    found: list[str] = []

    def both(state: State, *args: Any) -> EntryDelta:
        delta = fold_rows(state, *args)
        own, state.book.reach = state.book.reach, indexed(state.book)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(TypeIndex, "reached", every_filter)
            patch.setattr(Readers, "reached", every_reader)
            whole = fold_rows(state, *args)
        state.book.reach = own
        mine, every = seen(state.book, delta), seen(state.book, whole)
        found.extend(part for part in mine if mine[part] != every[part])
        return whole

    monkeypatch.setattr(entry_writer, "fold_rows", both)
    return found


def days(spoil: Callable[[Reach], None] = lambda _: None) -> None:
    """Entries of one type each, of records, of the clock alone, and of new profiles."""
    hub = Hub(1, RULES)
    spoil(hub.partitions[0].state.book.reach)
    for number in range(28):
        at, who = BASE + number * 3 * HOUR, "abc"[number % 3]
        kind = ("buy", "look", "look", "other")[number % 4]
        if number % 7 == 3:
            crm = [{"who": who, "at": at, "tier": "gold", "score": number % 4}]
            hub.submit([("crm", "q", crm)], at)
            continue
        hits = [{
            "who": who, "at": at, "_id": f"{number}", "kind": kind, "n": 1 + number // 3 % 2,
            "x": 0.1,
        }]  # fmt: skip
        hub.submit([("hits", "p", hits)], at)
    hub.submit([("calls", "r", [{"who": "d", "at": BASE + 4 * DAY}])], BASE + 4 * DAY)
    for day in range(5, 9):
        hub.submit([("hits", "p", [])], BASE + day * DAY)
    for number, tier in enumerate(("silver", "gold", "silver")):
        at = BASE + 9 * DAY + number * HOUR
        hub.submit([("crm", "q", [{"who": "a", "at": at, "tier": tier, "score": 3}])], at)
        hit = {"who": "a", "at": at, "_id": f"late {number}", "kind": "other", "n": 1, "x": 0.1}
        hub.submit([("hits", "p", [hit])], at)


def test_what_is_not_reached_would_not_have_changed(missed: list[str]) -> None:
    days()
    assert not missed


Place = tuple[str, str, Any]
"""A list of the index: which index, which of its tables ('' if it is one), under which key."""


def places() -> list[Place]:
    """Every list that has a reader."""
    reach = indexed(Hub(1, RULES).partitions[0].state.book)
    found: list[Place] = []
    for name, table in (
        *(("streams", "by_type"), ("streams", "of_any")),
        *(("histories", "by_type"), ("histories", "of_any")),
        *((name, table) for name in ("ladders", "trees") for table in ("by_input", "timed")),
        *(("formulas", "by_input"), ("climbs", ""), ("marks", "")),
    ):
        held = getattr(reach, name)
        held = getattr(held, table) if table else held
        if isinstance(held, dict):
            found += [(name, table, key) for key in held]
        elif held:
            found.append((name, table, None))
    return found


def emptied(reach: Reach, place: Place) -> None:
    """The index without the readers of one list."""
    name, table, key = place
    held = getattr(reach, name)
    held = getattr(held, table) if table else held
    (held if key is None else held[key]).clear()


PLACES = places()
FIRST = {place[:2]: place for place in reversed(PLACES)}.values()


@pytest.mark.parametrize(
    "place",
    [p if p in FIRST else pytest.param(p, marks=pytest.mark.slow) for p in PLACES],
    ids=lambda place: f"{place[0]} {place[1]} {PLACES.index(place)}",
)
def test_an_index_that_misses_a_reader_shows(missed: list[str], place: Place) -> None:
    days(lambda reach: emptied(reach, place))
    assert missed


def test_numbers_come_ascending_and_once() -> None:
    assert in_order({3, 1}, [2, 3]) == [1, 2, 3]
