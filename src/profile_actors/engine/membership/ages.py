"""Ages: how long ago a profile's time was, against many limits at once.

Theory: an age grows with the clock, so a profile climbs the ladder of all limits on one time by
itself: it reaches break b at the instant time + b. One timer knows the next of them. Where the
time itself moves at an instant (a window lets an event go), the climb begins anew from there::

    time t      t + b0      t + b1         m: the time is u now       u + b1
    ---|-----------|-----------|--------------|--------------------------|-------->
    level    2           3             4               3                     4
                   ^ a break: one up          ^ a move: to where m - u stands
"""

from __future__ import annotations

import numpy as np

from profile_actors.columnar.instants import LAST_MS
from profile_actors.columnar.runs import ranges, starts_of
from profile_actors.columnar.vectors import FOREVER, Array, Vector
from profile_actors.engine.membership.gauges import FIRST, NULL, Ladder


def aged(ladder: Ladder, times: Vector, now: int) -> tuple[Array, Array]:
    """(levels, next instants) at ``now`` of profiles with these times. FOREVER: none."""
    levels = ladder.levels(Vector(now - times.values, times.valid))
    return levels, _next(ladder, times.values, levels)


def climbed(
    ladder: Ladder,
    slots: Array,
    times: Vector,
    stepped: tuple[Array, Array, Vector],
    now: int,
) -> tuple[tuple[Array, Array, Array], Array]:
    """What the clock does to the ages of these ascending slots, from where they stand to ``now``.

    times: those stored. moved: (slots, instants, times) where they change, ascending by (slot,
    instant), all of these slots. Returns ((slots, instants, levels) where the level may move,
    ascending), and the next instant of each slot. Cost: a few passes over what is given and found.
    """
    step_slots, step_at, step_times = stepped
    count = len(slots)
    all_slots = np.concatenate([slots, step_slots]).astype(np.intp)
    order = all_slots.argsort(kind="stable")  # a slot's stored time, then its moves
    all_slots = all_slots[order]
    # The stored ones stand where the stored levels say, whenever that was.
    at = np.concatenate([np.full(count, -FOREVER), step_at])[order]
    time = np.concatenate([times.values, step_times.values])[order]
    low = np.concatenate([
        ladder.level[slots].astype(np.int64),
        ladder.levels(Vector(step_at - step_times.values, step_times.valid)).astype(np.int64),
    ])[order]  # fmt: skip
    first = starts_of(all_slots)
    end = np.full(len(at), now + 1)
    end[:-1] = np.where(all_slots[1:] == all_slots[:-1], at[1:], now + 1)
    reached = ladder.breaks.searchsorted(end - 1 - time, side="right") + FIRST
    high = np.where(low >= FIRST, np.maximum(reached, low), low)
    is_step = np.ones(len(at), np.int64)
    is_step[first] = 0
    sizes = high - low + is_step
    owner = np.repeat(np.arange(len(at)), sizes)
    steps = ranges(1 - is_step, sizes)  # 0: the move itself; 1…: the breaks after it
    level = low[owner] + steps
    begins = steps == 0
    instants = time[owner] + ladder.breaks[np.where(begins, 0, level - FIRST - 1)]
    instants = np.where(begins, at[owner], instants)
    last = np.append(first[1:], len(at)) - 1
    found = all_slots[owner], instants, level.astype(ladder.level.dtype)
    return found, _next(ladder, time[last], high[last])


def _next(ladder: Ladder, times: Array, levels: Array) -> Array:
    """When profiles with these times reach the break after their level."""
    rank = levels.astype(np.int64) - FIRST
    climbs = (levels > NULL) & (rank < len(ladder.breaks))
    instants = times + ladder.breaks[np.where(climbs, rank, 0)]
    return np.where(climbs & (instants <= LAST_MS), instants, np.int64(FOREVER))
