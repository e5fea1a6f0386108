"""Every function, with every kind of operand, in every position of a rule: texts, in a fixed order.

Theory: what a rule means does not depend on where a value comes from, but how it runs does. So for
each *form* (a function or operator) each operand in turn is of each kind (literal, list literal,
field of the profile or of the event, attribute of another rule, variable, a list's fold), and the
result stands in each position (segment, attribute, filter, CHAIN, let, quantifier, groupBy, the
value of an aggregate). Texts that do not type-check are part of it: they must be refused as such.
Nothing here is random.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, product

from tests.enumeration.further import Form, further_forms

FAMILIES = ("string", "integer", "double", "decimal", "boolean", "timestamp", "date")
LISTS = tuple(f"[{family}]" for family in FAMILIES)
MAPS = ("{integer}", "{string}", "{[string]}")

COMPUTED = {
    "string": "xEvent.max(s)",
    "integer": "xEvent.count()",
    "double": "xEvent.average(n)",
    "decimal": "xEvent.sum(d)",
    "boolean": "xEvent.count() > 1",
    "timestamp": "xEvent.max(timestamp)",
    "date": "xEvent.max(day)",
    "[string]": "xEvent.s.distinct()",
    "[integer]": "xEvent.n",
    "[double]": "xEvent.map(x * 2)",
    "[decimal]": "xEvent.d",
    "[boolean]": "xEvent.b",
    "[timestamp]": "xEvent.t",
    "[date]": "xEvent.day",
    "{integer}": "xEvent.groupBy(s).map((K, G) => mapEntry(K, G.count()))",
    "{string}": "xEvent.groupBy(s).map((K, G) => mapEntry(K, G.max(s)))",
    "{[string]}": "xEvent.groupBy(n).map((K, G) => mapEntry(K, G.s))",
}
"""The rule of an attribute of each type, kept up to date as events come."""
RESCANNED = {
    "string": 'ps2.regexGroup("(.)", 1)',
    "integer": "psa.count()",
    "[string]": "psa",
    "[integer]": "pna",
    "{integer}": "pm",
}
"""Attributes by rescan."""
OBJECT = {"event_object": "xEvent.head().o", "event_objects": "xEvent.o"}
"""Attributes that are whole objects, with leaves of all types that documents write as text."""
MOVING = {"clock": "if(pb, now, xEvent.max(t))", "morrow": "if(pb, tomorrow, pday)"}
"""Attributes whose value moves with the clock, for some profiles: a timestamp and a date."""
CLOCK = {"timestamp": ("now", "clock"), "date": ("today", "morrow")}
"""The word and the attribute of a type that move with the clock."""


def name_of(kind: str, prefix: str) -> str:
    """The name of a type's attribute."""
    shape = {"[": "l_", "{": "m_"}.get(kind[0], "")
    return f"{prefix}_{shape}" + kind.strip("{}[]")


def attributes() -> dict[str, str]:
    """Name -> rule of the attributes that operands read."""
    made = {name_of(kind, "c"): rule for kind, rule in COMPUTED.items() if kind != "{[string]}"}
    made["c_m_lists"] = COMPUTED["{[string]}"]
    return made | {name_of(kind, "r"): rule for kind, rule in RESCANNED.items()} | MOVING | OBJECT


LITERALS = {
    "string": ('"a"', '""'),
    "integer": ("1", "0"),
    "double": ("1.5", "1.0"),
    "decimal": ("1.25",),
    "boolean": ("true", "false"),
    "timestamp": ("date(2024,2,28,6,0,0)",),
    "date": ("date(2024,2,28)",),
}
PROFILE = {
    "string": "ps",
    "integer": "pn",
    "double": "px",
    "decimal": "pd",
    "boolean": "pb",
    "timestamp": "pt",
    "date": "pday",
    "[string]": "psa",
    "[integer]": "pna",
    "{integer}": "pm",
    "{string}": "pms",
}
EVENT = {
    "string": "s",
    "integer": "n",
    "double": "x",
    "decimal": "d",
    "boolean": "b",
    "timestamp": "t",
    "date": "day",
    "[string]": "sa",
    "[integer]": "items.qty",
    "{integer}": "m",
}


@dataclass(frozen=True)
class Place:
    """Where an expression stands. event: how its event's fields are written (None: there is no
    event); root: how the profile's are."""

    event: str | None
    root: str


TOP = Place(None, "")
BARE = Place("", "$1.")
NAMED = Place("V.", "$1.")


def operands(kind: str, place: Place) -> list[str]:
    """Expressions of a type, each from somewhere else; most are null for some profile."""
    root = place.root
    if kind.startswith("still "):
        moves = re.compile(r"\b(now|today|clock|morrow)\b")
        return [of for of in operands(kind[6:], place) if not moves.search(of)]
    if kind in ("object", "[object]"):
        return _objects(kind, place)
    made: list[str] = []
    event = None if place.event is None else place.event + EVENT.get(kind, "")
    if kind in LITERALS:
        made += LITERALS[kind][:1]
    if kind in PROFILE:
        made.append(root + PROFILE[kind])
    if kind in EVENT and event is not None:
        made.append(event)
    if kind in COMPUTED:
        name = "c_m_lists" if kind == "{[string]}" else name_of(kind, "c")
        made.append(f"{root}computed.{name}")
    if kind in RESCANNED:
        made.append(f"{root}computed.{name_of(kind, 'r')}")
    if kind in FAMILIES:
        made += _scalars(kind, place, event)
    elif kind in LISTS:
        made += _lists(kind, place, event)
    elif kind in MAPS:
        made += _maps(kind)
    return made


def _scalars(kind: str, place: Place, event: str | None) -> list[str]:
    field, literal = EVENT[kind], LITERALS[kind][0]
    profile = place.root + PROFILE[kind]
    made = [
        f"xEvent.head().{field}",
        f"[{event or profile}].head()",
        f"if({place.root}pb, {event or profile}, {literal})",
    ]
    if kind != "boolean":
        made.append(f"xEvent.max({field})")
    if kind == "integer":
        made += [f"xEvent.{field}.distinct().count()", f"{place.root}pm.k", "-xEvent.count()"]
    if kind == "double":
        made.append(f"xEvent.average({field})")
    if kind == "boolean":
        made.append(f"isNull({place.root}ps)")
    if kind in CLOCK:
        word, attribute = CLOCK[kind]
        made += [word, f"if({place.root}pb, {event or profile}, {word})"]
        made.append(f"{place.root}computed.{attribute}")
    return made


def _lists(kind: str, place: Place, event: str | None) -> list[str]:
    family = kind[1:-1]
    literals = LITERALS[family]
    profile, field = place.root + PROFILE[family], EVENT[family]
    other = profile if place.event is None else place.event + field
    return [
        f"[{', '.join(literals)}]",
        f"[{other}]",
        f"[{other}, {profile}]",
        f"[{literals[0]}, {other}]",
        f"[{place.root}computed.{name_of(family, 'c')}]",
        f"xEvent.{field}",
        f"xEvent[n > 0].map(E => E.{field})",
        f"xEvent.{field}.distinct()",
        f"xEvent.topN(n, 1).{field}",
        *(f"[{other}, {word}]" for word in CLOCK.get(family, ())[:1]),
    ]


def _objects(kind: str, place: Place) -> list[str]:
    own = f"{place.root}po" if place.event is None else f"{place.event}o"
    if kind == "object":
        attribute = f"{place.root}computed.event_object"
        return [
            own,
            "xEvent.head().o",
            attribute,
            f"[{own}].head()",
            f"if(isNull({own}), {own}, {own})",
        ]
    attribute = f"{place.root}computed.event_objects"
    return ["xEvent.o", attribute, f"[{own}]", "xEvent.topN(n, 2).o", "xEvent.map(E => E.o)"]


def _maps(kind: str) -> list[str]:
    if kind == "{integer}":
        return ["xEvent.groupBy(s).map((K, G) => mapEntry(K, G.sum(n)))"]
    return ["xEvent.groupBy(s)"] if kind == "{[string]}" else []


# Forms: texts with {0}, {1}, … for operands of these kinds.


def forms() -> Iterator[tuple[str, tuple[str, ...], str]]:
    """(text, the operands' kinds, the result's kind) of every function."""
    for family in FAMILIES:
        yield from _of_family(family)
        yield from _of_lists(f"[{family}]", family)
    yield from _of_objects()
    for text in ("{0}.contains({1})", "{0}.doesNotStartWith({1}, {2})", "{0} like {1}",
                 "{0}.equals({1}, false)", "{0}.notEqualTo({1})"):  # fmt: skip
        yield text, ("string", "string", "boolean")[: text.count("{")], "boolean"
    yield '{0}.matches("a|b")', ("string",), "boolean"
    yield '{0}.regexGroup("(.)(.*)", 1)', ("string",), "string"
    for family in ("integer", "double", "decimal"):
        for operator in ("+", "-", "*", "/", "%"):
            result = "double" if operator == "/" else family
            yield f"({{0}} {operator} {{1}})", (family, family), result
        yield "(-{0})", (family,), family
    yield "({0} + {1})", ("integer", "double"), "double"
    yield "({0} * {1})", ("decimal", "integer"), "decimal"
    yield "{0} = {1}", ("date", "timestamp"), "boolean"
    yield "{0} < {1}", ("decimal", "double"), "boolean"
    yield "{0} in {1}", ("integer", "[double]"), "boolean"
    for function in ("getYear", "getMonth", "getDayOfMonth"):
        yield f"{{0}}.{function}()", ("timestamp",), "integer"
    for moment in ("<= 1 day before {1}", "> 2 hours after {1}", "before {1}", "on {1}",
                   "between {1} and now", "= 1 day before {1}", "!= 1 day before {1}"):  # fmt: skip
        yield f"{{0}} occurs {moment}", ("timestamp", "timestamp"), "boolean"
    yield "{0} occurs <= 1 month before now", ("date",), "boolean"
    yield "{0} occurs after yesterday", ("timestamp",), "boolean"
    yield "now occurs > 1 day after {0}", ("timestamp",), "boolean"
    yield "{0} < today", ("date",), "boolean"
    yield "{0} and {1}", ("boolean", "boolean"), "boolean"
    yield "({0} or {1})", ("boolean", "boolean"), "boolean"
    yield "not {0}", ("boolean",), "boolean"
    yield "{0} and {1}", ("boolean", "[string]"), "boolean"
    yield "not ({0})", ("[integer]",), "boolean"
    yield "if({0}, {1}, {2})", ("[string]", "integer", "integer"), "integer"
    for kind, key in (("{integer}", "string"), ("{string}", "string"), ("{[string]}", "string")):
        result = {"{integer}": "integer", "{string}": "string"}.get(kind, "[string]")
        yield "{0}.get({1})", (kind, key), result
        yield "{0}.keys()", (kind,), "[string]"
        yield "{0}.values()", (kind,), f"[{result}]"
        yield "isNull({0})", (kind,), "boolean"
        yield "{0}.map((K, G) => mapEntry(K, isNull(G)))", (kind,), "{boolean}"
    yield "{0}.a", ("{integer}",), "integer"
    yield from further_forms()


def _of_objects() -> Iterator[tuple[str, tuple[str, ...], str]]:
    yield "{0}", ("object",), "object"
    yield "{0}", ("[object]",), "[object]"
    yield "isNull({0})", ("object",), "boolean"
    yield "{0} = {0}", ("object",), "boolean"
    yield "{0}.fee", ("object",), "decimal"
    yield "{0}.day", ("object",), "date"
    for text, result in (
        ("{0}.head()", "object"), ("{0}.count()", "integer"), ("{0}.distinct()", "[object]"),
        ("{0}.fee", "[decimal]"), ("{0}.day.max()", "date"), ("{0}.filter(fee > 1)", "[object]"),
        ("{0}.topN(fee, 1)", "[object]"), ("{0}.map(I => I.day)", "[date]"),
        ("{0}.groupBy(I => I.day).values().head()", "[object]"), ("{0}.sum(fee)", "decimal"),
        ("exists I from {0} where I.fee > 1", "boolean"),
    ):  # fmt: skip
        yield text, ("[object]",), result


def _of_family(family: str) -> Iterator[tuple[str, tuple[str, ...], str]]:
    for operator in ("=", "!="):
        yield f"{{0}} {operator} {{1}}", (family, family), "boolean"
    if family != "boolean":
        for operator in ("<", ">="):
            yield f"{{0}} {operator} {{1}}", (family, family), "boolean"
    yield "isNull({0})", (family,), "boolean"
    yield "isNotNull({0})", (family,), "boolean"
    yield "if({0}, {1}, {2})", ("boolean", family, family), family


def _of_lists(kind: str, family: str) -> Iterator[tuple[str, tuple[str, ...], str]]:
    for word in ("in", "notIn"):
        yield f"{{0}} {word} {{1}}", (family, kind), "boolean"
    yield "{0}.includes({1})", (kind, family), "boolean"
    for function in ("intersects", "subsetOf", "supersetOf"):
        yield f"{{0}}.{function}({{1}})", (kind, kind), "boolean"
    yield "{0}.intersection({1})", (kind, kind), kind
    yield "{0} = {1}", (kind, kind), "boolean"
    yield "{0} != {1}", (kind, kind), "boolean"
    yield "isNull({0})", (kind,), "boolean"
    yield "isNotNull({0})", (kind,), "boolean"
    yield "{0}.distinct()", (kind,), kind
    yield "{0}.head()", (kind,), family
    yield "{0}.count()", (kind,), "integer"
    yield "if({0}, {1}, {2})", ("boolean", kind, kind), kind
    yield "{0}.filter(I => I = {1})", (kind, family), kind
    yield "{0}.map(I => isNull(I))", (kind,), "[boolean]"
    yield "[{0}, {1}].count()", (family, family), "integer"
    yield "[{0}].head()", (kind,), kind
    yield "exists I from {0} where I = {1}", (kind, family), "boolean"
    yield "forall I from {0} where I != {1}", (kind, family), "boolean"
    yield "(select I from {0} where I != {1}).count()", (kind, family), "integer"
    yield "{0}.groupBy(I => I).keys()", (kind,), kind
    if family != "boolean":
        yield "{0}.max()", (kind,), family
        yield "{0}.min()", (kind,), family
        yield "{0}.topN(I => I, 2)", (kind,), kind
        yield "{0}.bottomN(I => I, 1).head()", (kind,), family
    if family in ("integer", "double", "decimal"):
        yield "{0}.sum()", (kind,), family
        yield "{0}.average()", (kind,), "double"
        yield "{0}.sum(I => I + {1})", (kind, family), family


# Positions.


def placed(text: str, kind: str, position: str) -> str | None:
    """A whole rule with the expression in this position; None where nothing of its type stands."""
    claim = text if kind == "boolean" or kind.startswith("[") else f"isNull({text})"
    match position:
        case "segment":
            return claim
        case "attribute" | "let":
            return text
        case "filter" | "named filter":
            head = "filter(V => " if position == "named filter" else "filter("
            return f"xEvent.{head}{claim}).count()"
        case "chain":
            return f"CHAIN(xEvent, timestamp, [A: WHAT(n > 0), B: WHAT({claim})])"
        case "exists" | "forall":
            return f"{position} V from xEvent where {claim}"
        case "select":
            return f"(select V from xEvent where {claim}).n"
        case "groupBy":
            if kind in ("string", "integer", "boolean", "timestamp", "date"):
                return f"xEvent.groupBy({text}).map((K, G) => mapEntry(K, G.count()))"
        case "sum":
            if kind in ("integer", "double", "decimal"):
                return f"xEvent.sum({text})"
            return f"xEvent.sum(if({claim}, 1, n))"
        case "map":
            return f"xEvent.map({text})"
    return None


POSITIONS = {
    "segment": TOP,
    "attribute": TOP,
    "let": TOP,
    "filter": BARE,
    "named filter": NAMED,
    "chain": BARE,
    "exists": NAMED,
    "forall": NAMED,
    "select": NAMED,
    "groupBy": BARE,
    "sum": BARE,
    "map": BARE,
}


def _choices(kinds: list[list[str]]) -> Iterator[tuple[str, ...]]:
    """Every pair of the first two operands; a third takes turns."""
    for places in product(*(range(len(of)) for of in kinds[:2])):
        chosen = [of[place] for of, place in zip(kinds, places, strict=False)]
        chosen += [of[sum(places) % len(of)] for of in kinds[2:]]
        yield tuple(chosen)


def enumerated(more: Iterable[Form] = ()) -> Iterator[tuple[str, str]]:
    for text, kinds, result in chain(forms(), more):
        for position, place in POSITIONS.items():
            for values in _choices([operands(kind, place) for kind in kinds]):
                filled = text.format(*values)
                if position == "let":
                    bound = values[0] if values else text
                    rest = text.format("q", *values[1:]) if values else "q"
                    filled = f"let q = ({bound}) in {rest}"
                rule = placed(filled, result, position)
                if rule is not None:
                    yield position, rule


def sampled(stride: int, offset: int = 0, more: Iterable[Form] = ()) -> list[tuple[str, str]]:
    """Every ``stride``-th of them. A prime stride meets every kind, function and position."""
    return [made for number, made in enumerate(enumerated(more)) if number % stride == offset]
