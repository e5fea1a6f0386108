"""Functions in a JSON tree: what an ``fnApply`` means, by its name, parameters and variables.

Theory: functions of one shape are told by their number of parameters alone; those that bind names,
look into every element or speak of time each have their own reading. What stands inside is read by
whoever walks the tree.

Rules for editors: a function that the language learns needs a line here only if it binds names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from profile_actors.rules.json_form.json_places import (
    Place,
    demand_arity,
    demand_keys,
    name_of,
    refuse,
    shown,
    whole_number,
)
from profile_actors.rules.language.functions import EACH, FUNCTIONS, MAX_COUNT, METHODS, spelling
from profile_actors.rules.language.lexer import AGGREGATES
from profile_actors.rules.semantics.calendar import UNIT_SHIFTS, unit_of
from profile_actors.rules.semantics.values import INT64_MAX
from profile_actors.rules.tree.comparisons import COMPARISONS
from profile_actors.rules.tree.faults import nearest
from profile_actors.rules.tree.nodes import (
    Calendar,
    Call,
    Chain,
    Each,
    Element,
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
    Step,
    Variable,
)

_BINARY = (*COMPARISONS, "+", "*", "/", "%", "in", "notin", "like")


_DAYS = ("now", "today", "yesterday", "tomorrow")


_QUANTIFIERS = ("exists", "forall", "select", *AGGREGATES)


_KNOWN = [
    *(spelling(name) for name in (*METHODS, *EACH, *FUNCTIONS) if name != "date"),
    *(*_BINARY, "-", "and", "or", "not", "array", "occurs", "let", "CHAIN", "notIn"),
    *(*_QUANTIFIERS, *UNIT_SHIFTS, *_DAYS),
]


# Keys that only some functions have.
_MORE = {
    "occurs": {"form", "comparison", "amount", "unit", "direction"},
    "step": {"variables", "count"},
    **{name: {"variables"} for name in ("let", *_QUANTIFIERS, *EACH)},
}


class JsonCalls:
    """Reads functions. node: the walk that they are part of."""

    def __init__(self, node: Callable[[object, Place], Node]) -> None:
        self.node = node

    def apply(self, tree: Mapping[str, Any], place: Place) -> Node:
        """The node of an ``fnApply``. Raises RuleError."""
        name, params = tree["fnName"], tree["params"]
        lower = name_of(name, place.at(".fnName")).lower()
        if not isinstance(params, list | tuple):
            refuse(place.at(".params"), "a list of nodes", shown(params))
        more = _MORE.get(lower, set())
        demand_keys(tree, place, {"fnName", "params"}, more)
        variables = tree.get("variables")
        if lower in ("exists", "forall", "select") or (lower in AGGREGATES and variables):
            ranged = isinstance(variables, list) and all(
                isinstance(v, Mapping) and "from" in v for v in variables
            )
            if ranged or lower not in AGGREGATES:
                return self.quantified(lower, params, variables, place)
        if lower in EACH and len(params) >= max(EACH[lower][0] + 1, 2):
            return self._each(lower, params, variables, place)
        match lower:
            case "occurs":
                return self._occurs(tree, params, place)
            case "let":
                return self._let(params, variables, place)
            case "chain":
                return self._chain(params, place)
        return self._fixed(lower, params, place)

    def _all(self, params: Any, place: Place) -> tuple[Node, ...]:
        return tuple(self.node(p, place.at(f".params[{n}]")) for n, p in enumerate(params))

    def _fixed(self, name: str, params: Any, place: Place) -> Node:
        arities = {
            **{other: (least + 1, most + 1) for other, (least, most) in METHODS.items()},
            **{other: (1, 1) for other in AGGREGATES},
            **FUNCTIONS,
            **dict.fromkeys(_BINARY, (2, 2)),
            **dict.fromkeys(("and", "or"), (2, INT64_MAX)),
            **dict.fromkeys(UNIT_SHIFTS, (1, 1)),
            **dict.fromkeys(_DAYS, (0, 0)),
            "-": (1, 2),
            "not": (1, 1),
            "array": (0, INT64_MAX),
        }
        if name not in arities or name == "date":
            if name in EACH:
                demand_arity(name, len(params), place, EACH[name][0] + 1, EACH[name][1] + 1)
            refuse(place.at(".fnName"), "a function", f"{name!r}{nearest(name, _KNOWN)}")
        demand_arity(name, len(params), place, *arities[name])
        args = self._all(params, place)
        if name in _DAYS:
            return Now(name)
        if name == "array":
            return Items(args)
        if name in UNIT_SHIFTS or name == "insegment":
            text = args[0].value if isinstance(args[0], Literal) else None
            if name == "insegment" and isinstance(text, str):
                return InSegment(text)
            unit = unit_of(text) if isinstance(text, str) else None
            if unit is None or name == "insegment":
                words = "a segment's name" if name == "insegment" else "a unit"
                refuse(place.at(".params[0]"), f"{words} as a String literal", shown(text))
            return Calendar(unit, UNIT_SHIFTS[name])
        if name == "-" and len(args) == 1:
            return Call("neg", args)
        if name in ("and", "or"):
            flat: list[Node] = []
            for arg in args:
                same = isinstance(arg, Call) and arg.function == name
                flat.extend(arg.args if isinstance(arg, Call) and same else (arg,))
            return Call(name, tuple(flat))
        return Call(name, args)

    def _each(self, name: str, params: Any, variables: object, place: Place) -> Node:
        demand_arity(name, len(params), place, EACH[name][0] + 1, EACH[name][1] + 1)
        source = self.node(params[0], place.at(".params[0]"))
        bound: tuple[str, ...] = ()
        if variables is not None:
            bound = tuple(v["varName"] for v in _declared(variables, place, set()))
        inner = place.bind(*bound) if bound else place.deeper()
        body_at = inner.at(".params[1]")
        if len(bound) < 2:
            body = self.node(params[1], body_at)
            extra = tuple(
                self.node(p, place.at(f".params[{n}]")) for n, p in enumerate(params[2:], 2)
            )
            return Each(name, source, body, bound, extra)
        entry = params[1]
        is_entry = isinstance(entry, Mapping) and str(entry.get("fnName")).lower() == "mapentry"
        if name != "map" or len(bound) != 2 or not is_entry:
            refuse(body_at, "mapEntry(K, …) of map with two variables", shown(entry))
        demand_keys(entry, body_at, {"fnName", "params"}, set())
        pair = entry["params"]
        demand_arity("mapentry", len(pair), body_at, 2, 2)
        key, value = self._all(pair, body_at)
        return Each("mapentries", source, key, bound, (value,))

    def quantified(self, kind: str, params: Any, variables: object, place: Place) -> Node:
        """exists, forall, select, or an aggregate over a range. Raises RuleError."""
        count = 0 if kind in ("exists", "forall", "select") else 1
        demand_arity(kind, len(params), place, count, count)
        ranges: list[Range] = []
        declared = _declared(variables, place, {"from", "where", "nodeType"})
        if kind not in ("exists", "forall") and len(declared) > 1:
            refuse(place.at(".variables"), f"one variable for {kind}", len(declared))
        for n, variable in enumerate(declared):
            here = place.at(f".variables[{n}]")
            if "from" not in variable:
                refuse(here, "the key 'from'", f"only {sorted(variable)}")
            source = self.node(variable["from"], here.at(".from"))
            place = place.bind(variable["varName"])
            where = variable.get("where")
            inner = here.bind(*place.names)
            condition = None if where is None else self.node(where, inner.at(".where"))
            ranges.append(Range(variable["varName"], source, condition))
        if kind == "select":
            return Quantified(kind, tuple(ranges), Variable(ranges[0].name))
        return Quantified(kind, tuple(ranges), next(iter(self._all(params, place)), None))

    def _let(self, params: Any, variables: object, place: Place) -> Node:
        demand_arity("let", len(params), place, 1, 1)
        (variable, *rest) = _declared(variables, place, {"from"})
        if rest or "from" not in variable:
            refuse(place.at(".variables"), "one variable with its value as 'from'", shown(variable))
        value = self.node(variable["from"], place.at(".variables[0].from"))
        inner = place.bind(variable["varName"])
        return Let(variable["varName"], value, self.node(params[0], inner.at(".params[0]")))

    # Time and sequences.

    def _occurs(self, tree: Mapping[str, Any], params: Any, place: Place) -> Occurs:
        form = tree.get("form")
        if form not in ("distance", "before", "after", "on", "between"):
            words = "form distance, before, after, on or between"
            refuse(place.at(".form"), words, shown(form))
        needed = _MORE["occurs"] if form == "distance" else {"form"}
        demand_keys(tree, place, {"fnName", "params"} | needed, set())
        count = 3 if form == "between" else 2
        demand_arity("occurs", len(params), place, count, count)
        args = self._all(params, place)
        made = Occurs(args[0], form, args[1], args[2] if form == "between" else None)
        if form != "distance":
            return made
        comparison, direction = tree["comparison"], tree["direction"]
        if comparison not in COMPARISONS:
            refuse(place.at(".comparison"), "a comparison", shown(comparison))
        if direction not in ("before", "after"):
            refuse(place.at(".direction"), "before or after", shown(direction))
        unit = unit_of(tree["unit"]) if isinstance(tree["unit"], str) else None
        if unit is None:
            refuse(place.at(".unit"), "a unit of time", shown(tree["unit"]))
        amount = whole_number(tree["amount"], place.at(".amount"), 0, INT64_MAX)
        return replace(made, comparison=comparison, amount=amount, unit=unit, direction=direction)

    def _chain(self, params: Any, place: Place) -> Chain:
        demand_arity("chain", len(params), place, 2, INT64_MAX)
        source = self.node(params[0], place.at(".params[0]"))
        inner = place.deeper()
        steps: list[Step] = []
        for n, step in enumerate(params[1:], 1):
            here = inner.at(f".params[{n}]")
            if not isinstance(step, Mapping) or step.get("fnName") != "step":
                refuse(here, "an fnApply of `step`", shown(step))
            demand_keys(step, here, {"fnName", "params", "variables"}, {"count"})
            (variable, *rest) = _declared(step["variables"], here, set())
            parts = step["params"]
            if rest or not isinstance(parts, list | tuple):
                refuse(here, "one variable, and params as a list", shown(parts))
            demand_arity("step", len(parts), here, 1, 2)
            what, *when = self._all(parts, here)
            moment = when[0] if when else None
            subject = Field(Element(0), "timestamp")
            if moment is not None and not (
                isinstance(moment, Occurs) and moment.subject == subject
            ):
                refuse(here.at(".params[1]"), "occurs of the element's timestamp", "another node")
            count = whole_number(step.get("count", 1), here.at(".count"), 1, MAX_COUNT)
            steps.append(Step(variable["varName"], what, moment, count))
            inner = inner.bind(variable["varName"])
        return Chain(source, tuple(steps))


def _declared(variables: object, place: Place, keys: set[str]) -> list[Mapping[str, Any]]:
    """The declarations of ``variables``: each with a varName, and whatever of ``keys``."""
    at = place.at(".variables")
    if not isinstance(variables, list | tuple) or not variables:
        refuse(at, "a list of variables, each with its varName", shown(variables))
    for n, variable in enumerate(variables):
        here = at.at(f"[{n}]")
        if not isinstance(variable, Mapping) or "varName" not in variable:
            refuse(here, "an object with a varName", shown(variable))
        name_of(variable["varName"], here.at(".varName"))
        demand_keys(variable, here, {"varName"}, keys)
    return list(variables)
