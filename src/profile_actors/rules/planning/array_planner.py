"""Planning of what needs the events themselves: values and lists over kept events.

Theory: where ``event_folds`` sees no fold of one event at a time, the events that the rule reads
are *kept* per profile (``plan.Kept``), and the expression over them stays an expression, in a small
set of forms that ``frames`` evaluates: filter, map, topN, bottomN, groupBy, mapEntry, functions of
lists, let, and ``Sequence`` for CHAIN. Quantifiers and inline aggregates become counts and folds of
filters. Conditions on one event alone go into the filter of what is kept, so that only rows which
can matter are kept and touch a profile; a moving one becomes the window in which an event counts.

Maps are planned by ``map_planner``, CHAIN by ``chain_planner``; both ask this walk for what stands
inside them. Refused (NotIncremental, hence rescanned): arrays inside events, lists of the profile,
list literals as lists.
"""

from __future__ import annotations

from dataclasses import replace

from profile_actors.definitions.field_types import COMPOSITE, FieldType
from profile_actors.rules.planning.canonical import truth_of
from profile_actors.rules.planning.chain_planner import sequence
from profile_actors.rules.planning.event_filters import event_filter
from profile_actors.rules.planning.event_folds import (
    FOLDS,
    is_composite,
    refuse_composite,
    type_of,
)
from profile_actors.rules.planning.map_planner import looked_up, planned_map
from profile_actors.rules.planning.planned_lists import (
    TOP,
    Bindings,
    Planned,
    Scalars,
    call_of,
    elements_in,
    field_of_each,
    folded,
    includes,
    kind_word,
    member,
    of_one_event,
    origin,
    path_of,
    some,
)
from profile_actors.rules.tree.constants import BOOLEAN, STRING, TRUE
from profile_actors.rules.tree.faults import NotIncremental
from profile_actors.rules.tree.free_names import reads
from profile_actors.rules.tree.nodes import (
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
from profile_actors.rules.tree.plan import Kept, KeptField
from profile_actors.rules.tree.walks import conjuncts


class ArrayPlanner:
    """Plans expressions over lists of one rule."""

    def __init__(self, scalars: Scalars) -> None:
        self.scalars = scalars

    # -- scalars -----------------------------------------------------------------------------

    def value(self, node: Node, scope: Bindings = TOP) -> Node:
        """A scalar expression, wherever it stands. Raises NotIncremental."""
        return self.expression(node, scope) if reads(node) else self.scalars.value(node)

    def expression(self, node: Node, scope: Bindings = TOP) -> Node:
        """A scalar expression that is not one of single folds. Raises NotIncremental."""
        match node:
            case Variable() | Element():
                if kind_word(node) in (*COMPOSITE, ""):
                    raise NotIncremental(node, "a list or event as a value")
                return scope.bound(node)[0]
            case Field():
                return self._field(node, scope)
            case Call():
                return self._call(node, scope)
            case Each(function=function) if function in FOLDS:
                mapped = replace(node, function="map")
                return folded(function, self._mapped(mapped, scope), node)
            case Quantified():
                return self._quantified(node, scope)
            case Chain():
                return sequence(node, scope, self)
            case Occurs():
                until = None if node.until is None else self.value(node.until, scope)
                subject, time = self.value(node.subject, scope), self.value(node.time, scope)
                return replace(node, subject=subject, time=time, until=until)
            case Let():
                made, inner = self.let(node, scope)
                return replace(made, body=self.value(node.body, inner))
        raise NotIncremental(node, _REFUSED.get(type(node), "this kind of value"))

    def condition(self, node: Node, scope: Bindings = TOP) -> Node:
        """A boolean that is never null; a list is true when it is not empty."""
        if kind_word(node) == "array":
            return some(self.array(node, scope).node, node)
        return truth_of(self.value(node, scope))

    def _field(self, node: Field, scope: Bindings) -> Node:
        base, path = path_of(node)
        if kind_word(base) == "map" and "." not in path:
            key = Literal(path, "string", type=STRING)
            return looked_up(node, base, key, scope, self)
        if isinstance(base, Root) or kind_word(base) != "object":
            raise NotIncremental(node, "a field of something other than an event")
        event = self.event(base, scope)
        if event.of is None:
            raise NotIncremental(node, "a field of something other than an event")
        refuse_composite(node, "of an event")
        return KeptField(event.node, path, event.of, at=node.at, type=node.type)

    def event(self, node: Node, scope: Bindings) -> Planned:
        """What stands for one event, or none."""
        match node:
            case Variable() | Element():
                variable, of = scope.bound(node)
                return Planned(variable, of, None)
            case Call(function="head", args=(source,)):
                many = self.array(source, scope)
                return Planned(replace(node, args=(many.node,)), many.of, None)
            case Let():
                made, inner = self.let(node, scope)
                body = self.event(node.body, inner)
                return Planned(replace(made, body=body.node), body.of, None)
        raise NotIncremental(node, f"{origin(node)} as a value")

    def _call(self, node: Call, scope: Bindings) -> Node:
        function, args = node.function, node.args
        if function in FOLDS:
            return folded(function, self.array(args[0], scope), node)
        if function in ("and", "or", "not"):
            return replace(node, args=tuple(self.condition(arg, scope) for arg in args))
        if function == "if":
            rest = (self.value(arg, scope) for arg in args[1:])
            return replace(node, args=(self.condition(args[0], scope), *rest))
        if function in ("in", "notin", "includes"):
            return self._membership(node, scope)
        if function in ("intersects", "subsetof", "supersetof"):
            return self._compared_sets(node, scope)
        if function == "head":
            many = self._scalars(args[0], scope)
            return replace(node, args=(many.node,))
        if function == "get":
            return looked_up(node, args[0], args[1], scope, self)
        if function in ("isnull", "isnotnull") and kind_word(args[0]) == "object":
            event = self.event(args[0], scope)
            if isinstance(event.node, Call):
                any_ = some(event.node.args[0], node)
                return any_ if function == "isnotnull" else call_of("not", any_, BOOLEAN, node)
        if any(map(is_composite, args)):
            raise NotIncremental(node, f"{function}() of a list, map or object")
        return replace(node, args=tuple(self.value(arg, scope) for arg in args))

    def _quantified(self, node: Quantified, scope: Bindings) -> Node:
        first, *rest = node.ranges
        if node.kind not in ("exists", "forall"):
            return folded(node.kind, self._selected(node, scope), node)
        source = self.array(first.source, scope)
        variables = (first.name,)
        claims = [] if first.condition is None else [first.condition]
        if rest:
            claims.append(replace(node, ranges=tuple(rest), type=BOOLEAN))
        if node.kind == "exists":
            return some(self.filtered(source, claims, variables, scope).node, node)
        broken: list[Node] = [
            Call("not", (Call("and", tuple(claims), type=BOOLEAN),), at=node.at, type=BOOLEAN)
        ]
        if not claims:
            return Literal(True, "boolean", at=node.at, type=BOOLEAN)
        counter = some(self.filtered(source, broken, variables, scope).node, node)
        return Call("not", (counter,), at=node.at, type=BOOLEAN)

    # -- functions of lists ------------------------------------------------------------------

    def _membership(self, node: Call, scope: Bindings) -> Node:
        item, source = node.args if node.function != "includes" else reversed(node.args)
        return member(self._among(source, scope), self.value(item, scope), node, scope)

    def _among(self, node: Node, scope: Bindings) -> Planned | Items:
        """A list of scalars to look in, or the literal of one."""
        if not isinstance(node, Items):
            return self._scalars(node, scope)
        return replace(node, items=tuple(self.value(item, scope) for item in node.items))

    def _compared_sets(self, node: Call, scope: Bindings) -> Node:
        a, b = node.args if node.function != "supersetof" else reversed(node.args)
        inside = node.function == "intersects"
        if isinstance(a, Items) and inside:
            a, b = b, a
        if isinstance(a, Items):
            others = self._scalars(b, scope)
            if not all(isinstance(item, Literal) for item in a.items):
                raise NotIncremental(a, "a list of computed values")
            claims = tuple(includes(others, item, node, scope) for item in a.items)
            return Call("and", claims or (TRUE,), at=node.at, type=BOOLEAN)
        found = some(self._elements_in(a, b, inside, node, scope).node, node)
        return found if inside else call_of("not", found, BOOLEAN, node)

    def _elements_in(self, a: Node, b: Node, inside: bool, node: Node, scope: Bindings) -> Planned:
        """The elements of a that are (or are not) in b."""
        return elements_in(self._scalars(a, scope), self._among(b, scope), inside, node, scope)

    def _scalars(self, node: Node, scope: Bindings) -> Planned:
        """A list of scalars."""
        many = self.array(node, scope)
        if many.of is not None or many.item is None or many.item.kind in ("array", "object"):
            raise NotIncremental(node, "a list of whole events, or of lists, as values")
        return many

    # -- lists -------------------------------------------------------------------------------

    def array(self, node: Node, scope: Bindings = TOP) -> Planned:
        """A list. Raises NotIncremental."""
        match node:
            case Events():
                seen = self.scalars.sight.conditions
                events = event_filter(seen, self.scalars.sight.view.single)
                kind = FieldType("array", item=FieldType("object"))
                return Planned(Kept(events, at=node.at, type=kind), events, None, seen)
            case Each(function="filter"):
                source = self.array(node.source, scope)
                return self.filtered(source, [node.body], node.variables, scope)
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
                made, inner = self.let(node, scope)
                body = self.array(node.body, inner)
                return Planned(replace(made, body=body.node), body.of, body.item)
            case Computed():
                root = self.scalars.reference(node)
                return Planned(root, None, None if root.type is None else root.type.item)
        raise NotIncremental(node, origin(node))

    def filtered(
        self, source: Planned, conditions: list[Node], variables: tuple[str, ...], scope: Bindings
    ) -> Planned:
        """The elements that meet the conditions; what can be asked of one event alone when it
        comes, is."""
        rest: list[Node] = []
        pushed = source.conditions
        for part in (p for condition in conditions for p in conjuncts(condition)):
            finder = self.scalars.finder
            alone = None if pushed is None else of_one_event(finder, part, variables, pushed)
            if alone is None or pushed is None:
                rest.append(part)
            else:
                pushed = (*pushed, alone)
        node, of = source.node, source.of
        if pushed is not None:
            of = event_filter(pushed, self.scalars.sight.view.single)
            node = Kept(of, at=source.node.at, type=source.node.type)
        if not rest:
            return Planned(node, of, source.item, pushed)
        inner = scope.inside(variables, of)
        claims = tuple(self.condition(part, inner) for part in rest)
        body = claims[0] if len(claims) == 1 else Call("and", claims, at=rest[0].at, type=BOOLEAN)
        found = Each("filter", node, body, (inner.last,), at=node.at, type=node.type)
        return Planned(found, of, source.item)

    def _mapped(self, node: Each, scope: Bindings) -> Planned:
        return self._taken(self.array(node.source, scope), node.body, node.variables, node, scope)

    def _taken(
        self, source: Planned, body: Node, variables: tuple[str, ...], node: Node, scope: Bindings
    ) -> Planned:
        """map: an expression of each element."""
        inner = scope.inside(variables, source.of)
        kind = kind_word(body)
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

    def _best(self, node: Each, scope: Bindings) -> Planned:
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

    def _fields(self, node: Field, scope: Bindings) -> Planned:
        """A path through a list of events: the values of that field."""
        names = [node.name]
        base: Node = node.base
        while isinstance(base, Field) and kind_word(base) in ("array", "object"):
            names.append(base.name)
            base = base.base
        if isinstance(base, Root) or kind_word(base) != "array":
            raise NotIncremental(node, origin(node))
        return field_of_each(node, names[::-1], base, self.array(base, scope), scope)

    def _selected(self, node: Quantified, scope: Bindings) -> Planned:
        first = node.ranges[0]
        conditions = [] if first.condition is None else [first.condition]
        source = self.array(first.source, scope)
        found = self.filtered(source, conditions, (first.name,), scope)
        if node.result is None or node.result == Variable(first.name):
            return found
        return self._taken(found, node.result, (first.name,), node, scope)

    def _list_of_call(self, node: Call, scope: Bindings) -> Planned:
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

    # -- maps, bindings ----------------------------------------------------------------------

    def map(self, node: Node, scope: Bindings = TOP) -> Planned:
        """A map; of: the events in the lists that are its values. Raises NotIncremental."""
        return planned_map(node, scope, self)

    def let(self, node: Let, scope: Bindings) -> tuple[Let, Bindings]:
        """The let with its value planned and its name renamed, and the scope of its body."""
        kind = kind_word(node.value)
        if kind == "array":
            found = self.array(node.value, scope)
        elif kind == "map":
            found = self.map(node.value, scope)
        elif kind == "object":
            found = self.event(node.value, scope)
        else:
            found = Planned(self.value(node.value, scope), None, None)
        inner = scope.bind(node.name, found.of)
        return replace(node, name=inner.last, value=found.node), inner


_REFUSED: dict[type, str] = {Root: "the whole profile as a value"}
