"""More forms for ``rules.forms``: string tests with their flags, words of the clock, calendar
distances, queries, sequences with gaps, and membership in other segments."""

from __future__ import annotations

from collections.abc import Iterator

Form = tuple[str, tuple[str, ...], str]
"""A text with operands, their kinds, the result's kind."""

SEGMENTS = {
    "by_field": "pb",
    "by_events": "xEvent.count() > 1",
    "by_clock": "xEvent[timestamp occurs <= 1 day before now].count() > 0",
    "by_rescan": "psa.count() > 0",
}
"""Segments that others read: their rules."""

STRING_TESTS = (
    "startsWith doesNotStartWith endsWith doesNotEndWith contains doesNotContain equals notEqualTo"
)
INTERVALS = ("this month", "last week", "next quarter", "this year", "last day", "this decade")
DISTANCES = (
    "= 1 month before now",
    "!= 1 week before now",
    "< 2 quarters before today",
    ">= 1 year from yesterday",
    "<= 36 hours after {1}",
    "= 1 decade before {1}",
)
MOMENTS = (
    "{0} = date(2024, 2, 28)",
    "{0} occurs between date(2024, 2, 1) and date(2024,2,29,6,0,0)",
    "date(2024,2,28,6,0,0) occurs before {0}",
)
CHAIN = "CHAIN(xEvent, timestamp, [{}])"
OTHERS: tuple[Form, ...] = (
    (
        "(exists W from xEvent where W.n > {0}, I from W.items where I.qty = {1})",
        ("integer", "integer"),
        "boolean",
    ),
    (
        "(forall W from xEvent where W.n > {0}, I from W.items where I.qty != {1})",
        ("integer", "integer"),
        "boolean",
    ),
    ("(select W from xEvent where W.s = {0}).n.sum()", ("string",), "integer"),
    (
        CHAIN.format("A: WHAT(n > {0}), B: WHAT(s = {1}) WHEN(<= 1 day after A)"),
        ("integer", "string"),
        "boolean",
    ),
    (CHAIN.format("A: WHAT(b) COUNT(2), B: WHAT(n = A.n or s = {0})"), ("string",), "boolean"),
    (
        f"(not {CHAIN.format('A: WHAT(n = {0}) WHEN(after date(2024,2,1))')})",
        ("integer",),
        "boolean",
    ),
    ("xEvent.groupBy(s).get({0}).count()", ("string",), "integer"),
    ("xEvent.topN(timestamp, 2).map(E => E.n + {0})", ("integer",), "[integer]"),
    ("pm.map((K, G) => mapEntry(K, G + {0}))", ("integer",), "{integer}"),
)


def further_forms() -> Iterator[Form]:
    """After all others, so that what has a number keeps it."""
    for test in STRING_TESTS.split():
        yield f"{{0}}.{test}({{1}})", ("string", "string"), "boolean"
        yield f"{{0}}.{test}({{1}}, false)", ("string", "string"), "boolean"
    for segment in SEGMENTS:
        yield f'inSegment("{segment}")', (), "boolean"
        yield f'(inSegment("{segment}") and {{0}})', ("boolean",), "boolean"
        yield f'if(inSegment("{segment}"), {{0}}, {{1}})', ("integer", "integer"), "integer"
    for fold in ("count", "sum", "average", "min", "max"):
        result = "double" if fold == "average" else "integer"
        yield f"({fold} W.n over W from xEvent where W.n > {{0}})", ("integer",), result
    yield from OTHERS


def clock_forms() -> Iterator[Form]:
    """Forms that move with the clock, of operands that stand still. Slow: where nothing changes the
    reference evaluator looks for it for 100 years."""
    one = ("still timestamp",)
    for word in ("currentYear()", "currentMonth()", "currentDayOfMonth()"):
        yield f"{{0}} = {word}", ("integer",), "boolean"
        yield f"({word} - {{0}})", ("integer",), "integer"
    for word in ("now", "today", "yesterday", "tomorrow"):
        yield f"{{0}} <= {word}", one, "boolean"
        yield f"{{0}} occurs on {word}", one, "boolean"
        yield f"{{0}} occurs before {word}", ("still date",), "boolean"
        yield f"{word}.getDayOfMonth()", (), "integer"
    for text in MOMENTS:
        yield text, one, "boolean"
    for interval in INTERVALS:
        yield f"{{0}} occurs on {interval}", one, "boolean"
        yield f"{{0}} occurs after {interval}", one, "boolean"
        yield f"{{0}} occurs between {interval} and now", ("still date",), "boolean"
    for distance in DISTANCES:
        yield f"{{0}} occurs {distance}", one * (1 + ("{1}" in distance)), "boolean"
