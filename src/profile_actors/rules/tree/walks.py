"""Walks over a rule tree: children, descendants, rebuilding, what it refers to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace

from profile_actors.rules.tree.nodes import (
    Call,
    Computed,
    Each,
    InSegment,
    Items,
    Let,
    Node,
    Occurs,
)
from profile_actors.rules.tree.plan import (
    Aggregate,
    AggregateLeaf,
    AttributeLeaf,
    Kept,
    KeptField,
    Key,
    Sequence,
)


def leaves_of(node: Node) -> Iterator[Node]:
    """The aggregates, attributes and kept events that a planned tree reads."""
    if isinstance(node, AggregateLeaf | AttributeLeaf | Kept):
        yield node
    for part in parts(node):
        yield from leaves_of(part)


def inputs_of(node: Node) -> tuple[tuple[Aggregate, ...], tuple[str, ...]]:
    """The aggregates, and the keys of the attributes, that a planned tree reads."""
    leaves = list(leaves_of(node))
    aggregates = dict.fromkeys(n.aggregate for n in leaves if isinstance(n, AggregateLeaf))
    keys = dict.fromkeys(n.key for n in leaves if isinstance(n, AttributeLeaf))
    return tuple(aggregates), tuple(keys)


def parts(node: Node) -> Iterator[Node]:
    """The direct sub-expressions of a planned node."""
    if isinstance(node, Call):
        yield from node.args
    elif isinstance(node, Items):
        yield from node.items
    elif isinstance(node, Occurs):
        yield node.subject
        yield node.time
        if node.until is not None:
            yield node.until
    elif isinstance(node, Each):
        yield node.source
        yield node.body
        yield from node.extra
    elif isinstance(node, Let):
        yield node.value
        yield node.body
    elif isinstance(node, KeptField):
        yield node.event
    elif isinstance(node, Sequence):
        for stage in node.stages:
            yield stage.source
            if stage.condition is not None:
                yield stage.condition


def rebuild(node: Node, children: list[Node]) -> Node:
    """The planned node with other direct sub-expressions, in the order of ``parts``."""
    if isinstance(node, Call):
        return replace(node, args=tuple(children))
    if isinstance(node, Items):
        return replace(node, items=tuple(children))
    if isinstance(node, Occurs):
        until = children[2] if node.until is not None else None
        return replace(node, subject=children[0], time=children[1], until=until)
    if isinstance(node, Each):
        return replace(node, source=children[0], body=children[1], extra=tuple(children[2:]))
    if isinstance(node, Let):
        return replace(node, value=children[0], body=children[1])
    if isinstance(node, KeptField):
        return replace(node, event=children[0])
    if isinstance(node, Sequence):
        rest = iter(children)
        stages = [
            replace(
                stage,
                source=next(rest),
                condition=None if stage.condition is None else next(rest),
            )
            for stage in node.stages
        ]
        return replace(node, stages=tuple(stages))
    return node


def walk(node: Node) -> Iterator[Node]:
    """The node and its sub-expressions, parents first."""
    stack = [node]
    while stack:
        top = stack.pop()
        yield top
        stack.extend(reversed(list(parts(top))))


def conjuncts(node: Node) -> list[Node]:
    """The operands of nested conjunctions, as they stand."""
    if isinstance(node, Call) and node.function == "and":
        return [part for arg in node.args for part in conjuncts(arg)]
    return [node]


def references(tree: Node) -> list[Key]:
    """The rules a tree reads, as ('computed' | 'segment', name), in order, each once."""
    found: dict[Key, None] = {}
    for node in descendants(tree):
        if isinstance(node, Computed):
            found["computed", node.name] = None
        elif isinstance(node, InSegment):
            found["segment", node.name] = None
    return list(found)


def children(node: Node) -> Iterator[Node]:
    """The direct sub-nodes of a node, in the order of their fields; ranges and steps included."""
    for part in fields(node):
        value = getattr(node, part.name)
        if isinstance(value, Node):
            yield value
        elif isinstance(value, tuple):
            yield from (item for item in value if isinstance(item, Node))


def descendants(node: Node) -> Iterator[Node]:
    """The node and everything below it, without recursion; parents before their children."""
    pending = [node]
    while pending:
        current = pending.pop()
        yield current
        pending.extend(children(current))
