"""Which sub-expressions are folds over the profile's events, and over which events of them.

Theory: ``xEvent[a][b].f``, ``xEvent.filter(E => a and b).map(E => E.f)`` and
``select E.f from xEvent where a and b`` are one thing: a stream of one value per event under
conditions that read that event alone. Everything is rewritten so that the event is ``Element(0)``.
What reads more than one event, the profile, or an array inside an event is refused with the
sub-expression and the reason; the refusal is where a rescan would begin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from profile_actors.definitions.field_types import COMPOSITE, FieldType
from profile_actors.rules.planning.canonical import normal, truth_of
from profile_actors.rules.tree.faults import NotIncremental
from profile_actors.rules.tree.kinds import kind_of, path
from profile_actors.rules.tree.nodes import (
    Calendar,
    Call,
    Computed,
    Each,
    Element,
    Events,
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
from profile_actors.rules.tree.walks import parts, rebuild

FOLDS = ("count", "sum", "average", "min", "max")


EVENT = Element(0)


TIMESTAMP = Field(EVENT, "timestamp")


EVENT_TYPE = Field(EVENT, "eventType")


Resolve = Callable[[Node], Node]
"""What a Computed or InSegment node stands for: the planned root of the rule it names."""


@dataclass(frozen=True)
class EventValues:
    """One value per event (None: the event itself) for the events that satisfy every condition.

    value and conditions read ``Element(0)``, the event. distinct: equal values count once.
    """

    conditions: tuple[Node, ...] = ()
    value: Node | None = None
    distinct: bool = False

    def where(self, condition: Node) -> EventValues:
        return replace(self, conditions=(*self.conditions, condition))

    def item(self) -> Node:
        """What one element is."""
        return EVENT if self.value is None else self.value


class FoldFinder:
    """Recognises streams in one rule's tree. resolve: see ``Resolve``."""

    def __init__(self, resolve: Resolve) -> None:
        self.resolve = resolve

    def event_values(self, node: Node) -> EventValues | None:
        """The node as a stream of events, or None if it is something else."""
        match node:
            case Events():
                return EventValues()
            case Each(function="filter", source=source, body=body, variables=names):
                found = self.event_values(source)
                if found is None:
                    return None
                if found.distinct:
                    raise NotIncremental(node, "a filter after distinct()")
                return found.where(self.condition(body, names, found))
            case Each(function="map", source=source, body=body, variables=names):
                return self._mapped(node, self.event_values(source), body, names)
            case Field(base=base):
                found = self.event_values(base)
                if found is None:
                    return None
                if found.distinct:
                    raise NotIncremental(node, "a path after distinct()")
                kind = child_type(base.type, node.name)
                if kind is not None and kind.kind in ("array", "map"):
                    raise NotIncremental(node, f"a field of type {kind.kind} of each event")
                return replace(found, value=replace(node, base=found.item(), type=kind))
            case Quantified(kind="select"):
                return self.selected(node)
            case Call(function="distinct", args=(source,)):
                found = self.event_values(source)
                if found is None:
                    return None
                if found.value is None:
                    raise NotIncremental(node, "distinct() of whole events")
                return replace(found, distinct=True)
        return None

    def selected(self, node: Quantified) -> EventValues | None:
        """The elements that a quantifier or query of one range runs over, as values of result."""
        first = node.ranges[0]
        found = self.event_values(first.source)
        if found is None:
            return None
        if len(node.ranges) > 1:
            raise NotIncremental(node, "a quantifier over more than one range")
        if found.distinct:
            raise NotIncremental(node, "a quantifier over distinct() values")
        if first.condition is not None:
            found = found.where(self.condition(first.condition, (first.name,), found))
        if node.result is None or node.result == Variable(first.name):
            return found
        return self._mapped(node, found, node.result, (first.name,))

    def _mapped(
        self, node: Node, found: EventValues | None, body: Node, names: tuple[str, ...]
    ) -> EventValues | None:
        if found is None:
            return None
        if found.distinct:
            raise NotIncremental(node, "a path or map after distinct()")
        return replace(found, value=self.value(body, names, found))

    def value(self, body: Node, names: tuple[str, ...], over: EventValues) -> Node:
        """The body as a scalar expression of one event."""
        return normal(self._scalar(_applied(body, names, over)))

    def condition(self, body: Node, names: tuple[str, ...], over: EventValues) -> Node:
        """The body as a boolean of one event; a null element is no element."""
        condition = truth_of(self._scalar(_applied(body, names, over)))
        if over.value is not None:
            kind = over.value.type
            if kind is not None and kind.kind == "object":
                raise NotIncremental(body, "a condition on objects inside events")
            condition = Call("and", (Call("isnotnull", (over.value,)), condition), at=body.at)
        return normal(condition)

    def _scalar(self, node: Node) -> Node:
        match node:
            case Literal() | Now() | Calendar():
                return node
            case Field():
                return self._field(node)
            case Call():
                return self._call(node)
            case Occurs():
                until = None if node.until is None else self._scalar(node.until)
                subject, time = self._scalar(node.subject), self._scalar(node.time)
                return replace(node, subject=subject, time=time, until=until)
            case Let(name=name, value=value, body=body):
                return self._scalar(substituted(body, name, value))
            case Computed() | InSegment():
                root = self.resolve(node)
                if isinstance(root, Literal):
                    return root
                raise NotIncremental(node, "a condition on events that reads another rule")
            case Element():
                raise NotIncremental(node, "a whole event as a value")
        raise NotIncremental(node, f"{_WHAT.get(type(node), 'this')} inside a condition on events")

    def _call(self, node: Call) -> Node:
        *args, last = node.args or (node,)
        if node.function in ("in", "notin") and isinstance(last, Items):
            items = replace(last, items=tuple(map(self._scalar, last.items)))
            return replace(node, args=(self._scalar(args[0]), items))
        if any(map(is_composite, node.args)):
            raise NotIncremental(node, f"{node.function}() of a list, map or object of each event")
        return replace(node, args=tuple(map(self._scalar, node.args)))

    def _field(self, node: Field) -> Node:
        if path(node) is None:
            base: Node = node
            while isinstance(base, Field):
                base = base.base
            if isinstance(base, Root):
                raise NotIncremental(node, "a condition on events that reads the profile")
            raise NotIncremental(node, "a field of something other than the event")
        refuse_composite(node, "of an event")
        return node


def is_composite(node: Node) -> bool:
    """Whether the node is a list, map or object, as far as its type is known."""
    return node.type is not None and node.type.kind in COMPOSITE


def refuse_composite(node: Field, where: str) -> None:
    """Raise NotIncremental for a path that is no scalar, or that goes through a map or array."""
    step: Node = node
    composite: tuple[str, ...] = COMPOSITE
    while isinstance(step, Field):
        if step.type is not None and step.type.kind in composite:
            raise NotIncremental(node, f"a field of type {step.type.kind} {where}")
        step, composite = step.base, ("array", "map")


_WHAT: dict[type, str] = {
    Events: "other events",
    Each: "a list",
    Quantified: "a quantifier or query",
    Root: "the profile",
    Items: "a list literal",
    Variable: "a variable of an outer scope",
}


def type_of(value: Node) -> FieldType:
    """A planned scalar's type; a decimal's scale as evaluation makes it; an untyped tree's values
    are doubles."""
    kind, scale = kind_of(value)
    if kind == "decimal" or (value.type is None and kind is not None):
        return FieldType(kind, scale=scale)
    if value.type is not None:
        return value.type
    return FieldType("timestamp") if value == TIMESTAMP else FieldType("double")


def _applied(body: Node, names: tuple[str, ...], over: EventValues) -> Node:
    """The body with its element (by variable, or as Element(0)) replaced by the stream's item."""
    if names:
        return substituted(body, names[0], over.item())
    if over.value is None:
        return body
    return _rebased(body, over.value)


def _rebased(node: Node, value: Node) -> Node:
    """The node with Element(0), an object inside the event, replaced by where it is."""
    if node == EVENT:
        return value
    if isinstance(node, Field):
        return replace(node, base=_rebased(node.base, value))
    if isinstance(node, Each | Quantified | Let):
        raise NotIncremental(node, "a deeper scope inside an element of a path")
    return rebuild(node, [_rebased(part, value) for part in parts(node)])


def child_type(array: FieldType | None, name: str) -> FieldType | None:
    """The type of a field of the objects in an array, as far as it is known."""
    item = array.item if array is not None and array.kind == "array" else None
    return dict(item.fields).get(name) if item is not None and item.kind == "object" else None


def substituted(node: Node, name: str, value: Node) -> Node:
    """The node with a variable replaced by a value, wherever no inner scope hides it.

    Inside a level opened by ``[…]`` and the like, the value's own Elements move out one level.
    """
    match node:
        case Variable(name=found) if found == name:
            return replace(value, at=node.at)
        case Field(base=base):
            return replace(node, base=substituted(base, name, value))
        case Call(args=args):
            return replace(node, args=tuple(substituted(arg, name, value) for arg in args))
        case Items(items=items):
            return replace(node, items=tuple(substituted(item, name, value) for item in items))
        case Occurs():
            until = None if node.until is None else substituted(node.until, name, value)
            subject = substituted(node.subject, name, value)
            return replace(
                node, subject=subject, time=substituted(node.time, name, value), until=until
            )
        case Let():
            body = node.body if node.name == name else substituted(node.body, name, value)
            return replace(node, value=substituted(node.value, name, value), body=body)
        case Each():
            source = substituted(node.source, name, value)
            if name in node.variables:
                return replace(node, source=source)
            inner = value if node.variables else _outwards(value)
            return replace(node, source=source, body=substituted(node.body, name, inner))
        case Quantified():
            return _substituted_ranges(node, name, value)
    return node


def _substituted_ranges(node: Quantified, name: str, value: Node) -> Quantified:
    ranges, hidden = [], False
    for item in node.ranges:
        if not hidden:
            source = substituted(item.source, name, value)
            hidden = item.name == name
            condition = item.condition
            if condition is not None and not hidden:
                condition = substituted(condition, name, value)
            item = replace(item, source=source, condition=condition)
        ranges.append(item)
    result = node.result
    if result is not None and not hidden:
        result = substituted(result, name, value)
    return replace(node, ranges=tuple(ranges), result=result)


def _outwards(node: Node) -> Node:
    if isinstance(node, Element):
        return replace(node, up=node.up + 1)
    if isinstance(node, Field):
        return replace(node, base=_outwards(node.base))
    if isinstance(node, Call):
        return replace(node, args=tuple(map(_outwards, node.args)))
    if isinstance(node, Literal | Events | Root | Variable | Now | Computed | InSegment):
        return node
    raise NotIncremental(node, "a let inside a deeper scope")
