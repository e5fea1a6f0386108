"""Types of a rule, from the union of the schemas; errors that mark the wrong sub-expression.

Theory: one walk down the tree with the types of the elements and variables in scope, returning the
same tree with every ``type`` filled in. An unknown type (None) goes with everything, so without a
schema the walk accepts what the evaluator will judge by the values.

Rules for editors: what a function demands of its arguments and gives is one line of
``signatures.CALLS`` or one case of a method; RULES §2 and §3 are the source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from profile_actors.definitions.field_types import FieldType
from profile_actors.rules.language import signatures
from profile_actors.rules.language.field_paths import field_type
from profile_actors.rules.language.types import (
    Scope,
    Type,
    array_of,
    decimal_scale,
    described,
    join,
    map_of,
    numbers,
)
from profile_actors.rules.semantics import string_tests
from profile_actors.rules.tree.comparisons import COMPARISONS
from profile_actors.rules.tree.constants import BOOLEAN, DATE, DOUBLE, INTEGER, TIMESTAMP
from profile_actors.rules.tree.faults import Fault, located, nearest, split_name
from profile_actors.rules.tree.nodes import (
    Calendar,
    Call,
    Chain,
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
    Range,
    Root,
    Step,
    Variable,
)
from profile_actors.rules.tree.plan import STATES, WORDS, Key


def check(tree: Node, scope: Scope, expect: str | None = None, text: str = "") -> Node:
    """The same tree with its types. expect: 'segment', 'computed' (no event) or None.

    A segment's rule is boolean, or an array, which becomes the condition that it is not empty.
    text: the rule's source, for the marked line of an error. Cost: linear in the tree. Raises
    RuleError: unknown fields, segments or computed attributes (with the nearest name), operands of
    the wrong type, a result that is not what is expected.
    """
    try:
        made = _Checker(scope).of(tree, _Names())
        if expect == "segment" and made.type is not None and made.type.kind == "array":
            # A condition (RULES §1): true when it is not empty.
            return Call("and", (made,), at=tree.at, type=BOOLEAN)
        if expect == "segment" and scope.is_typed and made.type != BOOLEAN:
            raise Fault(
                f"expected a segment's rule to be boolean, got {described(made.type)}", tree.at
            )
        if expect == "computed" and scope.is_typed and made.type == scope.event:
            raise Fault(
                "expected a computed attribute of any type but an event; name one of its fields",
                tree.at,
            )
        return made
    except Fault as fault:
        is_told = "back-ticks" in fault.message
        hint = "" if is_told else split_name(text, fault.at)
        raise located(text, fault.at, fault.message + hint) from None


@dataclass(frozen=True, slots=True)
class _Names:
    """Types of the elements (innermost last) and variables; of a let's variable also the digits
    after the point if it is a number literal."""

    elements: tuple[Type, ...] = ()
    variables: Mapping[str, tuple[Type, int | None]] = field(default_factory=dict)

    def within(self, element: Type) -> _Names:
        return replace(self, elements=(*self.elements, element))

    def bind(self, name: str, type_: Type, scale: int | None = None) -> _Names:
        return replace(self, variables={**self.variables, name: (type_, scale)})


class _Checker:
    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    def of(self, node: Node, names: _Names) -> Node:
        """The node, typed."""
        return _METHODS[type(node)](self, node, names)

    def all(self, nodes: tuple[Node, ...], names: _Names) -> tuple[Node, ...]:
        return tuple(self.of(node, names) for node in nodes)

    def condition(self, node: Node, names: _Names) -> Node:
        made = self.of(node, names)
        signatures.condition(made)
        return made

    # Leaves and paths.

    def _literal(self, node: Literal, names: _Names) -> Node:
        scale = 0
        if isinstance(node.value, Decimal):
            scale = max(0, -int(node.value.as_tuple().exponent))
        return replace(node, type=FieldType(node.kind, scale=scale))

    def _items(self, node: Items, names: _Names) -> Node:
        items = self.all(node.items, names)
        item: Type = None
        for made in items:
            signatures.same(item, made.type, made.at)
            item = join(item, made.type)
        return replace(node, items=items, type=array_of(item))

    def _root(self, node: Root, names: _Names) -> Node:
        return replace(node, type=self.scope.profile)

    def _events(self, node: Events, names: _Names) -> Node:
        return replace(node, type=array_of(self.scope.event))

    def _element(self, node: Element, names: _Names) -> Node:
        return replace(node, type=names.elements[-1 - node.up])

    def _variable(self, node: Variable, names: _Names) -> Node:
        return replace(node, type=names.variables[node.name][0])

    def _published(self, key: Key, node: Node) -> None:
        state = self.scope.withheld.get(key)
        if state is not None:
            way = "publish it first" if state == "draft" else "publish it again first"
            raise Fault(
                f"expected a published {WORDS[key[0]]}, got {key[1]!r}, which is {STATES[state]};"
                f" rules read published ones only: {way}",
                node.at,
            )

    def _computed(self, node: Computed, names: _Names) -> Node:
        self._published(("computed", node.name), node)
        known = self.scope.computed
        if node.name not in known and self.scope.is_typed:
            hint = nearest(node.name, known)
            raise Fault(f"unknown computed attribute {node.name!r}{hint}", node.at)
        return replace(node, type=known.get(node.name))

    def _in_segment(self, node: InSegment, names: _Names) -> Node:
        self._published(("segment", node.name), node)
        known = self.scope.segments
        if known is not None and node.name not in known:
            raise Fault(f"unknown segment {node.name!r}{nearest(node.name, known)}", node.at)
        return replace(node, type=BOOLEAN)

    def _now(self, node: Now, names: _Names) -> Node:
        # A day word is its midnight and, under ``on``, the whole day: a date, whoever reads it.
        return replace(node, type=TIMESTAMP if node.kind == "now" else DATE)

    def _calendar(self, node: Calendar, names: _Names) -> Node:
        return replace(node, type=TIMESTAMP)

    def _field(self, node: Field, names: _Names) -> Node:
        # A path is typed from its start, so that an error can show and mend the whole of it.
        path = [node]
        while isinstance(path[-1].base, Field):
            path.append(path[-1].base)
        path.reverse()
        base = self.of(path[0].base, names)
        for position, part in enumerate(path):
            base = replace(part, base=base, type=field_type(self.scope, base, path, position))
        return base

    # Functions of values.

    def _call(self, node: Call, names: _Names) -> Node:
        args = self.all(node.args, names)
        function = node.function
        made = replace(node, args=args)
        if function in ("and", "or", "not"):
            for arg in args:
                signatures.condition(arg)
            return replace(made, type=BOOLEAN)
        if function in COMPARISONS:
            signatures.same(args[0].type, args[1].type, node.at)
            if function not in ("=", "!="):
                signatures.ordered(args[0])
                signatures.ordered(args[1])
            return replace(made, type=BOOLEAN)
        if function in ("+", "-", "*", "/", "%"):
            return replace(made, type=self._arithmetic(function, args, names))
        if function == "if":
            return replace(made, type=self._choice(args, names))
        if function in string_tests.TESTS:
            signatures.string(args[0])
            signatures.string(args[1])
            for flag in args[2:]:
                signatures.demand(flag, "boolean", "true or false (case-sensitive)")
            return replace(made, type=BOOLEAN)
        return replace(made, type=signatures.CALLS[function](args))

    def _literal_scale(self, node: Node, names: _Names) -> int | None:
        """Digits after the point if the node is a number literal (or a let's name for one)."""
        if isinstance(node, Variable):
            return names.variables[node.name][1]
        if isinstance(node, Literal) and node.kind == "double":
            return max(0, -int(Decimal(repr(node.value)).as_tuple().exponent))
        return None

    def _arithmetic(self, function: str, args: tuple[Node, ...], names: _Names) -> Type:
        for arg in args:
            signatures.number(arg)
        a, b = args[0].type, args[1].type
        if function == "/":
            return DOUBLE
        if a is None or b is None:
            return None
        scales = [self._literal_scale(arg, names) for arg in args]
        result = numbers(a, b, *scales)
        if function == "*" and result.kind == "decimal":
            parts = (decimal_scale(a, scales[0]), decimal_scale(b, scales[1]))
            return FieldType("decimal", scale=sum(part or 0 for part in parts))
        return result

    def _choice(self, args: tuple[Node, ...], names: _Names) -> Type:
        signatures.condition(args[0])
        yes, no = args[1].type, args[2].type
        scales = [self._literal_scale(arg, names) for arg in args[1:]]
        result = join(yes, no, *scales)
        if result is None and yes is not None:
            raise Fault(
                f"expected both values of `if` of one type, got {described(yes)}"
                f" and {described(no)}",
                args[2].at,
            )
        return result

    # Functions of an expression per element.

    def _each(self, node: Each, names: _Names) -> Node:
        source = self.of(node.source, names)
        extra = self.all(node.extra, names) if node.function != "mapentries" else node.extra
        made = replace(node, source=source, extra=extra)
        if node.function == "mapentries":
            return self._map_entries(made, names)
        element = signatures.element_of(source)
        inner = names.within(element)
        if node.variables:
            inner = names.bind(node.variables[0], element)
        body = self.of(node.body, inner)
        made = replace(made, body=body)
        match node.function:
            case "filter":
                signatures.condition(body)
                return replace(made, type=source.type)
            case "map":
                return replace(made, type=array_of(body.type))
            case "topn" | "bottomn":
                signatures.ordered(body)
                if extra[0].type not in (None, INTEGER):
                    raise signatures.wrong(extra[0], "a whole number of elements")
                return replace(made, type=source.type)
            case "groupby":
                signatures.map_key(body)
                return replace(made, type=map_of(body.type, array_of(element)))
        return replace(made, type=signatures.aggregate(node.function, body))

    def _map_entries(self, node: Each, names: _Names) -> Node:
        key, item = signatures.map_types(node.source)
        inner = names.bind(node.variables[0], key).bind(node.variables[1], item)
        body, value = self.of(node.body, inner), self.of(node.extra[0], inner)
        signatures.map_key(body)
        return replace(node, body=body, extra=(value,), type=map_of(body.type, value.type))

    # Bindings.

    def _let(self, node: Let, names: _Names) -> Node:
        value = self.of(node.value, names)
        scale = self._literal_scale(value, names)
        body = self.of(node.body, names.bind(node.name, value.type, scale))
        return replace(node, value=value, body=body, type=body.type)

    def _quantified(self, node: Quantified, names: _Names) -> Node:
        ranges: list[Range] = []
        for of in node.ranges:
            source = self.of(of.source, names)
            names = names.bind(of.name, signatures.element_of(source))
            where = None if of.condition is None else self.condition(of.condition, names)
            ranges.append(replace(of, source=source, condition=where, type=source.type))
        made = replace(node, ranges=tuple(ranges))
        if node.result is None:
            return replace(made, type=BOOLEAN)
        result = self.of(node.result, names)
        made = replace(made, result=result)
        if node.kind == "select":
            return replace(made, type=array_of(result.type))
        return replace(made, type=signatures.aggregate(node.kind, result))

    # Time.

    def _occurs(self, node: Occurs, names: _Names) -> Node:
        subject, time = self.of(node.subject, names), self.of(node.time, names)
        until = None if node.until is None else self.of(node.until, names)
        for part in (subject, time, *(() if until is None else (until,))):
            signatures.time(part)
        return replace(node, subject=subject, time=time, until=until, type=BOOLEAN)

    def _chain(self, node: Chain, names: _Names) -> Node:
        source = self.of(node.source, names)
        event = signatures.element_of(source)
        names = names.within(event)
        steps: list[Step] = []
        for step in node.steps:
            what = self.condition(step.what, names)
            when = None if step.when is None else self.of(step.when, names)
            steps.append(replace(step, what=what, when=when, type=BOOLEAN))
            names = names.bind(step.name, event)
        return replace(node, source=source, steps=tuple(steps), type=BOOLEAN)


_METHODS: dict[type[Node], Callable[[_Checker, Any, _Names], Node]] = {
    Literal: _Checker._literal,
    Items: _Checker._items,
    Root: _Checker._root,
    Events: _Checker._events,
    Element: _Checker._element,
    Variable: _Checker._variable,
    Computed: _Checker._computed,
    InSegment: _Checker._in_segment,
    Now: _Checker._now,
    Calendar: _Checker._calendar,
    Field: _Checker._field,
    Call: _Checker._call,
    Each: _Checker._each,
    Let: _Checker._let,
    Quantified: _Checker._quantified,
    Occurs: _Checker._occurs,
    Chain: _Checker._chain,
}
