"""The reference evaluator: one walk over a rule's tree, for one profile at one instant.

Theory: each node type has one method, each says what RULES.md says and nothing else. Nothing is
shared between evaluations but ``Occasions``. Whatever was read that moves with the clock is
registered with the run's Horizon (moving.py); short circuits skip what was not needed, so the
horizon speaks of exactly what this value depends on.

Rules for editors: obvious before fast. Errors are Faults at a node's offset.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from profile_actors.definitions.field_types import FieldType
from profile_actors.rules.reference import array_functions, chain_search
from profile_actors.rules.reference.array_functions import array
from profile_actors.rules.reference.moving_numbers import moving_part, standing
from profile_actors.rules.reference.moving_values import (
    FOR_EVER,
    OFFSETS,
    Horizon,
    Moving,
)
from profile_actors.rules.reference.occasions import (
    Occasions,
    Time,
    calendar_time,
    instant_time,
)
from profile_actors.rules.reference.scalar_functions import (
    _SIMPLE,
    _inexact,
    _string_test,
    child,
    time,
)
from profile_actors.rules.reference.world import TOP, Around, World
from profile_actors.rules.semantics import scalar_operators, string_tests
from profile_actors.rules.semantics.calendar import word_instant
from profile_actors.rules.semantics.values import Day, ExactNumber, Instant, MapValue, Value, lift
from profile_actors.rules.tree import comparisons
from profile_actors.rules.tree.faults import Fault
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
    Root,
    Variable,
)

_DATE_PARTS = {"getyear": "year", "getmonth": "month", "getdayofmonth": "day"}


_CURRENT = {"currentyear": "year", "currentmonth": "month", "currentdayofmonth": "day"}


_AGGREGATES: dict[str, Callable[[list[Value]], Value]] = {
    "count": len,
    "sum": scalar_operators.total,
    "average": scalar_operators.average,
    "min": lambda values: scalar_operators.extreme(values, -1),
    "max": lambda values: scalar_operators.extreme(values, 1),
}


def truth(value: Value) -> bool:
    """A condition: null is false, an array is true when not empty. Raises Fault for others."""
    if value is None or isinstance(value, bool):
        return bool(value)
    if isinstance(value, list):
        return bool(value)
    raise Fault(f"expected a condition, got {scalar_operators.described(value)}")


def _scalar(type_: FieldType) -> FieldType:
    """What lists and maps of the type hold in the end."""
    while type_.item is not None:
        type_ = type_.item
    return type_


class Evaluator:
    """Evaluates trees in one world at the horizon's now."""

    def __init__(self, world: World, horizon: Horizon, occasions: Occasions) -> None:
        self.world = world
        self.horizon = horizon
        self.occasions = occasions

    def value(self, node: Node, around: Around) -> Value:
        """The node's value. Raises Fault at the innermost node that is wrong."""
        try:
            return _METHODS[type(node)](self, node, around)
        except Fault as fault:
            if fault.at is None:
                fault.at = node.at
            raise

    def condition(self, node: Node, around: Around) -> bool:
        value = self.value(node, around)
        try:
            return truth(value)
        except Fault as fault:
            fault.at = node.at
            raise

    # Leaves.

    def _literal(self, node: Literal, around: Around) -> Value:
        if node.kind == "timestamp":
            return Instant(int(node.value))
        if node.kind == "date":
            return Day(int(node.value))
        return ExactNumber(node.value) if node.kind == "double" else node.value

    def _items(self, node: Items, around: Around) -> Value:
        values = [self.value(item, around) for item in node.items]
        return [value for value in values if value is not None]

    def _root(self, node: Root, around: Around) -> Value:
        return self.world.profile

    def _events(self, node: Events, around: Around) -> Value:
        self.horizon.add(self.world.next_event)
        return list(self.world.events)

    def _element(self, node: Element, around: Around) -> Value:
        return around.elements[-1 - node.up]

    def _variable(self, node: Variable, around: Around) -> Value:
        return around.names[node.name]

    def _computed(self, node: Computed, around: Around) -> Value:
        value, until = self.world.computed.get(node.name, (None, FOR_EVER))
        self.horizon.join(until)
        if node.type is not None and _scalar(node.type).kind in ("double", "decimal"):
            self.horizon.fix(value)  # as such a number it moves no more
        return lift(value, node.type)

    def _in_segment(self, node: InSegment, around: Around) -> Value:
        realized, until = self.world.segments.get(node.name, (False, FOR_EVER))
        self.horizon.join(until)
        return realized

    def _now(self, node: Now, around: Around) -> Value:
        ms = word_instant(node.kind, self.horizon.now)
        return None if ms is None else Moving(ms, node.kind)

    def _field(self, node: Field, around: Around) -> Value:
        return child(self.value(node.base, around), node.name, node.type)

    # Functions of values.

    def _call(self, node: Call, around: Around) -> Value:
        function, args = node.function, node.args
        if function in ("and", "or"):
            return self._junction(function == "or", args, around)
        if function == "not":
            return not self.condition(args[0], around)
        if function == "if":
            return self._choice(node, around)
        values = [self.value(arg, around) for arg in args]
        if function in comparisons.COMPARISONS:
            self.horizon.compared(function, *values)
            return scalar_operators.compare(function, *values)
        if function in ("+", "-", "*", "/", "%"):
            made = partial(scalar_operators.arithmetic, function)
            return self.horizon.computed(function, made, values)
        if function in string_tests.TESTS:
            return _string_test(function, values)
        if function in _AGGREGATES:
            return self._aggregate(function, array(values[0]))
        if function in _CURRENT:
            return moving_part(_CURRENT[function], self.horizon.now, 0)
        if function in _DATE_PARTS:
            return self._date_part(_DATE_PARTS[function], values[0])
        if function in array_functions.FUNCTIONS:
            return array_functions.FUNCTIONS[function](values, self.horizon)
        return _SIMPLE[function](self.horizon, values)

    def _junction(self, stop: bool, args: tuple[Node, ...], around: Around) -> bool:
        for arg in args:
            if self.condition(arg, around) is stop:
                return stop
        return not stop

    def _choice(self, node: Call, around: Around) -> Value:
        test, yes, no = node.args
        chosen = self.value(yes if self.condition(test, around) else no, around)
        if node.type is not None and node.type.kind in ("double", "decimal"):
            return lift(self.horizon.fix(chosen), node.type)
        return _inexact(chosen)

    def _date_part(self, part: str, value: Value) -> Value:
        if value is None:
            return None
        if isinstance(value, Moving):
            return moving_part(part, self.horizon.now, OFFSETS[value.word])
        return standing(moving_part(part, time(value).ms, 0)) or 0

    def _aggregate(self, function: str, values: list[Value]) -> Value:
        if function in ("min", "max"):
            self.horizon.among(values)
        elif function != "count":
            made = _AGGREGATES[function]
            return _inexact(self.horizon.computed(function, lambda *v: made([*v]), values))
        return _inexact(_AGGREGATES[function](values))

    # Functions of an expression per element.

    def _each(self, node: Each, around: Around) -> Value:
        source = self.value(node.source, around)
        if node.function == "mapentries":
            return self._map_entries(node, source, around)
        if node.function == "filter":
            return self._filter(node, array(source), around)
        pairs = [(e, self.value(node.body, self._of(node, e, around))) for e in array(source)]
        pairs = [(e, value) for e, value in pairs if value is not None]
        if node.function in ("topn", "bottomn"):
            count = self.value(node.extra[0], around)
            sign = 1 if node.function == "topn" else -1
            return array_functions.ordered(pairs, count, sign, self.horizon)
        if node.function == "groupby":
            return array_functions.grouped(pairs, self.horizon)
        values = [value for _, value in pairs]
        return values if node.function == "map" else self._aggregate(node.function, values)

    def _filter(self, node: Each, source: list[Value], around: Around) -> list[Value]:
        alone = isinstance(node.source, Events) and around == TOP
        return [e for e in source if self._holds_of(e, node.body, self._of(node, e, around), alone)]

    def _holds_of(self, element: Value, condition: Node, around: Around, alone: bool) -> bool:
        """A condition on an element. alone: the element is an event and the condition sees nothing
        else that was bound, so its truth lasts until its own horizon, over the evaluations of a
        run too: what makes stepping through a window's boundaries affordable."""
        if not alone:
            return self.condition(condition, around)
        key = (id(condition), id(element))
        outer = self.horizon
        found = self.occasions.known.get(key)
        if found is None or (found[1].first is not None and found[1].first <= outer.now):
            self.horizon = Horizon(outer.now, outer.limit, outer.turns)
            found = self.condition(condition, around), self.horizon.bound
            self.horizon = outer
            self.occasions.known[key] = found
        outer.join(found[1])
        return found[0]

    @staticmethod
    def _of(node: Each, element: Value, around: Around) -> Around:
        element = _inexact(element)
        if node.variables:
            return around.bind(node.variables[0], element)
        return around.within(element)

    def _map_entries(self, node: Each, source: Value, around: Around) -> Value:
        made = MapValue()
        keys: list[Value] = []
        for key, value in array_functions.map_items(source):
            inner = around.bind(node.variables[0], key).bind(node.variables[1], value)
            new_key = self.value(node.body, inner)
            keys.append(new_key)
            made.put(array_functions.checked_key(new_key), self.value(node.extra[0], inner))
        self.horizon.among(keys)
        return made

    # Bindings.

    def _let(self, node: Let, around: Around) -> Value:
        return self.value(node.body, around.bind(node.name, self.value(node.value, around)))

    def _quantified(self, node: Quantified, around: Around) -> Value:
        if node.kind in ("exists", "forall"):
            return self._claim(node, 0, around)
        of = node.ranges[0]
        assert node.result is not None
        values: list[Value] = []
        alone = isinstance(of.source, Events) and around == TOP
        for element in array(self.value(of.source, around)):
            inner = around.bind(of.name, _inexact(element))
            if of.condition is None or self._holds_of(element, of.condition, inner, alone):
                value = self.value(node.result, inner)
                if value is not None:
                    values.append(value)
        return values if node.kind == "select" else self._aggregate(node.kind, values)

    def _claim(self, node: Quantified, index: int, around: Around) -> bool:
        """exists: some choice of elements meets all conditions; forall: C1 holds of every E, C2 of
        every I of every E, and so on."""
        found = node.kind == "exists"
        if index == len(node.ranges):
            return True
        of = node.ranges[index]
        alone = isinstance(of.source, Events) and around == TOP
        for element in array(self.value(of.source, around)):
            inner = around.bind(of.name, _inexact(element))
            met = of.condition is None or self._holds_of(element, of.condition, inner, alone)
            if (met and self._claim(node, index + 1, inner)) is found:
                return found
        return not found

    # Time.

    def _occurs(self, node: Occurs, around: Around) -> Value:
        subject = self.value(node.subject, around)
        # A known type says what is a day; without a schema the value itself does.
        of = node.time.type
        is_day = node.form == "on" and (of is None or of.kind == "date")
        when = self._time(node.time, is_day, around)
        until = None if node.until is None else self._time(node.until, False, around)
        if subject is None or when is None or (node.until is not None and until is None):
            return False
        return self.occasions.holds(node, time(subject), when, until, self.horizon)

    def _time(self, node: Node, whole_day: bool, around: Around) -> Time | None:
        if isinstance(node, Calendar):
            return calendar_time(node)
        value = self.value(node, around)
        return None if value is None else instant_time(time(value, node.at), whole_day)

    def _chain(self, node: Chain, around: Around) -> Value:
        events = array(self.value(node.source, around))
        return chain_search.exists(self.condition, node, events, around)


_METHODS: dict[type[Node], Callable[[Evaluator, Any, Around], Value]] = {
    Literal: Evaluator._literal,
    Items: Evaluator._items,
    Root: Evaluator._root,
    Events: Evaluator._events,
    Element: Evaluator._element,
    Variable: Evaluator._variable,
    Computed: Evaluator._computed,
    InSegment: Evaluator._in_segment,
    Now: Evaluator._now,
    Field: Evaluator._field,
    Call: Evaluator._call,
    Each: Evaluator._each,
    Let: Evaluator._let,
    Quantified: Evaluator._quantified,
    Occurs: Evaluator._occurs,
    Chain: Evaluator._chain,
}
