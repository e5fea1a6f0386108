"""Operators on single values, where the golden cases do not reach: extremes and mixtures."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profile_actors.errors import RuleError
from profile_actors.rules.semantics import scalar_operators, string_tests
from profile_actors.rules.semantics.values import (
    INT64_MAX,
    INT64_MIN,
    Day,
    ExactNumber,
    Instant,
    MapValue,
    lift,
    plain,
)
from profile_actors.rules.tree import comparisons
from profile_actors.rules.tree.faults import Fault

int64s = st.integers(INT64_MIN, INT64_MAX)
doubles = st.floats(allow_nan=False, allow_infinity=False)
numbers = int64s | doubles | st.decimals(allow_nan=False, allow_infinity=False, places=3)


@given(numbers, numbers)
def test_comparisons_agree_with_each_other(a: object, b: object) -> None:
    found = {op: scalar_operators.compare(op, a, b) for op in comparisons.COMPARISONS}
    assert [found["<"], found["="], found[">"]].count(True) == 1
    assert found["<="] is (found["<"] or found["="])
    assert found[">="] is (found[">"] or found["="])
    assert found["!="] is not found["="]
    assert scalar_operators.compare(">", b, a) is found["<"]


@given(st.sampled_from("+-*/%"), numbers, numbers)
def test_arithmetic_is_total_and_in_range(operator: str, a: object, b: object) -> None:
    result = scalar_operators.arithmetic(operator, a, b)
    if isinstance(result, int):
        assert INT64_MIN <= result <= INT64_MAX
    if isinstance(result, float):
        assert math.isfinite(result)
    if operator == "/":
        assert result is None or isinstance(result, float)


@given(int64s, int64s)
def test_integers_are_exact_or_null(a: int, b: int) -> None:
    for operator, exact in (("+", a + b), ("-", a - b), ("*", a * b)):
        expected = exact if INT64_MIN <= exact <= INT64_MAX else None
        assert scalar_operators.arithmetic(operator, a, b) == expected
    if b:
        remainder = scalar_operators.arithmetic("%", a, b)
        assert remainder == a - b * int(Fraction(a, b))
        assert remainder == 0 or (remainder < 0) == (a < 0)


@given(st.lists(doubles, max_size=8))
def test_sums_are_the_rounded_exact_sums(values: list[float]) -> None:
    exact = sum(map(Fraction, values), Fraction(0))
    try:
        expected: float | None = float(exact)
    except OverflowError:
        expected = None
    assert scalar_operators.exact_sum(values) == expected


def test_literals_are_exact_beside_decimals_only() -> None:
    literal = ExactNumber(0.1)
    assert scalar_operators.arithmetic("+", Decimal("0.2"), literal) == Decimal("0.3")
    assert scalar_operators.arithmetic("+", Decimal("0.2"), 0.1) == 0.1 + 0.2
    assert type(scalar_operators.arithmetic("+", literal, 0.2)) is float
    assert scalar_operators.equal(Decimal("0.1"), literal)


def test_decimals_beyond_the_limit_are_null() -> None:
    wide = Decimal("1" + "0" * 2_998 + "7")
    assert scalar_operators.arithmetic("*", wide, wide) is None
    assert scalar_operators.arithmetic("+", wide, 1) == Decimal("1" + "0" * 2_998 + "8")


@pytest.mark.parametrize("value", ["a", True, [1], {}, Instant(0)])
def test_arithmetic_is_for_numbers(value: object) -> None:
    for operator in "+-*/%":
        with pytest.raises(Fault, match="expected a number"):
            scalar_operators.arithmetic(operator, 1, value)


def test_objects_and_maps_are_equal_by_their_children() -> None:
    made = MapValue()
    made.put("a", 1)
    made.put("b", None)
    assert scalar_operators.equal(made, {"a": 1.0, "c": None})
    assert not scalar_operators.equal(made, {"a": 2})
    assert not scalar_operators.equal({}, [])


def test_members_are_found_by_equality() -> None:
    members = scalar_operators.Members([1, "1", Instant(5), [1]])
    assert 1.0 in members
    assert Decimal("1.00") in members
    assert Day(5) in members
    assert [1.0] in members
    assert True not in members
    assert None not in members
    assert 2 not in members


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (float("nan"), None),
        (float("inf"), None),
        (2**63, None),
        ([1, None, [None, 2]], [1, [2]]),
        ({"a": None, "b": {"c": [None]}}, {"b": {"c": []}}),
        (Decimal("NaN"), None),
        ((1, 2), [1, 2]),
    ],
)
def test_documents_become_values_without_nulls(raw: object, value: object) -> None:
    assert plain(lift(raw)) == value


def test_documents_hold_plain_values_only() -> None:
    with pytest.raises(Fault, match="plain values"):
        lift({1, 2})


@given(st.text(max_size=12), st.text(alphabet="ab%_\n.", max_size=6))
def test_like_is_a_match_of_the_whole_text(text: str, pattern: str) -> None:
    def matches(t: str, p: str) -> bool:
        if not p:
            return not t
        if p[0] == "%":
            return any(matches(t[i:], p[1:]) for i in range(len(t) + 1))
        return bool(t) and p[0] in ("_", t[0]) and matches(t[1:], p[1:])

    assert string_tests.like(text, pattern) is matches(text, pattern)


def test_hostile_patterns_stay_linear() -> None:
    assert not string_tests.like("a" * 2_000, "%a" * 500 + "b")
    assert not string_tests.matches("a" * 50_000, "^(a|aa)+$b")
    with pytest.raises(RuleError, match="RE2"):
        string_tests.compile_regex("(?<=a)b")
    assert string_tests.regex_group("abc", "b", 7) is None
