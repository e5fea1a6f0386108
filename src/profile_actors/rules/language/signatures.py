"""What each strict function demands of its arguments' types, and what it gives (RULES §3).

Theory: a demand is a function that raises where the type is known and wrong; an unknown type (None)
meets every demand, and the evaluator judges the value. ``CALLS`` is the whole table; functions that
evaluate an expression per element are the checker's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from profile_actors.rules.language.types import (
    Type,
    array_of,
    comparable,
    described,
    family,
    key_of,
)
from profile_actors.rules.tree.constants import BOOLEAN, DOUBLE, INTEGER, STRING
from profile_actors.rules.tree.faults import Fault
from profile_actors.rules.tree.nodes import Node


def wrong(node: Node, expected: str) -> Fault:
    return Fault(f"expected {expected}, got {described(node.type)}", node.at)


def demand(node: Node, family_: str, article: str) -> None:
    if node.type is not None and family(node.type) != family_:
        raise wrong(node, article)


def condition(node: Node) -> None:
    if node.type is not None and node.type.kind not in ("boolean", "array"):
        raise wrong(node, "a condition")


def number(node: Node) -> None:
    demand(node, "number", "a number")


def string(node: Node) -> None:
    demand(node, "string", "a string")


def time(node: Node) -> None:
    demand(node, "time", "a timestamp or date")


def ordered(node: Node) -> None:
    if node.type is not None and family(node.type) not in ("number", "string", "time"):
        raise wrong(node, "a number, string or timestamp, which have an order")


def map_key(node: Node) -> None:
    if node.type is not None and node.type.kind in ("double", "decimal", "array", "map", "object"):
        raise wrong(node, "a string, integer, boolean or timestamp as a key")


def element_of(node: Node) -> Type:
    """The element type of an array."""
    demand(node, "array", "an array")
    return None if node.type is None else node.type.item


def map_types(node: Node) -> tuple[Type, Type]:
    """Key and value types of a map."""
    demand(node, "map", "a map")
    return (None, None) if node.type is None else (key_of(node.type), node.type.item)


def same(a: Type, b: Type, at: int) -> None:
    """The two can be compared by ``=``."""
    if not comparable(a, b):
        hint = ""
        if a is not None and b is not None and "array" in (a.kind, b.kind) and a.kind != b.kind:
            hint = "; use includes, intersects or exists for arrays"
        raise Fault(f"cannot compare {described(a)} with {described(b)}{hint}", at)


def aggregate(function: str, value: Node) -> Type:
    """The type of an aggregate over values like ``value``."""
    if function == "count":
        return INTEGER
    if function in ("min", "max"):
        ordered(value)
        return value.type
    number(value)
    return DOUBLE if function == "average" else value.type


def _plain_aggregate(function: str, args: tuple[Node, ...]) -> Type:
    element = element_of(args[0])
    return aggregate(function, replace(args[0], type=element))


def _set(args: tuple[Node, ...]) -> None:
    same(array_of(element_of(args[0])), array_of(element_of(args[1])), args[1].at)


def _boolean_set(args: tuple[Node, ...]) -> Type:
    _set(args)
    return BOOLEAN


def _intersection(args: tuple[Node, ...]) -> Type:
    _set(args)
    return args[0].type


def _contained(args: tuple[Node, ...]) -> Type:
    same(args[0].type, element_of(args[1]), args[0].at)
    return BOOLEAN


def _includes(args: tuple[Node, ...]) -> Type:
    same(element_of(args[0]), args[1].type, args[1].at)
    return BOOLEAN


def _distinct(args: tuple[Node, ...]) -> Type:
    element_of(args[0])
    return args[0].type


def _get(args: tuple[Node, ...]) -> Type:
    key, item = map_types(args[0])
    same(key, args[1].type, args[1].at)
    return item


def _pattern(args: tuple[Node, ...]) -> Type:
    string(args[0])
    string(args[1])
    return BOOLEAN


def _group(args: tuple[Node, ...]) -> Type:
    string(args[0])
    return STRING


def _negated(args: tuple[Node, ...]) -> Type:
    number(args[0])
    return args[0].type


def _part(args: tuple[Node, ...]) -> Type:
    for arg in args:
        time(arg)
    return INTEGER


def _aggregate_call(function: str) -> Callable[[tuple[Node, ...]], Type]:
    return lambda args: _plain_aggregate(function, args)


CALLS: dict[str, Callable[[tuple[Node, ...]], Type]] = {
    **{name: _aggregate_call(name) for name in ("count", "sum", "average", "min", "max")},
    **dict.fromkeys(("intersects", "subsetof", "supersetof"), _boolean_set),
    **dict.fromkeys(("in", "notin"), _contained),
    **dict.fromkeys(("like", "matches"), _pattern),
    **dict.fromkeys(("isnull", "isnotnull"), lambda args: BOOLEAN),
    **dict.fromkeys(("getyear", "getmonth", "getdayofmonth"), _part),
    **dict.fromkeys(("currentyear", "currentmonth", "currentdayofmonth"), _part),
    "intersection": _intersection,
    "includes": _includes,
    "distinct": _distinct,
    "head": lambda args: element_of(args[0]),
    "get": _get,
    "keys": lambda args: array_of(map_types(args[0])[0]),
    "values": lambda args: array_of(map_types(args[0])[1]),
    "regexgroup": _group,
    "neg": _negated,
}
