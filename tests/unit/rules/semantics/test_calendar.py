"""calendar.py against the library's calendar, and the monotonicity that evaluators rely on."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profile_actors.columnar.time_units import DAY_MS
from profile_actors.rules.language.parser import parse
from profile_actors.rules.semantics import calendar
from profile_actors.rules.semantics.calendar import MAX_MS, MIN_MS, UNITS, from_civil
from profile_actors.rules.tree.nodes import Occurs

EPOCH = datetime.datetime(1970, 1, 1)
instants = st.integers(MIN_MS, MAX_MS)
near_now = st.integers(from_civil(1990, 1, 1) or 0, from_civil(2060, 1, 1) or 0)


def test_range_is_years_1_to_9999() -> None:
    assert from_civil(1, 1, 1) == MIN_MS
    assert from_civil(9999, 12, 31, 23, 59, 59) == MAX_MS - 999
    assert from_civil(0, 1, 1) is None
    assert from_civil(10000, 1, 1) is None
    assert from_civil(2021, 2, 29) is None
    assert from_civil(2021, 2, 28, 24) is None
    assert calendar.in_range(MAX_MS + 1) is None
    assert calendar.shift(MIN_MS, -1, "millisecond") is None
    assert calendar.shift(MAX_MS, 1, "month") is None
    assert calendar.shift(MAX_MS, 2**63, "millennium") is None


@given(instants)
def test_date_parts_are_the_librarys(t: int) -> None:
    there = EPOCH + datetime.timedelta(milliseconds=t)
    found = (calendar.year(t), calendar.month(t), calendar.day_of_month(t))
    assert found == (there.year, there.month, there.day)
    assert from_civil(*found) == t - t % DAY_MS


@pytest.mark.parametrize(
    ("word", "unit"),
    [
        ("DAYS", "day"),
        ("Century", "century"),
        ("centuries", "century"),
        ("millennia", "millennium"),
        ("millenniums", "millennium"),
        ("quarters", "quarter"),
        ("centurys", None),
        ("dayss", None),
        ("fortnight", None),
    ],
)
def test_units_have_plurals(word: str, unit: str | None) -> None:
    assert calendar.unit_of(word) == unit


@given(near_now, st.sampled_from(UNITS))
def test_an_interval_holds_its_instant_and_tiles(t: int, unit: str) -> None:
    span = calendar.interval(t, unit)
    assert span is not None
    first, last = span
    assert first <= t <= last
    assert calendar.interval(first, unit) == calendar.interval(last, unit) == span
    following = calendar.interval(last + 1, unit)
    assert following is not None
    assert following[0] == last + 1
    assert calendar.calendar_interval(t, unit, 1) == following
    assert calendar.calendar_interval(following[0], unit, -1) == span
    assert calendar.floor(t, unit) == first


@given(near_now)
def test_weeks_start_on_sunday(t: int) -> None:
    first = calendar.floor(t, "week")
    assert first is not None
    assert (EPOCH + datetime.timedelta(milliseconds=first)).isoweekday() == 7


@given(near_now, near_now, st.integers(-50, 50), st.sampled_from(UNITS))
def test_shift_never_moves_back(a: int, b: int, amount: int, unit: str) -> None:
    low, high = sorted((a, b))
    shifted_low, shifted_high = (calendar.shift(t, amount, unit) for t in (low, high))
    if shifted_low is not None and shifted_high is not None:
        assert shifted_low <= shifted_high


@given(near_now, st.integers(-30, 30))
def test_months_keep_the_day_or_end_the_month(t: int, amount: int) -> None:
    moved = calendar.shift(t, amount, "month")
    assert moved is not None
    months = calendar.year(t) * 12 + calendar.month(t) + amount
    assert calendar.year(moved) * 12 + calendar.month(moved) == months
    if calendar.day_of_month(moved) == calendar.day_of_month(t):
        assert moved % DAY_MS == t % DAY_MS
    else:
        assert calendar.month(moved + 1) != calendar.month(moved)


def occurs(text: str) -> Occurs:
    node = parse(text)
    assert isinstance(node, Occurs)
    return node


@given(
    near_now,
    near_now,
    st.sampled_from(["<", "<=", ">", ">="]),
    st.integers(0, 40),
    st.sampled_from(UNITS),
    st.sampled_from([("before", -1), ("after", 1)]),
)
def test_distances_are_what_they_say(
    t: int, time: int, comparison: str, amount: int, unit: str, way: tuple[str, int]
) -> None:
    node = occurs(f"t occurs {comparison} {amount} {unit} {way[0]} now")
    edge = calendar.shift(time, way[1] * amount, unit)
    bounds = calendar.occurs_bounds(node, (time, time))
    if edge is None:
        assert bounds is None
        return
    assert bounds is not None
    # Mirrored, so that one statement says both directions.
    distance_t, distance_edge, distance_time = way[1] * t, way[1] * edge, way[1] * time
    expected = {
        "<=": distance_time <= distance_t <= distance_edge,
        "<": distance_time <= distance_t < distance_edge,
        ">": distance_t > distance_edge,
        ">=": distance_t >= distance_edge,
    }
    assert bounds.contains(t) is expected[comparison]
    assert bounds.contains(edge) is (comparison in ("<=", ">="))


def test_null_times_have_no_bounds() -> None:
    assert calendar.occurs_bounds(occurs("t occurs before x"), None) is None
    assert calendar.occurs_bounds(occurs("t occurs between x and y"), (1, 1), None) is None
    assert calendar.instant_span(None) is None
    assert calendar.day_span(0) == (0, DAY_MS - 1)
    assert calendar.word_instant("tomorrow", MAX_MS) is None
