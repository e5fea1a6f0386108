"""The functions of the language: their names, spellings, arities and bounds."""

from __future__ import annotations

from profile_actors.rules.semantics import string_tests

MAX_DEPTH = 100  # a walk takes a few frames per level, of the interpreter's 1,000


MAX_ITEMS = 4_096  # literals of one list, steps of one chain


MAX_COUNT = 1_000_000  # COUNT(n) and n of topN


# Strict methods: canonical name -> how many arguments after the receiver.
METHODS: dict[str, tuple[int, int]] = {
    **dict.fromkeys(string_tests.TESTS, (1, 2)),
    **dict.fromkeys(("intersects", "intersection", "subsetof", "supersetof", "includes"), (1, 1)),
    **dict.fromkeys(("distinct", "head", "keys", "values", "count", "isnull", "isnotnull"), (0, 0)),
    **dict.fromkeys(("getyear", "getmonth", "getdayofmonth"), (0, 0)),
    "matches": (1, 1),
    "regexgroup": (2, 2),
    "get": (1, 1),
}


# Methods that evaluate their first argument once per element, and how many arguments they take.
EACH: dict[str, tuple[int, int]] = {
    **dict.fromkeys(("filter", "map", "groupby"), (1, 1)),
    **dict.fromkeys(("topn", "bottomn"), (2, 2)),
    **dict.fromkeys(("sum", "average", "min", "max"), (0, 1)),
}


FUNCTIONS: dict[str, tuple[int, int]] = {
    **dict.fromkeys(("isnull", "isnotnull", "insegment"), (1, 1)),
    **dict.fromkeys(("currentyear", "currentmonth", "currentdayofmonth"), (0, 0)),
    "if": (3, 3),
    "date": (3, 6),
}


# Canonical names as people write them, for messages.
SPELLING = {
    name.lower(): name
    for name in (
        *("startsWith", "doesNotStartWith", "endsWith", "doesNotEndWith", "doesNotContain"),
        *("notEqualTo", "regexGroup", "subsetOf", "supersetOf", "isNull", "isNotNull", "inSegment"),
        *("topN", "bottomN", "groupBy", "mapEntry", "notIn", "getYear", "getMonth"),
        *("getDayOfMonth", "currentYear", "currentMonth", "currentDayOfMonth"),
    )
}


def spelling(name: str) -> str:
    """The function's name as the documentation writes it."""
    return SPELLING.get(name, name)
