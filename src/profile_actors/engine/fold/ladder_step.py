"""One ladder in one step: the levels of the profiles whose measure, or whose age, moved.

Theory: a measure that is one aggregate moves where its stream did, and the track has its values;
any other is evaluated where something that it reads moved. An age moves there too, and where the
clock reaches its next break. Profiles with rows have one level, at the step's end; others one at
each of their virtual rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from profile_actors.columnar.runs import find, starts_of
from profile_actors.columnar.slot_pairs import slots_of_all
from profile_actors.columnar.vectors import Array, Vector
from profile_actors.engine.fold.findings import Findings
from profile_actors.engine.fold.moments import Moments
from profile_actors.engine.membership.ages import aged, climbed
from profile_actors.engine.membership.gauges import Gauge, Ladder
from profile_actors.engine.membership.ladder_groups import LadderGroup
from profile_actors.engine.membership.reach import Rungs
from profile_actors.engine.membership.rulebook import Rulebook
from profile_actors.engine.membership.timers import Timer
from profile_actors.engine.operators.aggregates import Track
from profile_actors.engine.operators.contributions import StepScope
from profile_actors.engine.operators.crews import Crew, CrewDelta
from profile_actors.rules.evaluation.planned_values import vector_of

MARKS_AT_ONCE = 1 << 15
"""Of more names times changes the marks of each stream are kept by themselves, in fewer bytes."""


BEGIN_AT_ONCE = 1 << 17
"""Of more profiles that begin, times members, each stream is looked at by itself: a few MB."""


@dataclass(frozen=True, slots=True)
class LadderStep:
    """The ladders of a rulebook in one step. new_slots: profiles that begin in it, ascending."""

    book: Rulebook
    scope: StepScope
    moments: Moments
    findings: Findings
    new_slots: Array

    def climb_stream(
        self, stream: int, tracks: list[Track | None] | None, rungs: Sequence[Rungs]
    ) -> None:
        """Move the ladders that are aggregates of one stream. tracks: the stream's, if it moved."""
        gauges = self.book.gauges
        numbers, moved = [], []
        for of in rungs:
            track = None if tracks is None else tracks[of.place]
            if track is not None:
                numbers.append(of.ladder)
                moved.append(track)
        fresh = self.new_slots
        if moved:
            slots, clock_slots = (
                moved[0].slots,
                moved[0].clock_slots,
            )  # a stream's tracks share them
            if len(slots):
                levels = [_levels(gauges[n], t.values) for n, t in zip(numbers, moved, strict=True)]
                self.findings.at_now(numbers, slots, levels)
            if len(clock_slots):
                clock_at = moved[0].clock_at
                for number, track in zip(numbers, moved, strict=True):
                    levels_at = _levels(gauges[number], track.clock_values)
                    self.findings.at_instants(number, clock_slots, clock_at, levels_at)
            if len(fresh):
                seen = slots[slots.searchsorted(fresh[0]) :]
                rest = np.ones(len(fresh), np.bool_)  # new slots are a range, the last ones given
                rest[seen - fresh[0]] = False
                fresh = fresh[rest]
        if len(fresh):
            operators = self.book.streams[stream].operators
            initial = [
                _levels(gauges[of.ladder], operators[of.place].current(fresh)) for of in rungs
            ]
            self.findings.at_now([of.ladder for of in rungs], fresh, initial)

    def climb_crew(self, group: LadderGroup, crew: Crew, step: CrewDelta | None) -> bool:
        """Move the ladders that are aggregates of a crew's members. step: the crew's, if it moved;
        profiles that begin do so in the ladders of all members, unless they are too many."""
        if not group.climbs:
            return True
        if group.members * len(self.new_slots) > BEGIN_AT_ONCE:
            return False
        cells = np.zeros(0, np.intp)
        if step is not None:
            cells = step.flat.tracks[0].slots if step.flat.tracks[0] else cells
            self._climb_members(group, step)
        if len(self.new_slots):
            fresh = (np.arange(group.members)[:, None] * crew.capacity + self.new_slots).reshape(-1)
            if len(cells):
                fresh = fresh[~find(cells, fresh)[1]]
            members = fresh // crew.capacity
            slots = fresh - members * crew.capacity
            values = [crew.operators[climb.place].current(fresh) for climb in group.climbs]
            levels = _levels_of(group, values, members)
            self.findings.together(group, (members, slots), np.zeros_like(levels), levels, None)
        return True

    def _climb_members(self, group: LadderGroup, step: CrewDelta) -> None:
        tracks = [track for track in step.flat.tracks if track is not None]
        members, slots = step.row_cells
        if len(slots):
            values = [tracks[climb.place].values for climb in group.climbs]
            levels = _levels_of(group, values, members)
            stored = self._stored(group, members, slots)
            self.findings.together(group, (members, slots), stored, levels, None)
        cells, at = tracks[0].clock_slots, tracks[0].clock_at
        if len(cells):
            members, slots = step.pair_cells
            values = [tracks[climb.place].clock_values for climb in group.climbs]
            levels = _levels_of(group, values, members)
            first = starts_of(cells)
            before = np.empty_like(levels)
            before[:, 1:] = levels[:, :-1]
            before[:, first] = self._stored(group, members[first], slots[first])
            self.findings.together(group, (members, slots), before, levels, at)

    def _stored(self, group: LadderGroup, members: Array, slots: Array) -> Array:
        """The levels before the step. members: ascending. uint8[places, n]"""
        firsts = starts_of(members)
        bounds = [*firsts.tolist(), len(members)]
        found = members[firsts].tolist()
        out = np.zeros((len(group.climbs), len(members)), np.uint8)
        for row in range(len(group.climbs)):
            for member, low, high in zip(found, bounds, bounds[1:], strict=False):
                number = group.gauges[row * group.members + member]
                if number >= 0:
                    out[row, low:high] = self.book.gauges[number].level[slots[low:high]]
        return out

    def mark_crew(self, group: LadderGroup, crew: Crew, step: CrewDelta) -> bool:
        """Mark the computed attributes of a crew's members; not where that would be mostly marks of
        nothing."""
        assert step.crew is crew
        if not group.marks:
            return True
        tracks = [track for track in step.flat.tracks if track is not None]
        some = tracks[0]
        if len(group.names) * max(len(some.slots), len(some.clock_slots)) > MARKS_AT_ONCE:
            return False
        parts = (
            (step.row_cells, None, [track.changed for track in tracks]),
            (step.pair_cells, some.clock_at, [track.clock_changed for track in tracks]),
        )
        for (members, slots), at, changed in parts:
            if not len(slots):
                continue
            marks = np.zeros((len(group.names) + 1, len(slots)), np.bool_)
            cells = np.arange(len(slots))
            known: dict[int, Array] = {}
            for place, names in group.marks:
                if place not in known:
                    known[place] = changed[place]()
                marks[names[members], cells] = known[place]
            self.findings.mark(group.names, slots, marks[:-1], at)
        return True

    def climb(self, gauge: Ladder, index: int) -> None:
        """Move the levels of a ladder of any other measure."""
        if gauge.timer is not None:
            self._age(gauge, gauge.timer, index)
            return
        node = gauge.measure.node
        slots, pairs = self.moments.touched(gauge.aggregates, gauge.attributes, self.new_slots)
        if len(slots):
            values = vector_of(node, self.moments.at_end(slots), len(slots), self.scope.now)
            self.findings.at_now([index], slots, [gauge.levels(values)])
        if len(pairs[0]):
            values = vector_of(node, self.moments.at(*pairs), len(pairs[0]), pairs[1])
            self.findings.at_instants(index, *pairs, gauge.levels(values))

    def _age(self, gauge: Ladder, timer: Timer, index: int) -> None:
        """Ages of profiles with rows, at the step's end; of the others, by the clock."""
        node = gauge.measure.node
        _, due_slots = timer.due_in(self.scope)
        mine = self.scope.have_rows(due_slots)
        slots, (clock_slots, clock_at) = self.moments.touched(
            gauge.aggregates, gauge.attributes, self.new_slots
        )
        slots = slots_of_all([slots, due_slots[mine]])
        if len(slots):
            times = self.moments.at_end(slots)(node)
            assert isinstance(times, Vector)
            levels, upcoming = aged(gauge, times, self.scope.now)
            self.findings.at_now([index], slots, [levels])
            self.findings.delta.timers.append((timer, slots, upcoming))
        slots = slots_of_all([clock_slots, due_slots[~mine]])
        if len(slots):
            stored = self.book.current(node, slots)
            changed = self.moments.at(clock_slots, clock_at)(node)
            assert isinstance(stored, Vector)
            assert isinstance(changed, Vector)
            found, upcoming = climbed(
                gauge, slots, stored, (clock_slots, clock_at, changed), self.scope.now
            )
            self.findings.at_instants(index, *found)
            self.findings.delta.timers.append((timer, slots, upcoming))


def _levels(gauge: Gauge, values: Vector) -> Array:
    assert isinstance(gauge, Ladder)
    return gauge.levels(values)


def _levels_of(group: LadderGroup, values: Sequence[Vector], members: Array) -> Array:
    """uint8[places, n]. values: of each place; members: the number of each value's."""
    pairs = zip(group.climbs, values, strict=True)
    return np.array([climb.levels(given, members) for climb, given in pairs])
