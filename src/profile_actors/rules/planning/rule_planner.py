"""From one typed rule to an expression over leaves: folds of events, attributes, other rules.

Theory: the rule's tree is walked once. What folds events becomes an ``AggregateLeaf``, what reads
the profile an ``AttributeLeaf``, and a reference to another rule that rule's own planned root.

Null rules are kept by construction: ``average`` is sum / count of non-nulls (0 / 0 is null);
``exists`` and an array as a condition are count > 0; ``forall`` is no event without it.

What is no fold of single events is planned over kept events (``array_planner``). Limits: what that
refuses too raises NotIncremental with the sub-expression.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from profile_actors.definitions.field_types import COMPOSITE, NUMBERS, FieldType
from profile_actors.rules.planning.array_planner import ArrayPlanner
from profile_actors.rules.planning.canonical import truth_of
from profile_actors.rules.planning.event_filters import event_filter
from profile_actors.rules.planning.event_folds import (
    FOLDS,
    TIMESTAMP,
    EventValues,
    FoldFinder,
    is_composite,
    refuse_composite,
    substituted,
    type_of,
)
from profile_actors.rules.planning.planned_lists import origin
from profile_actors.rules.tree.clock_reads import varies
from profile_actors.rules.tree.constants import BOOLEAN, DOUBLE, INTEGER, ZERO
from profile_actors.rules.tree.faults import NotIncremental
from profile_actors.rules.tree.kinds import LONG_BITS, WORD_BITS, greatest_units
from profile_actors.rules.tree.nodes import (
    Calendar,
    Call,
    Chain,
    Computed,
    Each,
    Field,
    InSegment,
    Items,
    Let,
    Literal,
    Node,
    Now,
    Occurs,
    Quantified,
    Root,
    Variable,
)
from profile_actors.rules.tree.plan import Aggregate, AggregateLeaf, AttributeLeaf, Key
from profile_actors.rules.tree.sights import EVERYTHING, Sight

MAX_NODES = 5_000
"""Nodes of one planned rule, references written out; a chain of references can double each time."""


class Sharing(Protocol):
    """What one rule's planner asks about the other rules of its catalogue."""

    def root(self, key: Key) -> Node:
        """The planned root of a rule. Raises NotIncremental if it has none."""
        ...

    def size(self, key: Key) -> int:
        """How many nodes that root has, references written out."""
        ...


class RulePlanner:
    """Rewrites one rule's tree into an expression over leaves. others: the rules it may name.
    sight: by which data it sees a profile."""

    def __init__(self, others: Sharing, sight: Sight = EVERYTHING) -> None:
        self.others = others
        self.sight = sight
        self.finder = FoldFinder(self.reference)
        self.arrays = ArrayPlanner(self)
        self.known: dict[int, tuple[Node, Node | NotIncremental]] = {}
        self.written_out = 0

    def reference(self, node: Node) -> Node:
        """The planned root that ``computed.x`` or ``inSegment("s")`` stands for."""
        assert isinstance(node, Computed | InSegment), node
        key = ("segment" if isinstance(node, InSegment) else "computed", node.name)
        root = self.others.root(key)
        self.written_out += self.others.size(key)
        if self.written_out > MAX_NODES:
            raise NotIncremental(node, f"more than {MAX_NODES} parts with its references")
        return truth_of(root) if key[0] == "segment" else root

    def any(self, node: Node) -> Node:
        """The node as an expression of whatever type. Raises NotIncremental."""
        kind = "" if node.type is None else node.type.kind
        if kind == "array":
            many = self.arrays.array(node)
            if many.of is not None:
                raise NotIncremental(node, "a list of whole events as a value")
            return _typed(many.node, many.item)
        return self.arrays.map(node).node if kind == "map" else self.value(node)

    def condition(self, node: Node) -> Node:
        """The node where a condition is expected: an array is true when it is not empty."""
        if node.type is None or node.type.kind == "array":
            try:
                found = self.finder.event_values(node)
                if found is not None:
                    return self._any(found, node)
            except NotIncremental:
                return self.arrays.condition(node)
        if node.type is not None and node.type.kind == "array":
            return self.arrays.condition(node)
        return self.value(node)

    def value(self, node: Node) -> Node:
        """The node as a scalar expression over leaves. Raises NotIncremental."""
        if is_composite(node):
            raise NotIncremental(node, f"{origin(node)} as a value")
        known = self.known.get(id(node))
        if known is None:
            try:
                known = (node, self._value(node))
            except NotIncremental as first:
                try:
                    known = (node, self.arrays.expression(node))
                except NotIncremental as refusal:
                    # The better reason: of the smaller part, or else that of the one fold.
                    known = (node, first if refusal.node is node else refusal)
            self.known[id(node)] = known
        if isinstance(known[1], NotIncremental):
            raise known[1]
        return known[1]

    def _value(self, node: Node) -> Node:
        match node:
            case Literal() | Now() | Calendar():
                return node
            case Computed() | InSegment():
                return self.reference(node)
            case Let(name=name, value=value, body=body):
                return self.value(substituted(body, name, value))
            case Quantified():
                return self._quantified(node)
            case Each(function=function) if function in FOLDS:
                return self._each(node)
            case Call():
                return self._call(node)
            case Occurs():
                until = None if node.until is None else self.value(node.until)
                subject, time = self.value(node.subject), self.value(node.time)
                return replace(node, subject=subject, time=time, until=until)
            case Field() if self.finder.event_values(node) is None:
                return _attribute(node, self.sight)
        raise NotIncremental(node, _REFUSED.get(type(node), "a list as a value"))

    def _call(self, node: Call) -> Node:
        function, args = node.function, node.args
        if function in FOLDS:
            return self._fold(function, self._need(args[0]), node)
        if function == "includes" and len(args) == 2:
            found = self._need(args[0])
            item = Call("=", (found.item(), self.value(args[1])), at=node.at, type=BOOLEAN)
            if not isinstance(item.args[1], Literal):
                raise NotIncremental(args[1], "includes() of something that is not a constant")
            return self._any(found.where(item), node)
        if function in ("and", "or", "not"):
            return replace(node, args=tuple(map(self.condition, args)))
        if function == "if":
            return replace(node, args=(self.condition(args[0]), *map(self.value, args[1:])))
        if function in ("in", "notin") and isinstance(args[1], Items):
            items = replace(args[1], items=tuple(map(self.value, args[1].items)))
            return replace(node, args=(self.value(args[0]), items))
        if any(map(is_composite, args)):
            raise NotIncremental(node, f"{function}() of a list, map or object")
        return replace(node, args=tuple(map(self.value, args)))

    def _each(self, node: Each) -> Node:
        found = self._need(node.source)
        if found.distinct:
            raise NotIncremental(node, f"{node.function}() of an expression after distinct()")
        body = self.finder.value(node.body, node.variables, found)
        return self._fold(node.function, replace(found, value=body), node)

    def _quantified(self, node: Quantified) -> Node:
        if node.kind == "forall":
            first = node.ranges[0]
            found = self.finder.selected(replace(node, ranges=(replace(first, condition=None),)))
            if len(node.ranges) > 1 or found is None:
                raise NotIncremental(node, "a quantifier over something other than the events")
            if first.condition is None:
                return Literal(True, "boolean", at=node.at, type=BOOLEAN)
            claim = Call("not", (first.condition,), at=first.condition.at, type=BOOLEAN)
            broken = found.where(self.finder.condition(claim, (first.name,), found))
            count = self._leaf("count", broken, None, INTEGER, node)
            return Call("=", (count, ZERO), at=node.at, type=BOOLEAN)
        found = self.finder.selected(node)
        if found is None:
            raise NotIncremental(node, "a quantifier over something other than the events")
        if node.kind == "exists":
            return self._any(found, node)
        if node.kind in FOLDS:
            return self._fold(node.kind, found, node)
        raise NotIncremental(node, "a list as a value")

    def _need(self, node: Node) -> EventValues:
        found = self.finder.event_values(node)
        if found is None:
            raise NotIncremental(node, "a list that is not made of the profile's events")
        return found

    def _any(self, found: EventValues, node: Node) -> Node:
        """Whether the stream has an element."""
        value = None if found.value is None else _scalar(found.value)
        count = self._leaf("count", found, value, INTEGER, node)
        return Call(">", (count, ZERO), at=node.at, type=BOOLEAN)

    def _fold(self, function: str, found: EventValues, node: Node) -> Node:
        """count, sum, average, min or max of the stream's non-null values."""
        if found.value is None:
            if function != "count":
                raise NotIncremental(node, f"{function}() of whole events")
            return self._leaf("count", found, None, INTEGER, node)
        value = _scalar(found.value)
        kind = type_of(value)
        if function == "count":
            function = "distinct" if found.distinct else "count"
            return self._leaf(function, found, value, INTEGER, node)
        if found.distinct and function in ("sum", "average"):
            raise NotIncremental(node, f"{function}() of distinct() values")
        if function in ("min", "max"):
            if kind.kind in ("string", "boolean"):
                raise NotIncremental(node, f"{function}() of type {kind.kind}")
            return self._leaf(function, found, value, kind, node)
        if kind.kind not in NUMBERS:
            raise NotIncremental(node, f"{function}() of type {kind.kind}")
        total = self._leaf("sum", found, value, kind, node)
        if function == "sum":
            return total
        count = self._leaf("count", found, value, INTEGER, node)
        return Call("/", (total, count), at=node.at, type=DOUBLE)

    def _leaf(
        self, function: str, found: EventValues, value: Node | None, result: FieldType, node: Node
    ) -> AggregateLeaf:
        if function == "count" and value == TIMESTAMP:
            value = None  # an event always has a timestamp
        if value is not None and varies(value):
            raise NotIncremental(node, f"{function}() of a value that moves with the clock")
        if isinstance(value, Call) and type_of(value).kind == "decimal":
            bits = {"count": None, "sum": LONG_BITS}.get(function, WORD_BITS)
            most = greatest_units(value)
            if bits is not None and (most is None or most >> bits):
                words = f"{function}() of computed decimals, which may be of more than {bits} bits"
                raise NotIncremental(node, words)
        events = event_filter((*self.sight.conditions, *found.conditions), self.sight.view.single)
        aggregate = Aggregate(events, function, value, result)
        return AggregateLeaf(aggregate, at=node.at, type=result)


_REFUSED: dict[type, str] = {
    Root: "the whole profile as a value",
    Variable: "a variable of an outer scope",
    Each: "a list or map as a value",
    Chain: "a sequence of events (CHAIN)",
}


def _scalar(value: Node) -> Node:
    kind = value.type.kind if value.type is not None else ""
    if kind in COMPOSITE:
        raise NotIncremental(value, f"a value of type {kind} of each event")
    return value


def _typed(node: Node, item: FieldType | None) -> Node:
    """A list with the exact type of its elements: the scale of decimals follows from the plan."""
    return node if item is None else replace(node, type=FieldType("array", item=item))


def _attribute(node: Field, sight: Sight) -> AttributeLeaf:
    names: list[str] = []
    base: Node = node
    while isinstance(base, Field):
        names.append(base.name)
        base = base.base
    if not isinstance(base, Root):
        raise NotIncremental(node, "a field of a computed list or map")
    refuse_composite(node, "of the profile")
    path = ".".join(reversed(names))
    order, single = sight.order_of(path), sight.view.single
    return AttributeLeaf(path, order, single, at=node.at, type=node.type)
