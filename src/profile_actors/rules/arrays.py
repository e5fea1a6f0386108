"""Planning of what needs the events themselves: lists, maps, joins and sequences over kept events.

Theory: where ``streams`` sees no fold of one event at a time, the events that the rule reads are
*kept* per profile (``plan.Kept``), and the expression over them stays an expression, in a small
set of forms that ``frames`` evaluates: filter, map, topN, bottomN, groupBy, mapEntry, functions of
lists, let, and ``Sequence`` for CHAIN. Quantifiers and inline aggregates become counts and folds of
filters. Conditions on one event alone go into the filter of what is kept, so that only rows which
can matter are kept and touch a profile; a moving one becomes the window in which an event counts.

Refused (NotIncremental, hence rescanned): arrays inside events, lists of the profile, conditions of
CHAIN that move with the clock and read earlier steps, list literals as lists.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from profile_actors.definitions import FieldType
from profile_actors.rules.boundary import moves
from profile_actors.rules.filters import BOOLEAN, event_filter
from profile_actors.rules.normal import truth_of
from profile_actors.rules.plan import EventFilter, Kept, KeptField, Sequence, Stage
from profile_actors.rules.reading import reads
from profile_actors.rules.streams import (
    FOLDS,
    NotIncremental,
    Stream,
    StreamReader,
    child_type,
    refuse_composite,
    type_of,
)
from profile_actors.rules.tree import (
    Call,
    Chain,
    Computed,
    Each,
    Element,
    Events,
    Field,
    Items,
    Let,
    Literal,
    Node,
    Occurs,
    Quantified,
    Root,
    Variable,
)

INTEGER = FieldType("integer")
DOUBLE = FieldType("double")
ZERO = Literal(0, "integer", type=INTEGER)


class Scalars(Protocol):
    """The planner of what stands alone (``planner.RulePlanner``)."""

    reader: StreamReader

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
class Scope:
    """What names (levels: None) around an expression are, innermost last: (name in the rule, name
    in the plan, of as in Planned).

    In the plan every binding has a name of its own, by its depth: so an expression means the same
    wherever it is evaluated, and rules that differ in names only are equal.
    """

    entries: tuple[tuple[str | None, str, EventFilter | None], ...] = ()

    def bind(self, name: str | None, of: EventFilter | None) -> Scope:
        return Scope((*self.entries, (name, f"e{len(self.entries) + 1}", of)))

    def inside(self, variables: tuple[str, ...], of: EventFilter | None) -> Scope:
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


TOP = Scope()


class ArrayPlanner:
    """Plans expressions over lists of one rule."""

    def __init__(self, scalars: Scalars) -> None:
        self.scalars = scalars

    # -- scalars -----------------------------------------------------------------------------

    def value(self, node: Node, scope: Scope = TOP) -> Node:
        """A scalar expression, wherever it stands. Raises NotIncremental."""
        return self.expression(node, scope) if reads(node) else self.scalars.value(node)

    def expression(self, node: Node, scope: Scope = TOP) -> Node:
        """A scalar expression that is not one of single folds. Raises NotIncremental."""
        match node:
            case Variable() | Element():
                if _kind(node) in ("array", "map", "object", ""):
                    raise NotIncremental(node, "a list or event as a value")
                return scope.bound(node)[0]
            case Field():
                return self._field(node, scope)
            case Call():
                return self._call(node, scope)
            case Each(function=function) if function in FOLDS:
                mapped = replace(node, function="map")
                return self._fold(function, self._mapped(mapped, scope), node)
            case Quantified():
                return self._quantified(node, scope)
            case Chain():
                return self._sequence(node, scope)
            case Items(items=items):
                return replace(node, items=tuple(self.value(item, scope) for item in items))
            case Occurs():
                until = None if node.until is None else self.value(node.until, scope)
                subject, time = self.value(node.subject, scope), self.value(node.time, scope)
                return replace(node, subject=subject, time=time, until=until)
            case Let():
                made, inner, _ = self._let(node, scope)
                return replace(made, body=self.value(node.body, inner))
        raise NotIncremental(node, _REFUSED.get(type(node), "this kind of value"))

    def condition(self, node: Node, scope: Scope = TOP) -> Node:
        """A boolean that is never null; a list is true when it is not empty."""
        if _kind(node) == "array":
            return self._some(self.array(node, scope), node)
        return truth_of(self.value(node, scope))

    def _field(self, node: Field, scope: Scope) -> Node:
        base, path = _path(node)
        if _kind(base) == "map" and "." not in path:
            return self._get(node, base, Literal(path, "string", type=FieldType("string")), scope)
        if isinstance(base, Root) or _kind(base) != "object":
            raise NotIncremental(node, "a field of something other than an event")
        event = self.event(base, scope)
        if event.of is None:
            raise NotIncremental(node, "a field of something other than an event")
        refuse_composite(node, "of an event")
        return KeptField(event.node, path, event.of, at=node.at, type=node.type)

    def event(self, node: Node, scope: Scope) -> Planned:
        """What stands for one event, or none."""
        match node:
            case Variable() | Element():
                variable, of = scope.bound(node)
                return Planned(variable, of, None)
            case Call(function="head", args=(source,)):
                many = self.array(source, scope)
                return Planned(replace(node, args=(many.node,)), many.of, None)
            case Let():
                made, inner, _ = self._let(node, scope)
                body = self.event(node.body, inner)
                return Planned(replace(made, body=body.node), body.of, None)
        raise NotIncremental(node, f"{_origin(node)} as a value")

    def _call(self, node: Call, scope: Scope) -> Node:
        function, args = node.function, node.args
        if function in FOLDS:
            return self._fold(function, self.array(args[0], scope), node)
        if function in ("and", "or", "not"):
            return replace(node, args=tuple(self.condition(arg, scope) for arg in args))
        if function == "if":
            rest = (self.value(arg, scope) for arg in args[1:])
            return replace(node, args=(self.condition(args[0], scope), *rest))
        if function in ("in", "notin", "includes") and not isinstance(args[1], Items):
            return self._membership(node, scope)
        if function in ("intersects", "subsetof", "supersetof"):
            return self._compared_sets(node, scope)
        if function == "head":
            many = self._scalars(args[0], scope)
            return replace(node, args=(many.node,))
        if function == "get":
            return self._get(node, args[0], args[1], scope)
        if function in ("isnull", "isnotnull") and _kind(args[0]) == "object":
            event = self.event(args[0], scope)
            if isinstance(event.node, Call):
                some = _compare(">", _call("count", event.node.args[0], INTEGER, node), node)
                return some if function == "isnotnull" else _call("not", some, BOOLEAN, node)
        if any(_kind(arg) in ("array", "map", "object") for arg in args):
            raise NotIncremental(node, f"{function}() of a list, map or object")
        return replace(node, args=tuple(self.value(arg, scope) for arg in args))

    def _get(self, node: Node, base: Node, key: Node, scope: Scope) -> Node:
        mapped = self.map(base, scope)
        if _kind(node) in ("array", "map", "object", ""):
            raise NotIncremental(node, "a list of a map as a value")
        args = (mapped.node, self.value(key, scope))
        return Call("get", args, at=node.at, type=node.type)

    def _quantified(self, node: Quantified, scope: Scope) -> Node:
        first, *rest = node.ranges
        if node.kind not in ("exists", "forall"):
            return self._fold(node.kind, self._selected(node, scope), node)
        source = self.array(first.source, scope)
        variables = (first.name,)
        claims = [] if first.condition is None else [first.condition]
        if rest:
            claims.append(replace(node, ranges=tuple(rest), type=BOOLEAN))
        if node.kind == "exists":
            return self._some(self._filtered(source, claims, variables, scope), node)
        broken: list[Node] = [
            Call("not", (Call("and", tuple(claims), type=BOOLEAN),), at=node.at, type=BOOLEAN)
        ]
        if not claims:
            return Literal(True, "boolean", at=node.at, type=BOOLEAN)
        some = self._some(self._filtered(source, broken, variables, scope), node)
        return Call("not", (some,), at=node.at, type=BOOLEAN)

    # -- functions of lists ------------------------------------------------------------------

    def _some(self, many: Planned, node: Node) -> Node:
        return _compare(">", _call("count", many.node, INTEGER, node), node)

    def _fold(self, function: str, many: Planned, node: Node) -> Node:
        if function == "count":
            return _call("count", many.node, INTEGER, node)
        item = many.item
        if many.of is not None or item is None:
            raise NotIncremental(node, f"{function}() of whole events")
        if function in ("min", "max"):
            if item.kind not in (*_NUMBERS, "string", "timestamp", "date"):
                raise NotIncremental(node, f"{function}() of type {item.kind}")
            return _call(function, many.node, item, node)
        if item.kind not in _NUMBERS:
            raise NotIncremental(node, f"{function}() of type {item.kind}")
        total = _call("sum", many.node, item, node)
        if function == "sum":
            return total
        count = _call("count", many.node, INTEGER, node)
        return Call("/", (total, count), at=node.at, type=DOUBLE)

    def _membership(self, node: Call, scope: Scope) -> Node:
        item, source = node.args if node.function != "includes" else reversed(node.args)
        value = self.value(item, scope)
        some = self._includes(self._scalars(source, scope), value, node, scope)
        if node.function != "notin":
            return some
        known = Call("isnotnull", (value,), at=node.at, type=BOOLEAN)
        without = _call("not", some, BOOLEAN, node)
        return Call("and", (known, without), at=node.at, type=BOOLEAN)

    def _includes(self, many: Planned, value: Node, node: Node, scope: Scope) -> Node:
        """Whether an element equals the planned value."""
        inner = scope.bind(None, None)
        equal = Call("=", (Variable(inner.last, type=many.item), value), type=BOOLEAN)
        found = Each("filter", many.node, equal, (inner.last,), type=many.node.type)
        return _compare(">", _call("count", found, INTEGER, node), node)

    def _compared_sets(self, node: Call, scope: Scope) -> Node:
        a, b = node.args if node.function != "supersetof" else reversed(node.args)
        inside = node.function == "intersects"
        if isinstance(a, Items) and inside:
            a, b = b, a
        if isinstance(a, Items):
            others = self._scalars(b, scope)
            if not all(isinstance(item, Literal) for item in a.items):
                raise NotIncremental(a, "a list of computed values")
            claims = tuple(self._includes(others, item, node, scope) for item in a.items)
            return Call("and", claims or (_TRUE,), at=node.at, type=BOOLEAN)
        found = self._elements_in(a, b, inside, node, scope)
        some = _compare(">", _call("count", found.node, INTEGER, node), node)
        return some if inside else _call("not", some, BOOLEAN, node)

    def _elements_in(self, a: Node, b: Node, inside: bool, node: Node, scope: Scope) -> Planned:
        """The elements of a that are (or are not) in b."""
        many = self._scalars(a, scope)
        inner = scope.bind(None, None)
        item = Variable(inner.last, type=many.item)
        if isinstance(b, Items):
            items = tuple(self.value(part, scope) for part in b.items)
            hit: Node = Call("in", (item, replace(b, items=items)), at=node.at, type=BOOLEAN)
        else:
            hit = self._includes(self._scalars(b, scope), item, node, inner)
        condition = hit if inside else _call("not", hit, BOOLEAN, node)
        found = Each("filter", many.node, condition, (inner.last,), at=node.at, type=many.node.type)
        return Planned(found, None, many.item)

    def _scalars(self, node: Node, scope: Scope) -> Planned:
        """A list of scalars."""
        many = self.array(node, scope)
        if many.of is not None or many.item is None or many.item.kind in ("array", "object"):
            raise NotIncremental(node, "a list of whole events, or of lists, as values")
        return many

    # -- lists -------------------------------------------------------------------------------

    def array(self, node: Node, scope: Scope = TOP) -> Planned:
        """A list. Raises NotIncremental."""
        match node:
            case Events():
                events = event_filter(())
                kind = FieldType("array", item=FieldType("object"))
                return Planned(Kept(events, at=node.at, type=kind), events, None, ())
            case Each(function="filter"):
                source = self.array(node.source, scope)
                return self._filtered(source, [node.body], node.variables, scope)
            case Each(function="map"):
                return self._mapped(node, scope)
            case Each(function="topn" | "bottomn"):
                return self._best(node, scope)
            case Field():
                return self._fields(node, scope)
            case Quantified(kind="select"):
                return self._selected(node, scope)
            case Call():
                return self._list_of_call(node, scope)
            case Variable() | Element():
                item = None if node.type is None else node.type.item
                variable, of = scope.bound(node)
                return Planned(variable, of, None if of is not None else item)
            case Let():
                made, inner, _ = self._let(node, scope)
                body = self.array(node.body, inner)
                return Planned(replace(made, body=body.node), body.of, body.item)
            case Computed():
                root = self.scalars.reference(node)
                return Planned(root, None, None if root.type is None else root.type.item)
        raise NotIncremental(node, _origin(node))

    def _filtered(
        self, source: Planned, conditions: list[Node], variables: tuple[str, ...], scope: Scope
    ) -> Planned:
        """The elements that meet the conditions; what can be asked of one event alone when it
        comes, is."""
        rest: list[Node] = []
        pushed = source.conditions
        for part in (p for condition in conditions for p in _conjuncts(condition)):
            alone = None if pushed is None else self._alone(part, variables, pushed)
            if alone is None or pushed is None:
                rest.append(part)
            else:
                pushed = (*pushed, alone)
        node, of = source.node, source.of
        if pushed is not None:
            of = event_filter(pushed)
            node = Kept(of, at=source.node.at, type=source.node.type)
        if not rest:
            return Planned(node, of, source.item, pushed)
        inner = scope.inside(variables, of)
        claims = tuple(self.condition(part, inner) for part in rest)
        body = claims[0] if len(claims) == 1 else Call("and", claims, at=rest[0].at, type=BOOLEAN)
        found = Each("filter", node, body, (inner.last,), at=node.at, type=node.type)
        return Planned(found, of, source.item)

    def _alone(
        self, part: Node, variables: tuple[str, ...], others: tuple[Node, ...]
    ) -> Node | None:
        """The condition as one on ``Element(0)``, if it reads one event and at most a window."""
        if reads(part) - {variables[0] if variables else 0}:
            return None
        try:
            condition = self.scalars.reader.condition(part, variables, Stream())
            event_filter((*others, condition))
        except NotIncremental:
            return None
        return condition

    def _mapped(self, node: Each, scope: Scope) -> Planned:
        return self._taken(self.array(node.source, scope), node.body, node.variables, node, scope)

    def _taken(
        self, source: Planned, body: Node, variables: tuple[str, ...], node: Node, scope: Scope
    ) -> Planned:
        """map: an expression of each element."""
        inner = scope.inside(variables, source.of)
        kind = _kind(body)
        if kind == "object":
            made = self.event(body, inner)
        elif kind == "array":
            made = self.array(body, inner)
            made = Planned(made.node, made.of, made.node.type)
        elif kind == "map":
            raise NotIncremental(body, "a list of maps")
        else:
            value = self.value(body, inner)
            made = Planned(value, None, type_of(value))
        item = made.item if made.item is not None else FieldType("object")
        found = Each(
            "map", source.node, made.node, (inner.last,), at=node.at,
            type=FieldType("array", item=item),
        )  # fmt: skip
        return Planned(found, made.of if kind != "array" else None, made.item)

    def _best(self, node: Each, scope: Scope) -> Planned:
        source = self.array(node.source, scope)
        inner = scope.inside(node.variables, source.of)
        key = self.value(node.body, inner)
        amount = node.extra[0]
        if not isinstance(amount, Literal) or type_of(key).kind == "boolean":
            raise NotIncremental(node, "topN or bottomN of a computed number")
        found = replace(
            node, source=source.node, body=key, variables=(inner.last,), type=source.node.type
        )
        return Planned(found, source.of, source.item)

    def _fields(self, node: Field, scope: Scope) -> Planned:
        """A path through a list of events: the values of that field."""
        names = [node.name]
        base: Node = node.base
        while isinstance(base, Field) and _kind(base) in ("array", "object"):
            names.append(base.name)
            base = base.base
        if isinstance(base, Root) or _kind(base) != "array":
            raise NotIncremental(node, _origin(node))
        source = self.array(base, scope)
        item = None if node.type is None else node.type.item
        if source.of is None or item is None or item.kind in ("array", "map", "object"):
            kind_name = "object" if item is None else item.kind
            raise NotIncremental(node, f"a field of type {kind_name} of each event")
        kind_of_step = base.type
        for name in reversed(names):
            kind_of_step = child_type(kind_of_step, name)
            if kind_of_step is not None and kind_of_step.kind in ("array", "map"):
                raise NotIncremental(node, f"a field of type {kind_of_step.kind} of each event")
            kind_of_step = FieldType("array", item=kind_of_step)
        path = ".".join(reversed(names))
        inner = scope.bind(None, source.of)
        field = KeptField(Variable(inner.last), path, source.of, at=node.at, type=item)
        kind = FieldType("array", item=item)
        made = Each("map", source.node, field, (inner.last,), at=node.at, type=kind)
        return Planned(made, None, item)

    def _selected(self, node: Quantified, scope: Scope) -> Planned:
        first = node.ranges[0]
        conditions = [] if first.condition is None else [first.condition]
        source = self.array(first.source, scope)
        found = self._filtered(source, conditions, (first.name,), scope)
        if node.result is None or node.result == Variable(first.name):
            return found
        return self._taken(found, node.result, (first.name,), node, scope)

    def _list_of_call(self, node: Call, scope: Scope) -> Planned:
        function = node.function
        if function == "distinct":
            many = self._scalars(node.args[0], scope)
            made = replace(node, args=(many.node,), type=many.node.type)
            return Planned(made, None, many.item)
        if function == "intersection":
            return self._elements_in(node.args[0], node.args[1], True, node, scope)
        if function in ("keys", "values", "get"):
            mapped = self.map(node.args[0], scope)
            rest = tuple(self.value(arg, scope) for arg in node.args[1:])
            made = replace(node, args=(mapped.node, *rest))
            item = None if node.type is None else node.type.item
            if function == "keys":
                return Planned(made, None, item)
            return Planned(made, mapped.of if function == "get" else None, item)
        raise NotIncremental(node, f"{function}() of lists")

    # -- maps --------------------------------------------------------------------------------

    def map(self, node: Node, scope: Scope = TOP) -> Planned:
        """A map; of: the events in the lists that are its values."""
        match node:
            case Each(function="groupby"):
                source = self.array(node.source, scope)
                inner = scope.inside(node.variables, source.of)
                key = self.value(node.body, inner)
                made = replace(node, source=source.node, body=key, variables=(inner.last,))
                return Planned(made, source.of, None)
            case Each(function="mapentries"):
                return self._entries(node, scope)
            case Let():
                bound, inner, _ = self._let(node, scope)
                body = self.map(node.body, inner)
                return Planned(replace(bound, body=body.node), body.of, None)
            case Variable():
                variable, of = scope.bound(node)
                return Planned(variable, of, None)
            case Computed():
                return Planned(self.scalars.reference(node), None, None)
        raise NotIncremental(node, _origin(node))

    def _entries(self, node: Each, scope: Scope) -> Planned:
        source = self.map(node.source, scope)
        key_name, value_name = node.variables
        first = scope.bind(key_name, None)
        inner = first.bind(value_name, source.of)
        key, of = self.value(node.body, inner), None
        kind = _kind(node.extra[0])
        if kind == "array":
            many = self.array(node.extra[0], inner)
            value, of = many.node, many.of
        elif kind in ("map", "object"):
            raise NotIncremental(node.extra[0], "a map of maps or objects")
        else:
            value = self.value(node.extra[0], inner)
        names = (first.last, inner.last)
        made = replace(node, source=source.node, body=key, extra=(value,), variables=names)
        return Planned(made, of, None)

    # -- bindings, sequences -----------------------------------------------------------------

    def _let(self, node: Let, scope: Scope) -> tuple[Let, Scope, Planned]:
        """The let with its value planned and its name renamed, and the scope of its body."""
        kind = _kind(node.value)
        if kind == "array":
            found = self.array(node.value, scope)
        elif kind == "map":
            found = self.map(node.value, scope)
        elif kind == "object":
            found = self.event(node.value, scope)
        else:
            found = Planned(self.value(node.value, scope), None, None)
        inner = scope.bind(node.name, found.of)
        return replace(node, name=inner.last, value=found.node), inner, found

    def _sequence(self, node: Chain, scope: Scope) -> Node:
        base = self.array(node.source, scope)
        if base.of is None:
            raise NotIncremental(node, "a sequence of something other than events")
        stages: list[Stage] = []
        within, earlier = scope, set[str]()
        for step in node.steps:
            parts = [p for c in (step.what, step.when) if c is not None for p in _conjuncts(c)]
            own = [part for part in parts if not reads(part) & earlier]
            found = self._filtered(base, own, (), scope)
            # The step's own event is a level to its conditions, and a name to later ones.
            inner = within.bind(None, found.of)
            rest = [part for part in parts if reads(part) & earlier]
            claims = tuple(self.condition(part, inner) for part in rest)
            for part, claim_of_part in zip(rest, claims, strict=True):
                if moves(claim_of_part):
                    raise NotIncremental(
                        part,
                        "a CHAIN condition that reads an earlier step and moves with the clock",
                    )
            claim = None if not claims else Call("and", claims, at=step.at, type=BOOLEAN)
            stages.append(Stage(inner.last, found.node, claim, step.count, at=step.at))
            within = within.bind(step.name, found.of)
            earlier.add(step.name)
        return Sequence(tuple(stages), at=node.at, type=BOOLEAN)


_NUMBERS = ("integer", "double", "decimal")
_TRUE = Literal(True, "boolean", type=BOOLEAN)
_REFUSED: dict[type, str] = {Root: "the whole profile as a value"}


def _kind(node: Node) -> str:
    return "" if node.type is None else node.type.kind


def _origin(node: Node) -> str:
    """What a list, map or object is that no kept event gives, in words."""
    kind = _kind(node) or "list"
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


def _path(node: Field) -> tuple[Node, str]:
    """What a chain of fields begins at, and its dotted path."""
    names = [node.name]
    base = node.base
    while isinstance(base, Field) and _kind(base) == "object":
        names.append(base.name)
        base = base.base
    return base, ".".join(reversed(names))


def _conjuncts(node: Node) -> list[Node]:
    if isinstance(node, Call) and node.function == "and":
        return [part for arg in node.args for part in _conjuncts(arg)]
    return [node]


def _call(function: str, arg: Node, kind: FieldType, at: Node) -> Call:
    return Call(function, (arg,), at=at.at, type=kind)


def _compare(operator: str, count: Node, at: Node) -> Call:
    return Call(operator, (count, ZERO), at=at.at, type=BOOLEAN)
