"""Every ``occurs`` of one run, and when each next differs.

Theory: the bounds of ``occurs`` and the day words are monotone functions of now (calendar.py), so
an outcome flips where a monotone condition first holds, and bisection over milliseconds finds it.
Where both sides move, what is between two jumps of the calendar is searched, one after the other;
stretches in which the sides are too far from each other to meet are passed over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from profile_actors.columnar.time_units import DAY_MS, EXACT_MS
from profile_actors.rules.reference.moving_values import Bound, Horizon, Moving
from profile_actors.rules.semantics import calendar
from profile_actors.rules.semantics.calendar import Bounds, Span, occurs_bounds, word_instant
from profile_actors.rules.semantics.values import Day, Instant
from profile_actors.rules.tree.nodes import Calendar, Occurs

MAX_SEGMENTS = 50_000  # calendar steps of one run where both sides of an occurs move
NEAR_MS = 2 * DAY_MS  # words of the clock are nearer to now than this


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
        self.known: dict[object, tuple[bool, Bound]] = {}
        self.segments = MAX_SEGMENTS

    def holds(
        self, node: Occurs, subject: Instant, time: Time, until: Time | None, to: Horizon
    ) -> bool:
        """Whether the occurs holds now; registers when it next may not."""
        # The node itself is no key: hashing it costs more than the answer. Its tree outlives us.
        key = (id(node), subject, time.key, None if until is None else until.key)
        found = self.known.get(key)
        if found is None or (found[1].first is not None and found[1].first <= to.now):
            outcome = _Outcome(node, subject, time, until)
            change = outcome.next_change(to.now, to.limit, self.segments)
            other = None if outcome.is_daily(to.now, to.limit) else change
            bound = Bound(change, other, other)
            found = outcome.holds(to.now), bound
            self.segments -= outcome.tried
            self.known[key] = found
        to.join(found[1])
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
        if self.node.form == "between" and self._period(now) is None:
            return self._change_of_ends(now, limit, segments)
        return self._walked(now, limit, segments)

    def _walked(self, now: int, limit: int, segments: int) -> int | None:
        """``next_change`` from one jump of the calendar to the next."""
        # Where nothing follows now itself, all stands still between two jumps.
        is_even = self.word == "now" or any(time.step == "now" for time in self.times)
        at, present, period = now, self.holds(now), self._period(now)
        rest = None if period is None else now + period
        stretch = DAY_MS
        while self.tried < max(segments, 1):
            if self._is_past(at):
                return None
            if rest is not None and period is not None and at > rest:
                # All repeats, until the subject comes near a bound that stands still.
                if (mark := self._next_mark(at)) is None:
                    return None
                at, rest = max(at, mark - NEAR_MS - period), mark + NEAR_MS + period
            if self._is_still(at, min(at + stretch, limit)):
                at, stretch = at + stretch, 2 * stretch
                if at >= limit:
                    return None
                continue
            end = self._segment_end(at)
            stretch //= 2
            if at + stretch > end:
                continue
            stretch = 2 * (end - at)
            self.tried += 1
            inside = self._crossing(at, min(end - 1, limit)) if is_even else None
            if inside is not None:
                return inside
            if end > limit:
                return None
            if self.holds(end) != present:
                return end
            at = end
        return at

    def _change_of_ends(self, now: int, limit: int, segments: int) -> int | None:
        """``next_change`` by the two ends, each for itself: one may repeat day by day."""
        ends = [
            _Outcome(replace(self.node, form=form, until=None), self.subject, time, None)
            for form, time in zip(("before", "after"), self.times, strict=True)
        ]
        at: int | None = now
        changes: list[int | None] = [now, now]
        while at is not None and self.tried < max(segments, 1):
            for i, end in enumerate(ends):
                if (change := changes[i]) is not None and change <= at:
                    end.tried = 0
                    changes[i] = end.next_change(at, limit, segments - self.tried)
                    self.tried += end.tried
            at = min((change for change in changes if change is not None), default=None)
            if at is not None and self.holds(at) != self.holds(now):
                return at
            self.tried += 1
        return at

    def _is_still(self, now: int, end: int) -> bool:
        """Whether it is sure to hold, or not to hold, all the time from ``now`` to ``end``: nothing
        that moves goes back, so what is apart at opposite ends never met."""
        first, last, t, u = self.bounds(now), self.bounds(end), self.at(now), self.at(end)
        if first is None or last is None or t is None or u is None:
            return False
        is_below = first.low is not None and u < first.low
        is_above = last.high is not None and t > last.high
        is_within = (last.low is None or t >= last.low) and (first.high is None or u <= first.high)
        return is_below or is_above or is_within

    def is_daily(self, now: int, limit: int) -> bool:
        """Whether it repeats day by day from now to ``limit``: both sides move, in parts of days
        alone."""
        if not self.word or not all(time.step for time in self.times) or self._undefined(limit):
            return False
        period = self._period(now)
        return period is not None and DAY_MS % period == 0 and self._next_mark(now) is None

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
        return max((EXACT_MS[unit] for unit in units), default=1)

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
