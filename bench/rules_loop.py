"""The 20 sequence rules as plain Python: the oracle of ``rules.py`` b, and its peer.

A history is four lists by event type of (when, campaign, price), in time order. Each rule is a
function of a history and now, written by hand from what the rule means; none of it knows PQL.

As a program it is the service one would write by hand: csv.reader, a history per user, and on each
event every rule that reads its type, except those that can only become true and are. Sorted lists
let joins stop early. It does less than the engine: nothing durable, no duplicates, no exits by the
clock (a window is looked at when its user comes back). Cyclic garbage collection off.
"""

from __future__ import annotations

import csv
import gc
import json
import sys
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gen_w1 import TYPES

MINUTE_MS = 60_000
DAY_MS = 86_400_000
VIEW, CART, OPEN, BUY = range(4)
Event = tuple[int, str, float]
History = list[list[Event]]
Holds = Callable[[History, int], bool]


@dataclass(frozen=True)
class Case:
    """One rule: its text, what it means, the types it reads, whether it can only become true."""

    name: str
    text: str
    holds: Holds
    reads: frozenset[int]
    only_grows: bool


def of(kind: int) -> str:
    """A type's literal."""
    return f'"{TYPES[kind]}"'


def quoted(campaigns: Sequence[str]) -> str:
    """A list literal."""
    return "[" + ", ".join(f'"{c}"' for c in campaigns) + "]"


# -- joins: an event of one type, and one of another with the same campaign, near in time ---------


def join_text(seen: int, done: int, gap: str, more: str = "") -> str:
    """The body of a join: V of one type such that an X of another has its campaign and is near."""
    return (
        f"V from xEvent where V.eventType = {of(seen)}{more} and exists X from xEvent where"
        f" X.eventType = {of(done)} and X.campaign = V.campaign and X.timestamp occurs <= {gap}"
        " V.timestamp"
    )


def has_partner(partners: list[Event], event: Event, before: int, after: int) -> bool:
    """Whether one of the same campaign stands within [-before, +after] ms of the event."""
    when, campaign, _ = event
    for index in range(bisect_left(partners, (when - before,)), len(partners)):
        other = partners[index]
        if other[0] > when + after:
            return False
        if other[1] == campaign:
            return True
    return False


def campaigns_joined(
    name: str, seen: int, done: int, gap: str, gap_ms: int, least: int,
    campaigns: Sequence[str] = (), days: int = 0,
) -> Case:  # fmt: skip
    """At least so many different campaigns seen, each followed up within the gap."""
    more = f" and V.campaign in {quoted(campaigns)}" if campaigns else ""
    more += f" and V.timestamp occurs <= {days} days before now" if days else ""
    body = join_text(seen, done, f"{gap} after", more)
    wanted = frozenset(campaigns)

    def holds(history: History, now: int) -> bool:
        since = now - days * DAY_MS if days else 0
        partners = history[done]
        found = {
            event[1]
            for event in history[seen]
            if event[0] >= since
            and (not wanted or event[1] in wanted)
            and has_partner(partners, event, 0, gap_ms)
        }
        return len(found) >= least

    text = f"(select {body}).campaign.distinct().count() >= {least}"
    return Case(name, text, holds, frozenset((seen, done)), not days)


def events_joined(
    name: str, seen: int, done: int, gap: str, before_ms: int, after_ms: int, least: int
) -> Case:
    """At least so many events that have a partner; with ``least`` 1, ``exists``."""
    body = join_text(seen, done, gap)
    text = f"exists {body}" if least == 1 else f"(select {body}).count() >= {least}"

    def holds(history: History, now: int) -> bool:
        partners, found = history[done], 0
        for event in history[seen]:
            if has_partner(partners, event, before_ms, after_ms):
                found += 1
                if found == least:
                    return True
        return False

    return Case(name, text, holds, frozenset((seen, done)), True)


def abandoned(name: str, seen: int, done: int, gap_days: int, days: int) -> Case:
    """Something in the last days that was not followed up within the gap."""
    text = (
        f"exists V from xEvent where V.eventType = {of(seen)} and V.timestamp occurs <= {days} days"
        f" before now and not (exists X from xEvent where X.eventType = {of(done)} and X.campaign ="
        f" V.campaign and X.timestamp occurs <= {gap_days} days after V.timestamp)"
    )

    def holds(history: History, now: int) -> bool:
        partners = history[done]
        for event in reversed(history[seen]):
            if event[0] < now - days * DAY_MS:
                return False
            if not has_partner(partners, event, 0, gap_days * DAY_MS):
                return True
        return False

    return Case(name, text, holds, frozenset((seen, done)), False)


# -- chains ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """count events of a type, later than the step before; the last within ``within`` ms after the
    last of step ``after``, with the campaign of step ``like``, in the last ``days``, of at least a
    price. within: (its text, ms). All conditions hold for each of the events."""

    kind: int
    count: int = 1
    within: tuple[str, int] | None = None
    after: int = -1
    like: int = -1
    days: int = 0
    price: int = 0


def step_text(index: int, step: Step) -> str:
    """A step as CHAIN has it."""
    what = f"eventType = {of(step.kind)}"
    what += f" and price >= {step.price}" if step.price else ""
    what += f" and campaign = S{step.like}.campaign" if step.like >= 0 else ""
    text = f"S{index}: WHAT({what})"
    if step.within:
        text += f" WHEN(<= {step.within[0]} after S{step.after})"
    if step.days:
        text += f" WHEN(<= {step.days} days before now)"
    return text + (f" COUNT({step.count})" if step.count > 1 else "")


def chain(name: str, *steps: Step, campaign: str = "", negated: bool = False) -> Case:
    """A CHAIN over all events, or those of one campaign; tried by backtracking."""
    source = f'xEvent[campaign = "{campaign}"]' if campaign else "xEvent"
    inner = ", ".join(step_text(i, step) for i, step in enumerate(steps))
    text = ("not " if negated else "") + f"CHAIN({source}, timestamp, [{inner}])"

    def fits(history: History, now: int, at: int, lasts: tuple[Event, ...]) -> bool:
        if at == len(steps):
            return True
        step, events = steps[at], history[steps[at].kind]
        begin = bisect_right(events, lasts[-1][0], key=lambda e: e[0]) if lasts else 0
        until = lasts[step.after][0] + step.within[1] if step.within else now
        found = 0
        for index in range(begin, len(events)):
            event = events[index]
            if event[0] > until:
                return False
            if (
                (not campaign or event[1] == campaign)
                and (step.like < 0 or event[1] == lasts[step.like][1])
                and event[2] >= step.price
                and (not step.days or event[0] >= now - step.days * DAY_MS)
            ):
                found += 1
                # The step's last event is this one; the others may be any that fit before it.
                if found >= step.count and fits(history, now, at + 1, (*lasts, event)):
                    return True
        return False

    def holds(history: History, now: int) -> bool:
        return fits(history, now, 0, ()) is not negated

    only_grows = not negated and not any(step.days for step in steps)
    return Case(name, text, holds, frozenset(step.kind for step in steps), only_grows)


LISTED = ("c0", "c1", "c2", "c3")
CAMPAIGNS = (*LISTED, "c4", "c5", "c6", "c7")


def days(count: int) -> tuple[str, int]:
    """A gap as text and ms."""
    return f"{count} days", count * DAY_MS


CASES = (
    campaigns_joined("explored_30m", VIEW, CART, "30 minutes", 30 * MINUTE_MS, 3, LISTED),
    campaigns_joined("explored_1d", VIEW, CART, *days(1), 1, LISTED),
    campaigns_joined("explored_7d", VIEW, CART, *days(7), 2, CAMPAIGNS),
    campaigns_joined("explored_lately", VIEW, CART, *days(5), 1, days=14),
    campaigns_joined("mailed_viewed", OPEN, VIEW, *days(3), 1, CAMPAIGNS[4:]),
    campaigns_joined("mailed_bought", OPEN, BUY, *days(14), 1),
    events_joined("carted_bought", CART, BUY, "7 days after", 0, 7 * DAY_MS, 1),
    events_joined("viewed_carted_twice", VIEW, CART, "3 days after", 0, 3 * DAY_MS, 2),
    events_joined("bought_after_mail", BUY, OPEN, "7 days before", 7 * DAY_MS, 0, 1),
    abandoned("abandoned", CART, BUY, 7, 14),
    chain("viewed_carted_bought", Step(VIEW), Step(CART), Step(BUY)),
    chain("carted_soon", Step(VIEW), Step(CART, within=days(2), after=0)),
    chain("mailed_viewed_same", Step(OPEN), Step(VIEW, within=days(3), after=0, like=0)),
    chain("one_campaign", Step(VIEW), Step(CART, like=0), Step(BUY, like=0)),
    chain("three_views_bought", Step(VIEW, count=3), Step(BUY)),
    chain("came_back", Step(CART), Step(VIEW, count=2, within=days(3), after=0)),
    chain("lately", Step(CART, days=14), Step(VIEW, within=days(2), after=0)),
    chain("never_bought", Step(CART), Step(BUY, within=days(7), after=0), negated=True),
    chain("in_c0", Step(VIEW), Step(CART), campaign="c0"),
    chain("long", Step(BUY, price=60), Step(VIEW), Step(OPEN, within=days(9), after=0), Step(VIEW)),
)


def run(path: Path) -> tuple[dict[str, History], dict[str, list[set[str]]], int]:
    """Loop over the file. Returns (user -> history, {'members': by rule}, changes)."""
    kinds = {name: i for i, name in enumerate(TYPES)}
    reading = [
        [(i, c.holds, c.only_grows) for i, c in enumerate(CASES) if kind in c.reads]
        for kind in range(len(TYPES))
    ]
    first = [(i, c.holds) for i, c in enumerate(CASES)]
    members: list[set[str]] = [set() for _ in CASES]
    histories: dict[str, History] = {}
    changes: list[tuple[int, str, int, bool]] = []
    with path.open(newline="") as file:
        rows = csv.reader(file)
        next(rows)
        for _, user, when_text, kind_text, price_text, _, campaign in rows:
            when, kind = int(when_text), kinds[kind_text]
            history = histories.get(user)
            is_new = history is None
            if history is None:
                history = histories[user] = [[], [], [], []]
            history[kind].append((when, campaign, float(price_text)))
            if is_new:
                for index, holds in first:
                    if holds(history, when):
                        members[index].add(user)
                        changes.append((when, user, index, True))
                continue
            for index, holds, only_grows in reading[kind]:
                inside = members[index]
                was = user in inside
                if was and only_grows:
                    continue
                if holds(history, when) is not was:
                    (inside.discard if was else inside.add)(user)
                    changes.append((when, user, index, not was))
    return histories, {"members": members}, len(changes)


if __name__ == "__main__":
    gc.disable()
    started = time.perf_counter()
    everyone, _, changed = run(Path(sys.argv[1]))
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "changes": changed, "users": len(everyone)}))
