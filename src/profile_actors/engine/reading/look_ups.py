"""Look-ups: what rules say of some profiles at an instant, and until when.

Theory: a look-up folds its own profiles ahead: the same step as an entry, for their slots, over
what the delay lines hold for them, up to a hundred years on and never published. The virtual rows
up to the asked instant give the answer there; the first one after it at which a rule's value
differs is its ``valid_until``. So an answer is exact at every instant, also when the clock's own
work is still queued. Answers are matrices, one row per rule and one column per profile.

Limits: a rule of an attribute that reads ``today`` and never changes costs a look at every day
ahead; rescanned rules are evaluated one profile at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from profile_actors.columnar.state_columns import UNSET
from profile_actors.columnar.vectors import FOREVER, Array, Vector
from profile_actors.engine.fold.fold import Fold
from profile_actors.engine.fold.state import State
from profile_actors.engine.log.ports import Log
from profile_actors.engine.membership.gauges import IN
from profile_actors.engine.membership.rulebook import Rescanned
from profile_actors.engine.reading.answers import Profile
from profile_actors.engine.reading.fields import EVERYTHING, Fields
from profile_actors.engine.reading.look_ahead import Turns, look_ahead
from profile_actors.engine.reading.profile_columns import (
    EXITED,
    PENDING,
    REALIZED,
    ProfileColumns,
    made,
)
from profile_actors.engine.reading.rule_sheets import Sheet, sheet_of
from profile_actors.engine.refold.dossiers import Dossiers
from profile_actors.rules.evaluation.frames import Frame
from profile_actors.rules.evaluation.planned_values import plain_values, value_in
from profile_actors.rules.evaluation.scalars import Leaf
from profile_actors.rules.reference.validity import evaluate_with_validity
from profile_actors.rules.semantics.calendar import MAX_MS, shift
from profile_actors.rules.tree.nodes import Node
from profile_actors.rules.tree.plan import AggregateLeaf, AttributeLeaf, Key

NEAR_MS = 400 * 86_400_000
"""How far is looked ahead first: most rules of time change within a year and its edges."""


KEPT_SHEETS = 64
"""Sets of asked rules whose sheets are kept; the one asked longest ago is forgotten."""


@dataclass(slots=True)
class Found:
    """What the sheet's rules say of n profiles at an instant.

    inside, last, until: [segments, n]; last is below UNSET where a profile has never been in,
    until FOREVER where nothing changes. values: by computed attribute, a Vector or n plain values;
    until_value: int64[attributes, n]. failed: rules without an answer for these profiles, and why;
    from_row: of those that have one up to some profile, that profile's number.
    """

    sheet: Sheet
    slots: Array
    instant: int
    inside: Array
    last: Array
    until: Array
    values: list[Vector | list[Any]]
    until_value: Array
    failed: dict[Key, str]
    from_row: dict[Key, int] = field(default_factory=dict)


class LookUps:
    """Profiles of one state. The caller holds the partition's lock."""

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
        """What rules say of these ascending slots, in parts: slots whose share of the clock's work
        under way is done, and others, stand at different instants."""
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
            known = sheet_of(state.book, state.catalogue, fields.segments, fields.computed)
            while len(self._sheets) >= KEPT_SHEETS:
                del self._sheets[next(iter(self._sheets))]
        self._sheets[fields] = known
        return known

    def _since(self, sheet: Sheet, slots: Array, started: int, instant: int) -> Found:
        """What rules say at ``instant`` of slots whose state stands at ``started``."""
        # valid_until is looked for up to a century ahead (RULES section 6), first a little way.
        until = shift(instant, 1, "century")
        until = MAX_MS if until is None else until
        near = min(until, instant + NEAR_MS) if sheet.timed else until
        fold = look_ahead(sheet, slots, started, near, instant)
        turns = Turns(sheet, fold, slots, instant)
        if near < until and not turns.are_complete(fold):
            fold = look_ahead(sheet, slots, started, until, instant)
            turns = Turns(sheet, fold, slots, instant)
        inside, last = sheet.inside(slots), sheet.last(slots)
        for segment, row, when, is_in in turns.moved:
            inside[segment, row], last[segment, row] = is_in, when
        values = self._values(sheet, fold, slots, instant)
        failed = {**self._state.book.pending, **fold.pending}  # the writer may have added some
        failed = {key: why for key, why in failed.items() if key in sheet.row_of}
        found = Found(
            sheet, slots, instant, inside, last, turns.until, values, turns.until_value, failed
        )
        for key in failed:
            if key[0] == "computed":
                found.values[sheet.row_of[key]] = [None] * len(slots)
        if sheet.book.rescans:
            self._rescan(found)
        return found

    def _values(
        self, sheet: Sheet, fold: Fold, slots: Array, instant: int
    ) -> list[Vector | list[Any]]:
        """The computed attributes at the instant. One with too much to compare for these profiles
        has no answer for them."""
        times = np.full(len(slots), instant)
        leaf = fold.moments.at(slots, times)
        frame = Frame(leaf, times, len(slots))
        out: list[Vector | list[Any]] = []
        for rule in sheet.rules:
            found: Vector | list[Any] = []
            if rule.key not in fold.pending:
                try:
                    found = _stored(leaf, rule.root) or value_in(frame, rule.root)
                except Exception as error:
                    fold.pending[rule.key] = f"at {instant} ms: {error!r}"
                    frame = Frame(leaf, times, len(slots))  # without halves of an evaluation
            out.append(found)
        return [*out, *([None] * len(slots) for _ in range(len(sheet.computed) - len(out)))]

    # -- rescanned rules --------------------------------------------------------------------------

    def _rescan(self, found: Found) -> None:
        """What the rescanned rules say, profile by profile. One that fails has no answer from that
        profile on."""
        sheet, failed = found.sheet, found.failed
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
            found.until_value[number, row] = ends
            return
        found.inside[number, row] = bool(value)
        found.until[number, row] = ends
        if at != self._state.now or bool(value) != (rule.level[slot] == IN):
            # Moved by the clock since, or by an entry whose rescans are queued.
            found.last[number, row] = at

    def _asked(
        self, rule: Rescanned, slot: int, instant: int
    ) -> tuple[int, Any, int | None] | None:
        """(since when at the earliest, value, until when) of a rescanned rule at the instant, by
        the reference evaluator: also when work is queued. None if that raises."""
        state = self._state
        record, events = self._looked_up.of(slot, state.position - 1)
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
        if fields.identities:
            namespaces, ids = directory.identities(directory.ident_of[found.slots])
        values = [
            column if isinstance(column, list) else plain_values(column, rule.root.type)
            for column, rule in _ruled(found)
        ]
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
            values,
            np.ascontiguousarray(found.until_value.T),
            refused,
        )


def _stored(leaf: Leaf, root: Node) -> Vector | None:
    """The value of a rule that is one stored column, without a frame to evaluate it in."""
    if isinstance(root, AggregateLeaf | AttributeLeaf):
        found = leaf(root)
        if isinstance(found, Vector) and found.values.dtype != object:
            return found
    return None


def _ruled(found: Found) -> Iterator[tuple[Vector | list[Any], Any]]:
    """Each computed attribute's column with its rule; that of a rescanned one is not looked at."""
    rules = found.sheet.rules
    for number, column in enumerate(found.values):
        yield column, rules[min(number, len(rules) - 1)] if rules else None


def _memberships(found: Found) -> tuple[Array, Array, Array, Array, Array]:
    """(ends, segment, status, last, until) of all memberships, profile by profile."""
    is_silent = np.zeros(found.inside.shape, np.bool_)
    for key in found.failed:
        if key[0] == "segment":
            is_silent[found.sheet.row_of[key], found.from_row.get(key, 0) :] = True
    shown = (found.last >= UNSET) | is_silent
    row, segment = np.nonzero(shown.T)
    place = segment, row
    silent = is_silent[place]
    status = np.where(found.inside[place], np.uint8(REALIZED), np.uint8(EXITED))
    status[silent] = PENDING
    last = np.where(silent, FOREVER, found.last[place])
    until = np.where(silent, FOREVER, found.until[place])
    ends = np.cumsum(np.count_nonzero(shown, axis=0))
    return ends, segment, status, last, until
