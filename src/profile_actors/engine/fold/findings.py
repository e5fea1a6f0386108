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
from profile_actors.engine.fold.delta import MANY, MARKS, Delta, RawChange
from profile_actors.engine.membership.gauges import Gauge, Ladder, flags, turned
from profile_actors.engine.membership.ladder_groups import LadderGroup
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
        delta.qualified.append(Put(self.book.qualified[segment], None, slots, when))
        by_clock = at is not None
        delta.changes.append(RawChange(index, (), slots, old, levels, at, by_clock, len(slots)))

    def together(
        self,
        group: LadderGroup,
        cells: tuple[Array, Array],
        old: Array,
        levels: Array,
        at: Array | None,
    ) -> None:
        """Levels of a group's ladders, before and after. cells: member and slot of each column of
        them, ascending; at: as ``at_instants`` has it, None: at the step's now."""
        places, rows = (old != levels).nonzero()
        if not len(rows):
            return
        members, slots = cells[0][rows], cells[1][rows]
        old, new = old[places, rows], levels[places, rows]
        at = None if at is None else at[rows]
        ladders = places * group.members + members
        numbers = self._note_ladders(group, ladders, slots, new, at)
        truths, first = group.truths, ladders * group.levels
        flips = truths.take(first + old, 0) != truths.take(first + new, 0)
        change, column = flips.nonzero()
        if not len(change):
            return
        which = ladders[change] * group.width + column
        when: Array | int = self.delta.now
        if at is not None:
            order = which.argsort(kind="stable")
            which, change = which[order], change[order]
            when = at[change]
        self.delta.qualified.append(Put(group.columns, which, slots[change], when))
        shows = flips.any(axis=1)
        if not shows.all():
            slots, old, new, numbers = slots[shows], old[shows], new[shows], numbers[shows]
            at = None if at is None else at[shows]
        self.delta.changes.append(
            RawChange(MANY, (), slots, old, new, at, at is not None, len(change), numbers)
        )

    def _note_ladders(
        self, group: LadderGroup, ladders: Array, slots: Array, new: Array, at: Array | None
    ) -> Array:
        """Note the new levels for each ladder that has some; returns the gauge of each. int64[n]"""
        firsts = starts_of(ladders)
        bounds = [*firsts.tolist(), len(ladders)]
        found = [group.gauges[ladder] for ladder in ladders[firsts].tolist()]
        for number, low, high in zip(found, bounds, bounds[1:], strict=False):
            gauge = self.book.gauges[number]
            mine = slots[low:high], new[low:high]
            self.delta.gauges.append((gauge, *mine))
            if isinstance(gauge, Ladder) and gauge.is_read:
                self.level_changes.note(number, *mine, None if at is None else at[low:high])
        return np.array(found).repeat(np.diff(bounds))

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
        self.delta.changes.append(RawChange(MARKS, names, slots, marks, marks, at, by_clock))

    def _note(
        self, gauge: Gauge, index: int, slots: Array, old: Array, new: Array, at: Array | None
    ) -> None:
        """Record level changes, as far as they move a rule or change a membership."""
        if isinstance(gauge, Ladder) and gauge.is_read:
            self.level_changes.note(index, slots, new, at)
        total, now = len(slots), self.delta.now
        count, shows = 0, np.zeros(total, np.bool_)
        of = self.book.columns_of(index)
        for columns, rows in gauge.flips(old, new):
            if not len(rows):
                continue
            count += len(rows)
            shows[rows] = True
            when: Array | int = now if at is None else at[rows]
            if isinstance(columns, int):
                segment = self.book.qualified[gauge.layout.segments[columns]]
                self.delta.qualified.append(Put(segment, None, slots[rows], when))
            else:
                self.delta.qualified.append(Put(of, columns, slots[rows], when))
        if not count:
            return
        if not shows.all():
            slots, old, new = slots[shows], old[shows], new[shows]
            at = None if at is None else at[shows]
        by_clock = at is not None
        self.delta.changes.append(RawChange(index, (), slots, old, new, at, by_clock, count))
