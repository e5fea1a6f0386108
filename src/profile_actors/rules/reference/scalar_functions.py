"""Functions of single values, as the reference evaluates them."""

from __future__ import annotations

from collections.abc import Callable

from profile_actors.definitions.field_types import FieldType
from profile_actors.rules.reference.moving_values import Horizon
from profile_actors.rules.semantics import scalar_operators, string_tests
from profile_actors.rules.semantics.values import (
    ExactNumber,
    Instant,
    MapValue,
    Value,
    held,
    lift,
)
from profile_actors.rules.tree.faults import Fault


def time(value: Value, at: int | None = None) -> Instant:
    """``value`` if it is a timestamp or date. Raises Fault."""
    if isinstance(value, Instant):
        return value
    raise Fault(f"expected a timestamp, got {scalar_operators.described(value)}", at)


def text(value: Value) -> str:
    """``value`` if it is a string. Raises Fault."""
    if isinstance(value, str):
        return value
    raise Fault(f"expected a string, got {scalar_operators.described(value)}")


def child(base: Value, name: str, type_: FieldType | None) -> Value:
    """``base.name``: of an object its child, of a map its value, of an array all children's."""
    if isinstance(base, dict):
        return lift(held(base, name), type_)
    if isinstance(base, MapValue):
        return base.get(name)
    if not isinstance(base, list):
        return None
    item_type = None if type_ is None or type_.kind != "array" else type_.item
    found: list[Value] = []
    for element in base:
        if isinstance(element, dict):
            raw = held(element, name)
            is_many = isinstance(raw, list | tuple) and item_type is not None
            value = lift(raw, FieldType("array", item=item_type) if is_many else item_type)
        else:
            value = child(element, name, type_)
        if isinstance(value, list):
            found.extend(_flat(value))
        elif value is not None:
            found.append(value)
    return found


def _flat(values: list[Value]) -> list[Value]:
    flat: list[Value] = []
    for value in values:
        flat.extend(_flat(value) if isinstance(value, list) else [value])
    return flat


def _inexact(value: Value) -> Value:
    """A number literal is an exact decimal only as an operand, in a list that is searched, and
    under the name that let gives it; anywhere else it is the double its type says."""
    return float(value) if isinstance(value, ExactNumber) else value


def _string_test(function: str, values: list[Value]) -> bool:
    """False with a null operand; the optional third is the case-sensitive flag."""
    for value in values[:2]:
        if value is not None:
            text(value)
    sensitive = values[2] if len(values) == 3 else True
    if sensitive is not None and not isinstance(sensitive, bool):
        raise Fault(
            f"expected true or false (case-sensitive), got {scalar_operators.described(sensitive)}"
        )
    if values[0] is None or values[1] is None or sensitive is None:
        return False
    return string_tests.test(function, values[0], values[1], sensitive)


def _pattern_test(test: Callable[[str, str], bool], values: list[Value]) -> bool:
    if values[0] is None or values[1] is None:
        return False
    return bool(test(text(values[0]), text(values[1])))


def _regex_group(values: list[Value]) -> Value:
    if values[0] is None:
        return None
    return string_tests.regex_group(text(values[0]), values[1], values[2])


_SIMPLE: dict[str, Callable[[Horizon, list[Value]], Value]] = {
    "neg": lambda horizon, values: horizon.computed("neg", scalar_operators.negate, values),
    "isnull": lambda _, values: values[0] is None,
    "isnotnull": lambda _, values: values[0] is not None,
    "like": lambda _, values: _pattern_test(string_tests.like, values),
    "matches": lambda _, values: _pattern_test(string_tests.matches, values),
    "regexgroup": lambda _, values: _regex_group(values),
}
