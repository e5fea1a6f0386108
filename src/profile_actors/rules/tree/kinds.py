"""The kind of value that a typed node gives to a kernel."""

from __future__ import annotations

from decimal import Decimal

from profile_actors.rules.tree.nodes import Call, Element, Field, Literal, Node, Now
from profile_actors.rules.tree.plan import AggregateLeaf


def path(node: Node) -> str | None:
    """The dotted path of a ``Field(Element(0), …)`` chain, else None."""
    names: list[str] = []
    while isinstance(node, Field):
        names.append(node.name)
        node = node.base
    return ".".join(reversed(names)) if names and node == Element(0) else None


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
