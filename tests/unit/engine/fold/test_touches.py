"""Who is touched when a rule fails: everybody, for it has no answer for anybody then."""

from __future__ import annotations

from msgspec import structs

from profile_actors.definitions.declared import SegmentDefinition
from profile_actors.engine.fold.touches import position_of
from tests.model.hub import BASE, CATALOGUE, Hub


def test_another_rule_that_fails_in_place_of_one_touches_everybody() -> None:
    hub = Hub()
    rows = [{"who": f"w{i}", "at": BASE, "_id": f"{i}", "n": 1} for i in range(3)]
    hub.submit([("hits", "p", rows)], BASE)
    state = hub.partitions[0].state
    column = state.touches.column[:3]
    for entries, name in enumerate(("day", "gold", "day"), 10):
        state.book.pending = {("segment", name): "planted"}
        state.touch_if_failed(entries)
        assert position_of(int(column.min())) == entries, name
        state.touch_if_failed(entries + 1)
        assert position_of(int(column.max())) == entries, "nothing new has failed"


def test_a_rule_that_fails_again_after_an_edit_touches_everybody() -> None:
    hub = Hub()
    (partition,) = hub.partitions
    rows = [{"who": f"w{i}", "at": BASE, "_id": f"{i}", "n": 1} for i in range(3)]
    hub.submit([("hits", "p", rows)], BASE)
    partition.state.book.pending = {("segment", "gold"): "planted"}
    partition.state.touch_if_failed(partition.position)
    gold = SegmentDefinition("gold", 'tier = "gold"')
    edited = structs.replace(CATALOGUE, version=2, segments={**CATALOGUE.segments, "gold": gold})
    partition.define(edited, None)
    assert not partition.state.book.pending
    partition.state.book.pending = {("segment", "gold"): "planted again"}
    partition.state.touch_if_failed(99)
    assert position_of(int(partition.state.touches.column[:3].min())) == 99
