"""Timers: when a rule that reads the clock must next be looked at, per slot."""

from __future__ import annotations

import numpy as np

from profile_actors.columnar.state_columns import UNSET, Saving, reserve
from profile_actors.columnar.vectors import FOREVER, Array
from profile_actors.engine.operators.contributions import StepScope
from profile_actors.engine.operators.delay_lines import DelayLine


class Timer:
    """When a rule that reads the clock must next be looked at, per slot.

    Lazy: a slot has at most one valid entry in the line, the earliest; an entry that turns out too
    early is looked at for nothing, once. due: int64 per slot, ms relative to UNSET, 0 = none.
    """

    def __init__(self, capacity: int) -> None:
        self.due = reserve(capacity, np.int64)
        self.line = DelayLine()

    def saving(self, slots: int) -> Saving:
        """For a checkpoint."""
        rows = self.line.later()
        return Saving.of(
            {"due_of": self.due}, slots, lambda: {f"line/{n}": a for n, a in rows().items()}
        )

    def due_rows(self, now: int) -> tuple[Array, Array]:
        """(due, slot) of the valid entries up to now."""
        return self._valid(*self.line.due_rows(now)[:2])

    def due_in(self, scope: StepScope) -> tuple[Array, Array]:
        """(due, slot) of what is due of it in a step."""
        if scope.is_held:
            return np.zeros(0, np.int64), np.zeros(0, np.uint32)
        if scope.span is not None:
            return self.between(*scope.span, scope.now)
        if scope.slots is not None:
            return self.of(scope.slots, scope.now)
        return self.due_rows(scope.now)

    def of(self, slots: Array, now: int) -> tuple[Array, Array]:
        """(due, slot) of the valid entries of these sorted slots up to now."""
        due, slot = self.line.gather(slots)[:2]
        upto = int(due.searchsorted(now, side="right"))
        return self._valid(due[:upto], slot[:upto])

    def between(self, low: int, high: int, now: int) -> tuple[Array, Array]:
        """(due, slot) of the valid entries of the slots from low up to high, up to now."""
        return self._valid(*self.line.due_between(low, high, now)[:2])

    def _valid(self, due: Array, slot: Array) -> tuple[Array, Array]:
        keep = self.due[slot] == due - UNSET
        return due[keep], slot[keep]

    def set_due(self, slot: int, due: int) -> None:
        """Look at one slot next at ``due`` (FOREVER: never), whatever stood before."""
        self.due[slot] = 0 if due >= FOREVER else due - UNSET
        if due < FOREVER:
            self.line.push(np.array([due]), np.array([slot], np.uint32), {})

    def publish(self, now: int, slots: Array, upcoming: Array, drops_due: bool = True) -> None:
        """Drop what was due, set the next instants of these slots (FOREVER: none).

        drops_due: False in a step that is of these slots alone: what is due to others stays.
        """
        if drops_due:
            popped = self.line.due_rows(now)
            self.line.drop_due(now)
            self.due[popped[1][self.due[popped[1]] <= now - UNSET]] = 0
        else:
            mine = self.due[slots]
            self.due[slots[(mine > 0) & (mine <= now - UNSET)]] = 0
        timed = (upcoming < FOREVER).nonzero()[0]
        slots, upcoming = slots[timed], upcoming[timed]
        pending = self.due[slots]
        sooner = (pending == 0) | (upcoming - UNSET < pending)
        slots, upcoming = slots[sooner], upcoming[sooner]
        self.due[slots] = upcoming - UNSET
        self.line.push(upcoming, slots.astype(np.uint32), {})
