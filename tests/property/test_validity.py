"""RULES §6: a value holds at every instant before its valid_until, and differs there."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profile_actors.columnar.time_units import DAY_MS
from profile_actors.rules.language.parser import parse
from profile_actors.rules.reference import validity
from profile_actors.rules.reference.moving_values import Horizon
from profile_actors.rules.reference.occasions import _Outcome
from profile_actors.rules.reference.validity import (
    LOOK_AHEAD,
    MAX_STEPS,
    evaluate_with_validity,
    same,
    value_at,
)
from profile_actors.rules.semantics import calendar

DAY = DAY_MS
BASE = calendar.from_civil(2024, 2, 28, 12) or 0
offsets = st.builds(
    lambda days, ms: BASE + days * DAY + ms,
    st.integers(-400, 40),
    st.sampled_from([-DAY // 2, -1, 0, 1, 7_200_000]),
)
units = st.sampled_from(["hour", "day", "week", "month", "quarter", "year"])
# An interval that steps each hour takes 50,000 evaluations to give up on.
spans = st.sampled_from(["week", "month", "quarter", "year"])
times = st.one_of(
    st.sampled_from(["now", "today", "yesterday", "tomorrow", "date(2024, 3, 10)"]),
    st.builds("{} {}".format, st.sampled_from(["this", "last", "next"]), spans),
)
comparisons = st.sampled_from(["<", "<=", ">", ">=", "=", "!="])
moments = st.one_of(
    st.builds(
        "{} {} {} {} {}".format,
        comparisons,
        st.integers(0, 9),
        units,
        st.sampled_from(["before", "after"]),
        times,
    ),
    st.builds("{} {}".format, st.sampled_from(["before", "after", "on"]), times),
    st.builds("between {} and {}".format, times, times),
)
conditions = st.one_of(
    st.builds("xEvent[timestamp occurs {}].count()".format, moments),
    st.builds("xEvent[timestamp occurs {}].sum(v)".format, moments),
    st.builds("xEvent.max(timestamp) occurs {}".format, moments),
    st.builds("now occurs {}".format, moments),
    st.builds("tomorrow occurs {}".format, moments),
    st.builds("xEvent[timestamp {} today].max(v)".format, comparisons),
    st.builds("currentMonth() {} {}".format, comparisons, st.integers(1, 12)),
    st.builds("yesterday.getDayOfMonth() {} {}".format, comparisons, st.integers(1, 31)),
    st.builds("now {} date(2024, 3, 10)".format, comparisons),
    st.builds("now {} today".format, comparisons),
    st.builds("CHAIN(xEvent, timestamp, [A: WHAT(v > 1), B: WHAT(true) WHEN({})])".format, moments),
    st.builds("forall E from xEvent where E.timestamp occurs {}".format, moments),
    st.builds("if(xEvent.max(timestamp) occurs {}, currentDayOfMonth() % 5, 7)".format, moments),
)
events = st.lists(
    st.builds(
        lambda at, v, n: {"timestamp": at, "v": v, "_id": str(n)},
        offsets,
        st.none() | st.integers(0, 3),
        st.integers(0, 5),
    ),
    max_size=5,
)


# Months and years are walked, a century of them: some examples take seconds.
@pytest.mark.timeout(900)
@settings(max_examples=12, deadline=None)
@given(conditions, events, offsets, st.lists(st.floats(0, 1), min_size=3, max_size=6))
def test_values_hold_until_then(
    rule: str, happened: list[dict[str, Any]], now: int, fractions: list[float]
) -> None:
    tree = parse(rule)
    value, until = evaluate_with_validity(tree, {}, happened, now)
    limit = calendar.shift(now, *LOOK_AHEAD) or calendar.MAX_MS
    if until is not None:
        assert now < until <= limit
        # A rule that steps each second or hour and never changes: the search ends after MAX_STEPS
        # steps, at an instant that is early, never late (see ``reference``).
        gave_up = until - now >= MAX_STEPS * 1_000
        assert gave_up or not same(value, value_at(tree, {}, happened, until))
    # Changes come in bursts near now, so look there more closely than a uniform choice would.
    end = limit + 1 if until is None else until
    reach = [end - now, min(end - now, 500 * DAY), min(end - now, 3 * DAY)]
    instants = {now + int(part * (span - 1)) for part in fractions for span in reach}
    midnights = {t - t % DAY + ms for t in instants for ms in (-1, 0, 1)}
    for instant in {end - 1, now + 1, *instants, *midnights}:
        if now <= instant < end:
            assert same(value, value_at(tree, {}, happened, instant)), (value, instant)


moving = st.builds(
    "{} occurs {}".format, st.sampled_from(["now", "today", "yesterday", "tomorrow"]), moments
)


def is_never_still(*_: object) -> bool:
    """Of the slow form, which walks every day."""
    return False


@settings(max_examples=40, deadline=None)
@given(moving, offsets, st.integers(1, 40))
def test_what_is_passed_over_holds_no_change(rule: str, now: int, months: int) -> None:
    tree = parse(rule)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validity, "LOOK_AHEAD", (months, "month"))
        quick = evaluate_with_validity(tree, {}, [], now)
        patch.setattr(_Outcome, "_is_still", is_never_still)
        patch.setattr(_Outcome, "_change_of_ends", _Outcome._walked)
        assert quick == evaluate_with_validity(tree, {}, [], now)


PARTS = ("currentYear()", "currentMonth()", "currentDayOfMonth()", "yesterday.getDayOfMonth()")
numbers = st.recursive(
    st.sampled_from([*PARTS, "2", "0.5", "v"]),
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from("+-*/%"), inner),
        st.builds("(-{})".format, inner),
        st.builds("[{}, {}].{}()".format, inner, inner, st.sampled_from(["sum", "average", "max"])),
    ),
    max_leaves=5,
)


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        st.builds("{} {} {}".format, numbers, comparisons, numbers),
        numbers,
        st.builds("[{}].head() {} {}".format, numbers, comparisons, numbers),
        st.builds("isNull({} / {})".format, numbers, numbers),
        st.builds("[{} * 400000000000000000, {} % {}].count()".format, numbers, numbers, numbers),
        st.builds("if({} > 9, {}, 1) {} {}".format, numbers, numbers, comparisons, numbers),
    ),
    offsets,
    st.integers(1, 14),
    st.sampled_from([3, 2.5, Decimal("1.25"), None]),
)
def test_numbers_of_the_date_change_when_every_day_was_looked_at(
    rule: str, now: int, months: int, v: object
) -> None:
    tree = parse(rule)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validity, "LOOK_AHEAD", (months, "month"))
        quick = evaluate_with_validity(tree, {"v": v}, [], now)
        patch.setattr(Horizon, "computed", computed_slowly)
        assert quick == evaluate_with_validity(tree, {"v": v}, [], now)


def computed_slowly(horizon: Horizon, _: str, function: Any, values: list[Any]) -> Any:
    """The slow form: what is computed of a part of the date counts as changed at its next step."""
    return function(*map(horizon.fix, values))


@pytest.mark.parametrize(
    ("rule", "most"),
    [
        ("currentYear() + currentDayOfMonth() = 3000", 1),
        ("[currentYear(), currentDayOfMonth()].sum() > 2200 or currentDayOfMonth() = 40", 2),
        ("-(currentYear() + currentMonth()) = yesterday.getYear() * 2", 1),
    ],
)
def test_a_century_of_dates_is_not_evaluated_day_by_day(
    rule: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    one = validity._Run.at

    def counted(run: validity._Run, now: int, limit: int) -> Any:
        asked.append(now)
        return one(run, now, limit)

    monkeypatch.setattr(validity._Run, "at", counted)
    assert evaluate_with_validity(parse(rule), {}, [], BASE) == (False, None)
    assert len(asked) <= most


@pytest.mark.parametrize("form", ["before now", "on now", "after now", "between now and now"])
def test_now_against_itself_never_changes(form: str) -> None:
    is_so = form in ("on now", "between now and now")
    assert evaluate_with_validity(parse(f"now occurs {form}"), {}, [], BASE) == (is_so, None)


@pytest.mark.parametrize(
    "rule",
    [
        "now occurs = 7 year after today",
        "now occurs > 1 month before today",
        "now occurs between last month and next month",
        "tomorrow occurs between yesterday and next month",
        "today occurs between last year and yesterday",
    ],
)
def test_a_century_without_a_change_is_not_walked_day_by_day(
    rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    walked: list[int] = []
    one = _Outcome._segment_end

    def counted(outcome: _Outcome, now: int) -> int:
        walked.append(now)
        return one(outcome, now)

    monkeypatch.setattr(_Outcome, "_segment_end", counted)
    _, until = evaluate_with_validity(parse(rule), {}, [], BASE)
    assert until is None
    assert len(walked) < 6_000
