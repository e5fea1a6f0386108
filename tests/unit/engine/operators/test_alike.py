"""What is read of operators together is what each of them says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from profile_actors.columnar.vectors import Vector
from profile_actors.definitions.field_types import FieldType
from profile_actors.engine.operators.alike import alike
from profile_actors.engine.operators.contributions import StepScope
from profile_actors.engine.operators.crews import Crew
from profile_actors.engine.operators.event_streams import Arrivals, Stream
from profile_actors.rules.tree.nodes import Node
from profile_actors.rules.tree.plan import Aggregate, EventFilter

SLOTS = 12
SHAPES = [
    ("count", None, "integer"), ("count", "integer", "integer"), ("distinct", "integer", "integer"),
    ("sum", "integer", "integer"), ("sum", "double", "double"), ("max", "double", "double"),
    ("min", "double", "double"), ("max", "integer", "integer"), ("min", "integer", "integer"),
    ("max", "timestamp", "timestamp"), ("sum", "decimal", "decimal"), ("max", "decimal", "decimal"),
]  # fmt: skip


def aggregate(function: str, value: str | None, result: str) -> Aggregate:
    # Only whether there is a value, and of which type it is, matters here.
    node = None if value is None else Node()
    return Aggregate(EventFilter(), function, node, FieldType(result, scale=2))


def values(rng: np.random.Generator, kind: str, size: int, is_wide: bool) -> Vector:
    valid = rng.random(size) < 0.7
    if kind == "double":
        doubles = [0.1, -2.5, 1e16] + ([1e300, 5e-324] if is_wide else [])
        return Vector(rng.choice(doubles, size), valid)
    wholes = [0, 1, -7] + ([2**63 - 1, -(2**63)] if kind == "integer" else [])
    return Vector(rng.choice(np.array(wholes, np.int64), size), valid)


def filled(seed: int, is_wide: bool) -> Stream:
    """A stream of two or three aggregates of each shape, some profiles without any event."""
    rng = np.random.default_rng(seed)
    chosen = [shape for shape in SHAPES for _ in range(rng.integers(1, 4))]
    stream = Stream(EventFilter(), [aggregate(*shape) for shape in chosen], SLOTS)
    for _ in range(3):
        slot = np.sort(rng.choice(SLOTS - 2, 20)).astype(np.uint32)
        columns: dict[str, Any] = {}
        for op, (_, kind, _) in zip(stream.operators, chosen, strict=True):
            if kind is not None and op.name is not None:
                vector = values(rng, kind, len(slot), is_wide)
                columns[op.name] = op.payload(vector)
                if op.presence is not None:
                    columns[op.presence] = vector.valid
        delta = stream.step(Arrivals(slot, np.zeros(20, np.int64), columns), StepScope(0, 0))
        assert delta is not None
        assert not delta.failed
        stream.publish(delta)
    return stream


def plain(vector: Vector) -> list[Any]:
    valid = np.ones(len(vector.values), np.bool_) if vector.valid is None else vector.valid
    return [v if ok else None for v, ok in zip(vector.values.tolist(), valid, strict=True)]


@pytest.mark.parametrize("seed", range(12))
def test_groups_read_what_each_operator_says(seed: int) -> None:
    stream = filled(seed, is_wide=seed % 3 == 0)
    groups, known = alike(list(enumerate(stream.operators)))
    decimals = {n for n, op in enumerate(stream.operators) if op.aggregate.result.kind == "decimal"}
    assert known == set(range(len(stream.operators))) - decimals
    assert len(groups) == len(SHAPES) - 3  # counts are one shape, decimals are left out
    rng = np.random.default_rng(seed)
    for slots in (np.arange(SLOTS), np.array([3]), np.sort(rng.choice(SLOTS, 5, replace=False))):
        for group in groups:
            found, valid = group.read(slots)
            for row, (op, place) in enumerate(zip(group.operators, group.places, strict=True)):
                assert op is stream.operators[place]
                mine = Vector(found[row], None if valid is None else valid[row])
                assert plain(mine) == plain(op.current(slots))


@pytest.mark.parametrize("seed", range(4))
def test_columns_that_lie_in_one_are_read_from_there(seed: int) -> None:
    """Columns of streams of one shape are stretches of one array; a wide sum is not there."""
    rng = np.random.default_rng(seed)
    shapes = [
        ("count", None, "integer"),
        ("sum", "double", "double"),
        ("max", "integer", "integer"),
    ]
    streams = [Stream(EventFilter(), [aggregate(*one) for one in shapes], SLOTS) for _ in range(3)]
    crew = Crew(streams, SLOTS)
    for number, stream in enumerate(streams):
        slot = np.sort(rng.choice(SLOTS - 2, 20)).astype(np.uint32)
        columns: dict[str, Any] = {}
        for op, (_, kind, _) in zip(stream.operators, shapes, strict=True):
            if kind is not None and op.name is not None:
                vector = values(rng, kind, len(slot), is_wide=number == seed)
                columns[op.name] = op.payload(vector)
                if op.presence is not None:
                    columns[op.presence] = vector.valid
        delta = stream.step(Arrivals(slot, np.zeros(20, np.int64), columns), StepScope(0, 0))
        assert delta is not None
        stream.publish(delta)
    every = [(stream, index) for index in range(3) for stream in streams]
    operators = [(place, stream.operators[index]) for place, (stream, index) in enumerate(every)]
    wholes = {
        place: (crew.operators[index], int(crew.cells_of(stream, np.zeros(1, np.uint32))[0]))
        for place, (stream, index) in enumerate(every)
    }
    groups, known = alike(operators, wholes)
    assert known == set(range(9))
    assert [len(group.cells) for group in groups] == [1, 1, 1]
    for slots in (np.arange(SLOTS), np.array([3]), np.array([1, 4, 11])):
        for group in groups:
            found, valid = group.read(slots)
            for row, place in enumerate(group.places):
                mine = Vector(found[row], None if valid is None else valid[row])
                assert plain(mine) == plain(operators[place][1].current(slots))


def test_an_operator_that_failed_is_left_out() -> None:
    stream = filled(1, is_wide=False)
    stream.silence(0)
    _, known = alike(list(enumerate(stream.operators)))
    assert 0 not in known
    assert 1 in known
