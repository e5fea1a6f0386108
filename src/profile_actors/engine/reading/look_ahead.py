"""Look-aheads: the step of some slots alone into the future, never published."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import numpy as np

from profile_actors.columnar.state_columns import UNSET
from profile_actors.columnar.vectors import FOREVER, Array
from profile_actors.engine.fold.delta import MARKS, Delta
from profile_actors.engine.fold.fold import Fold
from profile_actors.engine.fold.moments import Tracks
from profile_actors.engine.membership.rulebook import Rulebook
from profile_actors.engine.membership.timers import Timer
from profile_actors.engine.operators.aggregates import Track
from profile_actors.engine.operators.contributions import StepScope
from profile_actors.engine.operators.crews import FEW_MEMBERS, Crew, CrewDelta, is_fit
from profile_actors.engine.operators.delay_lines import count_of
from profile_actors.engine.operators.event_streams import AheadRows
from profile_actors.engine.reading.rule_sheets import Sheet
from profile_actors.rules.semantics.calendar import MAX_MS, shift

NEAR_MS = 400 * 86_400_000
"""How far is looked ahead first: most rules of time change within a year and its edges."""


KEPT_ROWS = 16
"""So many rows of a delay line cost as much as a kept event, of rules without a trend at least."""


TOGETHER_ROWS = 4_096
"""With more rows in their delay lines streams of one shape go ahead one by one: to sort the rows of
all of them costs more than the calls that it saves."""


class TooManyRows(Exception):
    """Profiles have more in the delay lines than may be looked at. found: where, by stream."""

    def __init__(self, found: dict[int, AheadRows]) -> None:
        super().__init__()
        self.found = found


@dataclass(frozen=True, slots=True)
class Ahead:
    """What lies ahead of some slots. slots: as the sheet's columns have them."""

    sheet: Sheet
    slots: Array
    fold: Fold
    turns: Turns


def ahead_of(
    sheet: Sheet, slots: Array, started: int, instant: int, most_rows: int = FOREVER
) -> Ahead:
    """How the sheet's rules go on with these slots after ``instant``, from ``started``, where their
    state stands. Raises TooManyRows, if they have more, before anything is folded."""
    # valid_until is looked for up to a century ahead (RULES section 6), first a little way.
    until = shift(instant, 1, "century")
    until = MAX_MS if until is None else until
    near = min(until, instant + NEAR_MS) if sheet.timed else until
    if most_rows < FOREVER:
        read = {events for tree in sheet.book.trees for events in tree.histories}
        kept = sum(int(sheet.book.histories[of].gather(slots).sizes.sum()) for of in read)
        most_rows -= KEPT_ROWS * kept
    fold = look_ahead(sheet, slots, started, near, instant, most_rows)
    turns = Turns(sheet, fold, slots, instant)
    if near < until and not turns.are_complete(fold):
        fold = look_ahead(sheet, slots, started, until, instant, most_rows)
        turns = Turns(sheet, fold, slots, instant)
    return Ahead(sheet, slots, fold, turns)


def look_ahead(
    sheet: Sheet,
    slots: Array,
    started: int,
    until: int,
    instant: int,
    most_rows: int = FOREVER,
) -> Fold:
    """The step of these slots and of the sheet's rules alone from ``started``, where their state
    stands, to ``until``; not published. Raises TooManyRows.

    Beyond each rule's first change after the asked instant it need not be complete.
    """
    book = sheet.book
    found = {}
    for index in sheet.streams:
        stream = book.streams[index]
        if stream.enter.first <= until or stream.leave.first <= until:
            found[index] = stream.rows_ahead(slots, until)
    if most_rows < FOREVER and most_rows < sum(map(count_of, chain(*found.values()))):
        nothing: AheadRows = [], []
        raise TooManyRows(dict.fromkeys(sheet.streams, nothing) | found)
    together = _together(sheet.book, found, until, started)
    tracks: dict[int, list[Track | None]] = {}
    delta = Delta(until)
    for index, rows in found.items():
        stream = book.streams[index]
        if stream.is_silent or not (rows[0] or rows[1]):
            continue
        try:
            ahead = stream.look_ahead(rows, until, started)
        except Exception as error:
            errors = dict.fromkeys(range(len(stream.operators)), error)
        else:
            if ahead is None:
                continue
            tracks[index], errors = ahead.tracks, ahead.failed
        for place, raised in errors.items():
            delta.broken[stream.operators[place].aggregate] = repr(raised)
    scope = StepScope(until, started, slots=slots, enough=instant)
    fold = Fold(book, scope, delta, Tracks(tracks, together), {}, {}, np.zeros(0, np.int64))
    fold.qualify()
    return fold


def _together(
    book: Rulebook, found: dict[int, AheadRows], until: int, started: int
) -> list[tuple[CrewDelta, list[int]]]:
    """The look-aheads of streams of one shape, each with the streams' numbers; these are taken out
    of ``found``."""
    alike: dict[int, list[int]] = {}
    for index, rows in found.items():
        if rows[0] or rows[1]:
            stream = book.streams[index]
            if stream.crew is not None and is_fit(stream):
                alike.setdefault(id(stream.crew), []).append(index)
    out = []
    for mine in alike.values():
        total = sum(map(count_of, chain(*(found[index] for index in mine))))
        if len(mine) < FEW_MEMBERS or total > TOGETHER_ROWS:
            continue
        mine.sort(key=lambda index: book.streams[index].number)
        members = [book.streams[index] for index in mine]
        crew = members[0].crew
        assert isinstance(crew, Crew)
        try:
            step = crew.ahead(members, [found[index] for index in mine], until, started)
        except Exception:  # whose fault it is shows when each goes alone
            continue
        for index in mine:
            del found[index]
        if step is not None:
            out.append((step, mine))
    return out


class Turns:
    """What a look-ahead found, by profile and rule of a sheet, as of an instant.

    moved: (profile, segment) indexes of changes up to the instant, with when and what then, of each
    pair the last one at the end. until, until_value: int64[n, segments], int64[n, attributes]: the
    first change after the instant, FOREVER where none is known.
    """

    def __init__(self, sheet: Sheet, fold: Fold, slots: Array, instant: int) -> None:
        self._sheet = sheet
        self._slots = slots
        self._instant = instant
        self.until = np.full((len(slots), len(sheet.segments)), FOREVER)
        self.until_value = np.full((len(slots), len(sheet.computed)), FOREVER)
        self.moved: list[tuple[Array, Array, Array, Array]] = []
        for change in fold.delta.changes:
            for one in change.one_by_one():
                assert one.at is not None, "a look-ahead has no rows"
                rows = slots.searchsorted(one.slots)
                if one.gauge == MARKS:
                    self._mark(one.names, one.new, rows, one.at)
                else:
                    self._turn(one.gauge, one.old, one.new, rows, one.at)

    def _turn(self, gauge: int, old: Array, new: Array, rows: Array, at: Array) -> None:
        """Level changes of a gauge, ascending in time for each profile."""
        reader = self._sheet.readers.get(gauge)
        if reader is None:
            return
        is_in = reader.truth[:, new]
        column, index = (reader.truth[:, old] != is_in).nonzero()
        segment, row, when = reader.columns[column], rows[index], at[index]
        past = when <= self._instant
        if past.any():
            self.moved.append((row[past], segment[past], when[past], is_in[column, index][past]))
        # Of equal pairs the last one written stays: so the first change is written last. (Not by a
        # view of the arrays backwards: NumPy goes through those forwards.)
        later = (~past).nonzero()[0][::-1]
        self.until[row[later], segment[later]] = when[later]

    def _mark(self, names: tuple[str, ...], marks: Array, rows: Array, at: Array) -> None:
        """Marks of computed attributes, ascending in time for each profile."""
        row_of = self._sheet.row_of
        place = np.array([row_of.get(("computed", name), -1) for name in names], np.intp)
        name, index = (marks & (place >= 0)[:, None] & (at > self._instant)).nonzero()
        name, index = name[::-1], index[::-1]
        self.until_value[rows[index], place[name]] = at[index]

    def are_complete(self, fold: Fold) -> bool:
        """Whether each timed rule changes for each profile after the instant, as far as was looked.

        Then nothing farther ahead is asked for: other rules have all they hold in the delay lines
        and in the timers of ages, but those are cut at the same place; so they must have nothing
        left to come.
        """
        sheet = self._sheet
        for rule in sheet.timed:
            if rule.key not in fold.pending:
                table = self.until if rule.kind == "segment" else self.until_value
                if (table[:, sheet.row_of[rule.key]] == FOREVER).any():
                    return False
        streams = (sheet.book.streams[index] for index in sheet.streams)
        if any(stream.upcoming(self._slots, fold.now) for stream in streams):
            return False
        return not any(self._climbs_on(timer, fold) for timer in sheet.age_timers)

    def _climbs_on(self, timer: Timer, fold: Fold) -> bool:
        """Whether some profile's age reaches another limit later than was looked."""
        due = timer.due[self._slots] + UNSET
        due[due == UNSET] = FOREVER
        for moved, slots, upcoming in fold.delta.timers:
            if moved is timer:
                due[np.searchsorted(self._slots, slots)] = upcoming
        return bool(((due > fold.now) & (due < FOREVER)).any())
