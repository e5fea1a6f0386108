"""Canonical forms: rules that say the same thing in another order become equal trees.

Theory: equal trees are one operator. Operands of commutative functions are sorted by their text, a
literal stands on the right of a comparison, lists are sorted and free of repeats, durations use one
unit. Each rewrite keeps the value for every input, nulls included; ``not (a = b)`` therefore stays,
since ``a != b`` differs where an operand is null.
"""

from __future__ import annotations

from dataclasses import replace

from profile_actors.columnar.time_units import EXACT_MS, MONTHS
from profile_actors.rules.language.unparse import unparse
from profile_actors.rules.semantics.string_tests import TEXT_TESTS
from profile_actors.rules.tree.comparisons import COMPARISONS, MIRRORED
from profile_actors.rules.tree.constants import FALSE, TRUE
from profile_actors.rules.tree.nodes import Call, Items, Literal, Node, Occurs
from profile_actors.rules.tree.walks import parts, rebuild

_TESTS = {*COMPARISONS, *TEXT_TESTS, "and", "or", "not", "in", "notin", "isnull", "isnotnull"}


def never_null(node: Node) -> bool:
    """Whether the node is a boolean that cannot be null."""
    if isinstance(node, Call):
        return node.function in _TESTS
    return isinstance(node, Occurs | Literal)


def truth_of(node: Node) -> Node:
    """The node as a condition: null reads as false."""
    return node if never_null(node) else Call("and", (node,), at=node.at, type=node.type)


def normal(node: Node) -> Node:
    """The canonical form of a scalar expression over leaves. Cost: O(n log n) texts."""
    children = [normal(part) for part in parts(node)]
    node = rebuild(node, children) if children else node
    if isinstance(node, Occurs):
        return _duration(node)
    if not isinstance(node, Call):
        return node
    if node.function in ("and", "or"):
        return _junction(node)
    if node.function == "not":
        return _negation(node)
    if node.function in ("equals", "notequalto") and node.args[2:] in ((), (TRUE,)):
        operator = "=" if node.function == "equals" else "!="
        node = replace(node, function=operator, args=node.args[:2])
    if node.function in ("in", "notin"):
        node = _membership(node)
    if node.function in COMPARISONS:
        return _oriented(node)
    if node.function in ("+", "*"):
        return replace(node, args=tuple(sorted(node.args, key=unparse)))
    return node


def normal_conjuncts(node: Node) -> list[Node]:
    """The conditions that must all hold, negations pushed inwards as far as that keeps nulls."""
    node = normal(node)
    if node == TRUE:
        return []
    if isinstance(node, Call) and node.function == "and":
        return [
            part
            for arg in node.args
            for part in (normal_conjuncts(arg) if never_null(arg) else [arg])
        ]
    if isinstance(node, Call) and node.function == "not":
        inner = node.args[0]
        if isinstance(inner, Call) and inner.function == "or":
            return [
                part
                for arg in inner.args
                for part in normal_conjuncts(replace(node, args=(arg,), at=arg.at))
            ]
    return [node]


def _junction(node: Call) -> Node:
    unit, zero = (TRUE, FALSE) if node.function == "and" else (FALSE, TRUE)
    flat: list[Node] = []
    for arg in node.args:
        same = isinstance(arg, Call) and arg.function == node.function
        flat.extend(arg.args if same and isinstance(arg, Call) else (arg,))
    if zero in flat:
        return replace(zero, at=node.at, type=node.type)
    distinct = {unparse(arg): arg for arg in flat if arg != unit}
    args = tuple(distinct[text] for text in sorted(distinct))
    if not args:
        return replace(unit, at=node.at, type=node.type)
    if len(args) == 1 and never_null(args[0]):
        return args[0]
    return (
        replace(node, args=args) if len(args) > 1 else Call("and", args, at=node.at, type=node.type)
    )


def _negation(node: Call) -> Node:
    inner = node.args[0]
    if inner in (TRUE, FALSE):
        return replace(FALSE if inner == TRUE else TRUE, at=node.at, type=node.type)
    if isinstance(inner, Call) and inner.function == "not":
        return truth_of(inner.args[0])
    if isinstance(inner, Call) and inner.function == "and" and len(inner.args) == 1:
        return replace(node, args=inner.args)
    return node


def _oriented(node: Call) -> Node:
    a, b = node.args
    swap = isinstance(a, Literal) and not isinstance(b, Literal)
    if isinstance(a, Literal) == isinstance(b, Literal):
        swap = unparse(b) < unparse(a)
    if not swap:
        return node
    return replace(node, function=MIRRORED[node.function], args=(b, a))


def _membership(node: Call) -> Call:
    value, items = node.args
    if not isinstance(items, Items):
        return node
    distinct = {unparse(item): item for item in items.items}
    # Nulls fall out of a list: ``x notIn [y]`` is true where y is null, but ``x != y`` is not.
    is_one = len(distinct) == 1
    if is_one and (node.function == "in" or isinstance(items.items[0], Literal)):
        operator = "=" if node.function == "in" else "!="
        return replace(node, function=operator, args=(value, *distinct.values()))
    ordered = tuple(distinct[text] for text in sorted(distinct))
    return replace(node, args=(value, replace(items, items=ordered)))


def _duration(node: Occurs) -> Occurs:
    if node.form != "distance" or node.comparison in ("=", "!="):
        return node  # a calendar unit, not a duration
    if node.unit in EXACT_MS:
        total, sizes = node.amount * EXACT_MS[node.unit], dict(EXACT_MS)
        del sizes["week"]
    else:
        total, sizes = node.amount * MONTHS[node.unit], {"month": 1, "year": 12}
    unit = max((u for u in sizes if total % sizes[u] == 0), key=lambda u: sizes[u])
    return replace(node, amount=total // sizes[unit], unit=unit)
