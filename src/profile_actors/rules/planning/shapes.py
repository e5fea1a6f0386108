"""Whether every node of a planned expression is given what its kernel takes: the planner's proof.

Theory: vectors, lists, maps and events are different things to the evaluator, and only the types
say which a node is. So one pass over what was planned derives each node's *shape* from its parts
and compares it with what its function takes. What does not fit is no error of the rule: the rule
is evaluated again from its documents instead (``rule_planner``). So no accepted rule can meet a
kernel that does not know what it was handed, whatever the planner made of it.

Rules for editors: a function that ``scalars`` or ``frames`` learns is a line of ``_SCALAR`` or a
method here; without one, rules that use it are rescanned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from profile_actors.definitions.field_types import FieldType
from profile_actors.rules.language.types import family
from profile_actors.rules.semantics.string_tests import TEXT_TESTS
from profile_actors.rules.tree.comparisons import COMPARISONS
from profile_actors.rules.tree.faults import NotIncremental
from profile_actors.rules.tree.nodes import (
    Calendar,
    Call,
    Each,
    Element,
    Field,
    Items,
    Let,
    Literal,
    Node,
    Now,
    Occurs,
    Variable,
)
from profile_actors.rules.tree.plan import (
    AggregateLeaf,
    AttributeLeaf,
    EventFilter,
    Kept,
    KeptField,
    Sequence,
)

SCALARS = ("number", "string", "time", "boolean")


@dataclass(frozen=True, slots=True)
class Shape:
    """kind: a scalar's family, 'array', 'map', 'event', or 'any' (a scalar of unknown type). item:
    of an array's elements, or a map's values; key: of a map's keys."""

    kind: str
    item: Shape | None = None
    key: Shape | None = None

    @property
    def is_scalar(self) -> bool:
        return self.kind in SCALARS or self.kind == "any"


NUMBER, STRING, TIME, BOOLEAN = map(Shape, SCALARS)


ANY = Shape("any")


EVENT = Shape("event")


Names = Mapping[str, Shape]


def fits(root: Node) -> None:
    """Raise NotIncremental where a node of a planned root has a part that its kernel cannot take.

    Cost: one pass over the tree, filters and values of its aggregates included.
    """
    found = _valued(root, _Shapes().of(root, {}))
    while found.item is not None:
        found = found.item
    if found == EVENT:
        raise NotIncremental(root, "whole events as a value")


class _Shapes:
    """One pass. filters: those that were seen, by identity: the planner shares them."""

    def __init__(self) -> None:
        self.filters: set[int] = set()

    def of(self, node: Node, names: Names) -> Shape:
        """The node's shape. Raises NotIncremental."""
        match node:
            case Literal():
                return _of_type(FieldType(node.kind))
            case Now():
                return TIME
            case AggregateLeaf(aggregate=aggregate):
                self.filter(aggregate.filter)
                if aggregate.value is not None:
                    self.want(aggregate.value, {}, *_FOLDED[aggregate.function])
                return _of_type(aggregate.result)
            case AttributeLeaf() | Field():
                return self._leaf(node)
            case KeptField(event=event):
                self.want(event, names, "event")
                self.filter(node.filter)
                return self._leaf(node)
            case Kept():
                self.filter(node.filter)
                return Shape("array", EVENT)
            case Variable(name=name) if name in names:
                return names[name]
            case Call():
                return self._call(node, names)
            case Each():
                return self._each(node, names)
            case Let(name=name, value=value, body=body):
                inner = {**names, name: _valued(value, self.of(value, names))}
                return self.of(body, inner)
            case Occurs():
                return self._occurs(node, names)
            case Sequence():
                return self._sequence(node, names)
        raise NotIncremental(node, "a value that no operator takes here")

    def want(self, node: Node, names: Names, *kinds: str) -> Shape:
        """The node's shape, which is one of these kinds."""
        found = self.of(node, names)
        if found.kind not in kinds and not (found.kind == "any" and set(kinds) & set(SCALARS)):
            raise NotIncremental(node, f"a value of kind {found.kind} here")
        return found

    def scalar(self, node: Node, names: Names) -> Shape:
        """The node's shape, which is a scalar's."""
        return self.want(node, names, *SCALARS)

    def alike(self, a: Node, b: Node, names: Names) -> Shape:
        """The shape of two scalars of one family."""
        first, second = self.scalar(a, names), self.scalar(b, names)
        if "any" not in (first.kind, second.kind) and first.kind != second.kind:
            raise NotIncremental(b, f"a value of kind {second.kind} beside one of {first.kind}")
        return second if first.kind == "any" else first

    def filter(self, events: EventFilter) -> None:
        """Conditions on one event."""
        if id(events) in self.filters:
            return
        self.filters.add(id(events))
        if events.predicate is not None:
            self.want(events.predicate, {}, "boolean")
        for window in events.window:
            self.of(window, {})

    @staticmethod
    def _leaf(node: Node) -> Shape:
        found = ANY if node.type is None else _of_type(node.type)
        if not found.is_scalar:
            raise NotIncremental(node, f"a field of kind {found.kind}")
        base = node
        while isinstance(base, Field):
            base = base.base
        if isinstance(node, Field) and base != Element(0):
            raise NotIncremental(node, "a field of something other than the event")
        return found

    def _occurs(self, node: Occurs, names: Names) -> Shape:
        for part in (node.subject, node.time, node.until):
            if part is not None and (part is node.subject or not isinstance(part, Calendar)):
                self.want(part, names, "time")
        return BOOLEAN

    def _sequence(self, node: Sequence, names: Names) -> Shape:
        inner = dict(names)
        for stage in node.stages:
            if self.want(stage.source, names, "array").item != EVENT:
                raise NotIncremental(stage.source, "a sequence of something other than events")
            inner[stage.name] = EVENT
            if stage.condition is not None:
                self.want(stage.condition, inner, "boolean")
        return BOOLEAN

    # -- functions ---------------------------------------------------------------------------

    def _call(self, node: Call, names: Names) -> Shape:
        function, args = node.function, node.args
        if function in ("in", "notin"):
            return self._contained(node, names)
        if function in COMPARISONS:
            self.alike(args[0], args[1], names)
            return BOOLEAN
        if function == "if":
            self.want(args[0], names, "boolean")
            return self.alike(args[1], args[2], names)
        if function in _OF_LISTS:
            many = self.want(args[0], names, "array")
            assert many.item is not None
            return _OF_LISTS[function](node, many.item)
        if function in ("keys", "values", "get"):
            return self._of_map(node, names)
        if function not in _SCALAR:
            raise NotIncremental(node, f"{function}() of these values")
        kinds, result = _SCALAR[function]
        for place, arg in enumerate(args):
            self.want(arg, names, *kinds[min(place, len(kinds) - 1)])
        return result

    def _contained(self, node: Call, names: Names) -> Shape:
        value, items = node.args
        if not isinstance(items, Items):
            raise NotIncremental(items, "a list that is no literal here")
        for item in items.items:
            self.alike(value, item, names)
        self.scalar(value, names)
        return BOOLEAN

    def _of_map(self, node: Call, names: Names) -> Shape:
        mapped = self.want(node.args[0], names, "map")
        assert mapped.key is not None
        assert mapped.item is not None
        if node.function == "keys":
            return Shape("array", mapped.key)
        if node.function == "values":
            return Shape("array", mapped.item)
        key = self.scalar(node.args[1], names)
        if "any" not in (key.kind, mapped.key.kind) and key != mapped.key:
            raise NotIncremental(node.args[1], f"a key of kind {key.kind} of a map")
        return mapped.item

    def _each(self, node: Each, names: Names) -> Shape:
        if node.function == "mapentries":
            return self._entries(node, names)
        source = self.want(node.source, names, "array")
        assert source.item is not None
        inner = {**names, node.variables[0]: source.item}
        if node.function == "filter":
            self.want(node.body, inner, "boolean")
            return source
        if node.function == "map":
            return Shape("array", _valued(node.body, self.of(node.body, inner), is_element=True))
        key = self.scalar(node.body, inner)
        if node.function == "groupby":
            return Shape("map", source, key)
        if node.function in ("topn", "bottomn") and isinstance(node.extra[0], Literal):
            self.want(node.body, inner, "number", "string", "time")
            return source
        raise NotIncremental(node, f"{node.function}() of these values")

    def _entries(self, node: Each, names: Names) -> Shape:
        source = self.want(node.source, names, "map")
        assert source.key is not None
        assert source.item is not None
        key_name, value_name = node.variables
        inner = {**names, key_name: source.key, value_name: source.item}
        key = self.scalar(node.body, inner)
        (extra,) = node.extra
        return Shape("map", _valued(extra, self.of(extra, inner), is_element=True), key)


def _of_type(type_: FieldType) -> Shape:
    found = family(type_)
    return Shape(found) if found in SCALARS else Shape("event" if found == "object" else found)


def _valued(node: Node, found: Shape, is_element: bool = False) -> Shape:
    """The shape of a node whose evaluator is chosen by its type: that must say the same."""
    kind = "" if node.type is None else node.type.kind
    said = {"array": "array", "map": "map", "object": "event"}.get(kind, "")
    if said != ("" if found.is_scalar else found.kind):
        raise NotIncremental(node, f"a value of kind {found.kind} here")
    if is_element and found.kind == "map":
        raise NotIncremental(node, "a list or map of maps")
    return found


def _scalars(node: Node, item: Shape, *kinds: str) -> Shape:
    if item.kind not in kinds and not (item.kind == "any" and "number" in kinds):
        raise NotIncremental(node, f"a list of {item.kind} here")
    return item


_FOLDED = {
    "count": SCALARS,
    "distinct": SCALARS,
    "sum": ("number",),
    "min": ("number", "time"),
    "max": ("number", "time"),
}


_OF_LISTS: dict[str, Callable[[Node, Shape], Shape]] = {
    "count": lambda node, item: NUMBER,
    "sum": lambda node, item: _scalars(node, item, "number"),
    "min": lambda node, item: _scalars(node, item, "number", "string", "time"),
    "max": lambda node, item: _scalars(node, item, "number", "string", "time"),
    "head": lambda node, item: _scalars(node, item, *SCALARS, "event"),
    "distinct": lambda node, item: Shape("array", _scalars(node, item, *SCALARS)),
}


_ANY = SCALARS


_N, _S, _T, _B = (("number",), ("string",), ("time",), ("boolean",))


_SCALAR: dict[str, tuple[tuple[tuple[str, ...], ...], Shape]] = {
    **dict.fromkeys(("and", "or", "not"), ((_B,), BOOLEAN)),
    **dict.fromkeys(("+", "-", "*", "/", "%", "neg"), ((_N,), NUMBER)),
    **dict.fromkeys(TEXT_TESTS, ((_S, _S, _B), BOOLEAN)),
    "regexgroup": ((_S, _S, _N), STRING),
    **dict.fromkeys(("isnull", "isnotnull"), ((_ANY,), BOOLEAN)),
    **dict.fromkeys(("getyear", "getmonth", "getdayofmonth"), ((_T,), NUMBER)),
    **dict.fromkeys(("currentyear", "currentmonth", "currentdayofmonth"), ((_T,), NUMBER)),
}
"""What a function of scalars takes, argument by argument (the last for all that follow), and
gives."""
