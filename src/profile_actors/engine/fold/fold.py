"""The fold: one step of the whole partition, from rows and clock to a delta beside the state.

Theory: ``Fold`` moves every gauge and computed attribute of a rulebook from one instant to a later
one, in this order, since each reads what stands before it::

    tracks of operators -> ladders -> rules that are formulas over their levels
                        -> other trees
                        -> marks of computed attributes that are one aggregate

It reads state and writes none; ``Delta.publish`` does, under the partition's lock. Entries, clock
ticks, back-fill and look-ahead are all this one step: they differ in who has rows and in what is
due. What raises is undone, and its rules, and no others, are left without an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import numpy as np

from profile_actors.columnar.vectors import Array
from profile_actors.engine.fold.delta import Delta
from profile_actors.engine.fold.findings import Findings
from profile_actors.engine.fold.ladder_step import LadderStep
from profile_actors.engine.fold.moments import Moments, Tracks
from profile_actors.engine.fold.tree_step import TreeStep
from profile_actors.engine.histories.kept_events import HistoryDelta
from profile_actors.engine.membership.gauges import Ladder, flags
from profile_actors.engine.membership.ladder_groups import LadderGroup, group_of
from profile_actors.engine.membership.level_formulas import PairLevels, RowLevels
from profile_actors.engine.membership.reach import Readers, in_order
from profile_actors.engine.membership.rulebook import Rulebook, Tree
from profile_actors.engine.membership.timers import Timer
from profile_actors.engine.operators.aggregates import Track
from profile_actors.engine.operators.attribute_columns import AttributeTrack
from profile_actors.engine.operators.contributions import StepScope
from profile_actors.engine.operators.crews import Crew, CrewDelta
from profile_actors.rules.tree.plan import EventFilter, Key

T = TypeVar("T")
S = TypeVar("S")

NOBODY = np.zeros(0, np.intp)

Mark = tuple[str, Track]
"""A computed attribute that is one aggregate, and its track."""


class Fold:
    """One step over a rulebook. new_slots: int64[k], profiles that begin in this step, ascending.

    delta: what the operators did in it, and which of them failed; the rest is added here.
    """

    def __init__(
        self,
        book: Rulebook,
        scope: StepScope,
        delta: Delta,
        tracks: Tracks,
        attributes: dict[str, AttributeTrack],
        histories: dict[EventFilter, HistoryDelta],
        new_slots: Array,
    ) -> None:
        self.book = book
        self.scope = scope
        self.now = scope.now
        self.new_slots = new_slots.astype(np.intp)
        self.delta = delta
        self.tracks = tracks
        self.moments = Moments(book, tracks, attributes, histories)
        self.findings = Findings(book, delta)
        parts = (book, scope, self.moments, self.findings, self.new_slots)
        self.ladders, self.trees = LadderStep(*parts), TreeStep(*parts)
        # The rulebook's own are as they were until the delta is published.
        self.pending: dict[Key, str] = dict(book.pending)
        for part, reason in delta.broken.items():
            for key in book.readers_of(part):
                self._fail(key, reason)

    def qualify(self) -> Delta:
        """Memberships and computed attributes of the step."""
        book, reach = self.book, self.book.reach
        together = self._climb_together()
        for stream in self._climbing():
            if stream in together:
                continue
            rungs = [rungs for rungs in reach.climbs[stream] if self._has_readers(rungs.ladder)]
            self._at_once(
                rungs,
                partial(self.ladders.climb_stream, stream, self.tracks.of(stream)),
                lambda of: self._ladder(of.ladder).readers,
            )
        for number in self._reached(reach.ladders, lambda number: self._ladder(number).timer):
            if self._has_readers(number):
                ladder = self._ladder(number)
                with self._pending_if_it_fails(ladder.readers):
                    self.ladders.climb(ladder, number)
        changed = self.findings.level_changes
        turning = reach.formulas.every
        if not len(self.new_slots):
            turning = in_order(reach.formulas.reached((*changed.rows, *changed.pairs)))
        formulas = [book.trees[n] for n in turning if book.trees[n].rule.key not in self.pending]
        if formulas:
            self._at_once(formulas, self._turn, lambda tree: [tree.rule.key])
        for number in self._reached(reach.trees, lambda number: book.trees[number].timer):
            tree = book.trees[number]
            if tree.rule.key not in self.pending:
                with self._pending_if_it_fails([tree.rule.key]):
                    self.trees.grow(tree)
        together = self._mark_together()
        for stream in self.tracks.numbers():
            if stream in together or stream not in reach.marks:
                continue
            tracks = self.tracks.of(stream) or ()
            marks = [
                (mark.name, track)
                for mark in reach.marks[stream]
                if (track := tracks[mark.place]) is not None
            ]
            if marks:
                self._at_once(marks, self._mark, lambda of: [("computed", of[0])])
        return self.delta

    def _climb_together(self) -> set[int]:
        """Move the ladders of crews at once; the streams whose ladders moved so."""
        steps: list[tuple[Crew, CrewDelta | None]]
        if not len(self.new_slots):
            steps = [(step.crew, step) for step, _ in self.tracks.crews]
        else:  # profiles begin in the ladders of all of them
            stepped = {id(step.crew): step for step, _ in self.tracks.crews}
            every = {id(one.crew): one.crew for one in self.book.streams}
            steps = [
                (crew, stepped.get(number))
                for number, crew in every.items()
                if isinstance(crew, Crew)
            ]
        return self._all_at_once(steps, self.ladders.climb_crew)

    def _mark_together(self) -> set[int]:
        """The same of computed attributes."""
        steps = [(step.crew, step) for step, _ in self.tracks.crews]
        return self._all_at_once(steps, self.ladders.mark_crew)

    def _all_at_once(
        self,
        steps: Sequence[tuple[Crew, S]],
        do: Callable[[LadderGroup, Crew, S], bool],
    ) -> set[int]:
        """The members of the crews of which it was done. None where a rule has no answer, or where
        members went alone; whose fault it is that something raises shows when each goes alone."""
        done: set[int] = set()
        if self.pending:
            return done
        for crew, step in steps:
            began = self.delta.mark()
            try:
                group = group_of(self.book, crew)
                if group is None or not self.tracks.alone.keys().isdisjoint(group.streams):
                    continue
                if do(group, crew, step):
                    done.update(group.streams)
            except Exception:
                self.delta.undo(began)
        return done

    def _climbing(self) -> list[int]:
        """Streams whose ladders move: those that moved; all where profiles begin."""
        climbs = self.book.reach.climbs
        if len(self.new_slots):
            return list(climbs)
        return [stream for stream in self.tracks.numbers() if stream in climbs]

    def _reached(self, readers: Readers, timer_of: Callable[[int], Timer | None]) -> list[int]:
        """Ladders or trees that read something that moved, or whose time has come."""
        if not readers.every:
            return []
        if len(self.new_slots) or self.scope.slots is not None:
            return readers.every
        moments = self.moments
        found = readers.reached((*self.tracks.numbers(), *moments.attributes, *moments.histories))
        if not self.scope.is_held:
            for number in readers.timed:
                timer = timer_of(number)
                if timer is not None and timer.line.first <= self.now:
                    found.add(number)
                    # Also what is not valid any more is taken off the line.
                    self.delta.timers.append((timer, NOBODY, NOBODY))
        return in_order(found)

    def _ladder(self, number: int) -> Ladder:
        gauge = self.book.gauges[number]
        assert isinstance(gauge, Ladder)
        return gauge

    def _has_readers(self, number: int) -> bool:
        """Whether some rule that reads a ladder has an answer."""
        return not self.pending or any(
            key not in self.pending for key in self._ladder(number).readers
        )

    @contextmanager
    def _pending_if_it_fails(self, rules: Iterable[Key]) -> Iterator[None]:
        """What raises leaves nothing behind, and its rules, and no others, without an answer."""
        began = self.delta.mark()
        try:
            yield
        except Exception as error:
            self.delta.undo(began)
            self.trees.forget_frames()
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

    def _turn(self, trees: Sequence[Tree]) -> None:
        """Turn the rules over levels whose ladders moved."""
        gauges, findings = self.book.gauges, self.findings
        changed = findings.level_changes
        if changed.rows or len(self.new_slots):
            rows = RowLevels(gauges, changed, self.new_slots)
            for tree in trees:
                assert tree.formula is not None
                slots, truths = rows.turned(tree.formula, tree.ladders)
                if not len(slots):
                    continue
                if slots[-1] < rows.first_new:
                    findings.flip(tree.gauge, slots, truths, None)
                else:
                    findings.at_now([tree.gauge], slots, [flags(truths)])
        if changed.pairs:
            pairs = PairLevels(gauges, changed)
            for tree in trees:
                assert tree.formula is not None
                slots, at, truths = pairs.turned(tree.formula, tree.ladders)
                if len(slots):
                    findings.flip(tree.gauge, slots, truths, at)

    def _mark(self, marks: Sequence[Mark]) -> None:
        """Marks of the computed attributes of one stream, whose tracks have the same slots."""
        names, track = tuple([name for name, _ in marks]), marks[0][1]
        if len(track.slots):
            changed = np.array([of.changed() for _, of in marks])
            self.findings.mark(names, track.slots, changed, None)
        if len(track.clock_slots):
            changed = np.array([of.clock_changed() for _, of in marks])
            self.findings.mark(names, track.clock_slots, changed, track.clock_at)
