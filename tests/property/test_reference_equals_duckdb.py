"""The reference evaluator against DuckDB, another engine by other people, where SQL can say a rule.

Rules and SQL are made side by side: filtered counts, sums, least, greatest, averages and distinct
counts, in windows of fixed instants and windows up to now, with nulls, text tests and three-valued
logic brought down to two (a null condition is false).
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profile_actors.rules.catalogue.on_documents import evaluate

HOUR = 3_600_000
DAY = 24 * HOUR
NOW = 1_709_251_200_000  # 2024-03-01, the day after a leap day
TEXTS = ("oslo", "Oslo", "rome", "", "ro%e", "ör", "a_b")
Pair = tuple[str, str]


@pytest.fixture(scope="module")
def table() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect(config={"threads": 1})
    connection.execute(
        "create table events (place varchar, n bigint, x double, d decimal(18, 2), t bigint)"
    )
    yield connection
    connection.close()


class Maker:
    """The same thing as a rule and as SQL."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def condition(self, depth: int = 2) -> Pair:
        """A condition on one event; the SQL is never null."""
        rng = self.rng
        pick = rng.random()
        if depth and pick < 0.35:
            word = rng.choice(("and", "or"))
            (a, b), (c, d) = self.condition(depth - 1), self.condition(depth - 1)
            return f"({a} {word} {c})", f"({b} {word} {d})"
        if depth and pick < 0.5:
            a, b = self.condition(depth - 1)
            return f"not ({a})", f"not ({b})"
        rule, sql = rng.choice((self.numbers, self.texts, self.times, self.nulls))()
        return rule, f"coalesce({sql}, false)"

    def numbers(self) -> Pair:
        """A comparison of numbers."""
        rng = self.rng
        operator = rng.choice(("=", "!=", "<", "<=", ">", ">="))
        rule, sql = rng.choice((
            ("n", "n"), ("x", "x"), ("d", "d"), ("n + x", "n + x"), ("n * 2", "n * 2"),
            ("n % 2", "n % 2"), ("-n", "-n"), ("x / n", "x / nullif(n, 0)"), ("n - 1", "n - 1"),
            ("if(n.isNull(), 0, n)", "coalesce(n, 0)"),
        ))  # fmt: skip
        right = rng.choice(("0", "1", "2", "0.5", "n", "x"))
        if "d" in rule and right == "x":
            right = "1.25"
        if rng.random() < 0.2:
            word = rng.choice((("in", "in"), ("notIn", "not in")))
            return f"n {word[0]} [0, 1, 3]", f"n {word[1]} (0, 1, 3)"
        return f"{rule} {operator} {right}", f"{sql} {operator} {right}"

    def texts(self) -> Pair:
        """A test of text."""
        rng = self.rng
        text = rng.choice(("o", "os", "ro%e", "e", "", "ö", "rome"))
        pattern = rng.choice(("%o%", "_slo", "%", "ro%", "r__e", "%b", "", "_"))
        regex = rng.choice(("^[rR]o", "o$", "[a-z]{4}", "s|m", "^$"))
        return rng.choice((
            (f'place = "{text}"', f"place = '{text}'"),
            (f'place != "{text}"', f"place != '{text}'"),
            (f'place in ["{text}", "oslo"]', f"place in ('{text}', 'oslo')"),
            (f'place notIn ["{text}", "oslo"]', f"place not in ('{text}', 'oslo')"),
            (f'place like "{pattern}"', f"place like '{pattern}'"),
            (f'place.startsWith("{text}")', f"starts_with(place, '{text}')"),
            (f'place.doesNotStartWith("{text}")', f"not starts_with(place, '{text}')"),
            (f'place.endsWith("{text}")', f"ends_with(place, '{text}')"),
            (f'place.doesNotEndWith("{text}")', f"not ends_with(place, '{text}')"),
            (f'place.contains("{text}")', f"contains(place, '{text}')"),
            (f'place.doesNotContain("{text}")', f"not contains(place, '{text}')"),
            (f'place.equals("{text}", false)', f"lower(place) = lower('{text}')"),
            (f'place.matches("{regex}")', f"regexp_matches(place, '{regex}')"),
            ('place.regexGroup("(.)(.)", 2) = "o"',
             "regexp_matches(place, '..') and regexp_extract(place, '(.)(.)', 2) = 'o'"),
        ))  # fmt: skip

    def times(self) -> Pair:
        """A window, of fixed instants or up to now."""
        rng = self.rng
        hours = rng.choice((0, 6, 24, 48, 72))
        since = NOW - hours * HOUR
        midnight = NOW // DAY * DAY
        fixed = rng.choice((28, 29))
        at = 1_709_078_400_000 + (fixed - 28) * DAY
        return rng.choice((
            (f"timestamp occurs <= {hours} hours before now", f"t between {since} and {NOW}"),
            (f"timestamp occurs < {hours} hours before now", f"t > {since} and t <= {NOW}"),
            (f"timestamp occurs > {hours} hours before now", f"t < {since}"),
            (f"timestamp occurs >= {hours} hours before now", f"t <= {since}"),
            ("timestamp occurs today", f"t >= {midnight} and t < {midnight + DAY}"),
            ("timestamp occurs yesterday", f"t >= {midnight - DAY} and t < {midnight}"),
            (f"timestamp occurs before date(2024, 2, {fixed})", f"t < {at}"),
            (f"timestamp occurs after date(2024, 2, {fixed})", f"t > {at}"),
            (f"timestamp occurs on date(2024, 2, {fixed})", f"t >= {at} and t < {at + DAY}"),
            (f"timestamp occurs between date(2024, 2, {fixed}) and now",
             f"t between {at} and {NOW}"),
            ("timestamp.getDayOfMonth() = 29", "day(epoch_ms(t)) = 29"),
            ("timestamp.getMonth() = 2", "month(epoch_ms(t)) = 2"),
            ("timestamp occurs on this week",
             "date_trunc('week', epoch_ms(t) + interval 1 day)"
             f" = date_trunc('week', epoch_ms({NOW}::bigint) + interval 1 day)"),
            ("timestamp occurs on last month",
             "date_trunc('month', epoch_ms(t))"
             f" = date_trunc('month', epoch_ms({NOW}::bigint) - interval 1 month)"),
        ))  # fmt: skip

    def nulls(self) -> Pair:
        """A question about null."""
        name = self.rng.choice(("place", "n", "x", "d"))
        return self.rng.choice((
            (f"isNull({name})", f"{name} is null"),
            (f"{name}.isNotNull()", f"{name} is not null"),
        ))  # fmt: skip

    def aggregate(self) -> Pair:
        """An aggregate over filtered events."""
        rng = self.rng
        rule, sql = self.condition()
        value = rng.choice(("n", "x", "d"))
        source, where = f"xEvent[{rule}]", f"from events where {sql}"
        return rng.choice((
            (f"{source}.count()", f"select count(*) {where}"),
            (f"{source}.{value}.count()", f"select count({value}) {where}"),
            (f"{source}.sum(n)", f"select coalesce(sum(n), 0) {where}"),
            (f"{source}.sum(d)", f"select coalesce(sum(d), 0) {where}"),
            (f"{source}.sum(x)", f"select coalesce(fsum(x), 0) {where}"),
            (f"{source}.min({value})", f"select min({value}) {where}"),
            (f"{source}.max({value})", f"select max({value}) {where}"),
            (f"{source}.max(place)", f"select max(place) {where}"),
            (f"{source}.average(n)", f"select avg(n) {where}"),
            (f"{source}.max(timestamp)", f"select max(t) {where}"),
            (f"{source}.place.distinct().count()", f"select count(distinct place) {where}"),
            (f"{source}.n.distinct().count()", f"select count(distinct n) {where}"),
            (f"exists E from {source} where E.n > 0",
             f"select count(*) > 0 {where} and coalesce(n > 0, false)"),
            (f"forall E from {source} where E.n > 0",
             f"select count(*) = 0 {where} and not coalesce(n > 0, false)"),
            (f"{source}.groupBy(place).keys().count()", f"select count(distinct place) {where}"),
            (f"{source}.topN(timestamp, 1).head().timestamp", f"select max(t) {where}"),
        ))  # fmt: skip


def rows(rng: random.Random) -> list[dict[str, Any]]:
    """Events around the window's edges, with nulls."""
    grid = (0, 6 * HOUR, DAY, 2 * DAY, 3 * DAY, 40 * DAY)
    return [
        {
            "place": rng.choice((None, *TEXTS)),
            "n": rng.choice((None, -1, 0, 1, 2, 3)),
            "x": rng.choice((None, -0.5, 0.0, 0.5, 1.0, 2.25)),
            "d": rng.choice((None, 1, 1.25, 0.5)),
            "t": NOW - rng.choice(grid) + rng.choice((0, 0, 1, -1)) * (rng.random() < 0.5),
        }
        for _ in range(rng.randint(0, 12))
    ]


@given(st.integers(0, 1 << 40))
def test_rules_that_sql_can_say(table: duckdb.DuckDBPyConnection, seed: int) -> None:
    rng = random.Random(seed)
    events = rows(rng)
    table.execute("delete from events")
    if events:
        table.executemany(
            "insert into events values (?, ?, ?, ?, ?)", [list(row.values()) for row in events]
        )
    documents = [
        {**{k: v for k, v in row.items() if k != "t"}, "timestamp": row["t"], "_id": str(place)}
        for place, row in enumerate(events)
    ]
    for _ in range(5):
        rule, sql = Maker(rng).aggregate()
        # An event later than now is not seen.
        (expected,) = table.execute(f"{sql} and t <= {NOW}").fetchone() or (None,)
        got, _ = evaluate(rule, {}, documents, now=NOW)
        if isinstance(expected, float) and not isinstance(got, bool):
            assert math.isclose(got, expected, rel_tol=1e-12), (rule, events)
        elif expected is None or isinstance(expected, str | bool):
            assert got == expected, (rule, events)
        else:
            assert got == float(expected), (rule, events)
