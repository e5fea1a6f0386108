"""The search for ``valid_until``: what repeats day by day is not followed for a century."""

from __future__ import annotations

from typing import Any

import pytest

from profile_actors.columnar.time_units import DAY_MS
from profile_actors.rules.language.parser import parse
from profile_actors.rules.reference.moving_values import Bound
from profile_actors.rules.reference.validity import _Run
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
