"""A ladder of thresholds against each comparison by itself."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from profile_actors.columnar.vectors import Vector
from profile_actors.definitions.field_types import FieldType
from profile_actors.engine.membership.gauges import FIRST, NULL, Ladder, Rung
from profile_actors.rules.planning.thresholds import Measure, Threshold, condition_of
from profile_actors.rules.tree.nodes import Call, Literal
from profile_actors.rules.tree.plan import Aggregate, AggregateLeaf, EventFilter


def ladder(kind: str, *rules: tuple[str, int | float]) -> Ladder:
    aggregate = Aggregate(EventFilter(), "sum", None, FieldType(kind))
    rungs = []
    for i, (operator, constant) in enumerate(rules):
        literal = Literal(constant, "integer" if isinstance(constant, int) else "double")
        root = Call(operator, (AggregateLeaf(aggregate), literal))
        found = condition_of(root)
        assert isinstance(found, Threshold)
        rungs.append(Rung(f"s{i}", found))
    return Ladder(Measure(AggregateLeaf(aggregate)), rungs, 8)


OPERATORS = {
    ">=": float.__ge__, ">": float.__gt__, "<": float.__lt__, "<=": float.__le__,
    "=": float.__eq__, "!=": float.__ne__,
}  # fmt: skip
constants = st.one_of(st.integers(-3, 3), st.sampled_from([0.5, -1.5, 2.0, 1e18, 0.1 + 0.2]))


@given(
    st.sampled_from(["integer", "double"]),
    st.lists(st.tuples(st.sampled_from(sorted(OPERATORS)), constants), min_size=1, max_size=6),
    st.lists(st.sampled_from([-3, -1, 0, 1, 2, 3, 0.5, 0.3, 0.1 + 0.2, 1e18]), max_size=8),
)
def test_a_ladder_says_what_each_comparison_says(
    kind: str, rules: list[tuple[str, int | float]], values: list[float]
) -> None:
    # Beyond 2**53 an integer no longer compares with a double as integers do: no rung, a tree.
    rules = [(op, c) for op, c in rules if kind == "double" or abs(c) < 2**53]
    gauge = ladder(kind, *rules)
    numbers = np.array(values, np.int64 if kind == "integer" else np.float64)
    levels = gauge.levels(Vector(numbers))
    for column, (operator, constant) in enumerate(rules):
        truth = gauge.layout.truth[levels, column].tolist()
        assert truth == [OPERATORS[operator](float(v), float(constant)) for v in numbers.tolist()]
    assert (gauge.levels(Vector(numbers, np.zeros(len(numbers), bool))) == NULL).all()
    assert not gauge.layout.truth[:FIRST].any()
