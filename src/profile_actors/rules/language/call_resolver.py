"""Calls in a parse tree: which function a name is, with which arguments, and which names they bind.

Theory: functions, methods and filters are told apart by the grammar; this module checks the name
and the number of arguments against ``functions``, so that an error can name the nearest function,
and binds what a lambda declares. What stands inside is resolved by whoever walks the tree.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lark import Tree

from profile_actors.errors import RuleError
from profile_actors.rules.language.bound_names import (
    Around,
    demand_arity,
    offset,
    parameters,
    pieces,
)
from profile_actors.rules.language.functions import EACH, FUNCTIONS, METHODS, spelling
from profile_actors.rules.semantics import string_tests
from profile_actors.rules.semantics.calendar import from_civil
from profile_actors.rules.tree.faults import Fault, nearest
from profile_actors.rules.tree.nodes import Call, Each, InSegment, Literal, Node

Resolve = Callable[[Tree[Any], Around], Node]
"""The walk that calls are part of: the node of an inner tree."""


def function(tree: Tree[Any], around: Around, node: Resolve) -> Node:
    """``name(…)``, a function that stands alone."""
    token, arguments = tree.children
    name, at = str(token).lower(), offset(tree)
    args = [] if arguments is None else arguments.children
    if name not in FUNCTIONS:
        if name == "mapentry":
            raise Fault("mapEntry stands only as m.map((K, G) => mapEntry(K, …))", at)
        if name in METHODS or name in EACH:
            raise Fault(f"{spelling(name)} is called on a value: x.{spelling(name)}(…)", at)
        known = [spelling(other) for other in (*FUNCTIONS, *METHODS, *EACH, "CHAIN")]
        raise Fault(f"unknown function {str(token)[:60]!r}{nearest(str(token), known)}", at)
    demand_arity(name, len(args), FUNCTIONS[name], at)
    made = tuple(_argument(arg, around, name, node) for arg in args)
    if name == "date":
        return _date(made, at)
    if name == "insegment":
        if not isinstance(made[0], Literal) or made[0].kind != "string":
            raise Fault('expected a segment\'s name as text: inSegment("name")', made[0].at)
        return InSegment(str(made[0].value), at=at)
    return Call(name, made, at=at)


def _argument(tree: Tree[Any], around: Around, function: str, node: Resolve) -> Node:
    if tree.data == "lambda":
        raise Fault(f"{spelling(function)} takes no lambda", offset(tree))
    return node(tree, around)


def _date(args: tuple[Node, ...], at: int) -> Node:
    numbers = [arg.value for arg in args if isinstance(arg, Literal) and arg.kind == "integer"]
    if len(numbers) != len(args) or len(args) not in (3, 6):
        raise Fault("expected date(year, month, day) or date(y, m, d, h, m, s) in digits", at)
    value = from_civil(*(int(number) for number in numbers))
    if value is None:
        raise Fault("expected a day and time that exist, in the years 1 to 9999", at)
    return Literal(value, "date" if len(args) == 3 else "timestamp", at=at)


def filtered(tree: Tree[Any], around: Around, node: Resolve) -> Node:
    """``list[condition]``, which opens a level."""
    source, condition = tree.children
    made = node(source, around)
    return Each("filter", made, node(condition, around.deeper()), at=offset(tree))


def method(tree: Tree[Any], around: Around, node: Resolve) -> Node:
    """``value.name(…)``: a function of a value, or of an expression per element."""
    receiver, token, arguments = pieces(tree)
    name, at = str(token).lower(), int(token.start_pos or 0)
    args: list[Tree[Any]] = [] if arguments is None else arguments.children
    if name in EACH:
        demand_arity(name, len(args), EACH[name], at)
        if args:
            return _each(name, node(receiver, around), args, around, offset(tree), node)
    elif name in METHODS:
        demand_arity(name, len(args), METHODS[name], at)
    else:
        known = [spelling(other) for other in (*METHODS, *EACH)]
        raise Fault(f"unknown function {str(token)[:60]!r}{nearest(str(token), known)}", at)
    made = [node(receiver, around), *(_argument(arg, around, name, node) for arg in args)]
    if name in ("matches", "regexgroup"):
        _pattern(name, made)
    return Call(name, tuple(made), at=offset(tree))


def _pattern(name: str, args: list[Node]) -> None:
    """Regular expressions are checked when the rule is defined, hence literal."""
    pattern = args[1]
    if not isinstance(pattern, Literal) or pattern.kind != "string":
        raise Fault(f"expected a text literal as the pattern of {spelling(name)}", pattern.at)
    try:
        string_tests.compile_regex(str(pattern.value))
    except RuleError as error:
        raise Fault(error.message, pattern.at) from None
    if name == "regexgroup" and not (isinstance(args[2], Literal) and args[2].kind == "integer"):
        raise Fault("expected a whole number as the group of regexGroup", args[2].at)


def _each(
    name: str, source: Node, args: list[Tree[Any]], around: Around, at: int, node: Resolve
) -> Node:
    first, rest = args[0], args[1:]
    extra = tuple(_argument(arg, around, name, node) for arg in rest)
    if first.data != "lambda":
        return Each(name, source, node(first, around.deeper()), (), extra, at=at)
    names = parameters(first.children[0])
    inner = around.bind_each(names)
    body = first.children[1]
    if len(names) == 1:
        return Each(name, source, node(body, inner), names, extra, at=at)
    entry = body.children if body.data == "function" else ()
    if name != "map" or not entry or str(entry[0]).lower() != "mapentry":
        raise Fault("two parameters stand only in m.map((K, G) => mapEntry(K, …))", offset(first))
    parts = [] if entry[1] is None else entry[1].children
    demand_arity("mapentry", len(parts), (2, 2), offset(body))
    key, value = (_argument(part, inner, "mapentry", node) for part in parts)
    return Each("mapentries", source, key, names, (value,), at=at)
