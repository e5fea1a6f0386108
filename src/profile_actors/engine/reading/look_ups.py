"""Look-ups: what rules say of some profiles at an instant, and until when.

Theory: a look-up folds its own profiles ahead: the same step as an entry, for their slots, over
what the delay lines hold for them, up to a hundred years on and never published. The virtual rows
up to the asked instant give the answer there; the first one after it at which a rule's value
differs is its ``valid_until``. So an answer is exact at every instant, also when the clock's own
work is still queued. Answers are matrices, one row per profile and one column per rule. A profile
with much in its windows takes long; it is folded from an excerpt of the state, without the lock.

Limits: a rule of an attribute that reads ``today`` and never changes costs a look at every day
ahead; rescanned rules are evaluated one profile at a time, and where some are asked, all is done
under the lock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from profile_actors.columnar.state_columns import UNSET
from profile_actors.columnar.vectors import FOREVER, Array, Vector
from profile_actors.engine.fold.fold import Fold
from profile_actors.engine.fold.state import State
from profile_actors.engine.log.ports import Log
from profile_actors.engine.membership.excerpts import Excerpt
from profile_actors.engine.membership.gauges import IN
from profile_actors.engine.membership.rulebook import Rescanned
from profile_actors.engine.operators.alike import Alike
from profile_actors.engine.reading.answers import Profile
from profile_actors.engine.reading.fields import EVERYTHING, Fields
from profile_actors.engine.reading.look_ahead import Ahead, TooManyRows, ahead_of
from profile_actors.engine.reading.profile_columns import (
    PENDING,
    Numbers,
    ProfileColumns,
    made,
)
from profile_actors.engine.reading.rule_sheets import Sheet, sheet_of, sheet_over
from profile_actors.engine.refold.dossiers import Dossiers
from profile_actors.rules.catalogue.merge_views import is_single
from profile_actors.rules.evaluation.frames import Frame
from profile_actors.rules.evaluation.planned_values import plain_values, value_in
from profile_actors.rules.evaluation.scalars import Leaf
from profile_actors.rules.reference.validity import evaluate_with_validity
from profile_actors.rules.tree.nodes import Node
from profile_actors.rules.tree.plan import Aggregate, AggregateLeaf, AttributeLeaf, Key

ROWS_UNDER_LOCK = 1 << 15
"""Rows of delay lines up to which a look-up is folded at once: some 15 ms, for which writer and
readers wait. What has more is folded from an excerpt, beside them."""


KEPT_SHEETS = 64
"""Sets of asked rules whose sheets are kept; the one asked longest ago is forgotten."""


@dataclass(slots=True)
class Found:
    """What the sheet's rules say of n profiles at an instant.

    inside, last, until: [n, segments]; last is below UNSET where a profile has never been in,
    until FOREVER where nothing changes. stored: values of computed attributes that are one
    aggregate; values: those of the others, a Vector or n plain values, by their place.
    until_value: int64[n, attributes]. failed: rules without an answer for these profiles, and why;
    from_row: of those that have one up to some profile, that profile's number.
    """

    sheet: Sheet
    slots: Array
    instant: int
    inside: Array
    last: Array
    until: Array = field(init=False)
    until_value: Array = field(init=False)
    failed: dict[Key, str] = field(default_factory=dict)
    stored: list[Numbers] = field(default_factory=list)
    values: dict[int, Vector | list[Any]] = field(default_factory=dict)
    from_row: dict[Key, int] = field(default_factory=dict)

    def take(self, ahead: Ahead) -> None:
        """Put in what lies ahead of these slots, up to the instant and after."""
        turns, fold = ahead.turns, ahead.fold
        self.until, self.until_value = turns.until, turns.until_value
        for row, segment, when, is_in in turns.moved:
            self.inside[row, segment], self.last[row, segment] = is_in, when
        self._evaluate(ahead)
        failed = {**ahead.sheet.book.pending, **fold.pending}  # the writer may have added some
        self.failed = {key: why for key, why in failed.items() if key in self.sheet.row_of}

    def _evaluate(self, ahead: Ahead) -> None:
        """The planned computed attributes at the instant."""
        sheet, slots, fold, instant = ahead.sheet, ahead.slots, ahead.fold, self.instant
        times = np.full(len(slots), instant)
        leaf = fold.moments.at(slots, times)
        moved = _moved(fold, instant)
        one_by_one = list(sheet.evaluated)
        for group in sheet.stored:
            try:
                self.stored.append(_numbers(group, slots, leaf, moved))
            except Exception:  # whose fault it is comes out below
                one_by_one += group.places
        frame = Frame(leaf, times, len(slots))
        for place in one_by_one:
            rule = sheet.rules[place]
            if rule.key in fold.pending:
                continue
            try:
                self.values[place] = _stored(leaf, rule.root) or value_in(frame, rule.root)
            except Exception as error:  # too much to compare for these profiles
                fold.pending[rule.key] = f"at {instant} ms: {error!r}"
                frame = Frame(leaf, times, len(slots))  # without halves of an evaluation


class LookUps:
    """Profiles of one state. The caller holds the partition's lock, but for what is said to go
    without."""

    def __init__(self, state: State, log: Log) -> None:
        self._state = state
        self._looked_up = Dossiers(state, log)  # the writer has his own, without a lock
        self._sheets: dict[Fields, Sheet] = {}

    def of(self, slots: Array, instant: int, fields: Fields = EVERYTHING) -> dict[int, Profile]:
        """Profiles by slot as of an instant, without what records say. Caller holds the lock."""
        out: dict[int, Profile] = {}
        for found in self.found(slots.astype(np.intp), instant, fields):
            modified = self._state.modified[found.slots] + UNSET
            columns = self.columns(found, modified, fields)
            out |= zip(found.slots.tolist(), made(columns), strict=True)
        return out

    def found(self, slots: Array, instant: int, fields: Fields = EVERYTHING) -> list[Found]:
        """What rules say of these ascending slots, in parts."""
        return [part() for part in self.begun(slots, instant, fields)]

    def begun(
        self, slots: Array, instant: int, fields: Fields = EVERYTHING
    ) -> list[Callable[[], Found]]:
        """The same, each part of which is to be called once, also without the lock: what costs
        much is done then. Parts: slots whose share of the clock's work under way is done, and
        others, stand at different instants."""
        sheet = self.sheet(fields)
        drain = self._state.drain
        if drain is None:
            return [self._since(sheet, slots, self._state.now, instant)]
        owed = drain.owed(slots)
        parts = ((slots[owed], drain.at - 1), (slots[~owed], drain.at))
        return [self._since(sheet, part, at, instant) for part, at in parts if len(part)]

    def sheet(self, fields: Fields) -> Sheet:
        """The sheet of the asked rules, made when first asked for."""
        state = self._state
        known = self._sheets.pop(fields, None)
        if known is None or known.whole is not state.book or known.catalogue is not state.catalogue:
            single = is_single(state.catalogue, fields.policy)
            known = sheet_of(state.book, state.catalogue, fields.segments, fields.computed, single)
            while len(self._sheets) >= KEPT_SHEETS:
                del self._sheets[next(iter(self._sheets))]
        self._sheets[fields] = known
        return known

    def _since(self, sheet: Sheet, slots: Array, started: int, instant: int) -> Callable[[], Found]:
        """What rules say at ``instant`` of slots whose state stands at ``started``."""
        found = Found(sheet, slots, instant, sheet.inside(slots), sheet.last(slots))
        rescans = sheet.book.rescans
        try:
            most = FOREVER if rescans else ROWS_UNDER_LOCK
            ahead = ahead_of(sheet, slots, started, instant, most)
        except TooManyRows as many:
            excerpt = Excerpt(sheet.book, many.found, slots)

            def made() -> Found:
                part, places = sheet_over(sheet, excerpt.rulebook()), np.arange(len(slots))
                found.take(ahead_of(part, places, started, instant))
                return found

            return made
        found.take(ahead)
        if rescans:
            self._rescan(found)
        return lambda: found

    # -- rescanned rules --------------------------------------------------------------------------

    def _rescan(self, found: Found) -> None:
        """What the rescanned rules say, profile by profile. One that fails has no answer from that
        profile on."""
        sheet, failed = found.sheet, found.failed
        for place in range(len(sheet.rules), len(sheet.computed)):
            found.values[place] = [None] * len(found.slots)
        for row, slot in enumerate(found.slots.tolist()):
            for again in sheet.book.rescans:
                key = again.rule.key
                if key in failed:
                    continue
                asked = self._asked(again, slot, found.instant)
                if asked is None:
                    failed[key] = f"its evaluation failed at {found.instant} ms"
                    found.from_row[key] = row
                else:
                    self._answer(found, again, row, slot, asked)

    def _answer(
        self,
        found: Found,
        rule: Rescanned,
        row: int,
        slot: int,
        asked: tuple[int, Any, int | None],
    ) -> None:
        """Put in what a rescanned rule said when it was asked."""
        at, value, until = asked
        number = found.sheet.row_of[rule.rule.key]
        ends = FOREVER if until is None else until
        if rule.gauge < 0:
            values = found.values[number]
            assert isinstance(values, list)
            values[row] = value
            found.until_value[row, number] = ends
            return
        found.inside[row, number] = bool(value)
        found.until[row, number] = ends
        if at != self._state.now or bool(value) != (rule.level[slot] == IN):
            # Moved by the clock since, or by an entry whose rescans are queued.
            found.last[row, number] = at

    def _asked(
        self, rule: Rescanned, slot: int, instant: int
    ) -> tuple[int, Any, int | None] | None:
        """(since when at the earliest, value, until when) of a rescanned rule at the instant, by
        the reference evaluator: also when work is queued. None if that raises."""
        state = self._state
        record, events = self._looked_up.of(
            slot, state.position - 1, rule.rule.view, rule.rule.joins
        )
        computed, segments = state.book.values_of("computed"), state.book.values_of("segment")
        # Since when is asked of memberships only; a value may change with every millisecond.
        at, value = state.now if rule.gauge >= 0 else instant, None
        until: int | None = at
        while until is not None and until <= instant:
            at = until
            try:
                value, until = evaluate_with_validity(
                    rule.rule.tree, record, events, at, computed, segments,
                    condition=rule.gauge >= 0, in_order=True,
                )  # fmt: skip
            except Exception:  # its next rescan will say why
                return None
        return at, value, until

    # -- columns to be sent -----------------------------------------------------------------------

    def columns(self, found: Found, modified: Array, fields: Fields = EVERYTHING) -> ProfileColumns:
        """The answer as it travels, without what records say. modified: int64[n] ms. Any thread,
        without the lock."""
        sheet, directory = found.sheet, self._state.directory
        ends, segment, status, last, until = _memberships(found)
        namespaces: list[str] = []
        ids: list[str] = []
        more: dict[int, list[tuple[str, str]]] = {}
        if fields.identities:
            idents = directory.ident_of[found.slots]
            namespaces, ids = directory.identities(idents)
            more = self._further(idents)
        plain = {
            place: of if isinstance(of, list) else plain_values(of, sheet.rules[place].root.type)
            for place, of in found.values.items()
        }
        refused = [
            (name, why, found.from_row.get((kind, name), 0))
            for (kind, name), why in found.failed.items()
            if kind == "computed"
        ]
        return ProfileColumns(
            found.instant,
            namespaces,
            ids,
            modified,
            None,
            sheet.segments,
            sheet.versions,
            ends,
            segment,
            status,
            last,
            until,
            sheet.computed,
            found.stored,
            plain,
            found.until_value,
            refused,
            more,
        )

    def _further(self, idents: Array) -> dict[int, list[tuple[str, str]]]:
        """The identities of books beside their smallest."""
        homes = self._state.homes
        if not homes.books:
            return {}
        books = [(row, homes.book_of(ident)) for row, ident in enumerate(idents.tolist())]
        return {
            row: [(one.namespace, one.value) for one in book.identities[1:]]
            for row, book in books
            if book is not None and len(book.identities) > 1
        }


def _stored(leaf: Leaf, root: Node) -> Vector | None:
    """The value of a rule that is one stored column, without a frame to evaluate it in."""
    if isinstance(root, AggregateLeaf | AttributeLeaf):
        found = leaf(root)
        if isinstance(found, Vector) and found.values.dtype != object:
            return found
    return None


def _moved(fold: Fold, instant: int) -> set[Aggregate]:
    """The aggregates that the look-ahead moves up to the instant."""
    out: set[Aggregate] = set()
    numbers = list(fold.tracks.alone)
    for step, members in fold.tracks.crews:
        if (step.pairs_at <= instant).any():  # rarely: only then its members are looked at
            numbers += members
    for number in numbers:
        tracks = fold.tracks.of(number) or ()
        some = next((track for track in tracks if track is not None), None)
        if some is not None and (some.clock_at <= instant).any():  # a stream's tracks share them
            out.update(op.aggregate for op in fold.book.streams[number].operators)
    return out


def _numbers(group: Alike, slots: Array, leaf: Leaf, moved: set[Aggregate]) -> Numbers:
    """The values of a group at the instant: what is stored, or what the look-ahead says."""
    values, valid = group.read(slots)
    if moved:
        for row, operator in enumerate(group.operators):
            if operator.aggregate in moved:
                found = leaf(AggregateLeaf(operator.aggregate))
                assert isinstance(found, Vector)
                values[row] = found.values
                if found.valid is not None or valid is not None:
                    valid = np.ones(values.shape, np.bool_) if valid is None else valid
                    valid[row] = True if found.valid is None else found.valid
    return Numbers(group.places, values, None if valid is None else ~valid)


def _memberships(found: Found) -> tuple[Array, Array, Array, Array, Array]:
    """(ends, segment, status, last, until) of all memberships, profile by profile."""
    shown, status = found.last >= UNSET, found.inside.view(np.uint8)
    last, until = found.last, found.until
    for key in found.failed:
        if key[0] == "segment":
            column = found.sheet.row_of[key]
            some = slice(found.from_row.get(key, 0), None)
            shown[some, column], status[some, column] = True, PENDING
            last[some, column] = until[some, column] = FOREVER
    place = shown.ravel().nonzero()[0]
    width = max(1, shown.shape[1])
    row = place // width
    ends = row.searchsorted(np.arange(1, len(shown) + 1))
    segment = (place - row * width).astype(np.int32)
    return ends, segment, status.ravel()[place], last.ravel()[place], until.ravel()[place]
