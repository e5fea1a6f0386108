"""JSON trees of rules to rule trees: what each node may hold, and errors that say where.

Theory: one recursive walk with the scopes of a parser (open levels, bound names). A path such as
``$.params[1].object`` goes along, so that an error names the node. What other tools write for the
same thing is read too: node types ``select`` and ``varRef``, the profile as an XDMObject literal.

Rules for editors: whatever is accepted here must be said by a text; ``convert`` proves it by
parsing the text, so a check here exists only for a better message.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from profile_actors.errors import RuleError
from profile_actors.rules.language.functions import (
    EACH,
    FUNCTIONS,
    MAX_COUNT,
    MAX_DEPTH,
    METHODS,
    spelling,
)
from profile_actors.rules.language.lexer import AGGREGATES
from profile_actors.rules.language.parser import MAX_RULE_CHARS
from profile_actors.rules.semantics.calendar import unit_of
from profile_actors.rules.semantics.values import parse_instant
from profile_actors.rules.tree.comparisons import COMPARISONS
from profile_actors.rules.tree.faults import nearest
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

_INT64 = 2**63 - 1


_BINARY = (*COMPARISONS, "+", "*", "/", "%", "in", "notin", "like")


_SHIFTS = {"this": 0, "last": -1, "next": 1}


_DAYS = ("now", "today", "yesterday", "tomorrow")


_QUANTIFIERS = ("exists", "forall", "select", *AGGREGATES)


_KEYS = {
    "literal": ({"literalType", "value"}, set[str]()),
    "parameterReference": (set[str](), {"position", "level", "varName"}),
    "varRef": ({"varName"}, set[str]()),
    "fieldLookup": ({"fieldName", "object"}, {"isField"}),
    "select": ({"variables"}, set[str]()),
    "fnApply": (
        {"fnName", "params"},
        {"variables", "form", "comparison", "amount", "unit", "direction", "count"},
    ),
}


_KNOWN = [
    *(spelling(name) for name in (*METHODS, *EACH, *FUNCTIONS) if name != "date"),
    *(*_BINARY, "-", "and", "or", "not", "array", "occurs", "let", "CHAIN", "notIn"),
    *(*_QUANTIFIERS, *_SHIFTS, *_DAYS),
]


# Keys that only some functions have.
_MORE = {
    "occurs": {"form", "comparison", "amount", "unit", "direction"},
    "step": {"variables", "count"},
    **{name: {"variables"} for name in ("let", *_QUANTIFIERS, *EACH)},
}


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a node stands: its path, the open levels and the bound names."""

    path: str = "$"
    levels: int = 0
    names: frozenset[str] = frozenset()

    def at(self, step: str) -> _Place:
        return replace(self, path=f"{self.path}{step}")

    def deeper(self) -> _Place:
        return replace(self, levels=self.levels + 1)

    def bind(self, *names: str) -> _Place:
        return replace(self, names=self.names | frozenset(names))


def _wrong(place: _Place, expected: str, got: object) -> NoReturn:
    shown = str(got)
    raise RuleError(f"expected {expected}, got {shown[:60]} - at {place.path}")


def _shown(value: object) -> str:
    return repr(value)[:60] if isinstance(value, str | int | float) else type(value).__name__


class Reader:
    """Reads one JSON tree."""

    def __init__(self) -> None:
        self.left = MAX_RULE_CHARS  # every node takes a character of text
        self.depth = 0

    def rule(self, tree: object) -> Node:
        """The rule tree. Raises RuleError with the path of what is wrong."""
        return self.node(tree, _Place())

    def node(self, tree: object, place: _Place) -> Node:
        """One node of the tree. Raises RuleError."""
        self.left -= 1
        self.depth += 1
        # A unit is a node here and none in a text, hence one level more.
        if self.depth > MAX_DEPTH + 1 or self.left < 0:
            _wrong(place, "a tree that fits a rule", "one that is too deep or too large")
        made = self.form(tree, place)
        self.depth -= 1
        return made

    def form(self, tree: object, place: _Place) -> Node:
        """The node by its nodeType."""
        if not isinstance(tree, Mapping):
            _wrong(place, "an object with a nodeType", _shown(tree))
        kind = tree.get("nodeType")
        if not isinstance(kind, str) or kind not in _KEYS:
            hint = nearest(kind, _KEYS) if isinstance(kind, str) else ""
            words = "nodeType literal, parameterReference, fieldLookup or fnApply"
            _wrong(place, words, f"{_shown(kind)}{hint}")
        self.keys(tree, place, *_KEYS[kind])
        match kind:
            case "literal":
                return self.literal(tree, place)
            case "fieldLookup":
                return self.lookup(tree, place)
            case "fnApply":
                return self.apply(tree, place)
            case "select":
                return self.quantified("select", [], tree["variables"], place)
        return self.reference(tree, place)

    @staticmethod
    def keys(tree: Mapping[Any, Any], place: _Place, needed: set[str], allowed: set[str]) -> None:
        for key in sorted(needed - tree.keys()):
            _wrong(place, f"the key {key!r}", f"only {sorted(map(str, tree))}")
        for key in tree.keys() - needed - allowed - {"nodeType"}:
            hint = nearest(str(key), needed | allowed)
            _wrong(place, f"keys of {sorted(needed | allowed)}", f"{key!r}{hint}")

    @staticmethod
    def name(value: object, place: _Place, words: str = "a name as text") -> str:
        if not isinstance(value, str) or not value:
            _wrong(place, words, _shown(value))
        if "`" in value or "\n" in value:
            _wrong(place, f"{words}, without back-ticks and line ends", _shown(value))
        return value

    # Leaves.

    def literal(self, tree: Mapping[str, Any], place: _Place) -> Node:
        kind, value = tree["literalType"], tree["value"]
        if kind == "XDMObject" and value == "profile":
            return Root()
        if kind == "List":
            if not isinstance(value, list | tuple):
                _wrong(place.at(".value"), "a list", _shown(value))
            self.left -= len(value)
            places = [place.at(f".value[{n}]") for n in range(len(value))]
            return Items(tuple(self.plain(v, p) for v, p in zip(value, places, strict=True)))
        at = place.at(".value")
        if kind in ("Date", "Timestamp"):
            return self.moment(kind, value, at)
        made = self.plain(value, at)
        inner = made.args[0] if isinstance(made, Call) else made
        got = inner.kind.capitalize() if isinstance(inner, Literal) else ""
        if kind not in ("String", "Boolean", "Integer", "Double"):
            words = "literalType String, Boolean, Integer, Double, Date, Timestamp or List"
            _wrong(place, words, _shown(kind))
        if kind == "Double" and got == "Integer":
            return self.plain(float(value), at)
        if got != kind:
            _wrong(at, f"a value of type {kind}", _shown(value))
        return made

    @staticmethod
    def plain(value: object, place: _Place) -> Node:
        """A literal of a plain JSON value; a negative number is a negation, as in text."""
        if isinstance(value, bool):
            return Literal(value, "boolean")
        if isinstance(value, str):
            try:
                value.encode()
            except UnicodeEncodeError:
                _wrong(place, "text", "half of a surrogate pair")
            return Literal(value, "string")
        if isinstance(value, int) and abs(value) <= _INT64:
            made = Literal(abs(value), "integer")
            return Call("neg", (made,)) if value < 0 else made
        if isinstance(value, float) and math.isfinite(value):
            made = Literal(abs(value), "double")
            return Call("neg", (made,)) if math.copysign(1, value) < 0 else made
        _wrong(place, "text, true, false, or a finite number of 64 bits", _shown(value))

    @staticmethod
    def moment(kind: str, value: object, place: _Place) -> Literal:
        words = "a day as YYYY-MM-DD" if kind == "Date" else "an instant as ISO-8601 text"
        is_whole = isinstance(value, str) and (kind == "Timestamp" or len(value) == 10)
        ms = parse_instant(str(value)) if is_whole else None
        if ms is None or ms % 1000:
            _wrong(place, f"{words}, in whole seconds", _shown(value))
        return Literal(ms, kind.lower())

    def reference(self, tree: Mapping[str, Any], place: _Place) -> Node:
        given = [key for key in ("position", "level", "varName") if key in tree]
        if len(given) != 1:
            _wrong(place, "one of the keys position, level, varName", given)
        value = tree[given[0]]
        if given == ["varName"]:
            name = self.name(value, place.at(".varName"))
            if name not in place.names:
                hint = nearest(name, place.names)
                _wrong(place, "the name of a variable in scope", f"{name!r}{hint}")
            return Variable(name)
        if isinstance(value, bool) or not isinstance(value, int):
            _wrong(place.at(f".{given[0]}"), "a whole number", _shown(value))
        if given == ["position"]:
            if value != 1:
                _wrong(place.at(".position"), "position 1, the profile", value)
            return Root()
        if not 0 <= value <= place.levels:
            words = f"a level from 0 to {place.levels}, the profile's here"
            _wrong(place.at(".level"), words, value)
        return Root() if value == place.levels else Element(value)

    def lookup(self, tree: Mapping[str, Any], place: _Place) -> Node:
        name = self.name(tree["fieldName"], place.at(".fieldName"))
        base = self.node(tree["object"], place.at(".object"))
        if base == Root() and name == "xEvent" and tree.get("isField") is not True:
            return Events()
        if base == Field(Root(), "computed"):
            return Computed(name)
        return Field(base, name)

    # Functions.

    def apply(self, tree: Mapping[str, Any], place: _Place) -> Node:
        name, params = tree["fnName"], tree["params"]
        lower = self.name(name, place.at(".fnName")).lower()
        if not isinstance(params, list | tuple):
            _wrong(place.at(".params"), "a list of nodes", _shown(params))
        more = _MORE.get(lower, set())
        self.keys(tree, place, {"fnName", "params"}, more)
        variables = tree.get("variables")
        if lower in ("exists", "forall", "select") or (lower in AGGREGATES and variables):
            ranged = isinstance(variables, list) and all(
                isinstance(v, Mapping) and "from" in v for v in variables
            )
            if ranged or lower not in AGGREGATES:
                return self.quantified(lower, params, variables, place)
        if lower in EACH and len(params) >= max(EACH[lower][0] + 1, 2):
            return self.each(lower, params, variables, place)
        match lower:
            case "occurs":
                return self.occurs(tree, params, place)
            case "let":
                return self.let(params, variables, place)
            case "chain":
                return self.chain(params, place)
        return self.strict(lower, params, place)

    def all(self, params: Any, place: _Place) -> tuple[Node, ...]:
        return tuple(self.node(p, place.at(f".params[{n}]")) for n, p in enumerate(params))

    @staticmethod
    def arity(name: str, count: int, place: _Place, least: int, most: int) -> None:
        if not least <= count <= most:
            words = str(least) if least == most else f"at least {least}"
            words = words if most in (least, _INT64) else f"{least} to {most}"
            _wrong(place.at(".params"), f"{words} parameter(s) for {spelling(name)}", count)

    def strict(self, name: str, params: Any, place: _Place) -> Node:
        arities = {
            **{other: (least + 1, most + 1) for other, (least, most) in METHODS.items()},
            **{other: (1, 1) for other in AGGREGATES},
            **FUNCTIONS,
            **dict.fromkeys(_BINARY, (2, 2)),
            **dict.fromkeys(("and", "or"), (2, _INT64)),
            **dict.fromkeys(_SHIFTS, (1, 1)),
            **dict.fromkeys(_DAYS, (0, 0)),
            "-": (1, 2),
            "not": (1, 1),
            "array": (0, _INT64),
        }
        if name not in arities or name == "date":
            if name in EACH:
                self.arity(name, len(params), place, EACH[name][0] + 1, EACH[name][1] + 1)
            _wrong(place.at(".fnName"), "a function", f"{name!r}{nearest(name, _KNOWN)}")
        self.arity(name, len(params), place, *arities[name])
        args = self.all(params, place)
        if name in _DAYS:
            return Now(name)
        if name == "array":
            return Items(args)
        if name in _SHIFTS or name == "insegment":
            text = args[0].value if isinstance(args[0], Literal) else None
            if name == "insegment" and isinstance(text, str):
                return InSegment(text)
            unit = unit_of(text) if isinstance(text, str) else None
            if unit is None or name == "insegment":
                words = "a segment's name" if name == "insegment" else "a unit"
                _wrong(place.at(".params[0]"), f"{words} as a String literal", _shown(text))
            return Calendar(unit, _SHIFTS[name])
        if name == "-" and len(args) == 1:
            return Call("neg", args)
        if name in ("and", "or"):
            flat: list[Node] = []
            for arg in args:
                same = isinstance(arg, Call) and arg.function == name
                flat.extend(arg.args if isinstance(arg, Call) and same else (arg,))
            return Call(name, tuple(flat))
        return Call(name, args)

    def declared(self, variables: object, place: _Place, keys: set[str]) -> list[Mapping[str, Any]]:
        """The declarations of ``variables``: each with a varName, and whatever of ``keys``."""
        at = place.at(".variables")
        if not isinstance(variables, list | tuple) or not variables:
            _wrong(at, "a list of variables, each with its varName", _shown(variables))
        for n, variable in enumerate(variables):
            here = at.at(f"[{n}]")
            if not isinstance(variable, Mapping) or "varName" not in variable:
                _wrong(here, "an object with a varName", _shown(variable))
            self.name(variable["varName"], here.at(".varName"))
            self.keys(variable, here, {"varName"}, keys)
        return list(variables)

    def each(self, name: str, params: Any, variables: object, place: _Place) -> Node:
        self.arity(name, len(params), place, EACH[name][0] + 1, EACH[name][1] + 1)
        source = self.node(params[0], place.at(".params[0]"))
        bound: tuple[str, ...] = ()
        if variables is not None:
            bound = tuple(v["varName"] for v in self.declared(variables, place, set()))
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
            _wrong(body_at, "mapEntry(K, …) of map with two variables", _shown(entry))
        self.keys(entry, body_at, {"fnName", "params"}, set())
        pair = entry["params"]
        self.arity("mapentry", len(pair), body_at, 2, 2)
        key, value = self.all(pair, body_at)
        return Each("mapentries", source, key, bound, (value,))

    def quantified(self, kind: str, params: Any, variables: object, place: _Place) -> Node:
        count = 0 if kind in ("exists", "forall", "select") else 1
        self.arity(kind, len(params), place, count, count)
        ranges: list[Range] = []
        declared = self.declared(variables, place, {"from", "where", "nodeType"})
        if kind not in ("exists", "forall") and len(declared) > 1:
            _wrong(place.at(".variables"), f"one variable for {kind}", len(declared))
        for n, variable in enumerate(declared):
            here = place.at(f".variables[{n}]")
            if "from" not in variable:
                _wrong(here, "the key 'from'", f"only {sorted(variable)}")
            source = self.node(variable["from"], here.at(".from"))
            place = place.bind(variable["varName"])
            where = variable.get("where")
            inner = here.bind(*place.names)
            condition = None if where is None else self.node(where, inner.at(".where"))
            ranges.append(Range(variable["varName"], source, condition))
        if kind == "select":
            return Quantified(kind, tuple(ranges), Variable(ranges[0].name))
        return Quantified(kind, tuple(ranges), next(iter(self.all(params, place)), None))

    def let(self, params: Any, variables: object, place: _Place) -> Node:
        self.arity("let", len(params), place, 1, 1)
        (variable, *rest) = self.declared(variables, place, {"from"})
        if rest or "from" not in variable:
            _wrong(
                place.at(".variables"), "one variable with its value as 'from'", _shown(variable)
            )
        value = self.node(variable["from"], place.at(".variables[0].from"))
        inner = place.bind(variable["varName"])
        return Let(variable["varName"], value, self.node(params[0], inner.at(".params[0]")))

    # Time and sequences.

    def occurs(self, tree: Mapping[str, Any], params: Any, place: _Place) -> Occurs:
        form = tree.get("form")
        if form not in ("distance", "before", "after", "on", "between"):
            words = "form distance, before, after, on or between"
            _wrong(place.at(".form"), words, _shown(form))
        needed = _MORE["occurs"] if form == "distance" else {"form"}
        self.keys(tree, place, {"fnName", "params"} | needed, set())
        count = 3 if form == "between" else 2
        self.arity("occurs", len(params), place, count, count)
        args = self.all(params, place)
        made = Occurs(args[0], form, args[1], args[2] if form == "between" else None)
        if form != "distance":
            return made
        comparison, direction = tree["comparison"], tree["direction"]
        if comparison not in COMPARISONS:
            _wrong(place.at(".comparison"), "a comparison", _shown(comparison))
        if direction not in ("before", "after"):
            _wrong(place.at(".direction"), "before or after", _shown(direction))
        unit = unit_of(tree["unit"]) if isinstance(tree["unit"], str) else None
        if unit is None:
            _wrong(place.at(".unit"), "a unit of time", _shown(tree["unit"]))
        amount = self.whole(tree["amount"], place.at(".amount"), 0, _INT64)
        return replace(made, comparison=comparison, amount=amount, unit=unit, direction=direction)

    @staticmethod
    def whole(value: object, place: _Place, least: int, most: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            _wrong(place, f"a whole number from {least} to {most}", _shown(value))
        return value

    def chain(self, params: Any, place: _Place) -> Chain:
        self.arity("chain", len(params), place, 2, _INT64)
        source = self.node(params[0], place.at(".params[0]"))
        inner = place.deeper()
        steps: list[Step] = []
        for n, step in enumerate(params[1:], 1):
            here = inner.at(f".params[{n}]")
            if not isinstance(step, Mapping) or step.get("fnName") != "step":
                _wrong(here, "an fnApply of `step`", _shown(step))
            self.keys(step, here, {"fnName", "params", "variables"}, {"count"})
            (variable, *rest) = self.declared(step["variables"], here, set())
            parts = step["params"]
            if rest or not isinstance(parts, list | tuple):
                _wrong(here, "one variable, and params as a list", _shown(parts))
            self.arity("step", len(parts), here, 1, 2)
            what, *when = self.all(parts, here)
            moment = when[0] if when else None
            subject = Field(Element(0), "timestamp")
            if moment is not None and not (
                isinstance(moment, Occurs) and moment.subject == subject
            ):
                _wrong(here.at(".params[1]"), "occurs of the element's timestamp", "another node")
            count = self.whole(step.get("count", 1), here.at(".count"), 1, MAX_COUNT)
            steps.append(Step(variable["varName"], what, moment, count))
            inner = inner.bind(variable["varName"])
        return Chain(source, tuple(steps))
