"""When a part of the date next stands in another order to a number: against a walk day by day."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest

from profile_actors.columnar.time_units import DAY_MS
from profile_actors.rules.language.parser import parse
from profile_actors.rules.reference.moving_numbers import moving_part
from profile_actors.rules.reference.moving_values import OFFSETS, Horizon
from profile_actors.rules.reference.validity import evaluate_with_validity
from profile_actors.rules.semantics import calendar
from profile_actors.rules.semantics.scalar_operators import order

OTHERS = (-1, 0, 1, 12, 28, 29, 30, 31, 32, 1.5, 30.5, 1e300, -1e300, Decimal("1.25"), Decimal(31))


def test_a_part_of_the_date_differs_first_where_a_walk_by_days_finds_it() -> None:
    rng = random.Random(5)
    for _ in range(600):
        now = calendar.from_civil(rng.randint(1999, 2005), rng.randint(1, 12), rng.randint(1, 28))
        assert now is not None
        now += rng.randint(-3 * DAY_MS, 3 * DAY_MS)
        part, offset = rng.choice(("month", "day")), rng.choice(sorted(set(OFFSETS.values())))
        moving = moving_part(part, now, offset)
        other = rng.choice((*OTHERS, rng.randint(1, 31)))
        horizon = Horizon(now, now + 400 * DAY_MS)
        horizon.pair(moving, other)
        midnight = now - now % DAY_MS
        starts = (midnight + day * DAY_MS for day in range(1, 400))
        there = ((at, moving_part(part, at, offset)) for at in starts)
        present = order(moving, other)
        wanted = next((at for at, then in there if order(then, other) != present), None)
        assert horizon.bound.first == wanted, (now, part, offset, other)


MARCH_10 = 1_710_028_800_000


@pytest.mark.parametrize("days", [0.2, 1, 9, 300, 20_000])
@pytest.mark.parametrize(
    ("rule", "flips"),
    [
        ("now occurs between today and date(2024, 3, 10)", 1),
        ("today occurs between yesterday and date(2024, 3, 10)", DAY_MS),
        ("tomorrow occurs between today and date(2024, 3, 10)", 0),
        ("now occurs between yesterday and date(2024, 3, 10)", 1),
    ],
)
def test_words_that_repeat_meet_a_time_that_stands_still(
    rule: str, flips: int, days: float
) -> None:
    """However far it is: nothing changes for a day is no sign that nothing ever will."""
    now = MARCH_10 - int(days * DAY_MS)
    value, until = evaluate_with_validity(parse(rule), {}, [], now)
    assert (value, until) == (True, MARCH_10 + flips)
