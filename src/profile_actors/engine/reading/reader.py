"""Reading a partition: profiles, events, members, changes, status, verification.

Theory: a look-up folds its own profile ahead: the same step as an entry, for one slot, over what
the delay lines hold for it, up to a hundred years on and never published. The virtual rows up to
the asked instant give the answer there; the first one after it at which a rule's value differs is
its ``valid_until``. So an answer is exact at every instant, also when the clock's own work is
still queued.

Limits: a rule of an attribute that reads ``today`` and never changes costs a look at every day
ahead.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from itertools import islice
from typing import Any

import msgspec
import numpy as np

from profile_actors.columnar.state_columns import UNSET
from profile_actors.columnar.vectors import FOREVER, Array
from profile_actors.config import Config
from profile_actors.definitions.declared import Catalogue
from profile_actors.engine.fold.state import State
from profile_actors.engine.identity.identity import Identity
from profile_actors.engine.log.ports import Feed, Log
from profile_actors.engine.membership.rulebook import Rescanned
from profile_actors.engine.membership.stored_values import member_bits
from profile_actors.engine.merge.documents import read_rows
from profile_actors.engine.merge.record_union import union_of
from profile_actors.engine.reading import verification
from profile_actors.engine.reading.answers import (
    Change,
    EventPage,
    Membership,
    PartitionStatus,
    Profile,
)
from profile_actors.engine.reading.change_delivery import Delivery
from profile_actors.engine.reading.event_pages import event_page
from profile_actors.engine.reading.look_ahead import Ahead, all_change, look_ahead, sort_in
from profile_actors.engine.reading.rule_preview import PartPreview, preview
from profile_actors.engine.refold.backfill import Backfill
from profile_actors.engine.refold.definition_use import holds
from profile_actors.engine.refold.dossiers import Dossiers
from profile_actors.engine.refold.rescans import Rescans
from profile_actors.errors import DefinitionError, FeedDamaged, Pending
from profile_actors.rules.catalogue.publication import not_served
from profile_actors.rules.evaluation.evaluate import evaluate, plain
from profile_actors.rules.reference.validity import evaluate_with_validity
from profile_actors.rules.semantics.calendar import MAX_MS, shift
from profile_actors.rules.tree.plan import Key

NEAR_MS = 400 * 86_400_000


class Reader:
    """All reads. Any thread; the lock is held for one look-up, or for a copy of columns."""

    def __init__(
        self,
        log: Log,
        feed: Feed,
        config: Config,
        index: int,
        state: State,
        lock: threading.RLock,
    ) -> None:
        self.log = log
        self.feed = feed
        self.config = config
        self.index = index
        self.lock = lock
        self.checkpointed = 0
        self.filling: Backfill | None = None
        self.behind = UNSET  # the instant that the clock was to reach, while it takes several steps
        self._begin(state)

    def _begin(self, state: State) -> None:
        """Read this state from here on (an opening may replace it)."""
        self.state = state
        self.rescans = Rescans()
        self._dossiers = Dossiers(state, self.log)
        self._looked_up = Dossiers(state, self.log)  # the other one is the writer's, without a lock
        self._delivery = Delivery(self.log, self.feed, self.index, state, self.lock)

    @property
    def position(self) -> int:
        """The number of entries folded; the position of the next one."""
        return self.state.position

    @property
    def now(self) -> int | None:
        """The partition's instant in ms; None before its first."""
        return None if self.state.now == UNSET else self.state.now

    @property
    def catalogue(self) -> Catalogue:
        """The definitions in force; version 0 before the first."""
        return self.state.catalogue

    # -- profiles ---------------------------------------------------------------------------------

    def profiles(
        self, keys: Sequence[tuple[int, int]], now: int | None = None
    ) -> list[Profile | None]:
        """Profiles by identity key (k0, k1), as of ``now`` ms (at least the partition's), in order.

        None where unknown. Cost: one look-ahead for all, then Python per profile and rule.
        """
        with self.lock:
            idents = self._idents(keys)
            known = np.unique(idents[idents >= 0])
            if len(known) == 0:
                return [None] * len(keys)
            slots = np.unique(self.state.directory.slot_of[known]).astype(np.uint32)
            instant = self.state.now if now is None else max(self.state.now, now)
            found = self._profiles(slots, instant)
            records = {int(i): self._record_rows(int(i)) for i in known}
            slot_of = {int(i): int(self.state.directory.slot_of[i]) for i in known}
            datasets = self.state.catalogue.datasets.values()
        replaces = {d.name: d.mode == "replace" for d in datasets}
        out: list[Profile | None] = []
        for ident in idents.tolist():
            if ident < 0:
                out.append(None)
                continue
            profile = found[slot_of[ident]]
            positions, rows = records[ident]
            if len(rows):
                union = union_of(read_rows(self.log, positions, rows), replaces)
                profile = msgspec.structs.replace(profile, attributes=union)
            out.append(profile)
        return out

    def _idents(self, keys: Sequence[tuple[int, int]]) -> Array:
        k0 = np.array([key[0] for key in keys], np.uint64)
        k1 = np.array([key[1] for key in keys], np.uint64)
        found = self.state.directory.find(k0, k1)
        return np.where(found < self.state.known, found, -1)

    def _record_rows(self, ident: int) -> tuple[Array, Array]:
        return self.state.record_locator.rows_of(ident)[1:]

    def _profiles(self, slots: Array, instant: int) -> dict[int, Profile]:
        drain = self.state.drain
        if drain is None:
            return self._profiles_since(slots, self.state.now, instant)
        owed = drain.owed(slots)
        out: dict[int, Profile] = {}
        for part, started in ((slots[owed], drain.at - 1), (slots[~owed], drain.at)):
            if len(part):
                out |= self._profiles_since(part, started, instant)
        return out

    def _profiles_since(self, slots: Array, started: int, instant: int) -> dict[int, Profile]:
        """Profiles whose state stands at ``started`` as of ``instant``."""
        state, book = self.state, self.state.book
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
                    found = evaluate(rule.root, leaf, len(slots), times)
                    values[rule.name] = plain(found, rule.root.type)
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
        book = self.state.book
        one = np.array([slot], np.uint32)
        out, versions = {}, self.state.catalogue.segments
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
        state, name = self.state, rule.rule.name
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
        stored = rule.level[slot] == 2
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
        state = self.state
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

    # -- events -----------------------------------------------------------------------------------

    def events(
        self,
        key: tuple[int, int],
        start: int | None = None,
        end: int | None = None,
        order: str = "asc",
        limit: int = 1000,
        cursor: str | None = None,
    ) -> EventPage:
        """A page of one profile's events, start <= timestamp < end, by order key (``pages``).

        Unknown profiles have an empty page.
        """
        with self.lock:
            ident = int(self._idents([key])[0])
            runs = self.state.locator.runs
        if ident < 0:
            return EventPage([], None)
        return event_page(self.log, runs, ident, start, end, order, limit, cursor)

    # -- segments, changes ------------------------------------------------------------------------

    def _known_segment(self, segment: str) -> None:
        state = not_served(self.state.catalogue, ("segment", segment))
        if state is not None:
            raise DefinitionError(
                f"expected a published segment, got {segment!r}, which is {state} and has no"
                ' members; apply it with state="published"'
            )
        if segment not in self.state.book.gauge_of:
            names = ", ".join(sorted(self.state.book.gauge_of)) or "none"
            raise DefinitionError(
                f"expected a segment of this store, got {segment!r}; defined are: {names}"
            )
        book = self.state.book
        if self.state.drain is not None or book.next_due() <= self.behind:
            raise Pending(
                f"the clock's work of {self.state.now} ms and later is being done step by step; ask"
                " again in a moment (profiles are exact meanwhile)"
            )
        if self.rescans.pending and any(r.rule.name == segment for r in book.rescans):
            raise Pending(
                f"segment {segment!r} is being evaluated again for {self.rescans.pending} log"
                " entries; ask again in a moment"
            )
        if ("segment", segment) in book.pending:
            raise Pending(
                f"segment {segment!r} has no answer: its rule failed"
                f" ({book.pending['segment', segment]}); edit the rule or report the defect"
            )

    def members(
        self, segment: str, after: int = -1, limit: int = 10_000
    ) -> tuple[list[Identity], int | None]:
        """A page of a segment's members and the cursor of the next page (None: the last).

        Raises DefinitionError for an unknown segment.
        """
        with self.lock:
            self._known_segment(segment)
            slots = np.arange(after + 1, self.state.profiles, dtype=np.int64)
            hits = slots[member_bits(self.state.book, segment, slots)]
            directory = self.state.directory
            page = [directory.identity(int(directory.ident_of[s])) for s in hits[:limit]]
        return page, int(hits[limit - 1]) if len(hits) > limit else None

    def count(self, segment: str) -> int:
        """How many members a segment has. Cost: one pass over its level column."""
        with self.lock:
            self._known_segment(segment)
            slots = np.arange(self.state.profiles)
            return int(np.count_nonzero(member_bits(self.state.book, segment, slots)))

    def changes(self, after: int = -1, limit_bytes: int = 1 << 18) -> tuple[list[Change], int]:
        """Changes of entries after a position, in order, and the position they reach.

        Ends before the oldest entry with rescans outstanding. Computed attributes carry their
        value at delivery. Raises CursorExpired from the feed.
        """
        with self.lock:
            waiting = self.rescans.first_pending
            head = (self.state.position if waiting is None else waiting) - 1
        return self._delivery.changes(after, head, limit_bytes)

    def holds(self, kind: str, name: str) -> bool:
        """Whether rows name a dataset or namespace (see ``engine.holdings``)."""
        return holds(self.state, self.log, kind, name)

    def preview(self, text: str, now: int | None, sample: int) -> PartPreview:
        """Whom a rule would let in (see ``engine.preview``). Raises RuleError."""
        return preview(self.state, self.log, self.lock, text, now, sample)

    # -- verification -----------------------------------------------------------------------------

    def verify(self, sample: int | None = None) -> list[str]:
        """Differences between this state and what the log says; [] when there are none.

        The log's bytes are checked, everything is folded again, and ``sample`` profiles (None: a
        hundred), evenly spread, are compared with the reference evaluator. For the writer's thread.
        """
        out = list(self.log.verify())
        out += verification.without_answer(self.state)
        try:
            out += [
                f"expected a whole block of the change feed at position {position}, got a damaged"
                " one: it is made anew when changes are read"
                for position in self.feed.faults()
            ]
        except FeedDamaged as error:
            out.append(str(error))
        out += islice(
            verification.refold_differences(self.state, self.log), verification.MAX_DIFFERENCES
        )
        total = self.state.directory.slots
        wanted = np.unique(np.linspace(0, total - 1, min(total, 100 if sample is None else sample)))
        for slot in wanted.astype(np.int64).tolist() if total else ():
            found = self._profiles(np.array([slot], np.uint32), self.state.now)[slot]
            out += verification.reference_differences(self.state, self.log, slot, found)
        return out[: verification.MAX_DIFFERENCES]

    # -- status -----------------------------------------------------------------------------------

    def cursor(self, producer: str) -> int | None:
        """The next offset this partition expects of a producer; None if it never sent."""
        return self.state.cursors.get(producer)

    def stage_seconds(self) -> dict[str, float]:
        """Seconds by stage, for who measures; a reader alone has none."""
        return {}

    def status(self) -> PartitionStatus:
        """The partition's own account of itself."""
        with self.lock:
            state, counters, filling = self.state, self.state.counters, self.filling
            due = state.book.next_due()
            return PartitionStatus(
                partition=self.index,
                position=state.position,
                now=None if state.now == UNSET else state.now,
                catalogue=state.catalogue.version,
                profiles=state.profiles,
                events=counters.events,
                records=counters.records,
                late=counters.late,
                duplicate=counters.duplicate,
                changes=counters.changes,
                changes_by_clock=counters.changes_by_clock,
                lag=self.rescans.pending,
                next_due=None if due == FOREVER else due,
                log_bytes=self.log.size_bytes(),
                feed_bytes=self.feed.size_bytes(),
                state_bytes=state.size_bytes(state.profiles),
                checkpoint=self.checkpointed,
                degraded={name: why for (_, name), why in state.book.pending.items()},
                stage_s=self.stage_seconds(),
                backfill=None if filling is None else (filling.folded, state.position),
                clock_goal=self.behind if due <= self.behind else None,
                slices=None if state.drain is None else (state.drain.next, state.drain.total),
            )
