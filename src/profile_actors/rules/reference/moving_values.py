"""Values that move with the clock, and the instants at which a comparison of them changes.

Theory: only ``now``, the day words, ``this|last|next UNIT`` and the date parts of these move. While
one evaluation runs, every comparison that involves a moving value registers with a ``Horizon`` the
first later instant at which its own outcome differs; the earliest of all is a candidate for
``valid_until``: nothing that was evaluated can differ before it. A moving value that is compared
with nothing registers nothing, unless it is the result.

The bounds of ``occurs`` and the day words are monotone functions of now (calendar.py), so an
outcome flips where a monotone condition first holds, and bisection over milliseconds finds it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from profile_actors.columnar.time_units import DAY_MS, EXACT_MS
from profile_actors.rules.semantics import calendar
from profile_actors.rules.semantics.calendar import Bounds, Span, occurs_bounds, word_instant
from profile_actors.rules.semantics.scalar_operators import compare, order
from profile_actors.rules.semantics.values import PASSING, Day, Instant, MapValue, Value
from profile_actors.rules.tree.nodes import Calendar, Occurs

MAX_SEGMENTS = 50_000  # calendar steps of one run where both sides of an occurs move
NEAR_MS = 2 * DAY_MS  # words of the clock are nearer to now than this


@dataclass(frozen=True, slots=True)
class Moving(Instant):
    """``now`` or a day word, with its value at this evaluation's now."""

    word: str

    def read_as(self, kind: str) -> Instant:
        """Itself: read through another rule, a word of the clock moves on."""
        return self


class MovingNumber(int):
    """A date part of a moving instant. part: year, month or day; offset: ms from now to the
    instant whose part it is, to the day."""

    part: str
    offset: int

    @classmethod
    def of(cls, part: str, now: int, offset: int) -> MovingNumber | None:
        moment = calendar.in_range(now + offset)
        if moment is None:
            return None
        made = cls(_PARTS[part](moment))
        made.part, made.offset = part, offset
        return made


_PARTS: dict[str, Callable[[int], int]] = {
    "year": calendar.year,
    "month": calendar.month,
    "day": calendar.day_of_month,
}


OFFSETS = {"now": 0, "today": 0, "yesterday": -DAY_MS, "tomorrow": DAY_MS}


class Horizon:
    """Collects candidate instants of one evaluation. limit: none later is of interest."""

    def __init__(self, now: int, limit: int) -> None:
        self.now = now
        self.limit = limit
        self.first: int | None = None

    def add(self, instant: int | None) -> None:
        """Register an instant; those not after now, or beyond the limit, do not count."""
        if instant is None or not self.now < instant <= self.limit:
            return
        if self.first is None or instant < self.first:
            self.first = instant

    def pair(self, a: Value, b: Value) -> None:
        """Two values are compared with each other."""
        for left in _leaves(a):
            for right in _leaves(b):
                self._one(left, right)
                self._one(right, left)

    def compared(self, operator: str, a: Value, b: Value) -> None:
        """``a operator b`` was computed."""
        if isinstance(a, Moving) and isinstance(b, Moving):
            # Of two clock words only now and today change their order, at midnight and after it.
            midnight = self.now - self.now % DAY_MS
            first, second = (Instant(word_instant(w.word, midnight) or 0) for w in (a, b))
            later = [Instant(word_instant(w.word, midnight + 1) or 0) for w in (a, b)]
            if compare(operator, first, second) == compare(operator, *later):
                return
        self.pair(a, b)

    def among(self, values: list[Value]) -> None:
        """All of the values may be compared with each other."""
        leaves = [leaf for value in values for leaf in _leaves(value)]
        for moving in leaves:
            if isinstance(moving, Moving | MovingNumber):
                for other in leaves:
                    self._one(moving, other)

    def _one(self, moving: Value, other: Value) -> None:
        if isinstance(moving, Moving) and isinstance(other, Moving):
            self._two_words(moving, other)
        elif isinstance(moving, Moving) and isinstance(other, Instant):
            self.add(_reaches(moving, other.ms))
            self.add(_reaches(moving, other.ms + 1))
        elif isinstance(moving, MovingNumber) and not isinstance(other, Instant):
            self.add(self._differs(moving, other))

    def _two_words(self, a: Moving, b: Moving) -> None:
        # Day words keep their distances; now keeps its order to yesterday and tomorrow.
        if {a.word, b.word} == {"now", "today"}:
            midnight = self.now - self.now % DAY_MS
            self.add(midnight + 1)
            self.add(midnight + DAY_MS)

    def _differs(self, moving: MovingNumber, other: Value) -> int | None:
        """The next instant at which ``moving`` compares differently with ``other``."""
        if other is None or order(moving, other) is None:
            return None
        if isinstance(other, MovingNumber):
            self.fix(other)
            return self._next_step(moving, self.now)
        present = order(int(moving), other)
        if moving.part == "year":
            years = (int(other), int(other) + 1) if abs(other) < 10_000 else ()
            starts = (calendar.from_civil(year, 1, 1) for year in years)
            later = [s - moving.offset for s in starts if s is not None]
            return min((s for s in later if s > self.now), default=None)
        for start in _turns(moving.part, self.now + moving.offset, other):
            at = start - moving.offset
            if at > self.now and order(_PARTS[moving.part](start), other) != present:
                return at
        return None

    @staticmethod
    def _next_step(moving: MovingNumber, now: int) -> int | None:
        span = calendar.interval(now + moving.offset, moving.part)
        return None if span is None else span[1] + 1 - moving.offset

    def fix(self, value: Value) -> Value:
        """``value`` where its own size matters: it counts as changed at its next step."""
        for leaf in _leaves(value):
            if isinstance(leaf, MovingNumber):
                self.add(self._next_step(leaf, self.now))
            elif isinstance(leaf, Moving):
                step = 1 if leaf.word == "now" else DAY_MS - self.now % DAY_MS
                self.add(self.now + step)
        return int(value) if isinstance(value, MovingNumber) else value


def _leaves(value: Value) -> Iterator[Value]:
    """The scalars in a value; documents hold nothing that moves."""
    if isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, MapValue):
        for key, item in value.pairs.values():
            yield from _leaves(key)
            yield from _leaves(item)
    elif not isinstance(value, dict):
        yield value


def _turns(part: str, t: int, other: Value) -> Iterator[int]:
    """From about ``t`` on, in order, the starts of the months or days whose number may stand in
    another order to ``other`` than the one before: where a year or month begins anew, and where
    ``other`` is reached and passed. No three months in a row lack a day that some month has."""
    whole = math.floor(other) if -1 < other < 32 else 0
    numbers = sorted({1, whole, whole + 1})
    date = calendar.civil(t)
    for ahead in range(3):
        if part == "month":
            days = [(date.year + ahead, number, 1) for number in numbers]
        else:
            year, month = divmod(date.year * 12 + date.month - 1 + ahead, 12)
            days = [(year, month + 1, number) for number in numbers]
        starts = (calendar.from_civil(*day) for day in days)
        yield from (start for start in starts if start is not None)


def passing(value: Value) -> Value:
    """The value with PASSING for each ``now`` in it."""
    if isinstance(value, list):
        return [passing(item) for item in value]
    if isinstance(value, MapValue):
        made = MapValue()
        for same, (key, item) in value.pairs.items():
            made.pairs[same] = (passing(key), passing(item))
        return made
    return PASSING if isinstance(value, Moving) and value.word == "now" else value


def _reaches(moving: Moving, target: int) -> int:
    """The first now at which ``moving`` is at or after ``target``."""
    if moving.word == "now":
        return target
    return -(-target // DAY_MS) * DAY_MS - OFFSETS[moving.word]


@dataclass(frozen=True, slots=True)
class Time:
    """A resolved TIME: its span at any now. step: the unit it jumps by; '' = it is fixed,
    'now' = it moves every millisecond. key: equal for times that are always equal."""

    span: Callable[[int], Span | None]
    step: str
    key: object


def instant_time(value: Instant, whole_day: bool) -> Time:
    """TIME of a timestamp, date or day word; whole_day: under ``on``."""
    if not isinstance(value, Moving):
        by_day = whole_day and isinstance(value, Day)
        span = calendar.day_span(value.ms) if by_day else calendar.instant_span(value.ms)
        return Time(lambda _: span, "", span)
    word = value.word
    if word == "now":
        return Time(lambda now: (now, now), "now", word)
    spread = calendar.day_span if whole_day else calendar.instant_span
    return Time(lambda now: spread(word_instant(word, now)), "day", word)


def calendar_time(node: Calendar) -> Time:
    """TIME of ``this|last|next UNIT``."""
    key = (node.unit, node.shift)
    return Time(lambda now: calendar.calendar_interval(now, node.unit, node.shift), node.unit, key)


class Occasions:
    """Answers every occurs of one run over growing nows, and remembers until when each holds.

    Most outcomes outlast the next candidate, so a run's cost is one bisection per flip.
    """

    def __init__(self) -> None:
        self.known: dict[object, tuple[bool, int | None]] = {}
        self.segments = MAX_SEGMENTS

    def holds(
        self, node: Occurs, subject: Instant, time: Time, until: Time | None, to: Horizon
    ) -> bool:
        """Whether the occurs holds now; registers when it next may not."""
        # The node itself is no key: hashing it costs more than the answer. Its tree outlives us.
        key = (id(node), subject, time.key, None if until is None else until.key)
        found = self.known.get(key)
        if found is None or (found[1] is not None and found[1] <= to.now):
            outcome = _Outcome(node, subject, time, until)
            found = outcome.holds(to.now), outcome.next_change(to.now, to.limit, self.segments)
            self.segments -= outcome.tried
            self.known[key] = found
        to.add(found[1])
        return found[0]


class _Outcome:
    """The truth of one occurs as a function of now."""

    def __init__(self, node: Occurs, subject: Instant, time: Time, until: Time | None) -> None:
        self.node = node
        self.subject = subject
        self.word = subject.word if isinstance(subject, Moving) else ""
        self.times = [time] if until is None else [time, until]
        self.tried = 0

    def bounds(self, now: int) -> Bounds | None:
        spans = [time.span(now) for time in self.times]
        if len(spans) == 2 and spans[1] is None:
            return None
        return occurs_bounds(self.node, *spans)

    def at(self, now: int) -> int | None:
        return word_instant(self.word, now) if self.word else self.subject.ms

    def holds(self, now: int) -> bool:
        bounds, t = self.bounds(now), self.at(now)
        return bounds is not None and t is not None and bounds.contains(t)

    def next_change(self, now: int, limit: int, segments: int) -> int | None:
        """An instant later than ``now``, at or before the first at which ``holds`` differs; None
        if it never does up to ``limit``. segments: how many calendar steps may be tried."""
        steps = [time.step for time in self.times]
        if not self.word and not any(steps):
            return None
        if not self.word or not any(steps):
            return self._crossing(now, limit)
        if self.word == "now" and set(steps) == {"now"}:
            # T against T: only leaving the calendar changes it.
            return self._flip(self._undefined, now, limit)
        if not self._units() and not self.node.unit:
            # Nothing jumps: now against fixed times and itself, which one crossing each tells.
            return self._crossing(now, limit)
        # Where nothing follows now itself, all stands still between two jumps.
        is_even = self.word == "now" or "now" in steps
        at, present, period = now, self.holds(now), self._period(now)
        rest = None if period is None else now + period
        while self.tried < max(segments, 1):
            self.tried += 1
            if self._is_past(at):
                return None
            if rest is not None and period is not None and at > rest:
                # All repeats, until the subject comes near a bound that stands still.
                if (mark := self._next_mark(at)) is None:
                    return None
                at, rest = max(at, mark - NEAR_MS - period), mark + NEAR_MS + period
            end = self._segment_end(at)
            inside = self._crossing(at, min(end - 1, limit)) if is_even else None
            if inside is not None:
                return inside
            if end > limit:
                return None
            if self.holds(end) != present:
                return end
            at = end
        return at

    def _is_past(self, now: int) -> bool:
        """Whether the subject, which never goes back, is behind an end that stands still: then it
        holds no more."""
        if self.node.form != "between" or self.times[-1].step or self._undefined(now):
            return False
        return self._above(now)

    def _units(self) -> list[str]:
        """The units in which something jumps while now grows."""
        units = [time.step for time in self.times if time.step not in ("", "now")]
        if self.word != "now":
            units.append("day")
        if any(time.step == "now" for time in self.times) and self.node.unit:
            # A month's shift is even within a day: the day of the month stays or is clamped.
            units.append(self.node.unit if self.node.unit in EXACT_MS else "day")
        return units

    def _segment_end(self, now: int) -> int:
        """The next instant at which something jumps; between jumps both sides move evenly."""
        spans = [calendar.interval(now, unit) for unit in self._units() if unit != "millisecond"]
        return min((span[1] + 1 for span in spans if span is not None), default=now + DAY_MS)

    def _period(self, now: int) -> int | None:
        """After how many ms what moves repeats, if it does: exact units divide each other."""
        units = self._units() + ([self.node.unit] if self.node.unit else [])
        if any(unit not in EXACT_MS for unit in units) or self._undefined(now):
            return None
        return max(EXACT_MS[unit] for unit in units)

    def _next_mark(self, now: int) -> int | None:
        """The first bound that stands still and is not behind the subject's word."""
        bounds = self.bounds(now) or Bounds(None, None)
        ends = ((bounds.low, self.times[0]), (bounds.high, self.times[-1]))
        ahead = (e for e, time in ends if e is not None and not time.step and e + NEAR_MS > now)
        return min(ahead, default=None)

    def _undefined(self, now: int) -> bool:
        return self.bounds(now) is None or self.at(now) is None

    def _crossing(self, now: int, limit: int) -> int | None:
        """The first instant in (now, limit] at which a condition that is monotone there flips."""
        defined = self._flip(self._undefined, now, limit)
        if self._undefined(now):
            return defined
        end = limit if defined is None else defined - 1
        flips = [self._flip(self._below, now, end), self._flip(self._above, now, end), defined]
        return min((flip for flip in flips if flip is not None), default=None)

    def _below(self, now: int) -> bool:
        bounds, t = self.bounds(now), self.at(now)
        assert bounds is not None
        assert t is not None
        return bounds.low is not None and t < bounds.low

    def _above(self, now: int) -> bool:
        bounds, t = self.bounds(now), self.at(now)
        assert bounds is not None
        assert t is not None
        return bounds.high is not None and t > bounds.high

    @staticmethod
    def _flip(condition: Callable[[int], bool], now: int, limit: int) -> int | None:
        """Bisection for the first instant after ``now`` where ``condition`` differs from now."""
        if limit <= now:
            return None
        present = condition(now)
        if condition(limit) == present:
            return None
        low, high = now, limit
        while high - low > 1:
            middle = (low + high) // 2
            if condition(middle) == present:
                low = middle
            else:
                high = middle
        return high
