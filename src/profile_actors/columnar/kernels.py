"""Column kernels: comparison, arithmetic, membership, choice, with the language's null rules.

Theory: a comparison with a null is false, so its result has no nulls; arithmetic that overflows,
divides by zero or leaves the finite doubles is null. Strings compare through their dictionaries
(a large one, ``Texts``, by code or after ``compact``).
Decimals come as unscaled integers already brought to one scale; what does not fit int64 after
scaling is computed with Python integers (object arrays), slowly and exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from profile_actors.columnar.vectors import Array, Texts, Vector, both, compact, joined, same_texts

INT64_MAX = int(np.iinfo(np.int64).max)


INT64_MIN = int(np.iinfo(np.int64).min)


COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "=": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}


def compare(operator: str, a: Vector, b: Vector) -> Vector:
    """Null-free booleans: a ``operator`` b, false where either is null.

    Both strings, or both of one family. An integer column against a double compares as doubles.
    Cost: one pass; strings one call per distinct text besides.
    """
    if a.dictionary is not None and b.dictionary is not None:
        values = _compare_texts(operator, a, b)
    else:
        x, y = a.values, b.values
        if x.dtype != y.dtype and np.float64 in (x.dtype, y.dtype):
            x, y = x.astype(np.float64), y.astype(np.float64)
        values = np.asarray(COMPARISONS[operator](x, y), np.bool_)
        if x.dtype == np.bool_ and operator not in ("=", "!="):
            values = np.zeros_like(values)  # booleans have no order
    valid = both(a.valid, b.valid)
    return Vector(values if valid is None else values & valid)


def _compare_texts(operator: str, a: Vector, b: Vector) -> Array:
    assert a.dictionary is not None
    assert b.dictionary is not None
    is_equality = operator in ("=", "!=")
    if is_equality and same_texts(a, b):
        return np.asarray(COMPARISONS[operator](a.values, b.values), np.bool_)
    b = compact(b)
    assert b.dictionary is not None
    if len(b.dictionary) == 1 and is_equality:
        equal = _codes_equal(a, b.dictionary[0])
        return equal if operator == "=" else ~equal
    a = compact(a)
    assert a.dictionary is not None
    if len(b.dictionary) == 1:
        text = b.dictionary[0]
        test = COMPARISONS_OF_TEXT[operator]
        return np.array([test(t, text) for t in a.dictionary], np.bool_).take(a.values)
    order = {text: rank for rank, text in enumerate(sorted({*a.dictionary, *b.dictionary}))}
    x = np.array([order[text] for text in a.dictionary], np.int32).take(a.values)
    y = np.array([order[text] for text in b.dictionary], np.int32).take(b.values)
    return np.asarray(COMPARISONS[operator](x, y), np.bool_)


COMPARISONS_OF_TEXT: dict[str, Callable[[str, str], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def _codes_equal(a: Vector, text: str) -> Array:
    """Compare codes, not texts: about half a nanosecond per row."""
    assert a.dictionary is not None
    count = a.dictionary.count(text)
    if count == 1:
        return np.asarray(a.values == np.int32(a.dictionary.index(text)))
    if count == 0:
        return np.zeros(a.values.shape, np.bool_)
    return np.array([t == text for t in a.dictionary], np.bool_).take(a.values)


def member(a: Vector, texts: Sequence[str]) -> Array:
    """Which rows' texts are among ``texts``; nulls are not looked at."""
    assert a.dictionary is not None
    if isinstance(a.dictionary, Texts):
        codes = [a.dictionary.index(text) for text in texts if text in a.dictionary]
        return np.asarray(np.isin(a.values, np.array(codes, np.int32)))
    wanted = set(texts)
    return np.array([text in wanted for text in a.dictionary], np.bool_).take(a.values)


def per_text(a: Vector, test: Callable[[str], bool]) -> Vector:
    """Apply a scalar string test once per distinct text; false where null."""
    a = compact(a)
    assert a.dictionary is not None
    values = np.array([test(text) for text in a.dictionary], np.bool_).take(a.values)
    return Vector(values if a.valid is None else values & a.valid)


def per_pair(a: Vector, b: Vector, test: Callable[[str, str], bool]) -> Vector:
    """Apply a scalar string test once per distinct pair of texts; false where either is null."""
    a, b = compact(a), compact(b)
    assert a.dictionary is not None
    assert b.dictionary is not None
    pairs = np.asarray(a.values.astype(np.int64) * len(b.dictionary) + b.values)
    distinct, back = np.unique(pairs, return_inverse=True)
    results = np.array(
        [test(a.dictionary[i], b.dictionary[j]) for i, j in (_split(p, b) for p in distinct)],
        np.bool_,
    )
    values = results.take(back).reshape(pairs.shape)
    valid = both(a.valid, b.valid)
    return Vector(values if valid is None else values & valid)


def _split(pair: Any, b: Vector) -> tuple[int, int]:
    assert b.dictionary is not None
    return divmod(int(pair), len(b.dictionary))


def arithmetic(operator: str, a: Vector, b: Vector) -> Vector:
    """a ``operator`` b for ``+ - * / %``: int64 when both are and it is not ``/``, else float64.

    Null on overflow, division by zero, or an infinite or undefined result. ``%`` takes the sign of
    the dividend.
    """
    valid = both(a.valid, b.valid)
    x, y = a.values, b.values
    if x.dtype == y.dtype == np.int64:
        if operator == "/":
            values, good = _divide_integers(x, y)
        else:
            values, good = _integers(operator, x, y)
    else:
        with np.errstate(all="ignore"):
            values = _DOUBLES[operator](x.astype(np.float64), y.astype(np.float64))
        good = np.isfinite(values)
    if not good.all():
        valid = both(valid, good)
        values = np.where(good, values, values.dtype.type(0))
    return Vector(np.asarray(values), valid)


_DOUBLES: dict[str, Callable[[Any, Any], Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "%": np.fmod,
}


def _integers(operator: str, x: Array, y: Array) -> tuple[Array, Array]:
    with np.errstate(all="ignore"):
        if operator == "+":
            values = np.add(x, y)
            return values, ((x ^ values) & (y ^ values)) >= 0
        if operator == "-":
            values = np.subtract(x, y)
            return values, ((x ^ y) & (x ^ values)) >= 0
        if operator == "*":
            values = np.multiply(x, y)
            wide = np.multiply(x.astype(np.float64), y.astype(np.float64))
            if np.all(np.abs(wide) < 2.0**62):
                return values, np.ones(values.shape, np.bool_)
            exact = np.multiply(x.astype(object), y.astype(object))
            return values, np.asarray((exact <= INT64_MAX) & (exact >= INT64_MIN), np.bool_)
        divisor = np.where((y == 0) | (y == -1), np.int64(1), y)  # INT64_MIN % -1 traps in C
        return np.fmod(x, divisor), y != 0


def _divide_integers(x: Array, y: Array) -> tuple[Array, Array]:
    """Doubles divided; the two integers become doubles first, as everywhere they mix."""
    with np.errstate(all="ignore"):
        values = np.divide(x.astype(np.float64), y.astype(np.float64))
    return values, np.isfinite(values)


def exact(operator: str, a: Vector, b: Vector) -> Vector:
    """``+ - * %`` of unscaled decimals of one scale (``*``: any): int64 or Python integers."""
    x, y = a.values, b.values
    valid = both(a.valid, b.valid)
    if x.dtype == y.dtype == np.int64:
        values, good = _integers(operator, x, y)
        if good.all() or operator == "%":
            return Vector(values, valid if good.all() else both(valid, good))
    x, y = x.astype(object), y.astype(object)
    if operator == "%":
        good = np.asarray(y != 0, np.bool_)
        divisor = _objects(np.where(good, y, _objects(1)))
        remainder = _objects(_objects(np.abs(x)) % _objects(np.abs(divisor)))
        signed = np.where(np.asarray(x < 0, np.bool_), _objects(-remainder), remainder)
        return Vector(signed, both(valid, good))
    operation = {"+": np.add, "-": np.subtract, "*": np.multiply}[operator]
    return Vector(_objects(operation(x, y)), valid)


def _objects(values: Any) -> Array:
    """An array of Python integers; NumPy turns results of shape () into bare numbers."""
    return np.asarray(values, object)


def negate(a: Vector) -> Vector:
    """-a; null for the smallest int64."""
    if a.values.dtype == object:
        return Vector(_objects(-a.values), a.valid)
    if a.values.dtype != np.int64:
        return Vector(np.asarray(-a.values), a.valid)
    good = a.values != INT64_MIN
    values = -np.where(good, a.values, np.int64(0))
    return Vector(np.asarray(values), a.valid if good.all() else both(a.valid, good))


def choose(condition: Array, a: Vector, b: Vector) -> Vector:
    """a where condition else b, nulls included. Integer and double mix to double."""
    x, y, dictionary = joined(a, b)
    valid: Array | None = None
    if a.valid is not None or b.valid is not None:
        yes = np.True_ if a.valid is None else a.valid
        no = np.True_ if b.valid is None else b.valid
        valid = np.asarray(np.where(condition, yes, no), np.bool_)
    return Vector(np.asarray(np.where(condition, x, y)), valid, dictionary)


def rescale(values: Array, digits: int) -> Array:
    """values · 10**digits exactly: int64 if that fits, else an object array of Python integers."""
    if digits == 0:
        return values
    factor = 10**digits
    if values.dtype != object:
        limit = INT64_MAX // factor
        if not values.size or (values.min() >= -limit and values.max() <= limit):
            return np.asarray(values * np.int64(factor))
        values = values.astype(object)
    return _objects(values * factor)


def to_double(values: Array, scale: int) -> Array:
    """Unscaled decimals as the nearest doubles."""
    if values.dtype != object and scale <= 22:  # both operands exact: one correct rounding
        doubles = values.astype(np.float64)
        if not values.size or np.abs(doubles).max() < 2.0**53:
            return np.asarray(doubles / 10.0**scale)
    exact = [_nearest(int(value), scale) for value in np.asarray(values).reshape(-1)]
    return np.array(exact, np.float64).reshape(values.shape)


def _nearest(unscaled: int, scale: int) -> float:
    return float(unscaled / 10**scale)


def fit(values: Array, valid: Array | None) -> Vector:
    """Python integers back to int64; null where they do not fit."""
    if values.dtype != object:
        return Vector(values, valid)
    good = np.asarray((values <= INT64_MAX) & (values >= INT64_MIN), np.bool_)
    narrow = _objects(np.where(good, values, _objects(0))).astype(np.int64)
    return Vector(narrow, valid if good.all() else both(valid, good))
