"""What a rule reads, for rules that are evaluated again: event types, records, other rules.

Theory: a rescan is due when something the rule reads changed. Where every use of ``xEvent`` is
filtered by the event's type, only rows of those types touch it; where one is not, every event does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from profile_actors.definitions.field_types import FieldType
from profile_actors.definitions.relationships import Join
from profile_actors.rules.tree.nodes import (
    Call,
    Computed,
    Each,
    Element,
    Events,
    Field,
    InSegment,
    Items,
    Literal,
    Node,
    Range,
    Root,
    Variable,
)
from profile_actors.rules.tree.plan import Key, Rescan
from profile_actors.rules.tree.sights import ALL, View
from profile_actors.rules.tree.walks import children, conjuncts, descendants

Entities = Mapping[str, tuple[FieldType, Join]]
"""Per name of a relationship, what stands under it."""


def entity_reads(tree: Node, entities: Entities) -> Iterator[tuple[Node, Join]]:
    """Where a tree reads an entity through a relationship. The type tells its name from another
    field's, if any has it; two of one name and type would be taken for one."""
    if not entities:
        return
    for node in descendants(tree):
        if isinstance(node, Field) and node.name in entities:
            type_, join = entities[node.name]
            found = node.type
            while found is not None and found.kind == "array":
                found = found.item
            if found == type_:
                yield node, join


def rescan(
    key: Key,
    trees: Mapping[Key, Node],
    reason: str,
    view: View = ALL,
    entities: Entities | None = None,
) -> Rescan:
    """The rescan of a rule: its tree, and what it and the rules that it names read. view: by which
    data they see a profile. entities: what stands under relationships."""
    seen: dict[Key, None] = {}
    pending = [key]
    while pending:
        current = pending.pop()
        if current in seen:
            continue
        seen[current] = None
        for node in descendants(trees[current]):
            if isinstance(node, Computed):
                pending.append(("computed", node.name))
            elif isinstance(node, InSegment):
                pending.append(("segment", node.name))
    types: set[str] | None = set()
    records = False
    for name in seen:
        records = records or any(isinstance(n, Root) for n in descendants(trees[name]))
        found = event_types(trees[name])
        types = None if types is None or found is None else types | found
    read = (entity_reads(trees[name], entities or {}) for name in seen)
    joins = {join.name: replace(join, single=view.single) for found in read for _, join in found}
    return Rescan(
        key[0],
        key[1],
        trees[key],
        reason,
        None if types is None else frozenset(types),
        records,
        tuple(sorted(k for k in seen if k != key)),
        view,
        tuple(join for _, join in sorted(joins.items())),
    )


def event_types(tree: Node) -> set[str] | None:
    """The event types that a tree reads; None when it may read any."""
    out: set[str] = set()
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, Events):
            return None
        pinned: tuple[set[str] | None, Node] | None = None
        if isinstance(node, Each) and node.function == "filter" and node.source == Events():
            subject = Variable(node.variables[0]) if node.variables else Element(0)
            pinned = _pinned(node.body, subject), node.body
        elif isinstance(node, Range) and node.source == Events() and node.condition is not None:
            pinned = _pinned(node.condition, Variable(node.name)), node.condition
        if pinned is None:
            pending.extend(children(node))
        elif pinned[0] is None:
            return None
        else:
            out |= pinned[0]
            pending.append(pinned[1])
    return out


def _pinned(condition: Node, subject: Node) -> set[str] | None:
    """The types to which a conjunct of the condition confines ``subject.eventType``."""
    for node in conjuncts(condition):
        if not isinstance(node, Call) or len(node.args) != 2:
            continue
        left, right = node.args
        if node.function == "=" and isinstance(left, Literal):
            left, right = right, left
        if left != Field(subject, "eventType"):
            continue
        if node.function == "=" and isinstance(right, Literal):
            return {str(right.value)}
        if node.function == "in" and isinstance(right, Items):
            literals = [item for item in right.items if isinstance(item, Literal)]
            if len(literals) == len(right.items):
                return {str(item.value) for item in literals}
    return None
