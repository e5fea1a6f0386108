"""Functions of arrays and maps, all of which find elements by ``=`` (RULES §3).

Theory: each takes its already evaluated arguments, null standing for the empty array or map where
RULES §2 says so, and tells the horizon which values it compares with which.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cmp_to_key

from profile_actors.rules.reference.moving_values import Horizon
from profile_actors.rules.semantics import scalar_operators
from profile_actors.rules.semantics.scalar_operators import Members
from profile_actors.rules.semantics.values import ExactNumber, Instant, MapValue, Value
from profile_actors.rules.tree.faults import Fault


def array(value: Value) -> list[Value]:
    """An array, null being the empty one. Raises Fault."""
    if value is None:
        return []
    if isinstance(value, list):
        return value
    raise Fault(f"expected an array, got {scalar_operators.described(value)}")


def map_items(value: Value) -> list[tuple[Value, Value]]:
    """A map's pairs by key; null is the empty map, and an object is a map of its children."""
    if value is None:
        return []
    if isinstance(value, MapValue):
        return list(value.items())
    if isinstance(value, dict):
        return sorted(scalar_operators.entries(value).items())
    raise Fault(f"expected a map, got {scalar_operators.described(value)}")


def checked_key(key: Value) -> Value:
    """A map key: a string, integer, boolean or timestamp, or null. Raises Fault."""
    if key is None or isinstance(key, str | int | Instant):
        return key
    raise Fault(
        "expected a string, integer, boolean or timestamp as a key, got"
        f" {scalar_operators.described(key)}"
    )


def ordered(
    pairs: list[tuple[Value, Value]], count: Value, sign: int, horizon: Horizon
) -> list[Value]:
    """The elements of the first ``count`` (element, key) pairs, highest keys first for sign 1;
    equal keys stay in order. Raises Fault."""
    horizon.among([key for _, key in pairs])
    if count is not None and (not isinstance(count, int) or isinstance(count, bool)):
        raise Fault(f"expected a whole number of elements, got {scalar_operators.described(count)}")
    for _, key in pairs:
        scalar_operators.checked_order(key, pairs[0][1])

    def compared(a: tuple[Value, Value], b: tuple[Value, Value]) -> int:
        return -sign * scalar_operators.checked_order(a[1], b[1])

    chosen = sorted(pairs, key=cmp_to_key(compared))[: max(int(horizon.fix(count) or 0), 0)]
    return [element for element, _ in chosen]


def grouped(pairs: list[tuple[Value, Value]], horizon: Horizon) -> MapValue:
    """The elements of (element, key) pairs by key, each group in order. Raises Fault."""
    horizon.among([key for _, key in pairs])
    made = MapValue()
    for element, key in pairs:
        group = made.get(checked_key(key))
        if group is None:
            made.put(key, [element])
        else:
            group.append(element)
    return made


def _contained(values: list[Value], horizon: Horizon, wanted: bool) -> bool:
    x, items = values
    if x is None or items is None:
        return False
    horizon.pair([x], array(items))
    return (x in Members(array(items))) is wanted


def _with_both(
    of: Callable[[list[Value], list[Value]], Value],
) -> Callable[[list[Value], Horizon], Value]:
    def function(values: list[Value], horizon: Horizon) -> Value:
        a, b = array(values[0]), array(values[1])
        horizon.pair(a, b)
        return of(a, b)

    return function


def _subset(a: list[Value], b: list[Value]) -> bool:
    members = Members(b)
    return all(value in members for value in a)


def _intersection(a: list[Value], b: list[Value]) -> list[Value]:
    members = Members(b)
    return [value for value in a if value in members]


def _includes(values: list[Value], horizon: Horizon) -> bool:
    a, x = array(values[0]), values[1]
    horizon.pair(a, [x])
    return x in Members(a)


def _distinct(values: list[Value], horizon: Horizon) -> list[Value]:
    horizon.among(array(values[0]))
    return scalar_operators.distinct(array(values[0]))


def _get(values: list[Value], horizon: Horizon) -> Value:
    pairs = map_items(values[0])
    if values[1] is None:
        return None
    horizon.pair([key for key, _ in pairs], [values[1]])
    for key, value in pairs:
        if scalar_operators.equal(key, values[1]):
            return value
    return None


def _head(value: Value) -> Value:
    first = next(iter(array(value)), None)
    return float(first) if isinstance(first, ExactNumber) else first


FUNCTIONS: dict[str, Callable[[list[Value], Horizon], Value]] = {
    "in": lambda values, horizon: _contained(values, horizon, True),
    "notin": lambda values, horizon: _contained(values, horizon, False),
    "intersects": _with_both(lambda a, b: bool(_intersection(a, b))),
    "intersection": _with_both(_intersection),
    "subsetof": _with_both(_subset),
    "supersetof": _with_both(lambda a, b: _subset(b, a)),
    "includes": _includes,
    "distinct": _distinct,
    "head": lambda values, _: _head(values[0]),
    "get": _get,
    "keys": lambda values, _: [key for key, _ in map_items(values[0])],
    "values": lambda values, _: [value for _, value in map_items(values[0])],
}
