"""Rules as text and as JSON trees, without loss either way; the canonical text of a rule.

Theory: both forms stand for the same rule tree (``tree``), so conversion goes through it. A JSON
tree is read with the scopes a parser would have, printed, parsed again and compared: whatever no
text can say is refused, and a tree that is accepted means exactly what its text means. The tree's
form is documented in docs/RULES.md.

Limits: a tree has at most MAX_RULE_CHARS nodes and nests at most MAX_DEPTH deep, as its text must
be a rule.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from typing import Any

from profile_actors.errors import RuleError
from profile_actors.rules.json_form.json_reader import JsonReader
from profile_actors.rules.language.functions import spelling
from profile_actors.rules.language.parser import parse
from profile_actors.rules.language.unparse import unparse
from profile_actors.rules.semantics.calendar import UNIT_SHIFTS
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

Json = dict[str, Any]


_LITERALS = {"string": "String", "boolean": "Boolean", "integer": "Integer", "double": "Double"}


_SHIFTS = {shift: word for word, shift in UNIT_SHIFTS.items()}


_PROFILE: Json = {"nodeType": "parameterReference", "position": 1}


def format_rule(text: str) -> str:
    """The canonical text of a rule: one line, no comments, words and quotes written one way.

    Law: it parses to the same tree, and formatting it again changes nothing. Raises RuleError where
    the text is no rule, or its canonical text is longer than a rule may be.
    """
    tree = parse(text)
    written = unparse(tree)
    return written if parse(written) == tree else _unsayable(written)


def rule_to_json(text: str) -> Json:
    """The rule's tree as JSON-able data (docs/RULES.md, "Rules as JSON trees").

    Law: ``rule_from_json`` gives a text of the same tree. Raises RuleError where the text is no
    rule.
    """
    return _json(parse(text))


def rule_from_json(tree: Mapping[str, Any]) -> str:
    """The canonical text of a JSON tree. Raises RuleError saying where the tree is wrong."""
    made = JsonReader().rule(tree)
    text = unparse(made)
    try:
        reread = parse(text)
    except RuleError as error:
        raise RuleError(
            f"expected a tree that a rule text can say, got one that says {error}"
        ) from None
    if reread != made:
        path = next(_differences(_json(reread), _json(made), "$"), "$")
        raise RuleError(
            f"expected a tree that a rule text can say, got one whose text reads otherwise - at"
            f" {path}; a name may be bound there that hides a field"
        )
    return text


def _unsayable(text: str) -> str:
    raise AssertionError(f"canonical text reads otherwise: {text}")


def _differences(a: Any, b: Any, path: str) -> Iterator[str]:
    """Paths at which two JSON values differ, innermost only."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        for key in a:
            yield from _differences(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for place, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from _differences(x, y, f"{path}[{place}]")
    elif a != b:
        yield path


def _apply(function: str, *params: Node, **more: Any) -> Json:
    return {"nodeType": "fnApply", "fnName": function, "params": list(map(_json, params)), **more}


def _lookup(owner: Json, name: str) -> Json:
    return {"nodeType": "fieldLookup", "fieldName": name, "object": owner}


def _names(*names: str) -> list[Json]:
    return [{"varName": name} for name in names]


def _json(node: Node) -> Json:
    match node:
        case Literal():
            return _literal(node)
        case Items():
            return _items(node)
        case Root():
            return dict(_PROFILE)
        case Events():
            return _lookup(dict(_PROFILE), "xEvent")
        case Element(up=up):
            return {"nodeType": "parameterReference", "level": up}
        case Variable(name=name):
            return {"nodeType": "parameterReference", "varName": name}
        case Computed(name=name):
            return _lookup(_lookup(dict(_PROFILE), "computed"), name)
        case Field(base=base, name=name):
            made = _lookup(_json(base), name)
            return made | ({"isField": True} if base == Root() and name == "xEvent" else {})
        case InSegment(name=name):
            return _apply("inSegment", Literal(name, "string"))
        case Now(kind=kind):
            return _apply(kind)
        case Calendar(unit=unit, shift=shift):
            return _apply(_SHIFTS[shift], Literal(unit, "string"))
        case Call(function=function, args=args):
            return _apply("-" if function == "neg" else spelling(function), *args)
    return _binding(node)


def _binding(node: Node) -> Json:
    """Nodes with keys besides their parameters."""
    match node:
        case Occurs():
            until = () if node.until is None else (node.until,)
            made = _apply("occurs", node.subject, node.time, *until, form=node.form)
            if node.form == "distance":
                made |= {"comparison": node.comparison, "amount": node.amount}
                made |= {"unit": node.unit, "direction": node.direction}
            return made
        case Each(function="mapentries"):
            entry = _apply("mapEntry", node.body, node.extra[0])
            made = _apply("map", node.source, variables=_names(*node.variables))
            return made | {"params": [*made["params"], entry]}
        case Each():
            made = _apply(spelling(node.function), node.source, node.body, *node.extra)
            return made | ({"variables": _names(*node.variables)} if node.variables else {})
        case Quantified():
            ranges = []
            for item in node.ranges:
                where = {} if item.condition is None else {"where": _json(item.condition)}
                ranges.append({"varName": item.name, "from": _json(item.source), **where})
            result = () if node.result is None or node.kind == "select" else (node.result,)
            return _apply(node.kind, *result, variables=ranges)
        case Let(name=name, value=value, body=body):
            return _apply("let", body, variables=[{"varName": name, "from": _json(value)}])
        case Chain():
            steps = []
            for step in node.steps:
                when = () if step.when is None else (step.when,)
                steps.append(_apply("step", step.what, *when, variables=_names(step.name)))
                steps[-1]["count"] = step.count
            made = _apply("CHAIN", node.source)
            return made | {"params": [*made["params"], *steps]}
    raise AssertionError(f"no JSON for {type(node).__name__}")


def _literal(node: Literal) -> Json:
    kind = _LITERALS.get(node.kind)
    value: Any = node.value
    if kind is None:
        kind = node.kind.capitalize()
        moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(milliseconds=int(node.value))
        value = moment.date().isoformat() if kind == "Date" else f"{moment.isoformat()}Z"
    return {"nodeType": "literal", "literalType": kind, "value": value}


def _items(node: Items) -> Json:
    """A List of plain values where JSON keeps their type, an application of ``array`` otherwise."""
    kinds = {item.kind if isinstance(item, Literal) else "" for item in node.items}
    if len(kinds) <= 1 and kinds <= {"string", "boolean", "integer"}:
        values = [item.value for item in node.items if isinstance(item, Literal)]
        return {"nodeType": "literal", "literalType": "List", "value": values}
    return _apply("array", *node.items)
