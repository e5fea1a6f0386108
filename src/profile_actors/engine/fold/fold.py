"""The fold: one step of the whole partition, from rows and clock to a delta beside the state.

Theory: ``Fold`` moves every stream, attribute, gauge and tree of a rulebook from one instant to a
later one: ladders first, then the rules that are formulas over their levels, then other trees. It
reads state and writes none; ``Delta.publish`` does, under the partition's lock.
Entries, clock ticks, back-fill and look-ahead are all this one step: they differ in who has rows
and in what is due.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import numpy as np

from profile_actors.columnar.instants import unit_starts
from profile_actors.columnar.runs import starts_of
from profile_actors.columnar.slot_pairs import distinct_pairs, following, slots_of_all
from profile_actors.columnar.vectors import FOREVER, Array, Vector, differ, truth
from profile_actors.engine.fold.delta import Delta, RawChange
from profile_actors.engine.fold.departures import Departures
from profile_actors.engine.fold.moments import Moments
from profile_actors.engine.membership.ages import aged, climbed
from profile_actors.engine.membership.gauges import Gauge, Ladder, flags, turned
from profile_actors.engine.membership.level_formulas import LevelChanges, PairLevels, RowLevels
from profile_actors.engine.membership.rulebook import Rulebook, Tree
from profile_actors.engine.membership.timers import Timer
from profile_actors.engine.operators.aggregates import Track
from profile_actors.engine.operators.attribute_columns import AttributeTrack
from profile_actors.engine.operators.kept_events import HistoryDelta
from profile_actors.engine.operators.step_scope import StepScope
from profile_actors.rules.evaluation.frames import Frame
from profile_actors.rules.evaluation.horizons import boundary_of, next_boundary
from profile_actors.rules.evaluation.planned_values import value_in, vector_of
from profile_actors.rules.tree.plan import Aggregate, AggregateLeaf, EventFilter, Key
from profile_actors.rules.tree.trends import FALLS, RISES

T = TypeVar("T")


FRAMES = 4
"""Frames that are kept for the next rule: each holds what was evaluated in it."""


class Fold:
    """One step over a rulebook. new_slots: int64[k], profiles that begin in this step, ascending.

    delta: what the operators did in it, and which of them failed; the rest is added here.
    """

    def __init__(
        self,
        book: Rulebook,
        scope: StepScope,
        delta: Delta,
        tracks: dict[int, list[Track | None]],
        attributes: dict[str, AttributeTrack],
        histories: dict[EventFilter, HistoryDelta],
        new_slots: Array,
    ) -> None:
        self.book = book
        self.scope = scope
        self.now = scope.now
        self.new_slots = new_slots.astype(np.intp)
        self.delta = delta
        by_aggregate = {
            aggregate: track
            for aggregate, (stream, index) in book.place.items()
            if stream in tracks and (track := tracks[stream][index]) is not None
        }
        self.moments = Moments(book, by_aggregate, attributes, histories)
        # The rulebook's own are as they were until the delta is published.
        self.pending: dict[Key, str] = dict(book.pending)
        for part, reason in delta.broken.items():
            for key in book.readers_of(part):
                self._fail(key, reason)
        self.level_changes = LevelChanges()
        self._frames: dict[int, tuple[Array, Frame]] = {}

    def qualify(self) -> Delta:
        """Memberships and computed attributes of the step."""
        book = self.book
        for index in book.ladders.values():
            gauge = book.gauges[index]
            assert isinstance(gauge, Ladder)
            if self.pending and all(key in self.pending for key in gauge.readers):
                continue
            with self._pending_if_it_fails(gauge.readers):
                self._climb(gauge, index)
        turning = [t for t in book.trees if t.formula and t.rule.key not in self.pending]
        self._at_once(turning, self._turn, lambda tree: [tree.rule.key])
        for tree in book.trees:
            if tree.formula is None and tree.rule.key not in self.pending:
                with self._pending_if_it_fails([tree.rule.key]):
                    self._grow(tree)
        for marks in self._marks():
            self._at_once(marks, self._mark, lambda of: [("computed", name) for name in of[0]])
        return self.delta

    @contextmanager
    def _pending_if_it_fails(self, rules: Iterable[Key]) -> Iterator[None]:
        """What raises leaves nothing behind, and its rules, and no others, without an answer."""
        began = self.delta.mark()
        try:
            yield
        except Exception as error:
            self.delta.undo(began)
            self._frames.clear()  # what others share must not be half of an evaluation
            for key in rules:
                self._fail(key, f"at {self.now} ms: {error!r}")

    def _fail(self, key: Key, reason: str) -> None:
        if key not in self.pending:
            self.pending[key] = self.delta.pending[key] = reason

    def _at_once(
        self,
        parts: Sequence[T],
        do: Callable[[Sequence[T]], None],
        rules: Callable[[T], Iterable[Key]],
    ) -> None:
        """Do what several rules share for all of them; one by one if that raises, to find out whose
        fault it is. rules: those of a part."""
        began = self.delta.mark()
        try:
            do(parts)
        except Exception:
            self.delta.undo(began)
            for part in parts:
                with self._pending_if_it_fails(rules(part)):
                    do([part])

    # -- ladders -----------------------------------------------------------------------------

    def _climb(self, gauge: Ladder, index: int) -> None:
        """Move a ladder's levels, and note where they moved."""
        node = gauge.measure.node
        if gauge.timer is not None:
            self._age(gauge, gauge.timer, index)
        elif isinstance(node, AggregateLeaf):
            track = self.moments.tracks.get(node.aggregate)
            if track is not None or len(self.new_slots):
                self._climb_aggregate(gauge, index, node.aggregate, track)
        else:
            slots, pairs = self.moments.touched(gauge.aggregates, gauge.attributes, self.new_slots)
            if len(slots):
                values = vector_of(node, self.moments.at_end(slots), len(slots), self.now)
                self._row_change(gauge, index, slots, gauge.levels(values))
            if len(pairs[0]):
                values = vector_of(node, self.moments.at(*pairs), len(pairs[0]), pairs[1])
                self._clock_change(gauge, index, *pairs, gauge.levels(values))

    def _climb_aggregate(
        self, gauge: Ladder, index: int, aggregate: Aggregate, track: Track | None
    ) -> None:
        fresh = self.new_slots
        if track is not None:
            self._row_change(gauge, index, track.slots, gauge.levels(track.values))
            if len(track.clock_slots):
                levels = gauge.levels(track.clock_values)
                self._clock_change(gauge, index, track.clock_slots, track.clock_at, levels)
            if len(fresh):
                seen = track.slots[np.searchsorted(track.slots, fresh[0]) :]
                rest = np.ones(len(fresh), np.bool_)  # new slots are a range, the last ones given
                rest[seen - fresh[0]] = False
                fresh = fresh[rest]
        if len(fresh):
            stream, place = self.book.place[aggregate]
            initial = self.book.streams[stream].operators[place].current(fresh)
            self._row_change(gauge, index, fresh, gauge.levels(initial))

    def _age(self, gauge: Ladder, timer: Timer, index: int) -> None:
        """Ages of profiles with rows, at the step's end; of the others, by the clock."""
        node = gauge.measure.node
        _, due_slots = self._timer_rows(timer)
        mine = self._have_rows(due_slots)
        slots, (clock_slots, clock_at) = self.moments.touched(
            gauge.aggregates, gauge.attributes, self.new_slots
        )
        slots = slots_of_all([slots, due_slots[mine]])
        if len(slots):
            times = self.moments.at_end(slots)(node)
            assert isinstance(times, Vector)
            levels, upcoming = aged(gauge, times, self.now)
            self._row_change(gauge, index, slots, levels)
            self.delta.timers.append((timer, slots, upcoming))
        slots = slots_of_all([clock_slots, due_slots[~mine]])
        if len(slots):
            stored = self.book.current(node, slots)
            changed = self.moments.at(clock_slots, clock_at)(node)
            assert isinstance(stored, Vector)
            assert isinstance(changed, Vector)
            found, upcoming = climbed(
                gauge, slots, stored, (clock_slots, clock_at, changed), self.now
            )
            self._clock_change(gauge, index, *found)
            self.delta.timers.append((timer, slots, upcoming))

    def _row_change(self, gauge: Gauge, index: int, slots: Array, levels: Array) -> None:
        """Levels of profiles with rows, at the step's now."""
        old = gauge.level[slots]
        changed = np.flatnonzero(old != levels)
        if len(changed):
            slots, levels = slots[changed], levels[changed]
            self.delta.gauges.append((gauge, slots, levels))
            self._note(gauge, index, slots, old[changed], levels, None)

    def _clock_change(
        self, gauge: Gauge, index: int, slots: Array, at: Array, levels: Array
    ) -> None:
        """Levels at virtual rows, ascending by (slot, at)."""
        if len(slots) == 0:
            return
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

    def _note(
        self, gauge: Gauge, index: int, slots: Array, old: Array, new: Array, at: Array | None
    ) -> None:
        """Record level changes, as far as they move a rule or change a membership."""
        if isinstance(gauge, Ladder) and gauge.is_read:
            self.level_changes.note(index, slots, new, at)
        flips = list(gauge.flips(old, new))
        if not flips:
            return
        for column, rows in flips:
            is_all = len(rows) == len(slots)
            when: Array | int = self.now if at is None else at if is_all else at[rows]
            target = self.book.qualified[gauge.layout.segments[column]]
            self.delta.qualified.append((target, slots if is_all else slots[rows], when))
        rows = flips[0][1]
        if len(flips) > 1 and len(rows) < len(slots):
            shows = np.zeros(len(slots), np.bool_)
            for _, some in flips:
                shows[some] = True
            rows = np.flatnonzero(shows)
        if len(rows) < len(slots):
            slots, old, new = slots[rows], old[rows], new[rows]
            at = None if at is None else at[rows]
        count = sum(len(some) for _, some in flips)
        by_clock = at is not None
        self.delta.changes.append(RawChange(index, (), slots, old, new, at, by_clock, count))

    # -- rules over levels -------------------------------------------------------------------

    def _turn(self, trees: Sequence[Tree]) -> None:
        """Turn the rules whose ladders moved."""
        gauges = self.book.gauges
        if trees and (self.level_changes.rows or len(self.new_slots)):
            rows = RowLevels(gauges, self.level_changes, self.new_slots)
            for tree in trees:
                assert tree.formula is not None
                slots, truths = rows.turned(tree.formula, tree.ladders)
                if not len(slots):
                    continue
                if slots[-1] < rows.first_new:
                    self._flip(tree.gauge, slots, truths, None)
                else:
                    self._row_change(gauges[tree.gauge], tree.gauge, slots, flags(truths))
        if trees and self.level_changes.pairs:
            pairs = PairLevels(gauges, self.level_changes)
            for tree in trees:
                assert tree.formula is not None
                slots, at, truths = pairs.turned(tree.formula, tree.ladders)
                if len(slots):
                    self._flip(tree.gauge, slots, truths, at)

    def _flip(self, index: int, slots: Array, truths: Array, at: Array | None) -> None:
        """Flags that all turn, to these truths; ascending by (slot, at)."""
        gauge, levels = self.book.gauges[index], flags(truths)
        (segment,) = gauge.layout.segments
        when: Array | int = self.now if at is None else at
        delta, old = self.delta, turned(levels)
        delta.gauges.append((gauge, slots, levels))
        delta.qualified.append((self.book.qualified[segment], slots, when))
        by_clock = at is not None
        delta.changes.append(RawChange(index, (), slots, old, levels, at, by_clock, len(slots)))

    # -- trees -------------------------------------------------------------------------------

    def _grow(self, tree: Tree) -> None:
        """Evaluate a rule of any shape where its inputs or its time changed."""
        due, due_slots = self._timer_rows(tree.timer)
        mine = self._have_rows(due_slots)
        row_slots, (pair_slots, pair_at) = self.moments.touched(
            tree.aggregates, tree.attributes, self.new_slots, tree.histories
        )
        if mine.any():
            row_slots = slots_of_all([row_slots, due_slots[mine]])
        if not mine.all():
            pair_slots, pair_at = distinct_pairs(
                np.concatenate([pair_slots, due_slots[~mine]]),
                np.concatenate([pair_at, due[~mine]]),
            )
        if len(row_slots):
            self._grow_rows(tree, row_slots)
        if len(pair_slots):
            self._grow_pairs(tree, pair_slots, pair_at)
        elif tree.timer is not None and len(due) and not len(row_slots):
            self.delta.timers.append((tree.timer, due_slots[:0], due[:0]))

    def _timer_rows(self, timer: Timer | None) -> tuple[Array, Array]:
        """(due, slot) of what is due of a timer in this step."""
        scope = self.scope
        if timer is None or scope.is_held:
            return np.zeros(0, np.int64), np.zeros(0, np.uint32)
        if scope.span is not None:
            return timer.between(*scope.span, self.now)
        if scope.slots is not None:
            return timer.of(scope.slots, self.now)
        return timer.due_rows(self.now)

    def _have_rows(self, slots: Array) -> Array:
        has_rows = self.scope.has_rows
        return np.zeros(len(slots), np.bool_) if has_rows is None else has_rows[slots]

    def _grow_rows(self, tree: Tree, slots: Array) -> None:
        """Evaluate for profiles with rows, at the step's end."""
        root = tree.rule.root
        frame = self._frame_at_end(slots)
        after = value_in(frame, root)
        if tree.timer is not None:
            upcoming = boundary_of(root, frame)
            if tree.trend == FALLS and self._all_entered(tree):
                upcoming[~truth(after)] = FOREVER  # what is false stays so until something comes
            self.delta.timers.append((tree.timer, slots, upcoming))
        if tree.gauge >= 0:
            gauge = self.book.gauges[tree.gauge]
            self._row_change(gauge, tree.gauge, slots, flags(truth(after)))
            return
        before = vector_of(root, self.moments.before(slots), len(slots), self.scope.started)
        self._mark_rows((tree.rule.name,), slots, differ(before, after)[None, :])

    def _frame_at_end(self, slots: Array) -> Frame:
        """The frame of these slots at the step's end. Rules with the same inputs share it, and with
        it what they have in common: equal expressions are one node, evaluated once in a frame."""
        known = self._frames.get(id(slots))
        if known is None or known[0] is not slots:
            made = Frame(self.moments.at_end(slots), np.asarray(self.now), len(slots))
            if len(self._frames) >= FRAMES:
                self._frames.pop(next(iter(self._frames)))
            known = self._frames[id(slots)] = (slots, made)
        return known[1]

    def _all_entered(self, tree: Tree) -> bool:
        """Whether no kept event that the rule reads enters later than now."""
        return all(self.moments.max_enter(events) <= self.now for events in tree.histories)

    def _grow_pairs(self, tree: Tree, slots: Array, at: Array) -> None:
        """Evaluate at virtual rows, adding the instants at which the rule's own clock moves it."""
        mine = slots[starts_of(slots)]
        if tree.timer is not None:
            end = np.full(len(mine), self.now)
            upcoming = next_boundary(tree.rule.root, self.moments.at(mine, end), end)
            self.delta.timers.append((tree.timer, mine, upcoming))
        departures = Departures(tree, self.moments, self.scope)
        if not tree.is_kept_alone:
            if tree.timer is not None:
                slots, at = self._with_boundaries(tree, slots, at)
        else:
            more_slots, more_at, enters = departures.instants(mine)
            slots, at = distinct_pairs(
                np.concatenate([slots, more_slots]), np.concatenate([at, more_at])
            )
        if tree.gauge < 0:
            index, changed = departures.changed(slots, at)
            self._mark_pairs(tree, slots[index[changed]], at[index[changed]])
            return
        gauge = self.book.gauges[tree.gauge]
        if tree.is_kept_alone and tree.trend in (FALLS, RISES):
            one_way = ~enters[np.searchsorted(mine, slots)]
            turns = departures.bisected(slots[one_way], at[one_way], gauge.level)
            self._clock_change(gauge, tree.gauge, *turns)
            slots, at = slots[~one_way], at[~one_way]
        index, levels = departures.levels(slots, at, gauge.level)
        self._clock_change(gauge, tree.gauge, slots[index], at[index], levels)

    def _mark_pairs(self, tree: Tree, slots: Array, at: Array) -> None:
        if len(slots):
            marks = np.ones((1, len(slots)), np.bool_)
            names = (tree.rule.name,)
            self.delta.changes.append(RawChange(-1, names, slots, marks, marks, at, True))

    def _with_boundaries(self, tree: Tree, slots: Array, at: Array) -> tuple[Array, Array]:
        if self.scope.slots is not None and tree.steps:
            # A look-ahead passes every midnight up to a century: all at once, not one by one.
            first = starts_of(slots)
            more = [unit_starts(tree.steps, int(at[i]), self.now) for i in first]
            sizes = [len(instants) for instants in more]
            slots, at = distinct_pairs(
                np.concatenate([slots, np.repeat(slots[first], sizes)]), np.concatenate([at, *more])
            )
        bound_slots, bound_at = slots, at
        while len(bound_slots):
            nxt = next_boundary(tree.rule.root, self.moments.at(bound_slots, bound_at), bound_at)
            limit = following(slots, at, bound_slots, bound_at, self.now + 1)
            add = np.flatnonzero(nxt < limit)
            bound_slots, bound_at = bound_slots[add], nxt[add]
            if len(add):
                slots, at = distinct_pairs(
                    np.concatenate([slots, bound_slots]), np.concatenate([at, bound_at])
                )
        return slots, at

    # -- computed attributes -----------------------------------------------------------------

    def _marks(self) -> Iterable[list[tuple[tuple[str, ...], Track]]]:
        """The computed attributes that are one aggregate, by stream: their names and its track."""
        by_stream: dict[int, list[tuple[tuple[str, ...], Track]]] = {}
        for aggregate, names in self.book.marks.items():
            track = self.moments.tracks.get(aggregate)
            if track is not None:
                by_stream.setdefault(self.book.place[aggregate][0], []).append(
                    (tuple(names), track)
                )
        return by_stream.values()

    def _mark(self, entries: Sequence[tuple[tuple[str, ...], Track]]) -> None:
        """Marks of computed attributes that are one aggregate, of one stream."""
        every = tuple(name for group, _ in entries for name in group)
        rows = _per_name([(names, t.changed) for names, t in entries])
        self._mark_rows(every, entries[0][1].slots, np.array(rows))
        clock = np.array(_per_name([(names, t.clock_changed) for names, t in entries]))
        track = entries[0][1]
        some = np.flatnonzero(clock.any(axis=0)) if clock.size else ()
        if len(some):
            self.delta.changes.append(
                RawChange(
                    -1, every, track.clock_slots[some], clock[:, some], clock[:, some],
                    track.clock_at[some], True,
                )
            )  # fmt: skip

    def _mark_rows(self, names: tuple[str, ...], slots: Array, marks: Array) -> None:
        some = np.flatnonzero(marks.any(axis=0)) if marks.size else ()
        if len(some):
            marks = marks[:, some]
            self.delta.changes.append(RawChange(-1, names, slots[some], marks, marks, None, False))


def _per_name(groups: list[tuple[tuple[str, ...], Callable[[], Array]]]) -> list[Array]:
    """Marks of each group's aggregate, for each of its names."""
    return [marks for names, of in groups for marks in [of()] * len(names)]
