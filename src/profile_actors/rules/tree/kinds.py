"""The kind of value that a typed node gives to a kernel."""

from __future__ import annotations

import math
from decimal import Decimal

from profile_actors.rules.tree.nodes import Call, Element, Field, Literal, Node, Now
from profile_actors.rules.tree.plan import AggregateLeaf

EVENT = Element(0)


def path(node: Node) -> str | None:
    """The dotted path of a ``Field(Element(0), …)`` chain, else None."""
    names: list[str] = []
    while isinstance(node, Field):
        names.append(node.name)
        node = node.base
    if not names or node != EVENT:
        return None
    return names[0] if len(names) == 1 else ".".join(reversed(names))


def kind_of(node: Node) -> tuple[str | None, int]:
    """(type kind, decimal scale) of a scalar node; kind None if the tree does not say.

    The scale of decimal arithmetic follows from its operands: the greater of both, or for ``*``
    their sum.
    """
    if isinstance(node, Literal):
        if isinstance(node.value, Decimal):
            return "decimal", -int(node.value.as_tuple().exponent)
        return node.kind, 0
    if node.type is not None and node.type.kind != "decimal":
        return node.type.kind, 0
    if isinstance(node, Call) and node.function in _SCALED:
        return _scaled_kind(node)
    if node.type is not None:
        return node.type.kind, node.type.scale
    if isinstance(node, AggregateLeaf):
        return node.aggregate.result.kind, node.aggregate.result.scale
    return ("timestamp", 0) if isinstance(node, Now) else (None, 0)


WORD_BITS, LONG_BITS = 63, 126
"""Bits of the greatest values that one word of an operator holds, and that a long sum adds."""


FIELD_UNITS = 10**18 - 1
"""The most that a decimal field holds, in units of its last digit."""


def greatest_units(node: Node) -> int | None:
    """The most that a decimal expression over fields can be, in units of its last digit, whatever
    the fields hold; None if its parts do not say. Cost: a walk of the tree per level of it."""
    kind, scale = kind_of(node)
    if isinstance(node, Literal):
        if isinstance(node.value, Decimal):
            return int("".join(map(str, node.value.as_tuple().digits)))
        return abs(node.value) if isinstance(node.value, int) else None
    if isinstance(node, Field):
        return {"decimal": FIELD_UNITS, "integer": 1 << 63}.get(kind or "")
    if not isinstance(node, Call) or kind not in ("decimal", "integer"):
        return None
    if node.function == "neg":
        return greatest_units(node.args[0])
    operands = node.args[1:] if node.function == "if" else node.args
    if node.function not in ("+", "-", "*", "%", "if") or len(operands) != 2:
        return None
    operands = _exact_pair(*operands)
    found = [greatest_units(operand) for operand in operands]
    if node.function == "*":
        return None if None in found else math.prod(most or 0 for most in found)
    pairs = zip(found, operands, strict=True)
    alike: list[int] = [
        most * 10 ** (scale - kind_of(of)[1]) for most, of in pairs if most is not None
    ]
    if len(alike) < 2:
        return None
    return sum(alike) if node.function in ("+", "-") else max(alike)


_SCALED = ("+", "-", "*", "/", "%", "neg", "if")


def _scaled_kind(node: Call) -> tuple[str | None, int]:
    operands = node.args[1:] if node.function == "if" else node.args
    if len(operands) == 1:
        return kind_of(operands[0])
    (kind_x, scale_x), (kind_y, scale_y) = _pair_kinds(*operands)
    if node.function == "/" or "double" in (kind_x, kind_y):
        return "double", 0
    if "decimal" not in (kind_x, kind_y):
        return kind_x, 0
    return "decimal", scale_x + scale_y if node.function == "*" else max(scale_x, scale_y)


def _pair_kinds(x: Node, y: Node) -> tuple[tuple[str | None, int], tuple[str | None, int]]:
    """Both kinds; a number literal beside a decimal is the decimal that it spells. Linear: each
    operand is asked once, since trees nest deeply."""
    of_x, of_y = kind_of(x), kind_of(y)
    exact_x, exact_y = _exact(x, of_y[0]), _exact(y, of_x[0])
    return (
        of_x if exact_x is x else kind_of(exact_x),
        of_y if exact_y is y else kind_of(exact_y),
    )


def _exact_pair(x: Node, y: Node) -> tuple[Node, Node]:
    return _exact(x, kind_of(y)[0]), _exact(y, kind_of(x)[0])


def _exact(node: Node, other: str | None) -> Node:
    if other == "decimal" and isinstance(node, Literal) and node.kind == "double":
        return Literal(Decimal(repr(node.value)), "decimal", at=node.at)
    return node
