"""What names and levels stand for while arrays are planned, and small forms of planned nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from profile_actors.definitions.field_types import COMPOSITE, NUMBERS, FieldType
from profile_actors.rules.planning.event_filters import event_filter
from profile_actors.rules.planning.event_folds import EventValues, FoldFinder, child_type
from profile_actors.rules.tree.constants import BOOLEAN, DOUBLE, INTEGER, ZERO
from profile_actors.rules.tree.faults import NotIncremental
from profile_actors.rules.tree.free_names import reads
from profile_actors.rules.tree.nodes import (
    Call,
    Each,
    Element,
    Field,
    Items,
    Let,
    Node,
    Root,
    Variable,
)
from profile_actors.rules.tree.plan import EventFilter, KeptField
from profile_actors.rules.tree.sights import Sight


class Scalars(Protocol):
    """The planner of what stands alone (``rule_planner.RulePlanner``)."""

    finder: FoldFinder
    sight: Sight

    def value(self, node: Node) -> Node: ...

    def reference(self, node: Node) -> Node: ...


@dataclass(frozen=True, slots=True)
class Planned:
    """A planned list (or event, or map of lists). of: the filter of the events in it, None: they
    are none. item: the type of a list's elements. conditions: those of all that is kept, while
    nothing else was asked of the elements."""

    node: Node
    of: EventFilter | None
    item: FieldType | None
    conditions: tuple[Node, ...] | None = None


@dataclass(frozen=True, slots=True)
class Bindings:
    """What names (levels: None) around an expression are, innermost last: (name in the rule, name
    in the plan, of as in Planned).

    In the plan every binding has a name of its own, by its depth: so an expression means the same
    wherever it is evaluated, and rules that differ in names only are equal.
    """

    entries: tuple[tuple[str | None, str, EventFilter | None], ...] = ()

    def bind(self, name: str | None, of: EventFilter | None) -> Bindings:
        return Bindings((*self.entries, (name, f"e{len(self.entries) + 1}", of)))

    def inside(self, variables: tuple[str, ...], of: EventFilter | None) -> Bindings:
        return self.bind(variables[0] if variables else None, of)

    @property
    def last(self) -> str:
        """The plan's name of the innermost binding."""
        return self.entries[-1][1]

    def bound(self, node: Variable | Element) -> tuple[Variable, EventFilter | None]:
        """The plan's variable for a name or level, and the events it stands for."""
        up = node.up if isinstance(node, Element) else 0
        for name, renamed, of in reversed(self.entries):
            if isinstance(node, Variable) and name == node.name:
                return Variable(renamed, at=node.at, type=node.type), of
            if isinstance(node, Element) and name is None:
                if up == 0:
                    return Variable(renamed, at=node.at, type=node.type), of
                up -= 1
        raise NotIncremental(node, "the profile as a value")


TOP = Bindings()


class Lists(Protocol):
    """The walk over one rule's lists (``array_planner.ArrayPlanner``), as forms inside it see it.

    Each may raise NotIncremental.
    """

    scalars: Scalars

    def value(self, node: Node, scope: Bindings) -> Node: ...

    def condition(self, node: Node, scope: Bindings) -> Node: ...

    def array(self, node: Node, scope: Bindings) -> Planned: ...

    def map(self, node: Node, scope: Bindings) -> Planned: ...

    def let(self, node: Let, scope: Bindings) -> tuple[Let, Bindings]: ...

    def filtered(
        self, source: Planned, conditions: list[Node], variables: tuple[str, ...], scope: Bindings
    ) -> Planned: ...


def kind_word(node: Node) -> str:
    return "" if node.type is None else node.type.kind


def origin(node: Node) -> str:
    """What a list, map or object is that no kept event gives, in words."""
    kind = kind_word(node) or "list"
    if isinstance(node, Items):
        return "a list literal as a list"
    if isinstance(node, Root):
        return "the whole profile"
    if not isinstance(node, Field):
        return f"a computed value of type {kind}"
    base: Node = node
    while isinstance(base, Field):
        base = base.base
    return f"a field of type {kind} of {'the profile' if isinstance(base, Root) else 'an event'}"


def path_of(node: Field) -> tuple[Node, str]:
    """What a chain of fields begins at, and its dotted path."""
    names = [node.name]
    base = node.base
    while isinstance(base, Field) and kind_word(base) == "object":
        names.append(base.name)
        base = base.base
    return base, ".".join(reversed(names))


def call_of(function: str, arg: Node, kind: FieldType, at: Node) -> Call:
    return Call(function, (arg,), at=at.at, type=kind)


def some(many: Node, at: Node) -> Call:
    """Whether a list has an element."""
    count = call_of("count", many, INTEGER, at)
    return Call(">", (count, ZERO), at=at.at, type=BOOLEAN)


def includes(many: Planned, value: Node, at: Node, scope: Bindings) -> Node:
    """Whether an element equals the planned value, which stands in this scope."""
    inner = scope.bind(None, None)
    equal = Call("=", (Variable(inner.last, type=many.item), value), type=BOOLEAN)
    found = Each("filter", many.node, equal, (inner.last,), type=many.node.type)
    return some(found, at)


def member(many: Planned | Node, value: Node, node: Call, scope: Bindings) -> Node:
    """``in``, ``notIn`` or ``includes``. many: a planned list, or the planned literal of one."""
    if isinstance(many, Node):
        function = "in" if node.function == "includes" else node.function
        return Call(function, (value, many), at=node.at, type=BOOLEAN)
    found = includes(many, value, node, scope)
    return excluded(found, value, node) if node.function == "notin" else found


def excluded(found: Node, value: Node, at: Node) -> Node:
    """``value notIn …`` given ``value in …``: false for a null, too."""
    known = Call("isnotnull", (value,), at=at.at, type=BOOLEAN)
    return Call("and", (known, call_of("not", found, BOOLEAN, at)), at=at.at, type=BOOLEAN)


def elements_in(
    many: Planned, others: Planned | Items, inside: bool, at: Node, scope: Bindings
) -> Planned:
    """The elements that are (or are not) among the others."""
    inner = scope.bind(None, None)
    item = Variable(inner.last, type=many.item)
    if isinstance(others, Items):
        hit: Node = Call("in", (item, others), at=at.at, type=BOOLEAN)
    else:
        hit = includes(others, item, at, inner)
    condition = hit if inside else call_of("not", hit, BOOLEAN, at)
    found = Each("filter", many.node, condition, (inner.last,), at=at.at, type=many.node.type)
    return Planned(found, None, many.item)


def folded(function: str, many: Planned, node: Node) -> Node:
    """count, sum, average, min or max of a list. Raises NotIncremental."""
    if function == "count":
        return call_of("count", many.node, INTEGER, node)
    item = many.item
    if many.of is not None or item is None:
        raise NotIncremental(node, f"{function}() of whole events")
    if function in ("min", "max"):
        if item.kind not in (*NUMBERS, "string", "timestamp", "date"):
            raise NotIncremental(node, f"{function}() of type {item.kind}")
        return call_of(function, many.node, item, node)
    if item.kind not in NUMBERS:
        raise NotIncremental(node, f"{function}() of type {item.kind}")
    total = call_of("sum", many.node, item, node)
    if function == "sum":
        return total
    count = call_of("count", many.node, INTEGER, node)
    return Call("/", (total, count), at=node.at, type=DOUBLE)


def of_one_event(
    finder: FoldFinder, part: Node, variables: tuple[str, ...], others: tuple[Node, ...]
) -> Node | None:
    """The condition as one on ``Element(0)``, if it reads one event and at most a window."""
    if reads(part) - {variables[0] if variables else 0}:
        return None
    try:
        condition = finder.condition(part, variables, EventValues())
        event_filter((*others, condition))
    except NotIncremental:
        return None
    return condition


def field_of_each(
    node: Field, names: list[str], base: Node, source: Planned, scope: Bindings
) -> Planned:
    """A path through a list of events: the values of that field. Raises NotIncremental.

    names: the path from ``base``, whose plan is ``source``.
    """
    item = None if node.type is None else node.type.item
    if source.of is None or item is None or item.kind in COMPOSITE:
        kind_name = "object" if item is None else item.kind
        raise NotIncremental(node, f"a field of type {kind_name} of each event")
    kind_of_step = base.type
    for name in names:
        kind_of_step = child_type(kind_of_step, name)
        if kind_of_step is not None and kind_of_step.kind in ("array", "map"):
            raise NotIncremental(node, f"a field of type {kind_of_step.kind} of each event")
        kind_of_step = FieldType("array", item=kind_of_step)
    path = ".".join(names)
    inner = scope.bind(None, source.of)
    field = KeptField(Variable(inner.last), path, source.of, at=node.at, type=item)
    kind = FieldType("array", item=item)
    made = Each("map", source.node, field, (inner.last,), at=node.at, type=kind)
    return Planned(made, None, item)
