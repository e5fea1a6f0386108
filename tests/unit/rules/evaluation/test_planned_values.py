"""Vectorised evaluation: Arrow columns in, null rules, dictionaries, boundaries, by hand."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from profile_actors.columnar.time_units import DAY_MS
from profile_actors.columnar.vectors import FOREVER, Vector, column, truth
from profile_actors.definitions.declared import Schema
from profile_actors.rules.evaluation.horizons import next_boundary
from profile_actors.rules.evaluation.planned_values import vector_of
from profile_actors.rules.language.checker import check
from profile_actors.rules.language.parser import parse
from profile_actors.rules.language.types import union_scope
from profile_actors.rules.semantics import calendar
from profile_actors.rules.tree.clock_reads import ticks
from profile_actors.rules.tree.kinds import path
from profile_actors.rules.tree.nodes import Each, Literal, Node

DAY = DAY_MS
NOW = calendar.from_civil(2024, 3, 15, 10) or 0
COLUMNS = {
    "s": pa.array(["apple", "Banana", None, "apple"]),
    "t": pa.array(["apple", "banana", "x", None]).dictionary_encode(),
    "i": pa.array([1, -7, None, 2**62]),
    "d": pa.array([1.0, -7.5, 3.25, None]),
    "b": pa.array([True, False, None, True]),
    "ts": pa.array([NOW, NOW - 7 * DAY, None, NOW - 31 * DAY - 1], pa.timestamp("ms")),
    "day": pa.array([datetime.date(2024, 3, 15), None, datetime.date(1969, 12, 31), None]),
    "m": pa.array(
        [Decimal("1.50"), Decimal("-0.01"), None, Decimal("99.99")], pa.decimal128(18, 2)
    ),
}
KINDS = {
    "s": "string",
    "t": "string",
    "i": "integer",
    "d": "double",
    "b": "boolean",
    "ts": "timestamp",
    "day": "date",
    "m": "decimal(2)",
}


SCOPE = union_scope([Schema("s", "event", dict(KINDS))])


def event_expression(text: str) -> Node:
    """The typed tree of an expression over one event."""
    each = check(parse(f"xEvent.map({text})"), SCOPE)
    assert isinstance(each, Each)
    return each.body


def leaf(node: Node) -> Vector:
    name = path(node)
    assert name is not None
    return column(COLUMNS[name])


def values(text: str, now: int | np.ndarray[Any, Any] = NOW) -> list[Any]:
    """One plain value per row; None where null."""
    return plain(vector_of(event_expression(text), leaf, 4, now))


def plain(vector: Vector) -> list[Any]:
    raw = vector.values.tolist()
    if vector.dictionary is not None:
        raw = [vector.dictionary[code] for code in raw]
    if vector.valid is None:
        return list(raw)
    return [value if ok else None for value, ok in zip(raw, vector.valid.tolist(), strict=True)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('s = "apple"', [True, False, False, True]),
        ('s != "apple"', [False, True, False, False]),
        ("s = t", [True, False, False, False]),
        ("s < t", [False, True, False, False]),
        ('s > "Z"', [True, False, False, True]),
        ("i = d", [True, False, False, False]),
        ("i > d", [False, True, False, False]),
        ("i != d", [False, True, False, False]),
        ("not i > d", [True, False, True, True]),
        ("b", [True, False, None, True]),
        ("not b", [False, True, True, False]),
        ("b and i = 1", [True, False, False, False]),
        ("b or i = 1", [True, False, False, True]),
        ("i in [1, -7.0]", [True, True, False, False]),
        ("i notIn [1, 5]", [False, True, False, True]),
        ("i in []", [False, False, False, False]),
        ('s in ["apple", "pear"]', [True, False, False, True]),
        ('s notIn ["apple", "pear"]', [False, True, False, False]),
        ("isNull(s)", [False, False, True, False]),
        ("isNotNull(s.startsWith(t))", [True, True, True, True]),
        ('s.startsWith("a")', [True, False, False, True]),
        ('s.startsWith("b", false)', [False, True, False, False]),
        ("s.equals(t, false)", [True, True, False, False]),
        ('s.doesNotContain("an")', [True, False, False, True]),
        ('s like "%an_na"', [False, True, False, False]),
        ('s.matches("^a.*e$")', [True, False, False, True]),
        ('s.regexGroup("(.)p", 1)', ["a", None, None, "a"]),
        ("ts occurs <= 7 days before now", [True, True, False, False]),
        ("ts occurs < 7 days before now", [True, False, False, False]),
        ("ts occurs > 1 month before now", [False, False, False, True]),
        ("ts occurs on today", [True, False, False, False]),
        ("day occurs on today", [True, False, False, False]),
        ("ts occurs on this month", [True, True, False, False]),
        ("ts occurs != 7 days before now", [True, False, False, True]),
        ("day = today", [True, False, False, False]),
        ("ts >= today", [True, False, False, False]),
        ("day.getYear() = 1969", [False, False, True, False]),
        ("m > 1.4", [True, False, False, True]),
        ("m = 1.5", [True, False, False, False]),
        ("m in [1.5, 99.99]", [True, False, False, True]),
        ("m > d", [True, True, False, False]),
        ("m * 1000000000000000000 > 3", [True, False, False, True]),
        ("m % 9223372036854775807 > 1", [True, False, False, True]),
        ("9223372036854775807 % m > 0.99", [True, False, False, True]),
    ],
)
def test_conditions(text: str, expected: list[Any]) -> None:
    assert values(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("i + 1", [2, -6, None, 2**62 + 1]),
        ("i + i", [2, -14, None, None]),
        ("i * 3", [3, -21, None, None]),
        ("0 - i", [-1, 7, None, -(2**62)]),
        ("-i", [-1, 7, None, -(2**62)]),
        ("i / 2", [0.5, -3.5, None, 2.0**61]),
        ("i / 0", [None, None, None, None]),
        ("i % 4", [1, -3, None, 0]),
        ("i % 0", [None, None, None, None]),
        ("d % 2", [1.0, -1.5, 1.25, None]),
        ("i + d", [2.0, -14.5, None, None]),
        ("if(i > 0, s, t)", ["apple", "banana", "x", "apple"]),
        ("if(b, i, d)", [1.0, -7.5, 3.25, float(2**62)]),
        ("ts.getDayOfMonth()", [15, 8, None, 13]),
        ("currentMonth()", [3, 3, 3, 3]),
        ("m * 1.5", [2250, -15, None, 149985]),
        ("m + 0.001", [1501, -9, None, 99991]),
        ("m - 1", [50, -101, None, 9899]),
        ("m % 1", [50, -1, None, 99]),
        ("m / 2", [0.75, -0.005, None, 49.995]),
        ("m + d", [2.5, -7.51, None, None]),
    ],
)
def test_values(text: str, expected: list[Any]) -> None:
    assert values(text) == expected


def test_infinity_and_not_a_number_are_null() -> None:
    big = pa.array([1e308, -1e308, 1.0])
    each = parse("xEvent[d * 10]")
    assert isinstance(each, Each)
    vector = vector_of(each.body, lambda node: column(big), 3, NOW)
    assert plain(vector) == [None, None, 10.0]


def test_now_may_differ_per_row() -> None:
    nows = np.array([NOW, NOW + 1, NOW, NOW])
    assert values("ts occurs <= 7 days before now", nows) == [True, False, False, False]


@pytest.mark.parametrize("name", list(COLUMNS))
@pytest.mark.parametrize("cut", [0, 1, 3])
def test_a_sliced_or_chunked_column_reads_the_same(name: str, cut: int) -> None:
    array = COLUMNS[name]
    whole = plain(column(array))
    assert plain(column(array[cut:])) == whole[cut:]
    assert plain(column(pa.chunked_array([array[:cut], array[cut:]]))) == whole
    assert plain(column(pa.chunked_array([], array.type))) == []


def test_columns_are_not_copied() -> None:
    array = pa.array([1, 2, 3])
    assert column(array).values.ctypes.data == array.buffers()[1].address


def test_odd_arrow_columns() -> None:
    nulls = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0, None]), pa.array(["a", None]))
    assert plain(column(nulls)) == ["a", None, "a", None]
    assert plain(column(pa.nulls(2))) == [None, None]
    assert plain(column(pa.array([None, None], pa.string()))) == [None, None]
    assert plain(column(pa.array([1, None], pa.int8()))) == [1, None]
    seconds = pa.array([1, None], pa.timestamp("s"))
    assert plain(column(seconds)) == [1000, None]
    huge = pa.array([Decimal(2**63), Decimal(5)], pa.decimal128(20, 0))
    assert plain(column(huge)) == [None, 5]
    with pytest.raises(TypeError, match="scalar column"):
        column(pa.array([[1]]))


def test_a_repeated_dictionary_text_is_one_text() -> None:
    repeated = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2]), pa.array(["a", "b", "a"]))
    tree = event_expression('s = "a"')
    assert truth(vector_of(tree, lambda node: column(repeated), 3, NOW)).tolist() == [
        True,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("text", "boundary"),
    [
        ("ts occurs >= 7 days before now", [NOW + 7 * DAY, FOREVER, FOREVER, FOREVER]),
        ("ts occurs > 7 days before now", [NOW + 7 * DAY + 1, NOW + 1, FOREVER, FOREVER]),
        ("ts occurs <= 7 days before now", [NOW + 7 * DAY + 1, NOW + 1, FOREVER, FOREVER]),
        ("ts < now", [NOW + 1, FOREVER, FOREVER, FOREVER]),
        ("now occurs > 7 days after ts", [NOW + 7 * DAY + 1, NOW + 1, FOREVER, FOREVER]),
        ("ts.getMonth() = currentMonth()", [calendar.from_civil(2024, 4, 1)] * 4),
        ("i > 3", [FOREVER] * 4),
    ],
)
def test_next_boundary(text: str, boundary: list[int]) -> None:
    at = np.full(4, NOW)
    assert next_boundary(event_expression(text), leaf, at).tolist() == boundary


@pytest.mark.parametrize(
    ("text", "is_ticking"),
    [
        ("now", True),
        ("if(b, now, ts) = ts", True),
        ("now occurs after now", True),
        ("now = now", True),
        ("ts < now", False),
        ("now.getYear() = 3", False),
        ("ts occurs > 3 days before now", False),
        ("today = ts", False),
    ],
)
def test_ticking_expressions(text: str, is_ticking: bool) -> None:
    assert ticks(event_expression(text)) is is_ticking


def test_a_list_is_no_scalar() -> None:
    with pytest.raises(TypeError, match="scalar expression"):
        vector_of(parse("xEvent"), leaf, 4, NOW)


def test_constants_are_widened() -> None:
    assert plain(vector_of(Literal("x", "string"), leaf, 3, NOW)) == ["x", "x", "x"]
    assert vector_of(Literal(True, "boolean"), leaf, 0, NOW).values.shape == (0,)


def test_deeply_nested_arithmetic_is_linear() -> None:
    assert values("m + 1.5" + " + 0.25" * 80 + " > 20")[0] is True
