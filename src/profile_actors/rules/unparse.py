"""A tree back to rule text: what ``explain`` shows, and the planner's canonical order.

Theory: the text is a pure function of the node's equality (positions and types do not show), so it
sorts commutative operands the same way in every rule. It reads as PQL; planned leaves read as the
expression that they stand for.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence

from profile_actors.rules.plan import Aggregate, AggregateLeaf, AttributeLeaf, EventFilter
from profile_actors.rules.tree import (
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
    Variable,
)

_BINARY = {
    "=": 4,
    "!=": 4,
    "<": 4,
    "<=": 4,
    ">": 4,
    ">=": 4,
    "+": 5,
    "-": 5,
    "*": 6,
    "/": 6,
    "%": 6,
}
_WORDS = {"in": "in", "notin": "notIn", "like": "like"}
_CAMEL = {
    "startswith": "startsWith",
    "endswith": "endsWith",
    "doesnotstartwith": "doesNotStartWith",
    "doesnotendwith": "doesNotEndWith",
    "doesnotcontain": "doesNotContain",
    "notequalto": "notEqualTo",
    "regexgroup": "regexGroup",
    "isnull": "isNull",
    "isnotnull": "isNotNull",
    "subsetof": "subsetOf",
    "supersetof": "supersetOf",
    "groupby": "groupBy",
    "topn": "topN",
    "bottomn": "bottomN",
    "currentyear": "currentYear",
    "currentmonth": "currentMonth",
    "currentdayofmonth": "currentDayOfMonth",
    "getyear": "getYear",
    "getmonth": "getMonth",
    "getdayofmonth": "getDayOfMonth",
}
_LOOSE, _AND, _NOT, _COMPARISON, _POSTFIX = 0, 2, 3, 4, 8


def unparse(node: Node) -> str:
    """The rule text of a node, planned or not."""
    return _text(node, _LOOSE)


def unparse_filter(events: EventFilter) -> str:
    """``xEvent`` with the conditions that select and time the events."""
    conditions = [] if events.predicate is None else [events.predicate]
    conditions.extend(events.window)
    if not conditions:
        return "xEvent"
    return f"xEvent[{unparse(conditions[0]) if len(conditions) == 1 else _joined(conditions)}]"


def unparse_aggregate(aggregate: Aggregate) -> str:
    """The aggregate as one expression."""
    source = unparse_filter(aggregate.filter)
    value = "" if aggregate.value is None else unparse(aggregate.value)
    if aggregate.function == "distinct":
        return f"{source}.map({value}).distinct().count()"
    if aggregate.function == "count" and value:
        return f"{source}.map({value}).count()"
    return f"{source}.{aggregate.function}({value})"


def _joined(conditions: Sequence[Node]) -> str:
    return " and ".join(_text(condition, _NOT) for condition in conditions)


def _text(node: Node, outer: int) -> str:
    """outer: the tightness that the surroundings ask for; looser text gets parentheses."""
    tightness, text = _form(node)
    return f"({text})" if tightness < outer else text


def _form(node: Node) -> tuple[int, str]:
    match node:
        case Literal():
            return _POSTFIX, _literal(node)
        case Call():
            return _call(node)
        case Occurs():
            return _COMPARISON, _occurs(node)
        case Each():
            return _POSTFIX, _each(node)
        case Quantified():
            return _LOOSE, _quantified(node)
        case Let(name=name, value=value, body=body):
            return _LOOSE, f"let {name} = ({unparse(value)}) in {unparse(body)}"
        case Chain():
            return _POSTFIX, _chain(node)
        case AggregateLeaf(aggregate=aggregate):
            return _POSTFIX, unparse_aggregate(aggregate)
    return _POSTFIX, _simple(node)


def _simple(node: Node) -> str:
    match node:
        case Items(items=items):
            return f"[{', '.join(map(unparse, items))}]"
        case Root():
            return "$1"
        case Events():
            return "xEvent"
        case Element(up=up):
            return "^" * up or "$0"
        case Variable(name=name):
            return name
        case Field(base=base, name=name):
            return _field(base, name)
        case Computed(name=name):
            return f"computed.{_name(name)}"
        case InSegment(name=name):
            return f"inSegment({json.dumps(name)})"
        case Now(kind=kind):
            return kind
        case Calendar(unit=unit, shift=shift):
            return f"{('this', 'next', 'last')[shift]} {unit}"
        case AttributeLeaf(path=path):
            return path
    raise AssertionError(f"no text for {type(node).__name__}")


def _field(base: Node, name: str) -> str:
    if isinstance(base, Element):
        return "^." * base.up + _name(name)
    if isinstance(base, Root):
        return _name(name)
    return f"{_text(base, _POSTFIX)}.{_name(name)}"


def _name(name: str) -> str:
    return name if name.isidentifier() else f"`{name}`"


def _literal(node: Literal) -> str:
    value = node.value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if node.kind not in ("timestamp", "date"):
        return str(value)
    moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(milliseconds=int(value))
    day = f"{moment.year}, {moment.month}, {moment.day}"
    if node.kind == "date":
        return f"date({day})"
    seconds = f"{moment.second}" + (f".{moment.microsecond // 1000:03}" * bool(moment.microsecond))
    return f"date({day}, {moment.hour}, {moment.minute}, {seconds})"


def _call(node: Call) -> tuple[int, str]:
    function, args = node.function, node.args
    if function in ("and", "or") and len(args) > 1:
        level = _AND if function == "and" else _AND - 1
        return level, f" {function} ".join(_text(arg, level + 1) for arg in args)
    if function == "not":
        return _NOT, f"not {_text(args[0], _NOT)}"
    if function == "neg":
        return 7, f"-{_text(args[0], 7)}"
    if function in _BINARY or function in _WORDS:
        level = _BINARY.get(function, _COMPARISON)
        left = _text(args[0], level + (level == _COMPARISON))
        return level, f"{left} {_WORDS.get(function, function)} {_text(args[1], level + 1)}"
    name = _CAMEL.get(function, function)
    if not args or function in ("if", "isnull", "isnotnull", "and", "or"):
        return _POSTFIX, f"{name}({', '.join(map(unparse, args))})"
    rest = ", ".join(map(unparse, args[1:]))
    return _POSTFIX, f"{_text(args[0], _POSTFIX)}.{name}({rest})"


def _occurs(node: Occurs) -> str:
    subject, time = _text(node.subject, _COMPARISON + 1), _text(node.time, _COMPARISON + 1)
    if node.form == "distance":
        unit = f"{node.amount} {node.unit}{'s' * (node.amount != 1)}"
        return f"{subject} occurs {node.comparison} {unit} {node.direction} {time}"
    if node.form == "between":
        assert node.until is not None
        return f"{subject} occurs between {time} and {_text(node.until, _COMPARISON + 1)}"
    return f"{subject} occurs {node.form} {time}"


def _each(node: Each) -> str:
    source, body = _text(node.source, _POSTFIX), unparse(node.body)
    if len(node.variables) == 1:
        body = f"{node.variables[0]} => {body}"
    if node.function == "mapentries":
        value = unparse(node.extra[0])
        return f"{source}.map(({', '.join(node.variables)}) => mapEntry({body}, {value}))"
    if node.function == "filter" and not node.variables:
        return f"{source}[{body}]"
    arguments = ", ".join([body, *map(unparse, node.extra)])
    return f"{source}.{_CAMEL.get(node.function, node.function)}({arguments})"


def _range(item: Range) -> str:
    condition = "" if item.condition is None else f" where {unparse(item.condition)}"
    return f"{item.name} from {_text(item.source, _POSTFIX)}{condition}"


def _quantified(node: Quantified) -> str:
    ranges = ", ".join(map(_range, node.ranges))
    if node.result is None:
        return f"{node.kind} {ranges}"
    result = unparse(node.result)
    if node.kind == "select":
        return f"select {ranges}" if result == node.ranges[0].name else f"select {result}: {ranges}"
    return f"{node.kind} {result} over {ranges}"


def _chain(node: Chain) -> str:
    steps = [
        f"{step.name}: WHAT({unparse(step.what)})"
        + ("" if step.when is None else f" WHEN({unparse(step.when)})")
        + ("" if step.count == 1 else f" COUNT({step.count})")
        for step in node.steps
    ]
    return f"CHAIN({unparse(node.source)}, timestamp, [{', '.join(steps)}])"
