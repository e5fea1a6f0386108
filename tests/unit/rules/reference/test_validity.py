"""The search for ``valid_until``: what repeats by day or by year is not followed for a century."""

from __future__ import annotations

from typing import Any

import pytest

from profile_actors.columnar.time_units import DAY_MS
from profile_actors.rules.language.parser import parse
from profile_actors.rules.reference.moving_values import Bound
from profile_actors.rules.reference.validity import LOOK_AHEAD, _Run, value_at
from profile_actors.rules.semantics import calendar

NOON = calendar.from_civil(2024, 2, 28, 12) or 0
MIDNIGHT = NOON + DAY_MS // 2
MAY = calendar.from_civil(2024, 5, 1) or 0
EVER = "(now = today or now > today)"
NEVER = "[now, today] != [now, today]"
BORN = [{"timestamp": NOON - DAY_MS, "v": 1, "_id": "1"}]


class Counted(_Run):
    evaluations = 0

    def at(self, now: int, limit: int) -> tuple[Any, Bound]:
        self.evaluations += 1
        return super().at(now, limit)


@pytest.mark.parametrize(
    ("rule", "until", "most"),
    [
        (EVER, None, 9),
        (NEVER, None, 9),
        (f"not ({NEVER})", None, 9),
        ("now occurs <= 90 minutes after today or now occurs > 90 minutes after today", None, 30),
        ("exists E from xEvent where [now, today] != [now, today] and E.v = 1", None, 9),
        ("xEvent[now = today or now != today].count()", None, 9),
        (f"{EVER} and today = date(2024, 5, 1)", MAY, 30),
        (f"{EVER} and currentYear() < 2100", calendar.from_civil(2100, 1, 1), 30),
        ("now = today", MIDNIGHT, 3),
        (f"if({NEVER}, today, date(2020, 1, 1)) = today", None, 9),
        (f"{EVER} and xEvent[timestamp occurs <= 3 days before now].count() > 0",
         NOON + 2 * DAY_MS + 1, 30),
    ],
)  # fmt: skip
def test_a_whole_day_says_what_all_days_say(rule: str, until: int | None, most: int) -> None:
    run = Counted(parse(rule), {}, BORN, None, (), NOON)
    assert run.guarded(rule, 50_000)[1] == until
    assert run.evaluations <= most


def test_a_rule_that_another_reads_is_followed_through_a_day_as_well() -> None:
    run = Counted(parse("computed.c"), {}, BORN, {"c": parse(EVER)}, (), NOON)
    assert run.guarded("", 50_000) == (True, None)
    assert run.evaluations <= 9


DATE = "currentMonth() * 100 + currentDayOfMonth()"
ROUND = "yesterday.getDayOfMonth() + 100 * currentDayOfMonth() + 10000 * tomorrow.getDayOfMonth()"


@pytest.mark.parametrize(
    ("rule", "most"),
    [
        ("currentDayOfMonth() % 40 = 35", 400),
        ("xEvent[currentDayOfMonth() % v = 35].count() > 0", 400),
        (f"{DATE} = 230", 400),
        ("currentMonth() * 2 = 5", 40),
        (f"{EVER} and {DATE} < 1300", 1200),
        (f"{ROUND} = 0", 400),
    ],
)
def test_dates_that_come_again_each_year_are_looked_at_once(rule: str, most: int) -> None:
    run = Counted(parse(rule), {}, BORN, None, (), NOON)
    assert run.guarded(rule, 50_000)[1] is None
    assert run.evaluations <= most


@pytest.mark.parametrize("year", [1895, 1896, 1897, 2023, 2024, 2096])
@pytest.mark.parametrize(
    ("rule", "month", "day"),
    [(DATE, month, day) for month, day in ((2, 28), (2, 29), (3, 1), (7, 31))]
    + [(ROUND, 2, 28), (ROUND, 2, 29), (ROUND, 3, 1), (ROUND, 1, 1)],
)
def test_a_date_is_found_whatever_years_lie_between(
    rule: str, month: int, day: int, year: int
) -> None:
    """From shortly after it: the next is a year away, or as far as eight."""
    for of in (year, year + 1):  # as it is in a leap year and in others
        moment = calendar.from_civil(of, month, day, 9)
        if moment is None:
            continue
        number = value_at(parse(rule), {}, (), moment)
        asked = f"{rule} = {number}"
        now = (calendar.from_civil(year, 3, 2) or 0) + DAY_MS // 3
        limit = calendar.shift(now, *LOOK_AHEAD) or 0
        midnights = range(now - now % DAY_MS + DAY_MS, limit + 1, DAY_MS)
        tree = parse(asked)
        assert value_at(tree, {}, (), now) is False
        true = next(t for t in midnights if value_at(tree, {}, (), t))
        assert _Run(tree, {}, (), None, (), now).guarded(asked, 50_000) == (False, true)
