"""Rules over levels, and ages: each against evaluation itself, place by place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profile_actors.columnar.slot_pairs import distinct_pairs, following
from profile_actors.columnar.vectors import FOREVER, Array, Vector
from profile_actors.definitions.field_types import FieldType
from profile_actors.engine.membership.ages import aged, climbed
from profile_actors.engine.membership.gauges import FIRST, NULL, Gauge, Ladder
from profile_actors.engine.membership.level_formulas import (
    Formula,
    LevelChanges,
    PairLevels,
    RowLevels,
    formula_of,
    holds,
)
from profile_actors.rules.evaluation.planned_values import vector_of
from profile_actors.rules.planning.thresholds import Measure, Threshold, condition_of, thresholds_of
from profile_actors.rules.tree.nodes import Call, Items, Literal, Node, Now, Occurs
from profile_actors.rules.tree.plan import Aggregate, AggregateLeaf, AttributeLeaf, EventFilter

LIMIT = 2**63 - 1
COUNT = AggregateLeaf(Aggregate(EventFilter(), "count", None, FieldType("integer")))
TOTAL = AggregateLeaf(Aggregate(EventFilter(), "sum", COUNT, FieldType("double")))
LAST = AggregateLeaf(Aggregate(EventFilter(), "max", COUNT, FieldType("timestamp")))
CITY = AttributeLeaf("city", type=FieldType("string"))
MEAN = Call("/", (TOTAL, COUNT), type=FieldType("double"))
VALUES: dict[Node, Vector] = {
    COUNT: Vector(np.array([0, 1, 2, 3, 4, -1, LIMIT, -LIMIT - 1])),
    TOTAL: Vector(
        np.array([0.0, 0.5, 2.0, 3.5, -0.0, 1e300, 2.0**53, -1.5]),
        np.array([1, 1, 1, 0, 1, 1, 1, 1], np.bool_),
    ),
    CITY: Vector(
        np.array([0, 1, 2, 3, 4, 1, 0, 2], np.int32),
        np.array([1, 1, 1, 1, 1, 1, 0, 1], np.bool_),
        ("", "Lima", "Lima\0", "Oslo", "lima"),
    ),
}
ROWS = 8


def number(value: int | float) -> Literal:
    return Literal(value, "integer" if isinstance(value, int) else "double")


numbers = st.sampled_from([0, 1, 2, 3, -1, 0.5, 2.0, -1.5, LIMIT, -LIMIT]).map(number)
texts = st.sampled_from(["", "Lima", "Oslo", "zz"]).map(lambda text: Literal(text, "string"))
operators = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
compared = st.one_of(
    st.tuples(st.sampled_from([COUNT, TOTAL, MEAN]), numbers), st.tuples(st.just(CITY), texts)
)
atoms = st.one_of(
    st.builds(Call, operators, compared),
    st.builds(lambda f, x: Call(f, (x,)), st.sampled_from(["isnull", "isnotnull"]),
              st.sampled_from([COUNT, TOTAL, CITY])),
    st.builds(lambda f, items: Call(f, (CITY, Items(tuple(items)))),
              st.sampled_from(["in", "notin"]), st.lists(texts, min_size=1, max_size=3)),
)  # fmt: skip
rules = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.builds(lambda f, args: Call(f, tuple(args)), st.sampled_from(["and", "or"]),
                  st.lists(inner, min_size=1, max_size=3)),
        inner.map(lambda arg: Call("not", (arg,))),
    ),
    max_leaves=6,
)  # fmt: skip


def compiled(*conditions: Node) -> tuple[list[Gauge], list[tuple[Formula, list[int]]]]:
    """The ladders that conditions read, and (formula, numbers of its ladders) of each."""
    parsed = [condition_of(node) for node in conditions]
    drops_due: dict[Measure, list[Threshold]] = {}
    for one in parsed:
        assert one is not None
        for cut in thresholds_of(one):
            drops_due.setdefault(cut.measure, []).append(cut)
    gauges: list[Gauge] = [Ladder(measure, [], 64, hidden) for measure, hidden in drops_due.items()]
    places = {measure: number for number, measure in enumerate(drops_due)}
    formulas: list[tuple[Formula, list[int]]] = []
    for one in parsed:
        assert one is not None
        formula = formula_of(one, places, gauges)
        formulas.append((formula, [places[cut.measure] for cut in thresholds_of(one)]))
    return gauges, formulas


@given(st.lists(rules, min_size=1, max_size=4))
def test_levels_say_what_evaluation_says(nodes: list[Node]) -> None:
    kept = [
        n for n in nodes if (c := condition_of(n)) is not None and any(map(bool, thresholds_of(c)))
    ]
    gauges, formulas = compiled(*kept)
    now = 0
    for gauge in gauges:
        assert isinstance(gauge, Ladder)
        node = gauge.measure.node
        values = vector_of(node, VALUES.__getitem__, ROWS, now)
        gauge.store(np.arange(ROWS), gauge.levels(values))
    for node, (formula, _) in zip(kept, formulas, strict=True):
        found = holds(formula, lambda n: gauges[n].level[:ROWS], (ROWS,))
        assert found.tolist() == vector_of(node, VALUES.__getitem__, ROWS, now).values.tolist(), (
            node
        )


@pytest.mark.parametrize("operator", ["=", "!=", "<", "<=", ">", ">="])
@pytest.mark.parametrize("constant", [LIMIT, -LIMIT - 1, LIMIT - 1])
def test_the_largest_integers_are_cut_like_others(operator: str, constant: int) -> None:
    node = Call(operator, (COUNT, number(constant)))
    cut = condition_of(node)
    assert isinstance(cut, Threshold)
    gauge = Ladder(cut.measure, [], 8, [cut])
    levels = gauge.levels(VALUES[COUNT])
    expected = vector_of(node, VALUES.__getitem__, ROWS, 0).values
    assert gauge.truth_of(cut)[levels].tolist() == expected.tolist()


@pytest.mark.parametrize(
    "node",
    [
        Call(">", (COUNT, TOTAL)),
        Call("and", (Call(">", (COUNT, number(1))), Call("startswith", (CITY, CITY)))),
        Call(">", (AttributeLeaf("d", type=FieldType("decimal", scale=2)), number(1))),
        Call("=", (AttributeLeaf("b", type=FieldType("boolean")), Literal(True, "boolean"))),
        Occurs(LAST, "distance", Now("now"), None, "<=", 3, "day", "before"),
        Occurs(LAST, "distance", Now("now"), None, ">=", 3, "month", "before"),
        Occurs(LAST, "distance", Now("today"), None, ">=", 3, "day", "before"),
        Occurs(LAST, "distance", Now("now"), None, ">=", 3, "day", "after"),
    ],
)
def test_what_is_no_cut_stays_a_tree(node: Node) -> None:
    assert condition_of(node) is None


level_rules = [
    Call("and", (Call(">=", (COUNT, number(2))), Call("<", (TOTAL, number(3))))),
    Call("or", (Call("=", (COUNT, number(1))), Call("not", (Call(">", (TOTAL, number(0))),)))),
    Call("and", (Call("!=", (TOTAL, number(1))), Call("isnull", (COUNT,)))),
]
some_levels = st.integers(NULL, FIRST + 2)


@given(
    st.lists(st.tuples(some_levels, some_levels), min_size=12, max_size=12),
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 11), some_levels), max_size=14),
    st.integers(0, 3),
)
def test_rules_turn_where_levels_move_and_where_profiles_begin(
    stored: list[tuple[int, int]], varies: list[tuple[int, int, int]], begun: int
) -> None:
    gauges, formulas = compiled(*level_rules)
    new_slots = np.arange(12 - begun, 12)
    for number, gauge in enumerate(gauges):
        gauge.store(np.arange(12), np.array([pair[number] for pair in stored], np.uint8))
        gauge.store(new_slots, np.zeros(begun, np.uint8))
    after = [gauge.level[:12].copy() for gauge in gauges]
    for number, slot, level in varies:
        after[number][slot] = level
    for levels in after:
        levels[new_slots] = np.maximum(levels[new_slots], NULL)
    moved = LevelChanges()
    for number, gauge in enumerate(gauges):
        slots = np.flatnonzero(gauge.level[:12] != after[number])
        for part in (slots[::2], slots[1::2]):  # as of tracks and of new profiles
            if len(part):
                moved.note(number, part, after[number][part], None)
    rows = RowLevels(gauges, moved, new_slots)
    for formula, ladders in formulas:
        before = holds(formula, lambda n: gauges[n].level[:12], (12,))
        now = holds(formula, lambda n: after[n], (12,))
        slots, truths = rows.turned(formula, ladders)
        is_new = np.arange(12) >= 12 - begun
        assert slots.tolist() == np.flatnonzero((before != now) | is_new).tolist()
        assert truths.tolist() == now[slots].tolist()


def test_a_rule_whose_ladders_moved_in_few_places_looks_at_those_alone() -> None:
    gauges, formulas = compiled(
        Call("and", (Call(">=", (COUNT, number(2))), Call("<", (COUNT, number(9))))),
        Call("or", (Call(">", (TOTAL, number(0))), Call("<", (TOTAL, number(-9))))),
    )
    for gauge in gauges:
        gauge.level = np.full(4_096, FIRST, np.uint8)
    moved = LevelChanges()
    moved.note(0, np.array([7, 9, 4_000]), np.array([FIRST + 1] * 3, np.uint8), None)
    moved.note(1, np.arange(4_000), np.full(4_000, FIRST + 1, np.uint8), None)
    rows = RowLevels(gauges, moved, np.zeros(0, np.int64))
    slots, truths = rows.turned(*formulas[0])
    assert slots.tolist() == [7, 9, 4_000]
    assert truths.all()


@given(
    st.lists(st.tuples(some_levels, some_levels), min_size=5, max_size=5),
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 4), st.integers(1, 9), some_levels), max_size=16
    ),
    st.sampled_from([1, 2**33]),
)
def test_rules_turn_at_the_instants_at_which_levels_move(
    stored: list[tuple[int, int]], varies: list[tuple[int, int, int, int]], unit: int
) -> None:
    gauges, formulas = compiled(*level_rules)
    for number, gauge in enumerate(gauges):
        gauge.store(np.arange(5), np.array([pair[number] for pair in stored], np.uint8))
    known = {(n, slot, at * unit): level for n, slot, at, level in varies}
    moved = LevelChanges()
    for number in range(2):
        mine = sorted((slot, at, level) for (n, slot, at), level in known.items() if n == number)
        if mine:
            slots, when, levels = map(np.array, zip(*mine, strict=True))
            moved.note(number, slots, levels.astype(np.uint8), when)
    if not moved.pairs:
        return
    pairs = PairLevels(gauges, moved)
    for formula, ladders in formulas:
        expected = []
        for slot in range(5):
            current = [int(gauge.level[slot]) for gauge in gauges]
            was = says(formula, current)
            for at in range(1, 10):
                for number in range(2):
                    current[number] = known.get((number, slot, at * unit), current[number])
                if says(formula, current) != was:
                    was = not was
                    expected.append((slot, at * unit, was))
        found = pairs.turned(formula, ladders)
        assert list(zip(*(part.tolist() for part in found), strict=True)) == expected


def says(formula: Formula, levels: list[int]) -> bool:
    return bool(holds(formula, lambda n: np.array([levels[n]], np.uint8), (1,))[0])


def age_ladder(*limits: int) -> Ladder:
    drops_due = [
        condition_of(Occurs(LAST, "distance", Now("now"), None, ">=", n, "millisecond", "before"))
        for n in limits
    ]
    hidden = [cut for cut in drops_due if isinstance(cut, Threshold)]
    assert len(hidden) == len(limits)
    return Ladder(hidden[0].measure, [], 8, hidden)


def level_at(ladder: Ladder, time: int | None, now: int) -> int:
    return NULL if time is None else FIRST + sum(now - time >= b for b in ladder.breaks.tolist())


times = st.one_of(st.none(), st.integers(-5, 30))


def vector(found: list[int | None]) -> Vector:
    valid = np.array([time is not None for time in found], np.bool_)
    return Vector(np.array([time or 0 for time in found], np.int64), valid)


@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=5, unique=True),
    st.lists(times, min_size=4, max_size=4),
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 25), times), max_size=8),
    st.integers(1, 30),
)
def test_ages_climb_at_their_instants(
    limits: list[int],
    stored: list[int | None],
    varies: list[tuple[int, int, int | None]],
    now: int,
) -> None:
    ladder = age_ladder(*limits)
    slots = np.arange(4)
    ladder.store(slots, np.array([level_at(ladder, t, 0) for t in stored], np.uint8))
    known = {(slot, at): time for slot, at, time in varies if at <= now}
    ordered = sorted(known)
    moved = (
        np.array([slot for slot, _ in ordered], np.intp),
        np.array([at for _, at in ordered], np.int64),
        vector([known[key] for key in ordered]),
    )
    (where, at, levels), upcoming = climbed(ladder, slots, vector(stored), moved, now)
    found = {
        (s, t): v for s, t, v in zip(where.tolist(), at.tolist(), levels.tolist(), strict=True)
    }
    assert len(found) == len(where)
    assert list(found) == sorted(found)
    for slot in range(4):
        time, level = stored[slot], level_at(ladder, stored[slot], 0)
        for instant in range(1, now + 1):
            time = known.get((slot, instant), time)
            level = found.get((slot, instant), level)
            assert level == level_at(ladder, time, instant), (slot, instant)
        later = [t for t in range(now + 1, now + 60) if level_at(ladder, time, t) != level]
        assert upcoming[slot] == (later[0] if later else FOREVER)
        again, due = aged(ladder, vector([time]), now)
        assert (again.tolist(), due.tolist()) == ([level], [upcoming[slot]])


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), max_size=12),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), max_size=5),
    st.sampled_from([1, 2**31 // 9, 2**40]),
)
def test_pairs_are_ordered_and_followed(
    known: list[tuple[int, int]], asked: list[tuple[int, int]], unit: int
) -> None:
    def arrays(pairs: list[tuple[int, int]]) -> tuple[Array, Array]:
        return (
            np.array([slot for slot, _ in pairs], np.uint32),
            np.array([at * unit for _, at in pairs], np.int64),
        )

    slots, at = distinct_pairs(*arrays(known))
    expected = sorted({(slot, time * unit) for slot, time in known})
    assert list(zip(slots.tolist(), at.tolist(), strict=True)) == expected
    if expected:
        after = following(slots, at, *arrays(asked), 10 * unit)
        for (slot, time), found in zip(asked, after.tolist(), strict=True):
            later = [t for s, t in expected if s == slot and t > time * unit]
            assert found == min(later, default=10 * unit)


def test_a_ladder_of_many_breaks_has_wider_levels() -> None:
    many = [condition_of(Call(">=", (COUNT, number(n)))) for n in range(300)]
    hidden = [cut for cut in many if isinstance(cut, Threshold)]
    ladder = Ladder(Measure(COUNT), [], 4, hidden)
    assert ladder.level.dtype == np.uint16
    levels = ladder.levels(Vector(np.array([-1, 0, 299, 1_000])))
    assert levels.tolist() == [FIRST, FIRST + 1, FIRST + 300, FIRST + 300]
    assert ladder.truth_of(hidden[299])[levels].tolist() == [False, False, True, True]
