"""Evaluation with valid_until: the first later instant at which the value differs.

Theory: a rule is evaluated at now, which also yields the first instant at which anything it read
could differ; there it is evaluated again, and so on, until the value itself differs (RULES §6).
What repeats day by day is followed through one whole day, and what repeats year by year through all
dates that there are; then until something else may differ.
Rules that it reads (``computed.x``, ``inSegment``) may be given as values or as trees; trees are
evaluated first, each at the same instants, and bring their own candidates.

Limits: the search ends LOOK_AHEAD after now, or after MAX_STEPS evaluations; in that case the
instant reached is answered, which is never later than the true one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from profile_actors.columnar.time_units import DAY_MS
from profile_actors.errors import RuleError
from profile_actors.rules.reference.evaluator import Evaluator, truth
from profile_actors.rules.reference.event_order import order_events
from profile_actors.rules.reference.moving_values import FOR_EVER, Bound, Horizon, Turns, passing
from profile_actors.rules.reference.occasions import Occasions
from profile_actors.rules.reference.world import TOP, World
from profile_actors.rules.semantics.calendar import MAX_MS, civil, from_civil, in_range, shift
from profile_actors.rules.semantics.values import Value, copied, plain
from profile_actors.rules.tree.faults import Fault, located
from profile_actors.rules.tree.nodes import Node
from profile_actors.rules.tree.walks import references

LOOK_AHEAD = (1, "century")


MAX_STEPS = 50_000


YEAR_MS = 366 * DAY_MS


LEAP_YEARS_MS = 8 * YEAR_MS
"""In so much time there is a leap day: 1896 is followed by 1904."""


Rules = Mapping[str, Any]
"""Name -> a plain value, or a tree to evaluate."""


def value_at(
    tree: Node,
    profile: Mapping[str, Any] | None,
    events: Sequence[Mapping[str, Any]],
    now: int,
    computed: Rules | None = None,
    segments: Collection[str] | Rules = (),
    text: str = "",
    in_order: bool = False,
) -> Any:
    """The rule's value at ``now`` (ms) for one profile's documents, as plain values.

    events: those later than now are not seen; they are put in order, unless in_order says that
    they come in a store's order. computed: name -> value or tree. segments: the names the profile
    is in, or name -> bool or tree. text: the rule's source, for the marked line of an error. Raises
    RuleError.
    """
    run = _Run(tree, profile, events, computed, segments, now, in_order=in_order)
    return run.guarded(text, steps=0)[0]


def evaluate_with_validity(
    tree: Node,
    profile: Mapping[str, Any] | None,
    events: Sequence[Mapping[str, Any]],
    now: int,
    computed: Rules | None = None,
    segments: Collection[str] | Rules = (),
    text: str = "",
    condition: bool = False,
    in_order: bool = False,
    is_passing: bool = False,
) -> tuple[Any, int | None]:
    """As ``value_at``, and the first later instant (ms) at which the value differs, or None.

    condition: read the value as a segment's membership, so that null is false and an array is
    whether it holds something. is_passing: ``now`` within a value, as of
    ``if(c, now, t)``, is given as PASSING, and that it moves on is no difference. Cost: one
    evaluation per candidate boundary until then.
    """
    run = _Run(tree, profile, events, computed, segments, now, condition, in_order, is_passing)
    return run.guarded(text, steps=MAX_STEPS)


def evaluate_with_candidate(
    tree: Node,
    profile: Mapping[str, Any] | None,
    events: Sequence[Mapping[str, Any]],
    now: int,
    computed: Rules | None = None,
    segments: Collection[str] | Rules = (),
    condition: bool = False,
    in_order: bool = False,
    is_passing: bool = False,
) -> tuple[Any, int | None]:
    """The value at ``now``, and the first later instant (ms) at which it *could* differ, or None.

    One evaluation: for timers, which look again at each candidate. is_passing: as for
    ``evaluate_with_validity``; without it they would look at every millisecond. Raises RuleError.
    """
    run = _Run(tree, profile, events, computed, segments, now, condition, in_order, is_passing)
    return run.guarded("", steps=-1)


class _Followed:
    """Since when a value was the same though all that repeats in some time was looked at, and
    ``other``: when something may differ that does not repeat in it."""

    def __init__(self, now: int, other: int | None) -> None:
        self.since, self.other = now, other

    def after(self, ahead: int | None, period: int) -> int | None:
        """The next instant to look at, where ``ahead`` is the next one known."""
        if ahead is None or ahead >= self.since + period:
            return self.other
        return ahead if self.other is None else min(ahead, self.other)

    def reach(self, now: int, other: int | None) -> None:
        """The value was the same at ``now``, and holds until ``other`` as above."""
        if self.other is not None and now >= self.other:
            self.since, self.other = now, other
        elif other is not None:
            self.other = other if self.other is None else min(self.other, other)


def _by_leap_day(t: int) -> int:
    """The first instant from ``t`` on, on a date whose neighbours depend on the year."""
    date = civil(t)
    if (date.month, date.day) in {(2, 28), (2, 29), (3, 1)}:
        return t
    start = from_civil(date.year + (date.month > 2), 2, 28)
    return MAX_MS if start is None else start


class _Run:
    """One profile's data and one rule, evaluated at growing instants."""

    def __init__(
        self,
        tree: Node,
        profile: Mapping[str, Any] | None,
        events: Sequence[Mapping[str, Any]],
        computed: Rules | None,
        segments: Collection[str] | Rules,
        now: int,
        condition: bool = False,
        in_order: bool = False,
        is_passing: bool = False,
    ) -> None:
        self.tree = tree
        self.is_passing = is_passing
        self.profile = copied(profile or {})
        self.unordered = events
        self.computed = dict(computed or {})
        if isinstance(segments, Mapping):
            self.segments = dict(segments)
        else:
            self.segments = dict.fromkeys(segments, True)
        self.now = now
        self.condition = condition
        self.in_order = in_order
        self.occasions = Occasions()
        self.turns: Turns | None = {}

    def guarded(self, text: str, steps: int) -> tuple[Any, int | None]:
        """``search``, with its Faults as RuleErrors."""
        if in_range(self.now) is None:
            raise RuleError(f"expected now in the years 1 to 9999 as ms, got {self.now}")
        try:
            self.events = order_events(self.unordered, self.in_order)
            self.times = [event["timestamp"].ms for event in self.events]
            self.order = _evaluation_order(self.tree, self.computed, self.segments)
            return self.search(steps)
        except Fault as fault:
            if fault.at is None:
                raise RuleError(fault.message) from None
            raise located(text, fault.at, fault.message) from None

    def search(self, steps: int) -> tuple[Any, int | None]:
        """The value at now, and the first candidate at which it differs (with steps)."""
        if steps <= 0:  # one evaluation, and no search
            self.turns = None
        if steps == 0:
            return self.at(self.now, limit=self.now)[0], None
        later = shift(self.now, *LOOK_AHEAD)
        limit = MAX_MS if later is None else later
        value, bound = self.at(self.now, limit)
        if steps < 0:
            return value, bound.first
        daily, yearly = _Followed(self.now, bound.other), _Followed(self.now, bound.rest)
        reached = self.now
        for _ in range(steps):
            ahead = daily.after(bound.first, DAY_MS)
            if ahead is not None and ahead >= yearly.since + YEAR_MS:
                # A whole year was looked at, and what follows differs in its leap day at most.
                ahead = yearly.after(_by_leap_day(ahead), LEAP_YEARS_MS)
            if ahead is None or ahead > limit:
                return value, None
            if self.occasions.segments <= 0:
                return value, bound.first
            reached = ahead
            there, bound = self.at(reached, limit)
            if not same(value, there):
                break
            daily.reach(reached, bound.other)
            yearly.reach(reached, bound.rest)
        return value, reached

    def at(self, now: int, limit: int) -> tuple[Any, Bound]:
        """The plain value at one instant, and until when it cannot differ."""
        visible = sum(1 for time in self.times if time <= now)
        next_event = self.times[visible] if visible < len(self.times) else None
        computed: dict[str, tuple[Value, Bound]] = {}
        segments: dict[str, tuple[bool, Bound]] = {}
        world = World(self.profile, self.events[:visible], next_event, computed, segments)
        for kind, name in self.order:
            source = (self.computed if kind == "computed" else self.segments)[name]
            if not isinstance(source, Node):
                value, bound = source, FOR_EVER
            else:
                value, horizon = self._value(source, world, now, limit, kind == "segment")
                bound = horizon.bound  # what moves on in the value is its reader's to compare
            if kind == "computed":
                computed[name] = (value, bound)
            else:
                segments[name] = (bool(value), bound)
        value, horizon = self._value(self.tree, world, now, limit, self.condition)
        if self.is_passing:
            value = passing(value)
        return plain(horizon.fix(value)), horizon.bound

    def _value(
        self, tree: Node, world: World, now: int, limit: int, condition: bool
    ) -> tuple[Value, Horizon]:
        horizon = Horizon(now, limit, self.turns)
        evaluator = Evaluator(world, horizon, self.occasions)
        value = evaluator.value(tree, TOP)
        if condition:
            value = truth(value)
        return value, horizon


def same(a: Any, b: Any) -> bool:
    """Whether two plain values are one; true is not 1."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(item, b[key]) for key, item in a.items())
    return bool(a == b)


def _evaluation_order(tree: Node, computed: Rules, segments: Rules) -> list[tuple[str, str]]:
    """The rules that ``tree`` reads, directly or not, each after those it reads itself."""
    sources = {"computed": computed, "segment": segments}
    finished: dict[tuple[str, str], bool] = {}
    order: list[tuple[str, str]] = []
    pending = list(reversed(references(tree)))
    while pending:
        key = pending.pop()
        kind, name = key
        if name not in sources[kind] or finished.get(key):
            continue
        source = sources[kind][name]
        reads = references(source) if isinstance(source, Node) else []
        if key in finished or not reads:
            # Met the second time, or reading nothing: all it reads is evaluated by now.
            finished[key] = True
            order.append(key)
            continue
        finished[key] = False
        pending.append(key)
        for read in reads:
            if finished.get(read) is False:
                raise Fault(f"expected no cycle of rules, got one through {read[1]!r}")
            pending.append(read)
    return order
