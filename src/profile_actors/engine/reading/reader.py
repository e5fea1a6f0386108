"""Reading a partition: profiles, events, members, changes, status, verification.

Theory: what is asked is copied under the partition's lock, and the log is read without it; so a
reader sees whole entries only, and a slow one stops no writer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from profile_actors.columnar.state_columns import UNSET
from profile_actors.columnar.vectors import FOREVER, Array
from profile_actors.engine.fold.state import State
from profile_actors.engine.identity.identity import Identity
from profile_actors.engine.identity.listing import NEVER
from profile_actors.engine.identity.messages import book_key
from profile_actors.engine.log.change_columns import ChangeColumns
from profile_actors.engine.log.ports import Feed, Log
from profile_actors.engine.membership.stored_values import member_bits
from profile_actors.engine.merge.documents import read_records
from profile_actors.engine.merge.kept_rows import later
from profile_actors.engine.merge.opened_blocks import OpenedBlocks
from profile_actors.engine.merge.record_reading import records_at
from profile_actors.engine.merge.record_union import Merging, stated_by, union_of
from profile_actors.engine.reading import verification
from profile_actors.engine.reading.answers import EventPage, PartitionStatus, Profile
from profile_actors.engine.reading.change_delivery import Delivery
from profile_actors.engine.reading.event_pages import event_page
from profile_actors.engine.reading.fields import EVERYTHING, Fields
from profile_actors.engine.reading.look_ups import Found, LookUps
from profile_actors.engine.reading.profile_columns import Answer, Elsewhere, ProfileColumns
from profile_actors.engine.reading.rule_preview import PartPreview, preview
from profile_actors.engine.reading.scans import ScanPage
from profile_actors.engine.refold.definition_use import has_rows_of
from profile_actors.engine.refold.owed import Owed
from profile_actors.errors import DefinitionError, Pending
from profile_actors.rules.catalogue.merge_views import is_single, view_of
from profile_actors.rules.catalogue.publication import not_served


@dataclass(frozen=True, slots=True)
class Copied:
    """What answers about ascending slots are made of. found: what the rules say, in parts, each to
    be called; modified: int64[n] ms, when each last changed; records: (index into the slots, entry
    position, row) of what the living record rows are; merging: how they become one;
    owners: the slots' identities, if it is asked where attributes are from."""

    slots: Array
    found: list[Callable[[], Found]]
    modified: Array
    records: tuple[Array, Array, Array] | None
    merging: Merging
    owners: list[Identity] | None


class Reader:
    """All reads. Any thread; the lock is held for one look-up, or for a copy of columns."""

    def __init__(
        self,
        log: Log,
        feed: Feed,
        index: int,
        state: State,
        owed: Owed,
        lock: threading.RLock,
        stage_seconds: Callable[[], dict[str, float]],
        max_open_entries: int,
    ) -> None:
        self._log = log
        self._feed = feed
        self._index = index
        self._state = state
        self._owed = owed
        self._lock = lock
        self._stage_seconds = stage_seconds
        self.look_ups = LookUps(state, log)
        self._delivery = Delivery(log, feed, index, state, lock)
        self._opened = OpenedBlocks(log, max_open_entries)

    def close(self) -> None:
        """Let go of what is open of the log. Reads that are under way end."""
        self._opened.close()

    def let_go(self) -> None:
        """Let go of log segments that others have taken the place of."""
        self._opened.let_go()

    def profiles_of(
        self, slots: Array, instant: int, fields: Fields = EVERYTHING
    ) -> dict[int, Profile]:
        """Profiles by slot as of an instant, without what records say. Caller holds the lock."""
        return self.look_ups.of(slots, instant, fields)

    # -- profiles ---------------------------------------------------------------------------------

    def profiles(
        self, keys: Sequence[tuple[int, int]], now: int | None = None, fields: Fields = EVERYTHING
    ) -> list[Profile | None]:
        """Profiles by identity key (k0, k1), as of ``now`` ms (at least the partition's), in order.

        None where unknown.
        """
        return self.look_up(np.array(keys, np.uint64).reshape(-1, 2), now, fields).profiles()

    def look_up(self, keys: Array, now: int | None, fields: Fields) -> Answer:
        """The asked fields of the profiles that have these identity keys, as columns.

        keys: uint64[n, 2]. Cost: a fixed number of array passes for all of them together, a Python
        step per profile and rescanned rule, and their record rows.
        """
        state = self._state
        with self._lock:
            idents = state.directory.find(keys[:, 0], keys[:, 1])
            elsewhere: list[Elsewhere] = []
            if not is_single(state.catalogue, fields.policy):
                idents, elsewhere = self.shown(keys, idents)
            # The writer goes on: who is known is asked once, under the lock.
            asked = ((idents >= 0) & (idents < state.known)).nonzero()[0]
            slot_of = state.directory.slot_of.take(idents[asked]).astype(np.intp)
            slots = slot_of if len(slot_of) == 1 else np.unique(slot_of)
            copied = self.copied(slots, now, fields)
        owners, parts = self.parts(copied, fields)
        place = slots.searchsorted(slot_of)
        if len(parts) > 1:  # each has some of the slots
            place = np.concatenate(owners).argsort()[place]
        rows = np.empty(len(idents), np.intp)
        rows.fill(-1)
        rows[asked] = place
        return Answer(parts, rows, elsewhere)

    def shown(self, keys: Array, idents: Array) -> tuple[Array, list[Elsewhere]]:
        """Under which idents those who have these keys and idents are shown, -1 for nowhere; and
        those who are shown by another partition. Cost: if anybody is linked, a look at each."""
        homes = self._state.homes
        if not homes.residences:
            return idents, []
        out, elsewhere = idents.copy(), list[Elsewhere]()
        for row, ((k0, k1), ident) in enumerate(zip(keys.tolist(), idents.tolist(), strict=True)):
            place = homes.shown_at((k0, k1), ident)
            if isinstance(place, int):
                out[row] = place
            else:
                out[row] = -1
                book = book_key(*place.canonical.key, place.number)
                elsewhere.append((row, place.canonical.key, book))
        return out, elsewhere

    def copied(self, slots: Array, now: int | None, fields: Fields) -> Copied:
        """What answers are made of, once the caller has let go of the lock. slots: ascending, each
        once."""
        state = self._state
        instant = state.now if now is None else max(state.now, now)
        found = self.look_ups.begun(slots, instant, fields) if len(slots) else []
        modified = state.modified[slots] + UNSET
        records, merging, owners = None, Merging({}), None
        single = is_single(state.catalogue, fields.policy)
        if (len(state.live_rows) or single) and fields.attributes != ():
            records = state.living(slots, single)
            merging = state.merging(view_of(state.catalogue, fields.policy))
            if fields.sources:
                directory = state.directory
                owners = [directory.identity(int(directory.ident_of[slot])) for slot in slots]
        return Copied(slots, found, modified, records, merging, owners)

    def parts(self, copied: Copied, fields: Fields) -> tuple[list[Array], list[ProfileColumns]]:
        """The answers as they travel, with what records say, and whose. Without the lock."""
        slots, parts = [], []
        stated = {}
        if copied.records is not None:
            stated = records_at(self._log, self._opened, *copied.records)
        for begun in copied.found:
            part = begun()
            place = copied.slots.searchsorted(part.slots)
            slots.append(part.slots)
            columns = self.look_ups.columns(part, copied.modified[place], fields)
            if copied.records is not None:
                leaves = [stated_by(stated.get(one, ()), copied.merging) for one in place.tolist()]
                who = copied.owners and [copied.owners[one] for one in place.tolist()]
                columns.put_attributes(leaves, fields.attributes, who)
            parts.append(columns)
        return slots, parts

    # -- scans ------------------------------------------------------------------------------------

    def scan_slots(self, segment: str | None) -> tuple[int, Array]:
        """How many entries were seen, and the slots (uint32) of a segment's members then, or of
        everybody. Raises DefinitionError and Pending as ``members`` does."""
        with self._lock:
            if segment is None:
                single = is_single(self._state.catalogue, None)
            else:
                self._known_segment(segment)
                single = self._is_single(segment)
            slots = self._state.listed(np.arange(self._state.profiles, dtype=np.int64), single)
            if segment is not None:
                slots = slots[member_bits(self._state.book, segment, slots)]
            return self._state.position, slots.astype(np.uint32)

    def profile_keys(self, after: int, limit: int) -> tuple[bytes, int]:
        """The keys (uint64[n, 2]) of the next profiles after a slot, and the slot of the last."""
        with self._lock:
            state = self._state
            end = min(state.profiles, after + 1 + limit)
            slots = state.listed(np.arange(after + 1, end))
            keys = state.homes.keys_of(state.directory.ident_of[slots])
            return keys.tobytes(), end - 1

    def scan_page(self, slots: Array, now: int | None, fields: Fields) -> ScanPage:
        """The asked fields of some slots, ascending. Cost: as of a look-up of so many profiles."""
        with self._lock:
            copied = self.copied(slots.astype(np.intp), now, fields)
            position = self._state.position
        return ScanPage(self._index, position, self.parts(copied, fields)[1])

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
        """A page of one profile's events, start <= timestamp < end, by order key (``event_pages``).

        Unknown profiles have an empty page.
        """
        with self._lock:
            one = np.array([key], np.uint64)
            idents, elsewhere = self._state.directory.find(*one.T), list[Elsewhere]()
            single = is_single(self._state.catalogue, None)
            if not single:
                idents, elsewhere = self.shown(one, idents)
            ident = int(idents[0])
            runs = self._state.locator.runs
            # Later rows are in a book.
            before = NEVER if single else self._state.listing.since(max(0, ident))
            known, catalogue = self._state.known, self._state.catalogue
        if elsewhere:
            return EventPage([], None, elsewhere[0][1:])
        if not 0 <= ident < known:
            return EventPage([], None)
        span = (later(start, catalogue), end, order, limit, cursor, before)
        return event_page(self._opened, runs, ident, key, *span, catalogue.expired)

    def entity(self, schema: str, key: tuple[int, int]) -> dict[str, Any] | None:
        """What the lookup datasets of a schema say of an entity, as one document; None if nothing.

        Cost: the entity's own rows.
        """
        with self._lock:
            positions, rows = self._state.entities.living_of(key)
            catalogue, merging = self._state.catalogue, self._state.merging()
        mine = {name for name, one in catalogue.datasets.items() if one.schema == schema}
        found = [r for r in read_records(self._log, positions, rows) if r.dataset in mine]
        return union_of(found, merging) if found else None

    # -- segments, changes ------------------------------------------------------------------------

    def _is_single(self, segment: str) -> bool:
        """Whether members of a segment are single identities."""
        return ("segment", segment) in self._state.book.single

    def _known_segment(self, segment: str) -> None:
        state = not_served(self._state.catalogue, ("segment", segment))
        if state is not None:
            raise DefinitionError(
                f"expected a published segment, got {segment!r}, which is {state} and has no"
                ' members; apply it with state="published"'
            )
        if segment not in self._state.book.gauge_of:
            names = ", ".join(sorted(self._state.book.gauge_of)) or "none"
            raise DefinitionError(
                f"expected a segment of this store, got {segment!r}; defined are: {names}"
            )
        book = self._state.book
        if self._state.drain is not None or book.next_due() <= self._owed.behind:
            raise Pending(
                f"the clock's work of {self._state.now} ms and later is being done step by step;"
                " ask again in a moment (profiles are exact meanwhile)"
            )
        if self._owed.rescans.pending and any(
            r.rule.key == ("segment", segment) for r in book.rescans
        ):
            raise Pending(
                f"segment {segment!r} is being evaluated again for {self._owed.rescans.pending} log"
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
        with self._lock:
            self._known_segment(segment)
            slots = np.arange(after + 1, self._state.profiles, dtype=np.int64)
            slots = self._state.listed(slots, self._is_single(segment))
            hits = slots[member_bits(self._state.book, segment, slots)]
            directory = self._state.directory
            page = [directory.identity(int(directory.ident_of[s])) for s in hits[:limit]]
        return page, int(hits[limit - 1]) if len(hits) > limit else None

    def count(self, segment: str) -> int:
        """How many members a segment has. Cost: one pass over its level column."""
        with self._lock:
            self._known_segment(segment)
            slots = np.arange(self._state.profiles)
            slots = self._state.listed(slots, self._is_single(segment))
            return int(np.count_nonzero(member_bits(self._state.book, segment, slots)))

    def changes(self, after: int = -1, limit_bytes: int = 1 << 18) -> ChangeColumns:
        """Changes of entries after a position, in order, and the position they reach.

        Ends before the oldest entry with rescans outstanding. Computed attributes carry their
        value at delivery. Raises CursorExpired from the feed.
        """
        with self._lock:
            waiting = self._owed.rescans.first_pending
            head = (self._state.position if waiting is None else waiting) - 1
        return self._delivery.changes(after, head, limit_bytes)

    def has_rows_of(self, kind: str, name: str) -> bool:
        """Whether rows name a dataset or namespace."""
        return has_rows_of(self._state, self._log, kind, name)

    def preview(self, text: str, now: int | None, sample: int) -> PartPreview:
        """How many profiles a rule would hold for, and some of them. Raises RuleError."""
        return preview(self._state, self._log, self._lock, text, now, sample)

    # -- verification -----------------------------------------------------------------------------

    def verify(self, sample: int | None = None) -> list[str]:
        """Differences between this state and what the log says; [] when there are none.

        The log's bytes are checked, everything is folded again, and ``sample`` profiles (None: a
        hundred), evenly spread, are compared with the reference evaluator. For the writer's thread.
        """
        return verification.differences(
            self._state, self._log, self._feed, self.look_ups, 100 if sample is None else sample
        )

    # -- status -----------------------------------------------------------------------------------

    def status(self) -> PartitionStatus:
        """The partition's own account of itself."""
        with self._lock:
            state, counters, filling = self._state, self._state.counters, self._owed.filling
            due = state.book.next_due()
            return PartitionStatus(
                partition=self._index,
                position=state.position,
                now=None if state.now == UNSET else state.now,
                catalogue=state.catalogue.version,
                profiles=state.profiles
                - state.listing.hidden_count(state.profiles, state.position),
                **asdict(counters),
                lag=self._owed.rescans.pending,
                next_due=None if due == FOREVER else due,
                log_bytes=self._log.size_bytes(),
                feed_bytes=self._feed.size_bytes(),
                state_bytes=state.size_bytes(state.profiles),
                checkpoint=self._owed.checkpointed,
                degraded={" ".join(key): why for key, why in state.book.pending.items()},
                stage_s=self._stage_seconds(),
                backfill=None if filling is None else (filling.folded, state.position),
                clock_goal=self._owed.behind if due <= self._owed.behind else None,
                slices=None if state.drain is None else (state.drain.next, state.drain.total),
                state_by_kind=state.bytes_by_kind(state.profiles),
            )
