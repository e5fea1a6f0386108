"""JSON trees of rules to rule trees: one walk, what each node type holds, and the leaves.

Theory: one recursive walk with the scopes of a parser (``json_places``); functions are read by
``json_calls``. What other tools write for the same thing is read too: node types ``select`` and
``varRef``, the profile as an XDMObject literal.

Rules for editors: whatever is accepted here must be said by a text; ``json_writer`` proves it by
parsing the text, so a check here exists only for a better message.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from profile_actors.rules.json_form.json_calls import JsonCalls
from profile_actors.rules.json_form.json_places import (
    Place,
    demand_keys,
    name_of,
    refuse,
    shown,
)
from profile_actors.rules.language.functions import MAX_DEPTH
from profile_actors.rules.language.parser import MAX_RULE_CHARS
from profile_actors.rules.semantics.values import INT64_MAX, parse_instant
from profile_actors.rules.tree.faults import nearest
from profile_actors.rules.tree.nodes import (
    Call,
    Computed,
    Element,
    Events,
    Field,
    Items,
    Literal,
    Node,
    Root,
    Variable,
)

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


class JsonReader:
    """Reads one JSON tree."""

    def __init__(self) -> None:
        self.left = MAX_RULE_CHARS  # every node takes a character of text
        self.depth = 0
        self.calls = JsonCalls(self.node)

    def rule(self, tree: object) -> Node:
        """The rule tree. Raises RuleError with the path of what is wrong."""
        return self.node(tree, Place())

    def node(self, tree: object, place: Place) -> Node:
        """One node of the tree. Raises RuleError."""
        self.left -= 1
        self.depth += 1
        # A unit is a node here and none in a text, hence one level more.
        if self.depth > MAX_DEPTH + 1 or self.left < 0:
            refuse(place, "a tree that fits a rule", "one that is too deep or too large")
        made = self.form(tree, place)
        self.depth -= 1
        return made

    def form(self, tree: object, place: Place) -> Node:
        """The node by its nodeType."""
        if not isinstance(tree, Mapping):
            refuse(place, "an object with a nodeType", shown(tree))
        kind = tree.get("nodeType")
        if not isinstance(kind, str) or kind not in _KEYS:
            hint = nearest(kind, _KEYS) if isinstance(kind, str) else ""
            words = "nodeType literal, parameterReference, fieldLookup or fnApply"
            refuse(place, words, f"{shown(kind)}{hint}")
        demand_keys(tree, place, *_KEYS[kind])
        match kind:
            case "literal":
                return self.literal(tree, place)
            case "fieldLookup":
                return self.lookup(tree, place)
            case "fnApply":
                return self.calls.apply(tree, place)
            case "select":
                return self.calls.quantified("select", [], tree["variables"], place)
        return self.reference(tree, place)

    # Leaves.

    def literal(self, tree: Mapping[str, Any], place: Place) -> Node:
        kind, value = tree["literalType"], tree["value"]
        if kind == "XDMObject" and value == "profile":
            return Root()
        if kind == "List":
            if not isinstance(value, list | tuple):
                refuse(place.at(".value"), "a list", shown(value))
            self.left -= len(value)
            places = [place.at(f".value[{n}]") for n in range(len(value))]
            return Items(
                tuple(self.plain_literal(v, p) for v, p in zip(value, places, strict=True))
            )
        at = place.at(".value")
        if kind in ("Date", "Timestamp"):
            return self.moment(kind, value, at)
        made = self.plain_literal(value, at)
        inner = made.args[0] if isinstance(made, Call) else made
        got = inner.kind.capitalize() if isinstance(inner, Literal) else ""
        if kind not in ("String", "Boolean", "Integer", "Double"):
            words = "literalType String, Boolean, Integer, Double, Date, Timestamp or List"
            refuse(place, words, shown(kind))
        if kind == "Double" and got == "Integer":
            return self.plain_literal(float(value), at)
        if got != kind:
            refuse(at, f"a value of type {kind}", shown(value))
        return made

    @staticmethod
    def plain_literal(value: object, place: Place) -> Node:
        """A literal of a plain JSON value; a negative number is a negation, as in text."""
        if isinstance(value, bool):
            return Literal(value, "boolean")
        if isinstance(value, str):
            try:
                value.encode()
            except UnicodeEncodeError:
                refuse(place, "text", "half of a surrogate pair")
            return Literal(value, "string")
        if isinstance(value, int) and abs(value) <= INT64_MAX:
            made = Literal(abs(value), "integer")
            return Call("neg", (made,)) if value < 0 else made
        if isinstance(value, float) and math.isfinite(value):
            made = Literal(abs(value), "double")
            return Call("neg", (made,)) if math.copysign(1, value) < 0 else made
        refuse(place, "text, true, false, or a finite number of 64 bits", shown(value))

    @staticmethod
    def moment(kind: str, value: object, place: Place) -> Literal:
        words = "a day as YYYY-MM-DD" if kind == "Date" else "an instant as ISO-8601 text"
        is_whole = isinstance(value, str) and (kind == "Timestamp" or len(value) == 10)
        ms = parse_instant(str(value)) if is_whole else None
        if ms is None or ms % 1000:
            refuse(place, f"{words}, in whole seconds", shown(value))
        return Literal(ms, kind.lower())

    def reference(self, tree: Mapping[str, Any], place: Place) -> Node:
        given = [key for key in ("position", "level", "varName") if key in tree]
        if len(given) != 1:
            refuse(place, "one of the keys position, level, varName", given)
        value = tree[given[0]]
        if given == ["varName"]:
            name = name_of(value, place.at(".varName"))
            if name not in place.names:
                hint = nearest(name, place.names)
                refuse(place, "the name of a variable in scope", f"{name!r}{hint}")
            return Variable(name)
        if isinstance(value, bool) or not isinstance(value, int):
            refuse(place.at(f".{given[0]}"), "a whole number", shown(value))
        if given == ["position"]:
            if value != 1:
                refuse(place.at(".position"), "position 1, the profile", value)
            return Root()
        if not 0 <= value <= place.levels:
            words = f"a level from 0 to {place.levels}, the profile's here"
            refuse(place.at(".level"), words, value)
        return Root() if value == place.levels else Element(value)

    def lookup(self, tree: Mapping[str, Any], place: Place) -> Node:
        name = name_of(tree["fieldName"], place.at(".fieldName"))
        base = self.node(tree["object"], place.at(".object"))
        if base == Root() and name == "xEvent" and tree.get("isField") is not True:
            return Events()
        if base == Field(Root(), "computed"):
            return Computed(name)
        return Field(base, name)
