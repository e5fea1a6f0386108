"""Operators on single values: comparison, arithmetic, exact aggregates, with the null rules.

Theory: every function is total over values and answers None (null) or False where RULES §2 says
so; only a value of the wrong kind raises. Integers compare and combine exactly with integers; an
integer beside a double becomes a double; a decimal is exact beside an integer or a number literal,
and a double beside a double. Decimal results keep up to MAX_DECIMAL_DIGITS digits, and are null
beyond: far more than any chain of operators within a rule's size needs.
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction

from profile_actors.rules.semantics.values import (
    INT64_MAX,
    INT64_MIN,
    ExactNumber,
    Instant,
    MapValue,
    Value,
    lift,
)
from profile_actors.rules.tree.faults import Fault

MAX_DECIMAL_DIGITS = 4_096


EXACT = decimal.Context(
    prec=MAX_DECIMAL_DIGITS,
    traps=[decimal.Inexact, decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow],
)


Number = int | float | Decimal


def family(value: Value) -> str:
    """What a non-null value can be compared with: number, string, boolean, time, array, object."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float | Decimal):
        return "number"
    if isinstance(value, str):
        return "string"
    if isinstance(value, Instant):
        return "time"
    return "array" if isinstance(value, list) else "object"


def same_kind(a: Number, b: Number) -> tuple[Number, Number]:
    """Both numbers as two ints, two doubles or two decimals: what they compare and combine as."""
    if isinstance(a, Decimal) or isinstance(b, Decimal):
        x, y = _beside_decimal(a), _beside_decimal(b)
        if isinstance(x, Decimal) and isinstance(y, Decimal):
            return x, y
        return float(a), float(b)
    if isinstance(a, int) and isinstance(b, int):
        return int(a), int(b)
    return float(a), float(b)


def _beside_decimal(number: Number) -> Number:
    if isinstance(number, ExactNumber):
        return Decimal(repr(float(number)))
    return Decimal(number) if isinstance(number, int) else number


def order(a: Value, b: Value) -> int | None:
    """-1, 0 or 1 for two numbers, strings or times; None where no order is defined."""
    kind = family(a)
    if kind != family(b) or kind not in ("number", "string", "time"):
        return None
    if kind == "time":
        a, b = a.ms, b.ms
    elif kind == "number":
        a, b = same_kind(a, b)
    return int(a > b) - int(a < b)


def equal(a: Value, b: Value) -> bool:
    """``=``: false with a null; numbers are one kind, times are one kind; arrays in order."""
    if a is None or b is None or family(a) != family(b):
        return False
    if isinstance(a, list):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, MapValue | dict):
        return _equal_objects(entries(a), entries(b))
    if isinstance(a, bool):
        return bool(a == b)
    return order(a, b) == 0


def entries(value: Value) -> dict[Value, Value]:
    """An object's or map's non-null children by key."""
    if isinstance(value, MapValue):
        return dict(value.pairs.values())
    lifted = ((key, lift(item)) for key, item in value.items())
    return {key: item for key, item in lifted if item is not None}


def _equal_objects(a: dict[Value, Value], b: dict[Value, Value]) -> bool:
    return a.keys() == b.keys() and all(equal(item, b[key]) for key, item in a.items())


def compare(operator: str, a: Value, b: Value) -> bool:
    """One of COMPARISONS; false with a null. Of different types (or of types without an order)
    every comparison is false but ``!=``."""
    if a is None or b is None:
        return False
    if operator == "=":
        return equal(a, b)
    if operator == "!=":
        return not equal(a, b)
    sign = order(a, b)
    if sign is None:
        return False
    match operator:
        case "<":
            return sign < 0
        case "<=":
            return sign <= 0
        case ">":
            return sign > 0
    return sign >= 0


def number(value: Value) -> Number:
    """``value`` if it is a number. Raises Fault."""
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return value
    raise Fault(f"expected a number, got {described(value)}")


def described(value: Value) -> str:
    """A value for a message."""
    kind = {"time": "a timestamp", "array": "an array", "object": "an object"}.get(family(value))
    return kind or f"the {family(value)} {str(value)[:60]!r}"


def finite(result: Value) -> Value:
    """The result of arithmetic, or null: an integer beyond int64, an infinity, NaN."""
    if isinstance(result, int):
        return result if INT64_MIN <= result <= INT64_MAX else None
    if isinstance(result, float):
        return result if math.isfinite(result) else None
    return result if result.is_finite() else None


def arithmetic(operator: str, a: Value, b: Value) -> Value:
    """``+ - * / %``; null with a null, on overflow, division by zero, infinite or NaN results.

    ``/`` divides doubles, whatever the operands; ``%`` has the sign of the dividend. Raises Fault.
    """
    if a is None or b is None:
        return None
    x, y = number(a), number(b)
    if operator == "/":
        x, y = float(x), float(y)
        return None if y == 0 else finite(x / y)
    x, y = same_kind(x, y)
    if isinstance(x, Decimal) and isinstance(y, Decimal):
        return _decimal(operator, x, y)
    if operator == "%":
        if y == 0 or math.isinf(x):
            return None
        if isinstance(x, int) and isinstance(y, int):
            return finite(int(math.copysign(1, x)) * (abs(x) % abs(y)))
        return finite(math.fmod(x, y))
    match operator:
        case "+":
            return finite(x + y)  # type: ignore[operator]
        case "-":
            return finite(x - y)  # type: ignore[operator]
    return finite(x * y)  # type: ignore[operator]


def _decimal(operator: str, x: Decimal, y: Decimal) -> Decimal | None:
    try:
        match operator:
            case "+":
                return EXACT.add(x, y)
            case "-":
                return EXACT.subtract(x, y)
            case "*":
                return EXACT.multiply(x, y)
        return EXACT.remainder(x, y)
    except decimal.DecimalException:
        return None


def negate(a: Value) -> Value:
    """Unary minus. Raises Fault."""
    if a is None:
        return None
    value = number(a)
    return value.copy_negate() if isinstance(value, Decimal) else finite(-value)


def total(values: Iterable[Value]) -> Value:
    """The exact sum: of integers null beyond int64, of decimals exact, of doubles the correctly
    rounded one; of nothing 0. No nulls among ``values``. Raises Fault."""
    numbers = [number(value) for value in values]
    if all(isinstance(value, int) for value in numbers):
        return finite(sum(int(value) for value in numbers))
    if any(isinstance(value, Decimal) for value in numbers):
        beside = [_beside_decimal(value) for value in numbers]
        exact = [value for value in beside if isinstance(value, Decimal)]
        if len(exact) == len(beside):
            try:
                result = Decimal(0)
                for value in exact:
                    result = EXACT.add(result, value)
            except decimal.DecimalException:
                return None
            return result
    return exact_sum([float(value) for value in numbers])


def exact_sum(doubles: list[float]) -> float | None:
    """The correctly rounded exact sum of finite doubles; None if it is beyond them.

    Source: math.fsum (Shewchuk), which gives up on intermediate overflow; fractions do not.
    """
    if not all(map(math.isfinite, doubles)):
        return None
    try:
        return math.fsum(doubles)
    except OverflowError:
        try:
            return float(sum(map(Fraction, doubles)))
        except OverflowError:
            return None


def average(values: Iterable[Value]) -> Value:
    """The exact sum divided by the count, a double; of nothing null. Raises Fault."""
    numbers = list(values)
    return None if not numbers else arithmetic("/", total(numbers), len(numbers))


def extreme(values: Iterable[Value], sign: int) -> Value:
    """The largest (sign 1) or smallest (-1) value, the first of equal ones; of nothing null.
    Raises Fault for what has no order, or values of different types."""
    best: Value = None
    for value in values:
        if best is None:
            checked_order(value, value)
            best = value
        elif checked_order(value, best) == sign:
            best = value
    return best


def checked_order(a: Value, b: Value) -> int:
    """``order``, for what must have one. Raises Fault."""
    sign = order(a, b)
    if sign is None:
        raise Fault(
            "expected numbers, strings or timestamps of one type to put in order,"
            f" got {described(a)}" + ("" if a is b else f" and {described(b)}")
        )
    return sign


def bucket(value: Value) -> object:
    """A hashable that equal values share; unequal ones may share it too."""
    kind = family(value)
    if kind == "number":
        return kind, float(value)
    if kind == "time":
        return kind, value.ms
    return (kind, value) if kind in ("string", "boolean") else kind


def distinct(values: Iterable[Value]) -> list[Value]:
    """The values without those equal to an earlier one."""
    seen: dict[object, list[Value]] = {}
    kept: list[Value] = []
    for value in values:
        others = seen.setdefault(bucket(value), [])
        if not any(equal(value, other) for other in others):
            others.append(value)
            kept.append(value)
    return kept


class Members:
    """A set under ``=``, for ``in`` and the set functions."""

    def __init__(self, values: Iterable[Value]) -> None:
        self.buckets: dict[object, list[Value]] = {}
        for value in values:
            self.buckets.setdefault(bucket(value), []).append(value)

    def __contains__(self, value: Value) -> bool:
        if value is None:
            return False
        return any(equal(value, other) for other in self.buckets.get(bucket(value), ()))
