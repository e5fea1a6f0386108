"""From an admitted entry to a durable, folded and published one.

Theory: the log is first. An entry is encoded and appended, folded beside the state, and published
with its block of the change feed; replay begins at the fold. A crash between any two of them loses
nothing acknowledged.

Rules for editors: every write of state after recovery is in ``publish_entry``, ``apply``, or the
clock's early slices, under the partition's lock.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np

from profile_actors.columnar.slot_pairs import slots_of_all
from profile_actors.columnar.vectors import Array
from profile_actors.config import Config
from profile_actors.definitions.declared import Catalogue
from profile_actors.engine.edges.projections import differ_in_copies_alone
from profile_actors.engine.exchange.admission import Admitted, nothing
from profile_actors.engine.exchange.carried_rows import is_copy
from profile_actors.engine.exchange.letters import Letters, past_evidence
from profile_actors.engine.fold.entry_fold import EntryDelta, fold_rows, publish
from profile_actors.engine.fold.relisting import Relisted, relist
from profile_actors.engine.fold.stage_times import Stages
from profile_actors.engine.fold.state import State, add_entities, record_parts
from profile_actors.engine.log import change_blocks
from profile_actors.engine.log.entry import NO_MAIL, BatchNote, Block, Hearing, encode
from profile_actors.engine.log.ports import Buffer, Log
from profile_actors.engine.log.repairs import fold_note
from profile_actors.engine.log.sub_batch import Reply
from profile_actors.engine.membership.forgetting import of_book
from profile_actors.engine.merge.documents import read_records
from profile_actors.engine.partition.clock_steps import note_slice, take_early
from profile_actors.engine.partition.feed_writer import FeedWriter
from profile_actors.engine.refold.backfill import Backfill
from profile_actors.engine.refold.owed import Owed
from profile_actors.engine.refold.rescans import Task, grouped, told

OVERLAP_ROWS = 2_000
"""An entry of so many rows is folded while the disk works on it."""


class EntryWriter:
    """Appends, folds and publishes the entries of one partition. For the writer's thread.

    disk: one thread, for appends beside a fold.
    """

    def __init__(
        self,
        log: Log,
        feed: FeedWriter,
        config: Config,
        state: State,
        owed: Owed,
        lock: threading.RLock,
        *,
        epoch: int,
        disk: ThreadPoolExecutor,
        stages: Stages,
    ) -> None:
        self._log = log
        self._feed = feed
        self._config = config
        self.state = state
        self._owed = owed
        self._lock = lock
        self._epoch = epoch
        self._disk = disk
        self._stages = stages

    def append(
        self,
        kind: str,
        now: int,
        catalogue: int,
        *,
        definition: bytes = b"",
        slots: tuple[int, int, int] | None = None,
    ) -> None:
        """Make an entry without rows durable, of a definition or of a slice."""
        parts = encode(kind, self._epoch, now, catalogue, definition=definition, slots=slots)
        self._append(parts)

    def define(self, catalogue: Catalogue, text: bytes, now: int) -> None:
        """Make the entry of a catalogue version durable."""
        # A release that knows no cutoffs must not open the log: it refuses the kind of the entry.
        is_expiry = catalogue.expired != self.state.catalogue.expired
        kind = "expiry" if is_expiry else "definition"
        self.append(kind, now, catalogue.version, definition=text)

    def _append(self, parts: list[Buffer]) -> None:
        self._log.append_at(self.state.position, parts, self._epoch)

    def write(self, admitted: Admitted, now: int, letters: Letters | None = None) -> None:
        """An entry of rows, of messages, or of the clock alone: durable, folded, published."""
        state = self.state
        kind = "mail" if letters is not None else "clock"
        kind = "rows" if admitted.notes or admitted.closed else kind
        parts = encode(
            kind, self._epoch, now, state.catalogue.version, tuple(admitted.notes),
            admitted.identities, admitted.blocks, hearing=admitted.hearing,
            mail=NO_MAIL if letters is None else letters.mail(state),
        )  # fmt: skip
        rows = sum(block.rows for block in admitted.blocks)
        # The fold reads state only, so it runs while the disk works; nothing is published before
        # the entry is durable. For a few rows handing over to the thread would cost more.
        durable = self._disk.submit(self._append, parts) if rows >= OVERLAP_ROWS else None
        if durable is None:
            self._append(parts)
        try:
            self._stages.lap("log")
            early = take_early(state, admitted.blocks, self._lock)
            delta = fold_rows(state, admitted.blocks, now, admitted.first_new_slot, self._stages)
            delta.add(early)
        finally:
            if durable is not None:
                durable.result()
        self._stages.lap("log")
        notes = tuple(admitted.notes)
        self.publish_entry(admitted.blocks, notes, delta, admitted.hearing, letters)

    def tell_past(self) -> bool:
        """Tell of links in the oldest entries that nobody was told of; whether there are more. Not
        in the midst of a replay, which writes nothing."""
        state = self.state
        if not state.homes.untold.is_some or state.position != self._log.head():
            return False
        if state.drain is None:
            letters = past_evidence(state, self._log)
            if letters is not None:
                self.write(nothing(state), state.now, letters)
        return state.homes.untold.is_some

    def fold_again(
        self,
        blocks: list[Block],
        notes: tuple[BatchNote, ...],
        now: int,
        first_new_slot: int,
        hearing: Hearing | None,
        letters: Letters,
    ) -> None:
        """An entry of the log, in a replay: folded and published."""
        early = take_early(self.state, blocks, self._lock)
        delta = fold_rows(self.state, blocks, now, first_new_slot)
        delta.add(early)
        self.publish_entry(blocks, notes, delta, hearing, letters)

    def publish_entry(
        self,
        blocks: list[Block],
        notes: tuple[BatchNote, ...],
        delta: EntryDelta,
        hearing: Hearing | None = None,
        letters: Letters | None = None,
    ) -> None:
        """Publish a folded entry and keep what is derived from it."""
        state = self.state
        position, started = state.position, state.now
        if delta.groups and letters is None:
            self._emit(delta)
        self._stages.lap("feed")
        base, things = 0, list[tuple[int, Block]]()
        for block in blocks:
            behavior = state.behavior(block.dataset)
            if behavior == "lookup":
                things.append((base, block))
                base += block.rows
                continue
            locator = state.locator if behavior == "event" else state.record_locator
            idents, times = block.idents[block.order], block.timestamps[block.order]
            # Merging takes longer than readers should wait: it is done before the lock.
            locator.add(position, idents, times, base + block.order)
            base += block.rows
        read = partial(read_records, self._log)
        add_entities(state, position, things, self._lock, read)
        parts = record_parts(state, blocks, position)
        living = state.live_rows.step(parts, position, state.directory.slot_of, read)
        self._stages.lap("locate")
        now, slots = delta.fold.now, state.directory.slots
        first_new = slots - delta.new_profiles
        task = Task(position, started, now, slots, first_new, delta.rescans, delta.touched)

        def changed() -> Array:
            if letters is None:
                return delta.slots()
            return slots_of_all([delta.slots(), letters.concerned(state)])

        with state.changing(changed), self._lock:
            publish(state, delta)
            note_slice(state, delta)
            if letters is not None:
                task.relisted = self._relist(delta, letters)
            state.locator.publish()
            state.record_locator.publish()
            state.entities.publish()
            state.live_rows.publish(living)
            self._count(blocks, notes, position)
            for name in state.connections.fold([note.producer for note in notes], hearing):
                state.cursors.pop(name, None)
                state.receipts.pop(name, None)
            if state.book.rescans:
                # Together with the position: it tells readers that the entry is not complete yet.
                self._owed.rescans.add(task)
            state.position = position + 1
        if state.image is None:  # numbers change their meaning everywhere: not in its midst
            for swap in of_book(state.book, state.directory.slots):
                with self._lock:
                    swap()
        self._stages.lap("publish")
        self._owed.unsaved_rows += base

    def _emit(self, delta: EntryDelta) -> None:
        packed = change_blocks.Packed(delta.fold.now, self.state.layouts_at, delta.groups)
        self._feed.emit(self.state.position, packed)

    def _relist(self, delta: EntryDelta, letters: Letters) -> Relisted:
        """Show who is shown elsewhere from this entry on, and tell what that changes. The caller
        holds the lock: the entry's other changes are told together with these."""
        state, homes = self.state, self.state.homes
        for idents in letters.filled:
            homes.fill(idents)
        homes.note(letters.tells, state.position)
        turned = homes.turn(letters.told, letters.tells, state.position)
        homes.mailbox.take_all(letters.received)
        named = np.array([ident for ident in turned.named if ident >= 0], np.intp)
        if len(named):
            state.touch(state.position + 1, np.unique(state.directory.slot_of[named]))
        relisted = Relisted.of(turned)
        if len(relisted.idents):
            groups, changes = relist(state, relisted, delta.fold.now)
            delta.groups += groups
            state.counters.changes += changes
        if delta.groups:
            self._emit(delta)
        return relisted

    def apply(self, prepared: Backfill, now: int) -> None:
        """Complete the new rulebook and put it in place of the old one."""
        state = self.state
        book, groups, delta_changes = prepared.finish(now)
        is_about_profiles = not differ_in_copies_alone(self.state.catalogue, prepared.catalogue)
        expiry, is_of_time = prepared.expiry, prepared.is_of_time
        position, count = state.position, state.directory.slots
        layouts = change_blocks.pack_layouts([gauge.layout for gauge in book.gauges])
        self._feed.emit(position, change_blocks.Packed(now, position, groups, layouts))
        every = frozenset(i for i, rule in enumerate(book.rescans) if rule.is_new)
        with self._lock:
            state.book = book
            state.catalogue = prepared.catalogue
            state.now = now
            state.layouts_at = position
            if is_of_time:
                state.touch(position + 1, expiry.slots.astype(np.intp))
            elif is_about_profiles:
                state.touches.touch_all(position + 1, count)
                state.touches.know_failures(book.pending.keys())
            else:
                state.touch(position + 1)
            state.counters.expired += expiry.rows
            state.counters.changes += delta_changes
            state.counters.changes_by_clock += delta_changes if is_of_time else 0
            if every or (len(expiry.slots) and book.rescans):
                left, again = expiry.slots.astype(np.intp), [expiry.slots] * len(book.rescans)
                task = Task(position, now, now, count, count, again, left, every, cause="clock")
                self._owed.rescans.add(task)
            state.position = position + 1

    def finish(self, task: Task) -> None:
        """Put a completed task's changes into the feed block of its entry: that is complete now."""
        groups = grouped(task, self.state)
        if groups:
            self._feed.join(task, groups, self.state)
        found = told(task, self.state)
        moved = [change for change in found if self.state.book.rescans[change.rule].gauge >= 0]
        with self._lock:
            self.state.counters.changes += len(moved)
            self.state.counters.changes_by_clock += sum(c.cause == "clock" for c in moved)
            self._owed.rescans.drop(task)

    def _count(self, blocks: list[Block], notes: tuple[BatchNote, ...], position: int) -> None:
        state = self.state
        for block in blocks:
            behavior = state.behavior(block.dataset)
            if behavior != "lookup" and is_copy(block):
                continue
            if behavior == "lookup" and not state.homes.is_first:
                continue  # every partition has them, one counts them
            if behavior == "event":
                state.counters.events += block.rows
            else:
                state.counters.records += block.rows
        for note in notes:
            state.counters.late += note.late
            state.counters.duplicate += note.duplicate
            credited = 0
            if note.credit is not None:
                name, rows = note.credit
                credited = state.cursors.get(name, 0)
                state.cursors[name] = credited + rows
            fold_note(state.rejects, note, credited)
            if note.repair is None:
                at = state.cursors.get(note.producer, 0)
                state.cursors[note.producer] = max(at, note.through)
            if note.repair is not None and note.repair[1] != "take":
                continue
            # Taken out and put in again: the dict is in the order in which producers were heard.
            kept = state.receipts.pop(note.producer, [])
            state.receipts[note.producer] = [*kept, (position, note)][-self._config.max_receipts :]
            if len(state.receipts) > self._config.max_receipt_producers:
                del state.receipts[next(iter(state.receipts))]


def placed(reply: Reply, state: State) -> Reply:
    """An accepted reply with the entry's position and now."""
    position = reply.position if reply.position >= 0 else state.position - 1
    return replace(reply, position=position, now=state.now)
