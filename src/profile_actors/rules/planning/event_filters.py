"""Which events count, and when: conditions split into event types, a predicate and windows.

Theory: a condition on one event that is free of now is decided once, when the event comes. One that
moves with the clock must let the event count in a single interval of now, so that a delay line can
hold its two ends; those are the ``occurs`` forms of ``windows``, and what is equivalent to one.
Event types that the predicate pins are kept apart for dispatch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from profile_actors.columnar.instants import FIRST_MS, LAST_MS
from profile_actors.columnar.time_units import EXACT_MS, MONTHS
from profile_actors.rules.language.unparse import unparse
from profile_actors.rules.planning.canonical import normal, normal_conjuncts
from profile_actors.rules.planning.event_folds import EVENT_TYPE, TIMESTAMP
from profile_actors.rules.tree.clock_reads import varies
from profile_actors.rules.tree.comparisons import MIRRORED
from profile_actors.rules.tree.constants import BOOLEAN
from profile_actors.rules.tree.faults import NotIncremental
from profile_actors.rules.tree.nodes import Calendar, Call, Items, Literal, Node, Now, Occurs
from profile_actors.rules.tree.plan import EventFilter

_HUNDRED_YEARS_MS = 100 * 366 * EXACT_MS["day"]


def event_filter(conditions: tuple[Node, ...], single: bool = False) -> EventFilter:
    """Split conditions on one event into event types, a predicate free of now, and windows.

    Raises NotIncremental for a condition that moves with the clock and is not one interval of it.
    """
    fixed: dict[str, Node] = {}
    windows: dict[str, Occurs] = {}
    for condition in conditions:
        for part in normal_conjuncts(condition):
            if not varies(part):
                fixed[unparse(part)] = part
                continue
            window = window_of(part)
            if window is None:
                raise NotIncremental(
                    part, "a moving condition that is not 'timestamp occurs …' for one interval"
                )
            windows[unparse(window)] = window
    ordered = tuple(fixed[text] for text in sorted(fixed))
    predicate = normal(Call("and", ordered, type=BOOLEAN)) if ordered else None
    moving = tuple(windows[text] for text in sorted(windows))
    return EventFilter(_pinned(ordered), predicate, moving, single)


def _pinned(parts: tuple[Node, ...]) -> frozenset[str] | None:
    types: frozenset[str] | None = None
    for part in parts:
        found = _types_of(part)
        if found is not None:
            types = found if types is None else types & found
    return types


def _types_of(part: Node) -> frozenset[str] | None:
    """The event types outside which the condition is certainly false, or None."""
    if not isinstance(part, Call):
        return None
    if part.function in ("=", "in") and part.args[0] == EVENT_TYPE:
        wanted = part.args[1]
        items = wanted.items if isinstance(wanted, Items) else (wanted,)
        texts = [item.value for item in items if isinstance(item, Literal)]
        if len(texts) == len(items):
            return frozenset(text for text in texts if isinstance(text, str))
    if part.function == "and":
        return _pinned(part.args)
    if part.function == "or":
        found = [_types_of(arg) for arg in part.args]
        known = [types for types in found if types is not None]
        if len(known) == len(found):
            return frozenset().union(*known)
    return None


def window_of(part: Node) -> Occurs | None:
    """The condition as ``timestamp occurs`` in one interval of now, or None."""
    if isinstance(part, Occurs):
        return _window_occurs(part)
    if not isinstance(part, Call):
        return None
    if part.function == "not":
        inner = part.args[0]
        return _complement(inner) if isinstance(inner, Occurs) else None
    if part.function in _COMPARED:
        a, b = part.args
        operator = part.function
        if b == TIMESTAMP:
            a, b, operator = b, a, MIRRORED[operator]
        if a == TIMESTAMP and isinstance(b, Now):
            return _COMPARED[operator](b)
    return None


_START = Literal(FIRST_MS, "timestamp")


_END = Literal(LAST_MS, "timestamp")


_COMPARED: dict[str, Callable[[Now], Occurs]] = {
    "=": lambda time: Occurs(TIMESTAMP, "between", time, time),
    "<": lambda time: Occurs(TIMESTAMP, "before", time),
    ">": lambda time: Occurs(TIMESTAMP, "after", time),
    "<=": lambda time: Occurs(TIMESTAMP, "between", _START, time),
    ">=": lambda time: Occurs(TIMESTAMP, "between", time, _END),
}


def _window_occurs(part: Occurs) -> Occurs | None:
    if part.comparison == "!=":
        return None
    if part.subject == TIMESTAMP:
        times = [part.time] if part.until is None else [part.time, part.until]
        return part if all(isinstance(time, Now | Calendar | Literal) for time in times) else None
    # ``now occurs >= 7 days after timestamp`` is ``timestamp occurs >= 7 days before now``; months
    # are not: adding one and taking one away are not inverse.
    if (
        part.subject == Now("now")
        and part.time == TIMESTAMP
        and (part.form, part.direction) == ("distance", "after")
        and part.comparison != "="
        and part.unit in EXACT_MS
    ):
        return replace(part, subject=TIMESTAMP, time=Now("now"), direction="before")
    return None


_COMPLEMENT = {"<=": ">", "<": ">=", ">": "<=", ">=": "<"}


def _complement(inner: Occurs) -> Occurs | None:
    """``not (timestamp occurs <= N u before now)`` is ``> N u``: later events are not seen."""
    window = _window_occurs(inner)
    if window is None or (window.form, window.direction) != ("distance", "before"):
        return None
    size = EXACT_MS.get(window.unit) or MONTHS[window.unit] * 31 * EXACT_MS["day"]
    if window.time != Now("now") or window.comparison not in _COMPLEMENT:
        return None
    if window.amount * size > _HUNDRED_YEARS_MS:
        return None  # the far bound may leave the calendar, where both forms are false
    return replace(window, comparison=_COMPLEMENT[window.comparison])
