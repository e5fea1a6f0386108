"""The fold reads state and writes only scratch: what it finds, failures too, is in its delta."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from profile_actors.columnar.state_columns import Image
from profile_actors.config import Config
from profile_actors.definitions.catalogue_changes import extended
from profile_actors.definitions.declared import SegmentDefinition
from profile_actors.engine.fold.entry_fold import EntryDelta, fold_rows, fold_slice
from profile_actors.engine.fold.state import State
from profile_actors.engine.histories.kept_events import EventHistory
from profile_actors.engine.operators.attribute_columns import Attribute
from profile_actors.engine.operators.extremes import Extreme
from profile_actors.engine.partition import clock_steps, entry_writer, partition_clock
from profile_actors.engine.partition.checkpoint_image import savings
from tests.model import hub as hubs
from tests.model.hub import BASE, CATALOGUE, DAY, HOUR, Hub

RULES = extended(
    CATALOGUE,
    [
        SegmentDefinition("low", "xEvent[timestamp occurs <= 1 day before now].min(n) < 2"),
        SegmentDefinition(
            "twice",
            "CHAIN(xEvent, timestamp, [A: WHAT(n = 1), B: WHAT(n = 2) WHEN(<= 5 hours after A)])",
        ),
    ],
)
FAILING = [
    pytest.param(Extreme, "fold", "min", id="operator"),
    pytest.param(EventHistory, "step", "", id="kept"),
    pytest.param(Attribute, "fold", "", id="record"),
]


def image(state: State) -> dict[str, Any]:
    """All that a checkpoint would hold, and what the rulebook says of failures.

    But for tables of texts: they only grow, and a text means nothing until a column names it.
    """
    out: dict[str, Any] = {
        name: np.array(array).tolist()
        for name, array in Image(list(savings(state)), state.directory.slots).arrays().items()
        if not name.endswith(("/texts", "/text_sizes"))
    }
    out["counters"] = repr(state.counters)
    out["broken"], out["pending"] = dict(state.book.broken), dict(state.book.pending)
    out["silent"] = [stream.is_sound for stream in state.book.streams]
    out["at"] = state.now, state.position, state.known, bool(state.has_rows.any())
    return out


@pytest.fixture
def folded(monkeypatch: pytest.MonkeyPatch) -> list[EntryDelta]:
    """Every entry is folded twice, the first time for nothing; the deltas."""
    deltas: list[EntryDelta] = []

    def twice(fold: Callable[..., EntryDelta]) -> Callable[..., EntryDelta]:
        def both(state: State, *args: Any) -> EntryDelta:
            before = image(state)
            thrown_away = fold(state, *args)
            assert image(state) == before
            delta = fold(state, *args)
            assert image(state) == before
            assert repr(delta.groups) == repr(thrown_away.groups)
            assert delta.fold.broken == thrown_away.fold.broken
            assert delta.fold.pending == thrown_away.fold.pending
            deltas.append(delta)
            return delta

        return both

    monkeypatch.setattr(entry_writer, "fold_rows", twice(fold_rows))
    for module in (clock_steps, partition_clock):
        monkeypatch.setattr(module, "fold_slice", twice(fold_slice))
    return deltas


def filled() -> Hub:
    hub = Hub(1, RULES)
    for number in range(30):
        at = BASE + number * HOUR
        who = "abc"[number % 3]
        hits = [
            {"who": who, "at": at, "_id": f"{number}", "kind": "buy", "n": number % 5, "x": 0.1}
        ]
        crm = [{"who": who, "at": at, "tier": "gold", "score": number % 4}]
        hub.submit([("hits", "p", hits), ("crm", "q", crm)], at)
    hub.partitions[0].advance(BASE + 9 * DAY)
    return hub


def test_a_fold_that_is_not_published_leaves_nothing_behind(folded: list[EntryDelta]) -> None:
    filled()
    assert sum(len(delta.groups) for delta in folded) > 20
    assert not any(delta.fold.broken or delta.fold.pending for delta in folded)


def test_a_slice_that_is_not_published_leaves_nothing_behind(
    folded: list[EntryDelta], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock_steps, "FEWEST_SLOTS", 1)
    few = Config(max_profiles=4096, max_ahead_ms=1 << 50, max_due_rows=1)
    monkeypatch.setattr(hubs, "CONFIG", few)
    hub = Hub(1, RULES)
    for number in range(4):
        rows = [{"who": who, "at": BASE, "_id": f"{number}", "n": 1, "x": 0.2} for who in "abcd"]
        hub.submit([("hits", f"p{number}", rows)], BASE + number)
    hub.partitions[0].advance(BASE + 9 * DAY)
    assert any(delta.drain is not None for delta in folded)


@pytest.mark.parametrize(
    ("kind", "method", "function"), FAILING, ids=["operator", "kept", "record"]
)
def test_what_fails_is_in_the_delta_and_the_rulebook_learns_of_it_when_that_is_published(
    folded: list[EntryDelta],
    monkeypatch: pytest.MonkeyPatch,
    kind: type,
    method: str,
    function: str,
) -> None:
    sound = getattr(kind, method)

    def failing(self: Any, *args: Any) -> Any:
        if len(folded) >= 10 and (not function or self.aggregate.function == function):
            raise ZeroDivisionError("planted")
        return sound(self, *args)

    monkeypatch.setattr(kind, method, failing)
    state = filled().partitions[0].state
    found = [part for delta in folded for part in delta.fold.broken]
    assert found
    assert list(state.book.broken) == found
    reasons = {"planted" in why for why in state.book.pending.values()}
    assert reasons == {True}
    assert set(state.book.pending) == {key for part in found for key in state.book.readers_of(part)}
