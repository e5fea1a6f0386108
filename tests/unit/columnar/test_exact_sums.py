"""Exact sums: limbs and wide integers against math.fsum and fractions."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from profile_actors.columnar import exact_sums
from profile_actors.columnar.vectors import Vector
from profile_actors.definitions.field_types import FieldType
from profile_actors.engine.operators.aggregates import DoubleSum
from profile_actors.engine.operators.contributions import by_slot
from profile_actors.rules.tree.nodes import Element, Field
from profile_actors.rules.tree.plan import Aggregate, EventFilter

finite = st.floats(allow_nan=False, allow_infinity=False)


def operator() -> DoubleSum:
    value = Field(Element(0), "x")
    return DoubleSum(Aggregate(EventFilter(), "sum", value, FieldType("double")), "v", 16)


def add(op: DoubleSum, values: list[float], sign: int = 1) -> None:
    """Fold values for slot 3, through the operator's own path."""

    class Step:
        rows = by_slot(
            np.full(len(values), 3, np.uint32),
            np.full(len(values), sign, np.int8),
            {"v": op.payload(Vector(np.array(values)))},
            is_sorted=True,
        )
        clock = None
        is_windowed = False

        def best_of_staying(
            self, slots: np.ndarray, name: str, is_max: bool, none: np.generic
        ) -> np.ndarray:
            raise AssertionError("a sum never re-reads")

    for slots, lanes in op.fold(Step()).stores:
        op.store(slots, lanes)


def total(op: DoubleSum) -> float | None:
    vector = op.current(np.array([3], np.uint32))
    is_valid = vector.valid is None or bool(vector.valid[0])
    return float(vector.values[0]) if is_valid else None


def exact(values: list[float]) -> float | None:
    """The correctly rounded sum, null beyond doubles (fsum gives up where a partial one is)."""
    try:
        return float(sum(map(Fraction, values))) + 0.0
    except OverflowError:
        return None


@given(st.lists(finite, min_size=1, max_size=30), st.integers(1, 4))
def test_any_doubles_in_any_batches_sum_as_fsum_does(values: list[float], pieces: int) -> None:
    op = operator()
    size = max(1, len(values) // pieces)
    for begin in range(0, len(values), size):
        add(op, values[begin : begin + size])
    assert total(op) == exact(values)


@given(st.lists(finite, min_size=1, max_size=20), st.lists(finite, min_size=1, max_size=20))
def test_what_leaves_takes_exactly_what_it_brought(stay: list[float], leave: list[float]) -> None:
    op = operator()
    add(op, stay + leave)
    add(op, leave, sign=-1)
    assert total(op) == exact(stay)


def test_catastrophic_cancellation_leaves_nothing_behind() -> None:
    op = operator()
    add(op, [1e300, 0.1, 1e-300])
    add(op, [1e300], sign=-1)
    assert total(op) == math.fsum([0.1, 1e-300])


def test_business_amounts_stay_on_the_fast_path() -> None:
    op, rng = operator(), random.Random(1)
    amounts = [round(rng.uniform(0, 5000), 2) for _ in range(1000)]
    add(op, amounts)
    assert op.wide == {}
    assert total(op) == math.fsum(amounts)


def test_a_large_total_spills_and_stays_exact() -> None:
    op = operator()
    values = [9.9e12] * 10 + [0.01]
    add(op, values)
    assert total(op) == math.fsum(values)


def test_split_and_read_out_are_inverse() -> None:
    values = np.array([0.0, -0.5, 29.33, -1e6, 2.0**-62, 1e9 + 0.01])
    high, low, wide = exact_sums.split(values)
    assert not wide.any()
    assert exact_sums.read_out(*exact_sums.carry(high, low)).tolist() == values.tolist()
