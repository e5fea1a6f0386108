"""What a step finds: levels that moved, marks of attributes, and the memberships that follow.

Theory: whoever finds new levels (a ladder, a formula, a tree) brings them here. Where they differ
from the level before, the difference goes into the step's delta, with the memberships that it
flips; a ladder that larger rules read is noted for those besides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from profile_actors.columnar.instant_columns import Put
from profile_actors.columnar.runs import starts_of
from profile_actors.columnar.vectors import Array
from profile_actors.engine.fold.delta import Delta, RawChange
from profile_actors.engine.membership.gauges import Gauge, Ladder, flags, turned
from profile_actors.engine.membership.level_formulas import LevelChanges
from profile_actors.engine.membership.rulebook import Rulebook


@dataclass(frozen=True, slots=True)
class Findings:
    """The findings of one step, collected in its delta. Gauges are given by their number."""

    book: Rulebook
    delta: Delta
    level_changes: LevelChanges = field(default_factory=LevelChanges)

    def at_now(self, numbers: Sequence[int], slots: Array, levels: Sequence[Array]) -> None:
        """Levels of profiles with rows, at the step's now: of each of these gauges its own."""
        gauges = [self.book.gauges[number] for number in numbers]
        stored = [gauge.level[slots] for gauge in gauges]
        differs = np.array(stored) != np.array(levels)
        for row in np.asarray(differs.any(axis=1)).nonzero()[0].tolist():
            changed = differs[row].nonzero()[0]
            here, new = slots[changed], levels[row][changed]
            self.delta.gauges.append((gauges[row], here, new))
            self._note(gauges[row], numbers[row], here, stored[row][changed], new, None)

    def at_instants(self, index: int, slots: Array, at: Array, levels: Array) -> None:
        """Levels at virtual rows, ascending by (slot, at)."""
        if len(slots) == 0:
            return
        gauge = self.book.gauges[index]
        first = starts_of(slots)
        old = np.empty_like(levels)
        old[1:] = levels[:-1]
        old[first] = gauge.level[slots[first]]
        differs = old != levels
        if not differs.all():  # an age that climbs always moves
            slots, at, old, levels = slots[differs], at[differs], old[differs], levels[differs]
        if len(slots):
            self.delta.gauges.append((gauge, slots, levels))
            self._note(gauge, index, slots, old, levels, at)

    def flip(self, index: int, slots: Array, truths: Array, at: Array | None) -> None:
        """A rule's flags that all turn, to these truths; ascending by (slot, at)."""
        gauge, levels = self.book.gauges[index], flags(truths)
        (segment,) = gauge.layout.segments
        delta, old = self.delta, turned(levels)
        when: Array | int = delta.now if at is None else at
        delta.gauges.append((gauge, slots, levels))
        delta.qualified.append(Put((self.book.qualified[segment],), None, slots, when))
        by_clock = at is not None
        delta.changes.append(RawChange(index, (), slots, old, levels, at, by_clock, len(slots)))

    def mark(self, names: tuple[str, ...], slots: Array, marks: Array, at: Array | None) -> None:
        """Computed attributes whose values changed. marks: bool[names, slots]; at: the virtual
        rows' instants, None at the step's now."""
        some = np.asarray(marks.any(axis=0)).nonzero()[0]
        if not len(some):
            return
        by_clock = at is not None
        if len(some) < len(slots):
            slots, marks = slots[some], marks[:, some]
            at = None if at is None else at[some]
        self.delta.changes.append(RawChange(-1, names, slots, marks, marks, at, by_clock))

    def _note(
        self, gauge: Gauge, index: int, slots: Array, old: Array, new: Array, at: Array | None
    ) -> None:
        """Record level changes, as far as they move a rule or change a membership."""
        if isinstance(gauge, Ladder) and gauge.is_read:
            self.level_changes.note(index, slots, new, at)
        total, now = len(slots), self.delta.now
        count, shows = 0, np.zeros(total, np.bool_)
        of = [self.book.qualified[segment] for segment in gauge.layout.segments]
        for columns, rows in gauge.flips(old, new):
            if not len(rows):
                continue
            count += len(rows)
            shows[rows] = True
            when: Array | int = now if at is None else at[rows]
            if isinstance(columns, int):
                self.delta.qualified.append(Put((of[columns],), None, slots[rows], when))
            else:
                self.delta.qualified.append(Put(of, columns, slots[rows], when))
        if not count:
            return
        if not shows.all():
            slots, old, new = slots[shows], old[shows], new[shows]
            at = None if at is None else at[shows]
        by_clock = at is not None
        self.delta.changes.append(RawChange(index, (), slots, old, new, at, by_clock, count))
