"""Law L3, one event at a time: vectorised evaluation equals the reference evaluator.

Conditions and values over one event are generated as rule text; every row of a small batch is also
given to the reference evaluator as the only event of a profile.
"""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from profile_actors.columnar.time_units import DAY_MS
from profile_actors.columnar.vectors import FOREVER, Vector, column
from profile_actors.definitions.declared import Schema
from profile_actors.rules.evaluation.horizons import next_boundary
from profile_actors.rules.evaluation.planned_values import vector_of
from profile_actors.rules.language.checker import check
from profile_actors.rules.language.parser import parse
from profile_actors.rules.language.types import union_scope
from profile_actors.rules.reference.validity import value_at as reference
from profile_actors.rules.semantics import calendar
from profile_actors.rules.semantics.scalar_operators import EXACT
from profile_actors.rules.tree.kinds import kind_of, path
from profile_actors.rules.tree.nodes import Each, Field, Node

DAY = DAY_MS
BASE = calendar.from_civil(2024, 2, 29, 12) or 0
INT64 = 2**63 - 1
TYPES = {
    "s": pa.string(),
    "t": pa.string(),
    "i": pa.int64(),
    "d": pa.float64(),
    "b": pa.bool_(),
    "ts": pa.timestamp("ms"),
    "day": pa.date32(),
    "m": pa.decimal128(18, 2),
}
KINDS = {
    "s": "string",
    "t": "string",
    "i": "integer",
    "d": "double",
    "b": "boolean",
    "ts": "timestamp",
    "day": "date",
    "m": "decimal(2)",
}
SCOPE = union_scope([Schema("s", "event", dict(KINDS))])

words = st.sampled_from(["", "a", "A", "ab", "b%", "straße", "STRASSE", "a_c", "é", "\n", "😀x"])
integers = st.one_of(
    st.integers(-5, 5),
    st.sampled_from([INT64, -INT64 - 1, 2**53, 2**53 + 1, 2**62]),
)
doubles = st.one_of(
    st.sampled_from([0.0, -0.0, 0.5, -1.5, 3.0, 1e308, 5e-324, 2.0**53, 9007199254740994.0]),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
)
decimals = st.one_of(st.integers(-500, 500), st.sampled_from([10**17, -(10**17), 10**18 - 1])).map(
    lambda n: Decimal(n).scaleb(-2)
)
instants = st.one_of(
    st.builds(lambda days, ms: BASE + days * DAY + ms, st.integers(-70, 70), st.integers(-2, 2)),
    st.builds(
        lambda y, m: calendar.from_civil(y, m, 1) or 0, st.integers(1995, 2030), st.integers(1, 12)
    ),
)
days = instants.map(lambda ms: datetime.date(1970, 1, 1) + datetime.timedelta(days=ms // DAY))
rows = st.fixed_dictionaries(
    {
        "s": st.none() | words,
        "t": st.none() | words,
        "i": st.none() | integers,
        "d": st.none() | doubles,
        "b": st.none() | st.booleans(),
        "ts": st.none() | instants,
        "day": st.none() | days,
        "m": st.none() | decimals,
    }
)


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def written(parts: str, *strategies: Any) -> Any:
    """Text with {} holes, each filled with a parenthesised sub-expression."""
    return st.tuples(*strategies).map(lambda found: parts.format(*(f"({f})" for f in found)))


def literal_double(value: float) -> str:
    return f"{abs(value):.6f}"


number_literals = st.one_of(
    st.integers(0, 6).map(str),
    st.sampled_from(["0.5", "1.5", "3.0", "9007199254740993", str(INT64), "100000000.25"]),
)
string_leaves = st.one_of(st.sampled_from(["s", "t"]), words.map(quoted))
time_leaves = st.one_of(
    st.sampled_from(["ts", "day", "now", "today", "yesterday", "tomorrow", "date(2024, 2, 29)"]),
    st.sampled_from(["date(2024, 2, 29, 12, 0, 0)", "ts", "day"]),
)
units = st.sampled_from([*calendar.UNITS])
intervals = st.builds("{} {}".format, st.sampled_from(["this", "last", "next"]), units)
comparisons = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
occurs_times = st.one_of(time_leaves, intervals)


def numbers(depth: int) -> Any:
    leaves = st.one_of(st.sampled_from(["i", "d", "m"]), number_literals)
    if depth == 0:
        return leaves
    inner = numbers(depth - 1)
    return st.one_of(
        leaves,
        *(written("{} " + op + " {}", inner, inner) for op in "+-*/%"),
        written("-{}", inner),
        written("if({}, {}, {})", conditions(depth - 1), inner, inner),
        st.sampled_from(["ts.getYear()", "day.getMonth()", "now.getDayOfMonth()"]),
        st.sampled_from(["currentYear()", "currentMonth()", "currentDayOfMonth()"]),
    )


def strings(depth: int) -> Any:
    if depth == 0:
        return string_leaves
    inner = strings(depth - 1)
    return st.one_of(
        string_leaves,
        written("if({}, {}, {})", conditions(depth - 1), inner, inner),
        st.sampled_from(['s.regexGroup("(a)(.)?", 2)', 't.regexGroup("a|b", 0)']),
    )


def conditions(depth: int) -> Any:
    number, text = numbers(max(depth - 1, 0)), strings(max(depth - 1, 0))
    base = [
        st.sampled_from(["b", "true", "not b"]),
        st.builds("({}) {} ({})".format, number, comparisons, number),
        st.builds("({}) {} ({})".format, text, comparisons, text),
        st.builds("({}) {} ({})".format, time_leaves, comparisons, time_leaves),
        st.builds(
            "({}) {} [{}]".format,
            number,
            st.sampled_from(["in", "notIn"]),
            st.lists(number_literals, max_size=20).map(", ".join),
        ),
        st.builds("s notIn [{}]".format, st.lists(words.map(quoted), max_size=4).map(", ".join)),
        st.builds("t in [{}]".format, st.lists(string_leaves, max_size=3).map(", ".join)),
        st.builds(
            "({}).{}({}, {})".format,
            text,
            st.sampled_from(["startsWith", "endsWith", "doesNotStartWith", "doesNotEndWith"]),
            text,
            st.sampled_from(["true", "false", "b"]),
        ),
        st.builds(
            "({}).{}({})".format,
            text,
            st.sampled_from(["contains", "doesNotContain", "equals", "notEqualTo"]),
            text,
        ),
        st.builds("s like {}".format, words.map(quoted)),
        st.sampled_from(['s.matches("^a")', 't.matches("[a-c]$")']),
        st.builds("isNull({})".format, st.one_of(number, text)),
        st.builds("isNotNull({})".format, st.one_of(number, text)),
        st.builds(
            "({}) occurs {} {} {} {} ({})".format,
            time_leaves,
            comparisons,
            st.integers(0, 40),
            units,
            st.sampled_from(["before", "after", "from"]),
            time_leaves,
        ),
        st.builds(
            "({}) occurs {} {} {} {} {}".format,
            time_leaves,
            comparisons,
            st.integers(0, 3),
            units,
            st.sampled_from(["before", "after"]),
            intervals,
        ),
        st.builds(
            "({}) occurs {} {}".format,
            time_leaves,
            st.sampled_from(["before", "after", "on"]),
            occurs_times,
        ),
        st.builds("({}) occurs between {} and {}".format, time_leaves, occurs_times, occurs_times),
    ]
    if depth > 0:
        inner = conditions(depth - 1)
        base.extend(
            [
                written("{} and {}", inner, inner),
                written("{} or {} or {}", inner, inner, inner),
                written("not {}", inner),
            ]
        )
    return st.one_of(*base)


def event_tree(text: str, function: str) -> Each:
    """``xEvent.map(text)`` or ``xEvent[text]``, typed."""
    each = check(parse(f"xEvent.map({text})" if function == "map" else f"xEvent[{text}]"), SCOPE)
    assert isinstance(each, Each)
    return each


def batch(documents: list[dict[str, Any]]) -> dict[str, Vector]:
    return {
        name: column(pa.array([row[name] for row in documents], kind))
        for name, kind in TYPES.items()
    }


def vector_values(body: Node, documents: list[dict[str, Any]], now: Any) -> list[Any]:
    columns = batch(documents)

    def leaf(node: Node) -> Vector:
        name = path(node)
        assert name is not None
        return columns[name]

    vector = vector_of(body, leaf, len(documents), now)
    kind, scale = kind_of(body)
    raw = vector.values.tolist()
    if vector.dictionary is not None:
        raw = [vector.dictionary[code] for code in raw]
    if kind == "decimal":
        raw = [EXACT.scaleb(Decimal(value), -scale) for value in raw]
    if vector.valid is not None:
        raw = [value if ok else None for value, ok in zip(raw, vector.valid, strict=True)]
    return list(raw)


def reference_value(tree: Each, row: dict[str, Any], now: int) -> Any:
    """What the reference makes of the row as the only event, long before now."""
    document = {key: value for key, value in row.items() if value is not None}
    found = reference(tree, None, [{**document, "timestamp": 0}], now)
    return found[0] if found else None


@settings(max_examples=200, deadline=None)
@given(
    text=conditions(2),
    documents=st.lists(rows, min_size=1, max_size=4),
    now=instants,
)
def test_conditions(text: str, documents: list[dict[str, Any]], now: int) -> None:
    tree = event_tree(text, "filter")
    found = vector_values(tree.body, documents, now)
    expected = [reference_value(tree, row, now) is not None for row in documents]
    assert [bool(value) for value in found] == expected, text


@settings(max_examples=200, deadline=None)
@given(
    text=st.one_of(numbers(2), strings(2)),
    documents=st.lists(rows, min_size=1, max_size=4),
    now=instants,
)
def test_values(text: str, documents: list[dict[str, Any]], now: int) -> None:
    tree = event_tree(text, "map")
    found = vector_values(tree.body, documents, now)
    for value, row in zip(found, documents, strict=True):
        expected = reference_value(tree, row, now)
        if isinstance(expected, Decimal) and value is None:
            assert abs(EXACT.scaleb(expected, kind_of(tree.body)[1])) > INT64, text
        else:
            assert value == expected, (text, row)


@settings(max_examples=150, deadline=None)
@given(
    text=st.one_of(conditions(2), numbers(2)),
    documents=st.lists(rows, min_size=1, max_size=3),
    now=instants,
    steps=st.lists(st.integers(1, 40 * DAY), max_size=4),
)
def test_nothing_changes_before_the_next_boundary(
    text: str, documents: list[dict[str, Any]], now: int, steps: list[int]
) -> None:
    body = event_tree(text, "map").body
    columns = batch(documents)

    def leaf(node: Node) -> Vector:
        name = path(node)
        assert name is not None
        return columns[name]

    at = np.full(len(documents), now, np.int64)
    boundary = next_boundary(body, leaf, at)
    assert (boundary > at).all()
    before = vector_values(body, documents, at)
    midnight = now - now % DAY
    for probe in [*(now + step for step in steps), *(midnight + n * DAY for n in (1, 2, 32, 366))]:
        later = np.minimum(np.maximum(probe, at), boundary - 1)
        assert vector_values(body, documents, later) == before, (text, probe)
    edge = np.where(boundary < FOREVER, boundary - 1, at)
    assert vector_values(body, documents, edge) == before, text


def test_a_path_is_a_chain_of_fields() -> None:
    assert isinstance(event_tree("s", "map").body, Field)
