"""A tree back to rule text: the canonical text, what ``explain`` shows, the planner's order.

Theory: the text is a pure function of the node's equality (positions and types do not show), so it
sorts commutative operands the same way in every rule. A whole rule's text parses to the tree it was
made of: the walk carries what the parser knows there, the levels that are open and the names that
are bound, and writes back-ticks and ``$1.`` exactly where a name would else mean something else.
Parts of a rule, and planned leaves, read as the expression that they stand for.

Limits: trees that no text parses to (a bare element, a timestamp literal with milliseconds) get a
text for people; ``json_writer`` tells them apart by parsing it.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence as Many
from dataclasses import dataclass, replace
from decimal import Decimal

from profile_actors.rules.language.functions import spelling
from profile_actors.rules.language.lexer import RESERVED, is_word
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
    Variable,
)
from profile_actors.rules.tree.plan import (
    Aggregate,
    AggregateLeaf,
    AttributeLeaf,
    EventFilter,
    Kept,
    KeptField,
    Sequence,
    Stage,
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


_LOOSE, _AND, _NOT, _COMPARISON, _UNARY, _POSTFIX = 0, 2, 3, 4, 7, 8


_ESCAPED = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}


_CONTROL = re.compile(r'["\\\x00-\x1f\x7f]')


_PLURALS = {"century": "centuries", "millennium": "millennia"}


# Words that would be read as keywords where a name stands first in a time.
_TIME_WORDS = {"before", "after", "on", "between", "this", "last", "next"}


@dataclass(frozen=True, slots=True)
class _Around:
    """levels: elements between here and the profile. names: bound variables. steps: those of them
    that stand for the timestamp of a CHAIN step's last event (within WHEN). own: the variable of a
    planned step's own event, whose fields stand bare."""

    levels: int = 0
    names: frozenset[str] = frozenset()
    steps: frozenset[str] = frozenset()
    own: str | None = None

    def deeper(self) -> _Around:
        return replace(self, levels=self.levels + 1)

    def bind(self, *names: str) -> _Around:
        bound = frozenset(names)
        return replace(self, names=self.names | bound, steps=self.steps - bound)


_TOP = _Around()


def unparse(node: Node) -> str:
    """The rule text of a node, planned or not. Cost: linear in the tree."""
    return _text(node, _LOOSE, _TOP)


def unparse_filter(events: EventFilter) -> str:
    """``xEvent`` with the conditions that select and time the events."""
    conditions = _claims(events)
    if not conditions:
        return "xEvent"
    return f"xEvent[{unparse(conditions[0]) if len(conditions) == 1 else _joined(conditions)}]"


def unparse_stage(stage: Stage) -> str:
    """A planned step of a sequence, as it would stand in a CHAIN."""
    texts: list[str] = []
    source = stage.source
    while isinstance(source, Each) and source.function == "filter":
        own = replace(_TOP, own=source.variables[0])
        texts.insert(0, _text(source.body, _AND, own))
        source = source.source
    if isinstance(source, Kept):
        texts[:0] = [_text(claim, _NOT, _TOP) for claim in _claims(source.filter)]
    if stage.condition is not None:
        texts.append(_text(stage.condition, _AND, replace(_TOP, own=stage.name)))
    count = "" if stage.count == 1 else f" COUNT({stage.count})"
    return f"{_bare(stage.name)}: WHAT({' and '.join(texts) or 'true'}){count}"


def unparse_aggregate(aggregate: Aggregate) -> str:
    """The aggregate as one expression."""
    source = unparse_filter(aggregate.filter)
    value = "" if aggregate.value is None else unparse(aggregate.value)
    if aggregate.function == "distinct":
        return f"{source}.map({value}).distinct().count()"
    if aggregate.function == "count" and value:
        return f"{source}.map({value}).count()"
    return f"{source}.{aggregate.function}({value})"


def _claims(events: EventFilter) -> list[Node]:
    """What a filter asks of an event: the predicate's conjuncts, then the windows."""
    predicate = events.predicate
    if isinstance(predicate, Call) and predicate.function == "and":
        return [*predicate.args, *events.window]
    return [*([] if predicate is None else [predicate]), *events.window]


def _joined(conditions: Many[Node]) -> str:
    return " and ".join(_text(condition, _NOT, _TOP) for condition in conditions)


def _text(node: Node, outer: int, around: _Around) -> str:
    """outer: the tightness that the surroundings ask for; looser text gets parentheses."""
    tightness, text = _form(node, around)
    return f"({text})" if tightness < outer else text


def _form(node: Node, around: _Around) -> tuple[int, str]:
    match node:
        case Literal():
            return _POSTFIX, _literal(node)
        case Call():
            return _call(node, around)
        case Occurs(subject=subject):
            left = _text(subject, _COMPARISON + 1, around)
            return _COMPARISON, f"{left} occurs {_moment(node, around)}"
        case Each():
            return _POSTFIX, _each(node, around)
        case Quantified():
            return _LOOSE, _quantified(node, around)
        case Let(name=name, value=value, body=body):
            inner = _text(body, _LOOSE, around.bind(name))
            return _LOOSE, f"let {_bare(name)} = ({_text(value, _LOOSE, around)}) in {inner}"
        case Chain():
            return _POSTFIX, _chain(node, around)
        case AggregateLeaf(aggregate=aggregate):
            return _POSTFIX, unparse_aggregate(aggregate)
        case Kept(filter=events):
            return _POSTFIX, unparse_filter(events)
        case KeptField(event=event, path=path):
            return _POSTFIX, _kept_field(event, path, around)
        case Sequence():
            return _POSTFIX, _sequence(node)
        case Field(base=base, name=name):
            return _POSTFIX, _field(base, name, around)
    return _POSTFIX, _simple(node, around)


def _simple(node: Node, around: _Around) -> str:
    match node:
        case Items(items=items):
            return f"[{_listed(items, around)}]"
        case Root():
            return "$1"
        case Events():
            return "xEvent"
        case Element(up=up):
            return "^" * up or "$0"
        case Variable(name=name):
            return _bare(name)
        case Computed(name=name):
            bare = around.levels == 0 and "computed" not in around.names
            return f"{'' if bare else '$1.'}computed.{_name(name)}"
        case InSegment(name=name):
            return f"inSegment({_string(name)})"
        case Now(kind=kind):
            return kind
        case Calendar(unit=unit, shift=shift):
            return f"{('this', 'next', 'last')[shift]} {unit}"
        case AttributeLeaf():
            return node.key
    raise AssertionError(f"no text for {type(node).__name__}")


def _field(base: Node, name: str, around: _Around) -> str:
    if isinstance(base, Element):
        return _bare(name) if base.up == 0 else f"{'^' * base.up}.{_name(name)}"
    if isinstance(base, Root):
        bare = around.levels == 0 and name not in around.names
        return _bare(name) if bare else f"$1.{_name(name)}"
    if isinstance(base, Variable) and base.name in around.steps and name == "timestamp":
        return _bare(base.name)
    if (
        isinstance(base, Field)
        and isinstance(base.base, Variable)
        and base.base.name in around.steps
    ):
        return f"{_bare(base.base.name)}.{_name(base.name)}.{_name(name)}"
    return f"{_text(base, _POSTFIX, around)}.{_name(name)}"


def _kept_field(event: Node, path: str, around: _Around) -> str:
    base, *names = path.split(".")
    is_own = isinstance(event, Variable) and event.name == around.own
    text = _bare(base) if is_own else _field(event, base, around)
    return ".".join([text, *map(_name, names)])


def _bare(name: str) -> str:
    """A name that stands first, where reserved words are read as such."""
    lower = name.lower()
    if lower in RESERVED or lower in _TIME_WORDS:
        return f"`{name}`"
    return _name(name)


def _name(name: str) -> str:
    """A name after a dot, or one that is no keyword."""
    return name if is_word(name) and name != "xEvent" else f"`{name}`"


def _string(value: str) -> str:
    def one(match: re.Match[str]) -> str:
        return _ESCAPED.get(match.group(), f"\\u{ord(match.group()):04x}")

    return f'"{_CONTROL.sub(one, value)}"'


def _literal(node: Literal) -> str:
    value = node.value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(value)
    if node.kind == "double":
        plain = format(Decimal(repr(value)), "f")  # the language has no exponents
        return plain if "." in plain else f"{plain}.0"
    if node.kind not in ("timestamp", "date"):
        return str(value)
    moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(milliseconds=int(value))
    day = f"{moment.year}, {moment.month}, {moment.day}"
    if node.kind == "date":
        return f"date({day})"
    seconds = f"{moment.second}" + (f".{moment.microsecond // 1000:03}" * bool(moment.microsecond))
    return f"date({day}, {moment.hour}, {moment.minute}, {seconds})"


def _listed(nodes: Many[Node], around: _Around) -> str:
    return ", ".join(_text(node, _LOOSE, around) for node in nodes)


def _call(node: Call, around: _Around) -> tuple[int, str]:
    function, args = node.function, node.args
    if function in ("and", "or") and len(args) > 1:
        level = _AND if function == "and" else _AND - 1
        return level, f" {function} ".join(_text(arg, level + 1, around) for arg in args)
    if function == "not":
        return _NOT, f"not {_text(args[0], _NOT, around)}"
    if function == "neg":
        return _UNARY, f"-{_text(args[0], _UNARY, around)}"
    if function in _BINARY or function in _WORDS:
        level = _BINARY.get(function, _COMPARISON)
        left = _text(args[0], level + (level == _COMPARISON), around)
        return level, f"{left} {_WORDS.get(function, function)} {_text(args[1], level + 1, around)}"
    name = spelling(function)
    if not args or function in ("if", "isnull", "isnotnull", "and", "or"):
        return _POSTFIX, f"{name}({_listed(args, around)})"
    return _POSTFIX, f"{_text(args[0], _POSTFIX, around)}.{name}({_listed(args[1:], around)})"


def _moment(node: Occurs, around: _Around) -> str:
    """The right side of ``occurs``, which is also what stands in WHEN(…)."""
    time = _text(node.time, _COMPARISON + 1, around)
    if node.form == "distance":
        plural = _PLURALS.get(node.unit, f"{node.unit}s")
        unit = f"{node.amount} {node.unit if node.amount == 1 else plural}"
        return f"{node.comparison} {unit} {node.direction} {time}"
    if time[0] in "-[":
        time = f"({time})"  # `on -x` would subtract from a name
    if node.form == "between":
        assert node.until is not None
        return f"between {time} and {_text(node.until, _COMPARISON + 1, around)}"
    return f"{node.form} {time}"


def _each(node: Each, around: _Around) -> str:
    inner = around.bind(*node.variables) if node.variables else around.deeper()
    source, body = _text(node.source, _POSTFIX, around), _text(node.body, _LOOSE, inner)
    names = ", ".join(map(_bare, node.variables))
    if len(node.variables) == 1:
        body = f"{names} => {body}"
    if node.function == "mapentries":
        return f"{source}.map(({names}) => mapEntry({body}, {_listed(node.extra, inner)}))"
    if node.function == "filter" and not node.variables:
        return f"{source}[{body}]"
    name = spelling(node.function)
    return f"{source}.{name}({body}{''.join(', ' + _listed([e], around) for e in node.extra)})"


def _ranges(ranges: Many[Range], around: _Around) -> tuple[str, _Around]:
    texts: list[str] = []
    for place, item in enumerate(ranges, 1):
        source = _text(item.source, _POSTFIX, around)
        around = around.bind(item.name)
        condition = ""
        if item.condition is not None:
            # A quantifier at the end of a condition would take the next range for its own.
            outer = _LOOSE if place == len(ranges) else _LOOSE + 1
            condition = f" where {_text(item.condition, outer, around)}"
        texts.append(f"{_bare(item.name)} from {source}{condition}")
    return ", ".join(texts), around


def _quantified(node: Quantified, around: _Around) -> str:
    ranges, inner = _ranges(node.ranges, around)
    if node.result is None or node.kind == "select":
        return f"{node.kind} {ranges}"
    result = _text(node.result, _POSTFIX, inner)
    if result == "xEvent" or result.startswith(("xEvent.", "xEvent[")):
        result = f"$1.{result}"  # `sum xEvent` is no start of an aggregate
    return f"{node.kind} {result} over {ranges}"


def _sequence(node: Sequence) -> str:
    return f"CHAIN(xEvent, timestamp, [{', '.join(map(unparse_stage, node.stages))}])"


def _chain(node: Chain, around: _Around) -> str:
    source, within = _text(node.source, _LOOSE, around), around.deeper()
    steps: list[str] = []
    earlier: frozenset[str] = frozenset()
    for step in node.steps:
        text = f"{_bare(step.name)}: WHAT({_text(step.what, _LOOSE, within)})"
        if isinstance(step.when, Occurs):
            timed = replace(within, steps=within.steps | earlier)
            text += f" WHEN({_moment(step.when, timed)})"
        if step.count != 1:
            text += f" COUNT({step.count})"
        steps.append(text)
        within = within.bind(step.name)
        earlier |= {step.name}
    return f"CHAIN({source}, timestamp, [{', '.join(steps)}])"
