"""Look-aheads: the step of some slots alone into the future, never published."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from profile_actors.columnar.vectors import Array
from profile_actors.engine.fold.delta import Delta, RawChange
from profile_actors.engine.fold.fold import Fold
from profile_actors.engine.log.change_blocks import Layout
from profile_actors.engine.membership.rulebook import Rulebook
from profile_actors.engine.operators.aggregates import Track
from profile_actors.engine.operators.step_scope import StepScope
from profile_actors.rules.tree.plan import Key, Rule


@dataclass(slots=True)
class Ahead:
    """What a look-ahead found for one slot. segments: (instant, is member), ascending."""

    segments: dict[str, list[tuple[int, bool]]] = field(default_factory=dict)
    computed: dict[str, list[int]] = field(default_factory=dict)


def look_ahead(book: Rulebook, slots: Array, started: int, until: int, instant: int) -> Fold:
    """The step of these slots alone from ``started``, where their state stands, to ``until``;
    not published.

    Beyond each rule's first change after the asked instant it need not be complete.
    """
    tracks: dict[int, list[Track | None]] = {}
    delta = Delta(until)
    for index, stream in enumerate(book.streams):
        if stream.is_silent:
            continue
        try:
            ahead = stream.look_ahead(slots, until, started)
            tracks[index], errors = ahead.tracks, ahead.failed
        except Exception as error:
            errors = dict.fromkeys(range(len(stream.operators)), error)
        for place, raised in errors.items():
            delta.broken[stream.operators[place].aggregate] = repr(raised)
    scope = StepScope(until, started, slots=slots, enough=instant)
    fold = Fold(book, scope, delta, tracks, {}, {}, np.zeros(0, np.int64))
    fold.qualify()
    return fold


def all_change(fold: Fold, timed: list[Rule], slots: Array, instant: int) -> bool:
    """Whether each timed rule changes for each slot after the instant, as far as was looked.

    Then nothing farther ahead is asked for: other rules have all they hold in the delay lines, but
    those are cut at the same place; so they too must have changed, or have nothing left to come.
    """
    later: dict[Key, set[int]] = {}
    layouts = [gauge.layout for gauge in fold.book.gauges]
    for change in fold.delta.changes:
        assert change.at is not None
        is_value = change.gauge < 0
        names = change.names if is_value else layouts[change.gauge].segments
        mine = set(change.slots[change.at > instant].tolist())
        for name in names:
            later.setdefault(("computed" if is_value else "segment", name), set()).update(mine)
    wanted = set(slots.tolist())
    if any(stream.upcoming(slots, fold.now) for stream in fold.book.streams):
        return False
    sound = (rule for rule in timed if rule.key not in fold.pending)
    return all(later.get(rule.key, set()) >= wanted for rule in sound)


def sort_in(change: RawChange, ahead: dict[int, Ahead], layouts: list[Layout]) -> None:
    """Spread one raw change over the slots' look-aheads."""
    assert change.at is not None, "a look-ahead has no rows"
    if change.gauge < 0:
        for row, name in enumerate(change.names):
            for i in np.flatnonzero(change.new[row]).tolist():
                instants = ahead[int(change.slots[i])].computed.setdefault(name, [])
                instants.append(int(change.at[i]))
        return
    layout = layouts[change.gauge]
    old, new = layout.truth[change.old], layout.truth[change.new]
    for i, column in zip(*np.nonzero(old != new), strict=True):
        found = ahead[int(change.slots[i])].segments.setdefault(layout.segments[column], [])
        found.append((int(change.at[i]), bool(new[i, column])))
