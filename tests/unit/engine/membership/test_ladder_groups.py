"""The ladders of a crew climbed by one search, against each ladder by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from profile_actors.columnar.vectors import Vector
from profile_actors.definitions.catalogue_changes import extended
from profile_actors.definitions.declared import ComputedAttribute, Definition, SegmentDefinition
from profile_actors.engine.membership import ladder_groups
from profile_actors.engine.membership.gauges import NULL, Ladder
from profile_actors.engine.membership.ladder_groups import LadderGroup, group_of
from profile_actors.engine.membership.rulebook import Rulebook
from profile_actors.engine.membership.rulebook_builder import compile_plan
from profile_actors.engine.operators.crews import Crew
from profile_actors.ingest.identity_keys import key_of
from profile_actors.rules.catalogue.catalogue_plan import plan
from tests.model.hub import BASE, CATALOGUE, SEED, WHO, Hub

KINDS = ("buy", "look", "cart", "other")


def events(kind: str) -> str:
    return f'xEvent[eventType = "{kind}"]'


def rules() -> list[Definition]:
    """Ladders of different points; of one kind none over the sum."""
    found: list[Definition] = []
    for place, kind in enumerate(KINDS):
        found.append(ComputedAttribute(f"{kind}_total", f"{events(kind)}.sum(x)"))
        found += [
            SegmentDefinition(f"{kind}_count_{n}", f"{events(kind)}.count() >= {n}")
            for n in range(1, 3 + place)
        ]
        if place:
            found.append(SegmentDefinition(f"{kind}_sum", f"{events(kind)}.sum(x) > {place - 1.5}"))
    return found


def compiled(*more: Definition) -> tuple[Rulebook, Crew]:
    catalogue = extended(CATALOGUE, [*rules(), *more])
    book = compile_plan(plan(catalogue), catalogue, 16)
    (crew,) = {id(s.crew): s.crew for s in book.streams if isinstance(s.crew, Crew)}.values()
    return book, crew


def test_levels_and_flips_are_those_of_each_ladder() -> None:
    book, crew = compiled()
    group = group_of(book, crew)
    assert isinstance(group, LadderGroup)
    assert group_of(book, crew) is group, "made twice"
    assert set(group.names) == {f"{kind}_total" for kind in KINDS}
    numbers, compared = np.arange(len(crew.members)), 0
    for row, climb in enumerate(group.climbs):
        for value in (-1.5, -1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 9.0, None):
            kind = np.float64 if climb.points.dtype == np.float64 else np.int64
            values = np.full(len(numbers), 0 if value is None else value).astype(kind)
            vector = Vector(values, np.zeros(len(numbers), np.bool_) if value is None else None)
            levels = climb.levels(vector, numbers)
            for member in numbers.tolist():
                number = group.gauges[row * group.members + member]
                if number < 0:
                    assert levels[member] == 0
                    continue
                ladder = book.gauges[number]
                assert isinstance(ladder, Ladder)
                one = Vector(values[:1], None if vector.valid is None else vector.valid[:1])
                assert levels[member] == ladder.levels(one)[0]
                assert value is not None or levels[member] == NULL
                at = (row * group.members + member) * group.levels + int(levels[member])
                truth = ladder.layout.truth[levels[member]]
                assert group.truths[at, : len(truth)].tolist() == truth.tolist()
                compared += 1
    assert compared > 60


def test_what_does_not_fit_goes_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    book, crew = compiled()
    monkeypatch.setattr(ladder_groups, "CELLS", 10)
    assert group_of(book, crew) is None
    book.forget_columns()
    monkeypatch.undo()
    assert group_of(book, crew) is not None


def test_a_group_is_forgotten_with_the_columns_that_it_names() -> None:
    """A segment that is defined later has its instants in a table of its own."""
    hub = Hub(1, extended(CATALOGUE, rules()))

    def enter(number: int) -> None:
        rows: list[dict[str, Any]] = [
            {"who": "ann", "at": BASE + number, "_id": f"{kind}{number}", "kind": kind,
             "n": 1, "x": 1.0, "place": "here"}
            for kind in KINDS
        ]  # fmt: skip
        hub.submit([("hits", "p", rows)], BASE + number)

    enter(0)
    enter(1)
    later = extended(hub.catalogue, [SegmentDefinition("third", f"{events('buy')}.count() >= 3")])
    hub.partitions[0].define(later, None)
    enter(2)
    key = key_of(WHO, "ann", SEED)
    (ann,) = hub.partitions[0].profiles([key])
    assert ann is not None
    assert ann.segments["third"].last_qualification_time == BASE + 2
    assert ann.segments["buy_count_1"].last_qualification_time == BASE
    assert hub.partitions[0].verify(sample=1) == []
