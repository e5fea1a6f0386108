"""Look-ups: what rules say of some profiles at an instant, and until when.

Theory: a look-up folds its own profile ahead: the same step as an entry, for one slot, over what
the delay lines hold for it, up to a hundred years on and never published. The virtual rows up to
the asked instant give the answer there; the first one after it at which a rule's value differs is
its ``valid_until``. So an answer is exact at every instant, also when the clock's own work is
still queued.

Limits: a rule of an attribute that reads ``today`` and never changes costs a look at every day
ahead.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from profile_actors.columnar.state_columns import UNSET
from profile_actors.columnar.vectors import Array
from profile_actors.engine.fold.state import State
from profile_actors.engine.log.ports import Log
from profile_actors.engine.membership.gauges import IN
from profile_actors.engine.membership.rulebook import Rescanned
from profile_actors.engine.membership.stored_values import member_bits
from profile_actors.engine.reading.answers import Membership, Profile
from profile_actors.engine.reading.look_ahead import Ahead, all_change, look_ahead, sort_in
from profile_actors.engine.refold.dossiers import Dossiers
from profile_actors.rules.evaluation.planned_values import plain_values, vector_of
from profile_actors.rules.reference.validity import evaluate_with_validity
from profile_actors.rules.semantics.calendar import MAX_MS, shift
from profile_actors.rules.tree.plan import Key

NEAR_MS = 400 * 86_400_000
"""How far is looked ahead first: most rules of time change within a year and its edges."""


class LookUps:
    """Profiles of one state. The caller holds the partition's lock."""

    def __init__(self, state: State, log: Log) -> None:
        self._state = state
        self._looked_up = Dossiers(state, log)  # the writer has his own, without a lock

    def of(self, slots: Array, instant: int) -> dict[int, Profile]:
        """Profiles by slot as of an instant, without what records say. Caller holds the lock."""
        drain = self._state.drain
        if drain is None:
            return self._since(slots, self._state.now, instant)
        owed = drain.owed(slots)
        out: dict[int, Profile] = {}
        for part, started in ((slots[owed], drain.at - 1), (slots[~owed], drain.at)):
            if len(part):
                out |= self._since(part, started, instant)
        return out

    def _since(self, slots: Array, started: int, instant: int) -> dict[int, Profile]:
        """Profiles whose state stands at ``started`` as of ``instant``."""
        state, book = self._state, self._state.book
        # valid_until is looked for up to a century ahead (RULES section 6), first a little way.
        until = shift(instant, 1, "century")
        until = MAX_MS if until is None else until
        timed = [tree.rule for tree in book.trees if tree.timer is not None]
        near = min(until, instant + NEAR_MS) if timed else until
        fold = look_ahead(book, slots, started, near, instant)
        if near < until and not all_change(fold, timed, slots, instant):
            fold = look_ahead(book, slots, started, until, instant)
        ahead = {int(slot): Ahead() for slot in slots}
        for change in fold.delta.changes:
            sort_in(change, ahead, [gauge.layout for gauge in book.gauges])
        times = np.full(len(slots), instant)
        leaf = fold.moments.at(slots, times)
        values: dict[str, list[Any]] = {}
        for rule in book.plan.rules:
            if rule.kind == "computed" and rule.key not in fold.pending:
                try:
                    # One with too much to compare for these profiles has no answer for them.
                    found = vector_of(rule.root, leaf, len(slots), times)
                    values[rule.name] = plain_values(found, rule.root.type)
                except Exception as error:
                    fold.pending[rule.key] = f"at {instant} ms: {error!r}"
        failed = {**book.pending, **fold.pending}  # at last: the writer may have added some
        pending = {name: why for (kind, name), why in failed.items() if kind == "computed"}
        values |= {name: [None] * len(slots) for name in pending}
        out = {}
        for row, slot in enumerate(slots.tolist()):
            mine = ahead[slot]
            segments = self._memberships(slot, mine, instant, failed)
            computed = {name: column[row] for name, column in values.items()}
            validity = {
                name: next((at for at in mine.computed.get(name, ()) if at > instant), None)
                for name in values
            }
            for again in book.rescans:
                asked = None
                if again.rule.key not in failed:
                    asked = self._asked(again, slot, instant)
                    if asked is None:
                        failed.setdefault(again.rule.key, f"its evaluation failed at {instant} ms")
                self._rescan(again, slot, asked, segments, computed, validity)
            refused = {name: why for (kind, name), why in failed.items() if kind == "computed"}
            out[slot] = Profile(
                identities=[state.directory.identity(int(state.directory.ident_of[slot]))],
                attributes={},
                segments=segments,
                computed=computed,
                computed_valid_until=validity,
                last_modified=int(state.modified[slot]) + UNSET,
                now=instant,
                pending=refused,
            )
        return out

    def _memberships(
        self, slot: int, ahead: Ahead, instant: int, failed: Collection[Key]
    ) -> dict[str, Membership]:
        book = self._state.book
        one = np.array([slot], np.uint32)
        out, versions = {}, self._state.catalogue.segments
        rescanned = {rule.rule.name for rule in book.rescans if rule.gauge >= 0}
        for name in sorted(book.qualified.keys() - rescanned):
            inside = bool(member_bits(book, name, one)[0])
            last = book.qualified[name].of(slot)
            until = None
            for at, is_member in ahead.segments.get(name, ()):
                if at > instant:
                    until = at
                    break
                inside, last = is_member, at
            version = versions[name].version
            if ("segment", name) in failed:
                out[name] = Membership("pending", None, None, version)
            elif last is not None:
                out[name] = Membership("realized" if inside else "exited", last, until, version)
        return out

    def _rescan(
        self,
        rule: Rescanned,
        slot: int,
        asked: tuple[int, Any, int | None] | None,
        segments: dict[str, Membership],
        computed: dict[str, Any],
        validity: dict[str, int | None],
    ) -> None:
        """What a rescanned rule said when it was asked; None: it has no answer."""
        state, name = self._state, rule.rule.name
        if asked is None:
            if rule.gauge >= 0:
                version = state.catalogue.segments[name].version
                segments[name] = Membership("pending", None, None, version)
            else:
                computed[name] = validity[name] = None
            return
        at, value, until = asked
        if rule.gauge < 0:
            computed[name], validity[name] = value, until
            return
        stored = rule.level[slot] == IN
        last = rule.qualified.of(slot)
        if at != state.now or bool(value) != stored:
            last = at  # moved by the clock since, or by an entry whose rescans are queued
        if last is not None:
            version = state.catalogue.segments[name].version
            segments[name] = Membership("realized" if value else "exited", last, until, version)

    def _asked(
        self, rule: Rescanned, slot: int, instant: int
    ) -> tuple[int, Any, int | None] | None:
        """(since when at the earliest, value, until when) of a rescanned rule at the instant, by
        the reference evaluator: also when work is queued. None if that raises."""
        state = self._state
        record, events = self._looked_up.of(slot, state.position - 1)
        computed, segments = state.book.values_of("computed"), state.book.values_of("segment")
        at, value = state.now, None
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
