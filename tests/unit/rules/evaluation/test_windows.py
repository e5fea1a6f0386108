"""Windows against the scalar calendar: around every boundary, to the millisecond."""

from __future__ import annotations

import random
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profile_actors.columnar.instants import FIRST_MS, LAST_MS, shift, unit_next, unit_start
from profile_actors.columnar.time_units import DAY_MS
from profile_actors.columnar.vectors import FOREVER
from profile_actors.rules.evaluation import windows
from profile_actors.rules.evaluation.windows import interval
from profile_actors.rules.semantics import calendar
from profile_actors.rules.tree.nodes import Calendar, Element, Field, Literal, Node, Now, Occurs

TIMESTAMP = Field(Element(0), "timestamp")
UNITS_OF_DAYS = ("day", "week", "month", "quarter", "year", "decade", "century", "millennium")
HOT = [
    calendar.from_civil(*day)
    for day in (
        (2023, 1, 31, 10),
        (2024, 1, 31, 10),
        (2024, 2, 29, 12),
        (2024, 3, 1),
        (2023, 2, 28, 23, 59, 59),
        (1999, 12, 31, 23, 59, 59),
        (2000, 1, 1),
        (1969, 12, 31, 23),
        (1970, 1, 4),
        (2025, 5, 31),
    )
]


def span_of(time: Node, now: int, on: bool) -> calendar.Span | None:
    if isinstance(time, Calendar):
        return calendar.calendar_interval(now, time.unit, time.shift)
    if isinstance(time, Now):
        moment = calendar.word_instant(time.kind, now)
        whole_day = on and time.kind != "now"
        return calendar.day_span(moment) if whole_day else calendar.instant_span(moment)
    assert isinstance(time, Literal)
    moment = int(time.value)
    return calendar.day_span(moment) if on and time.kind == "date" else (moment, moment)


def counts(window: tuple[Occurs, ...], ts: int, now: int) -> bool:
    """The scalar truth: visible, and every conjunct holds."""
    if ts > now:
        return False
    for occurs in window:
        time = span_of(occurs.time, now, occurs.form == "on")
        until = None if occurs.until is None else span_of(occurs.until, now, False)
        bounds = calendar.occurs_bounds(occurs, time, until)
        if bounds is None or not bounds.contains(ts):
            return False
    return True


instants_near = st.one_of(
    st.builds(
        lambda base, days, ms: base + days * DAY_MS + ms,
        st.sampled_from(HOT),
        st.integers(-40, 40),
        st.integers(-2, 2),
    ),
    st.integers(-(10**12), 2 * 10**12),
)
times = st.one_of(
    st.sampled_from([Now("now"), Now("today"), Now("yesterday"), Now("tomorrow")]),
    st.builds(Calendar, st.sampled_from(calendar.UNITS), st.sampled_from([-1, 0, 1])),
    st.builds(lambda t: Literal(t, "timestamp"), instants_near),
    st.builds(lambda t: Literal(t - t % DAY_MS, "date"), instants_near),
)
distances = st.builds(
    lambda time, comparison, amount, unit, direction: Occurs(
        TIMESTAMP,
        "distance",
        time,
        comparison=comparison,
        amount=amount,
        unit=unit,
        direction=direction,
    ),
    times,
    st.sampled_from(["<", "<=", ">", ">=", "="]),
    st.integers(0, 40),
    st.sampled_from(calendar.UNITS),
    st.sampled_from(["before", "after"]),
)
conjuncts = st.one_of(
    distances,
    st.builds(
        lambda f, t: Occurs(TIMESTAMP, f, t), st.sampled_from(["before", "after", "on"]), times
    ),
    st.builds(lambda a, b: Occurs(TIMESTAMP, "between", a, b), times, times),
)


@settings(max_examples=300, deadline=None)
@given(
    window=st.lists(conjuncts, min_size=1, max_size=2).map(tuple),
    ts=instants_near,
    nows=st.lists(instants_near, min_size=1, max_size=5),
)
def test_an_event_counts_exactly_inside_its_interval(
    window: tuple[Occurs, ...], ts: int, nows: list[int]
) -> None:
    enter, leave = (int(end[0]) for end in interval(window, np.array([ts])))
    assert enter >= ts
    probes = {ts - 1, ts, ts + 1, *nows}
    probes.update(end + d for end in (enter, leave) for d in (-1, 0, 1))
    probes.update(ts + d * DAY_MS for d in (1, 7, 28, 29, 30, 31, 32, 365, 366))
    for now in probes:
        if calendar.MIN_MS <= now <= calendar.MAX_MS:
            assert counts(window, ts, now) == (enter <= now < leave), (now, enter, leave)


@settings(max_examples=300, deadline=None)
@given(t=instants_near, amount=st.integers(-30, 30), unit=st.sampled_from(calendar.UNITS))
def test_calendar_arithmetic_equals_the_scalar_one(t: int, amount: int, unit: str) -> None:
    at = np.array([t])
    expected = calendar.shift(t, amount, unit)
    if expected is not None:
        assert int(shift(at, amount, unit)[0]) == expected
    span = calendar.interval(t, unit)
    assert span == (int(unit_start(at, unit)[0]), int(unit_next(at, unit)[0]) - 1)


def test_edges_of_the_calendar_are_never_true() -> None:
    edges = [calendar.MIN_MS, calendar.MIN_MS + 1, calendar.MAX_MS - 1, calendar.MAX_MS]
    nows = [edge + d * DAY_MS for edge in edges for d in (-400, -8, -1, 0, 1, 8, 400)]
    for unit, amount, comparison, time, direction in product(
        ("day", "week", "month", "decade"),
        (0, 1, 10**30),
        ("<=", ">", "="),
        (Now("now"), Calendar("week", 0), Calendar("century", 1), Now("tomorrow")),
        ("before", "after"),
    ):
        window = (
            Occurs(
                TIMESTAMP,
                "distance",
                time,
                comparison=comparison,
                amount=amount,
                unit=unit,
                direction=direction,
            ),
        )
        for ts in edges:
            enter, leave = (int(end[0]) for end in interval(window, np.array([ts])))
            for now in nows:
                if calendar.MIN_MS <= now <= calendar.MAX_MS:
                    expected = counts(window, ts, now)
                    assert expected == (enter <= now < leave), (window, ts, now, enter, leave)


@pytest.mark.parametrize(
    ("event", "leaves"),
    [
        ((2023, 1, 31, 10), calendar.from_civil(2023, 3, 1)),
        ((2024, 2, 29, 12), calendar.from_civil(2024, 3, 29, 12)),
    ],
)
def test_a_month_window_is_left_once(event: tuple[int, ...], leaves: int) -> None:
    ts = calendar.from_civil(*event)
    assert ts is not None
    month = Occurs(
        TIMESTAMP,
        "distance",
        Now("now"),
        comparison="<=",
        amount=1,
        unit="month",
        direction="before",
    )
    enter, leave = interval((month,), np.array([ts]))
    assert int(enter[0]) == ts
    assert int(leave[0]) == (leaves if event[1] == 1 else leaves + 1)


def test_a_window_that_is_never_left() -> None:
    old = Occurs(
        TIMESTAMP, "distance", Now("now"), comparison=">=", amount=7, unit="day", direction="before"
    )
    enter, leave = interval((old,), np.array([0]))
    assert int(enter[0]) == 7 * DAY_MS
    assert int(leave[0]) == FOREVER


@pytest.mark.parametrize("seed", range(4))
def test_an_interval_by_day_is_the_interval(seed: int) -> None:
    rng = random.Random(seed)

    def time() -> Node:
        word = Now(rng.choice(("today", "yesterday", "tomorrow")))
        return rng.choice((word, Calendar(rng.choice(UNITS_OF_DAYS), rng.choice((-1, 0, 1)))))

    by_day = 0
    for _ in range(100):
        form = rng.choice(("on", "before", "after", "between"))
        until = time() if form == "between" else None
        window = (Occurs(TIMESTAMP, form, time(), until),)
        by_day += windows.is_by_day(window)
        edges = (FIRST_MS, LAST_MS, 0, DAY_MS)
        times = [rng.choice(edges) + rng.choice((-1, 0, 1)) for _ in range(6)]
        times += [rng.randrange(-2 * 10**12, 4 * 10**12) for _ in range(6)]
        at = np.array(times, np.int64)
        for found, wanted in zip(
            windows.interval(window, at), windows._interval(window, at), strict=True
        ):
            assert found.tolist() == wanted.tolist(), window
    assert by_day > 50
