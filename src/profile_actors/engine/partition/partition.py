"""One partition: log, state, and the one way from sub-batches to acknowledged, folded rows.

Theory: ``commit`` admits sub-batches, appends one durable entry, folds it and publishes the delta;
replay after a restart runs the same fold over the decoded entry. One thread writes; reads take the
lock for as long as a copy of what they need, so they never see half an entry and never wait for a
whole fold.

Rules for editors: nothing here knows Ray, LMDB or a clock; ``now`` is passed in. What is logged
decides; the order is admit, append, fold, publish, feed, and a crash between any two of them loses
nothing acknowledged: the tail is replayed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import msgspec
import numpy as np
import pyarrow as pa

from profile_actors.columnar.runs import starts_of
from profile_actors.columnar.vectors import Array
from profile_actors.config import Config
from profile_actors.definitions.declared import Catalogue
from profile_actors.engine.fold.entry_fold import EntryDelta, fold_rows, publish
from profile_actors.engine.fold.stage_times import Stages, no_clock
from profile_actors.engine.fold.state import State, empty_state
from profile_actors.engine.log import change_blocks
from profile_actors.engine.log.crowds import Crowds
from profile_actors.engine.log.entry import BatchNote, Block, Entry, decode, encode
from profile_actors.engine.log.ports import Checkpoints, Feed, Log
from profile_actors.engine.log.repairs import Rejects, fold_note
from profile_actors.engine.log.sub_batch import Reply, SubBatch
from profile_actors.engine.membership.forgetting import of_book
from profile_actors.engine.partition import checkpoint_image
from profile_actors.engine.partition.admission import Admitted, admit
from profile_actors.engine.partition.partition_clock import Clockwork
from profile_actors.engine.refold.backfill import Backfill, text_of
from profile_actors.engine.refold.definition_use import kept
from profile_actors.engine.refold.rescans import RescanChange, Task, grouped
from profile_actors.errors import CorruptLog, FeedDamaged, ProfileActorsError
from profile_actors.ingest.hidden_columns import ID, K0, K1, NAMESPACE, VALUE
from profile_actors.ingest.offsets import packed

OVERLAP_ROWS = 2_000


BACKFILL_ENTRIES = 8
"""Entries of one step of a back-fill beside the writer, and about what it leaves to him."""


class Partition(Clockwork):
    """See the module. index: its number in the store; epoch: the owner's fencing number.

    Log and feed are the partition's from here on: ``close`` closes them, and so does an opening
    that fails. Opening recovers: newest valid checkpoint, then the log's tail; from the log's start
    if the feed lacks what the checkpoint covers. Raises CorruptLog.
    """

    def __init__(
        self,
        log: Log,
        feed: Feed,
        checkpoints: Checkpoints,
        config: Config,
        *,
        index: int = 0,
        epoch: int = 0,
        clock: Callable[[], float] = no_clock,
    ) -> None:
        self._checkpoints = checkpoints
        self.stages = Stages(clock)
        self._epoch = epoch
        self._rows_since_checkpoint = 0
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="log")
        self._fed = 0
        self._crowds = Crowds(config.max_crowded_rows, self._read_ids)
        state = empty_state(config.max_profiles)
        super().__init__(log, feed, config, index, state, threading.RLock())
        try:
            self._recover()
        except BaseException:
            with suppress(ProfileActorsError):
                self.close()
            raise

    def close(self) -> None:
        """Flush the feed and let go of log, feed and the disk thread; twice is once.

        Whatever was acknowledged is in the log already. Raises StorageFull from the feed's flush
        (the log is closed all the same).
        """
        self._disk.shutdown()
        try:
            self.feed.close()
        finally:
            self.log.close()

    # -- writing: one thread ----------------------------------------------------------------------

    def commit(self, batches: Sequence[SubBatch], now: int | None) -> list[Reply]:
        """One entry of the given sub-batches: durable, folded and visible when this returns.

        now: wall ms; None on the event clock, where the largest ``clock`` of the batches rules.
        Raises StorageFull, FencedOut, CorruptLog: after any of these the partition must be
        reopened.
        """
        state = self.state
        self.stages.start()
        admitted = admit(state, batches, self._crowds, self.lock)
        self.stages.lap("resolve")
        wanted = admitted.clock if now is None else now
        moment = state.now if wanted is None else max(state.now, wanted)
        moment = self.moment_of_rows(moment, is_wall=now is not None)
        if admitted.notes or admitted.blocks or moment > state.now:
            self._write(admitted, moment)
        return [
            placed(reply, state) if reply.status == "ok" else reply for reply in admitted.replies
        ]

    def _write(self, admitted: Admitted, now: int) -> None:
        state = self.state
        kind = "rows" if admitted.notes else "clock"
        parts = encode(
            kind, self._epoch, now, state.catalogue.version, tuple(admitted.notes),
            admitted.identities, admitted.blocks,
        )  # fmt: skip
        rows = sum(block.rows for block in admitted.blocks)
        # The fold reads state only, so it runs while the disk works; nothing is published before
        # the entry is durable. For a few rows handing over to the thread would cost more.
        durable = self._disk.submit(self._append, parts) if rows >= OVERLAP_ROWS else None
        if durable is None:
            self._append(parts)
        try:
            self.stages.lap("log")
            early = self.take_early(admitted.blocks)
            delta = fold_rows(state, admitted.blocks, now, admitted.first_new_slot, self.stages)
            delta.add(early)
        finally:
            if durable is not None:
                durable.result()
        self.stages.lap("log")
        self._settle(admitted.blocks, tuple(admitted.notes), delta)

    def backfill(self, catalogue: Catalogue, go_on: Callable[[], bool]) -> Backfill:
        """Fold a catalogue version's new rules beside the writer, up to about the present.

        For one thread at a time, not the writer's; give the result to ``define``. go_on: asked
        between steps; stops the work early. Cost: one pass over the log when rules are new. Raises
        RuleError for rules that cannot be planned.
        """
        known = self.state.catalogue
        job = Backfill(self.state, self.log, kept(known, catalogue, self.log, self.state.position))
        self.filling = job
        try:
            target = rest = self.state.position
            while go_on():
                job.work(min(BACKFILL_ENTRIES, target - job.folded))
                if job.folded < target:
                    continue
                # What has come meanwhile is the next round, unless rounds do not get shorter.
                before, rest = rest, self.state.position - target
                if rest <= BACKFILL_ENTRIES or rest >= before:
                    break
                target = self.state.position
        finally:
            self.filling = None
        return job

    def define(
        self, catalogue: Catalogue, now: int | None, prepared: Backfill | None = None
    ) -> None:
        """Take a catalogue version: logged, then every rule answers from the whole history.

        A version at or below the present one does nothing. prepared: what ``backfill`` gave for it;
        without, or if what it was made for has changed, the whole log is folded here when rules are
        new. Raises RuleError for rules that cannot be planned (nothing is changed then).
        """
        state = self.state
        if catalogue.version <= state.catalogue.version:
            return
        moment = state.now if now is None else max(state.now, now)
        catalogue = kept(state.catalogue, catalogue, self.log, state.position)
        text = text_of(catalogue)
        if prepared is None or not prepared.is_of(text):
            prepared = Backfill(state, self.log, catalogue)
        self._drain()
        if moment > state.now and self.next_due() <= moment:
            self.advance(moment)
            self._drain()  # what the old rules still owe is done by the old rules
        self._append(encode("definition", self._epoch, moment, catalogue.version, definition=text))
        self._apply(prepared, moment)

    def checkpoint_job(self, force: bool = False) -> checkpoint_image.Job | None:
        """A copy of the state to be saved by a helper thread; None when not due yet."""
        due = self._rows_since_checkpoint >= self.config.checkpoint_rows
        # In the midst of slices a look at the columns would need to know whose part is done.
        if not (due or force) or self.state.position == self.checkpointed or self.state.drain:
            return None
        self._rows_since_checkpoint = 0
        self._drain()
        self.feed.flush()
        job = checkpoint_image.job(self.state, self._checkpoints, self._fed)
        self.checkpointed = self.state.position
        return job

    def progress(self, producer: str) -> tuple[int | None, bytes, bytes]:
        """The cursor, and of the offsets below it those that are open and those that are taken
        (``repairs``), packed."""
        with self.lock:
            mine = self.state.rejects.get(producer) or Rejects()
            cursor = self.state.cursors.get(producer)
            return cursor, packed(mine.open.ranges), packed(mine.taken.ranges)

    def stage_seconds(self) -> dict[str, float]:
        return dict(self.stages.seconds)

    # -- inside -----------------------------------------------------------------------------------

    def _append(self, parts: list[bytes | memoryview]) -> None:
        self.log.append_at(self.state.position, parts, self._epoch)

    def _apply(self, prepared: Backfill, now: int) -> None:
        """Complete the new rulebook and put it in place of the old one."""
        state = self.state
        book, groups, delta_changes = prepared.finish(now)
        position, count = state.position, state.directory.slots
        layouts = change_blocks.pack_layouts([gauge.layout for gauge in book.gauges])
        self._emit(position, change_blocks.Packed(now, position, groups, layouts))
        every = frozenset(i for i, rule in enumerate(book.rescans) if rule.is_new)
        with self.lock:
            state.book = book
            state.catalogue = prepared.catalogue
            state.now = now
            state.layouts_at = position
            state.counters.changes += delta_changes
            if every:
                self.rescans.add(Task(position, now, now, count, count, [], every=every))
            state.position = position + 1

    def _emit(self, position: int, block: change_blocks.Packed) -> None:
        # A replay comes by what retention has dropped; it stays dropped.
        if position >= self.feed.first_kept():
            try:
                self.feed.append(position, change_blocks.encode(block))
            except CorruptLog as error:
                raise self.feed.condemn(str(error)) from error
        self._fed = max(self._fed, position + 1)

    def _settle(self, blocks: list[Block], notes: tuple[BatchNote, ...], delta: EntryDelta) -> None:
        """Publish a folded entry and keep what is derived from it."""
        state = self.state
        position, started = state.position, state.now
        if delta.groups:
            self._emit(
                position, change_blocks.Packed(delta.fold.now, state.layouts_at, delta.groups)
            )
        self.stages.lap("feed")
        base = 0
        for block in blocks:
            is_event = state.behavior(block.dataset) == "event"
            locator = state.locator if is_event else state.record_locator
            idents, times = block.idents[block.order], block.timestamps[block.order]
            # Merging takes longer than readers should wait: it is done before the lock.
            locator.add(position, idents, times, base + block.order)
            base += block.rows
        self.stages.lap("locate")
        now, slots = delta.fold.now, state.directory.slots
        first_new = slots - delta.new_profiles
        task = Task(position, started, now, slots, first_new, delta.rescans, delta.touched)
        with self.lock:
            publish(state, delta)
            self.note_slice(delta)
            state.locator.publish()
            state.record_locator.publish()
            self._count(blocks, notes, position)
            if state.book.rescans:
                # Together with the position: it tells readers that the entry is not complete yet.
                self.rescans.add(task)
            state.position = position + 1
        for swap in of_book(state.book, state.directory.slots):
            with self.lock:
                swap()
        self.stages.lap("publish")
        self._rows_since_checkpoint += base

    def work(self, limit: int) -> int:
        """Do a slice of the clock's work and up to ``limit`` rescan evaluations; returns how many
        entries have some left.

        For the writer's thread, between entries. Changes join the feed block of their entry.
        """
        if self.state.drain is not None:
            self.next_slice()
        if self.rescans.pending:
            self.rescans.work(self.state.book, self._dossiers, limit, self._finish, self.lock)
        return self.rescans.pending + (self.state.drain is not None)

    def _finish(self, task: Task) -> None:
        """Put a completed task's changes into the feed block of its entry: that is complete now."""
        groups = grouped(task, self.state)
        if groups:
            self._join(task, groups)
        moved = [change for change in task.done if self._is_membership(change)]
        with self.lock:
            self.state.counters.changes += len(moved)
            self.state.counters.changes_by_clock += sum(c.cause == "clock" for c in moved)
            self.rescans.drop(task)

    def _join(self, task: Task, groups: list[change_blocks.Group]) -> None:
        try:
            block = self.feed.get(task.position)
        except FeedDamaged:
            return  # whoever reads the block has it made anew, these changes included
        packed = (
            change_blocks.Packed(task.now, self.state.layouts_at, [])
            if block is None
            else change_blocks.decode(block)
        )
        # After a restart the block may hold them from before: the same groups, then, once.
        packed.groups[:] = [group for group in packed.groups if group not in groups] + groups
        self._emit(task.position, packed)

    def _drain(self) -> None:
        """Finish all slices and rescans: before rules change, and before a checkpoint."""
        while self.work(1 << 10):
            pass

    def _is_membership(self, change: RescanChange) -> bool:
        return self.state.book.rescans[change.rule].gauge >= 0

    def _count(self, blocks: list[Block], notes: tuple[BatchNote, ...], position: int) -> None:
        state = self.state
        for block in blocks:
            if state.behavior(block.dataset) == "event":
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
            state.receipts[note.producer] = [*kept, (position, note)][-self.config.max_receipts :]
            if len(state.receipts) > self.config.max_receipt_producers:
                del state.receipts[next(iter(state.receipts))]

    def _read_ids(self, positions: Array, rows: Array) -> tuple[list[str], Array, list[str | None]]:
        """(dataset, timestamp, _id) of rows in the log, in the order asked. For duplicates."""
        datasets: list[str] = [""] * len(rows)
        times = np.zeros(len(rows), np.int64)
        ids: list[str | None] = [None] * len(rows)
        order = np.argsort(positions, kind="stable")
        for wanted in np.split(order, starts_of(positions[order])[1:]) if len(order) else ():
            position = int(positions[wanted[0]])
            with self.log.view(position) as view:
                base = 0
                for block in decode(view, f"position {position}").blocks:
                    here = wanted[(rows[wanted] >= base) & (rows[wanted] < base + block.rows)]
                    local = rows[here].astype(np.int64) - base
                    base += block.rows
                    if len(here) == 0:
                        continue
                    times[here] = block.timestamps[local]
                    texts: list[str | None] = [None] * len(here)
                    if ID in block.table.column_names:
                        texts = block.table.column(ID).take(pa.array(local)).to_pylist()
                    for index, text in zip(here.tolist(), texts, strict=True):
                        datasets[index], ids[index] = block.dataset, text
        return datasets, times, ids

    def _recover(self) -> None:
        """State and feed as they were: the newest checkpoint, and the log's tail replayed over it.

        The feed is derived: a damaged one is dropped, and what lacks blocks that the checkpoint
        covers is made again from the log's start.
        """
        head = self.log.head()
        loaded = checkpoint_image.load(self._checkpoints, self.config, head)
        try:
            fed = self.feed.end()
        except CorruptLog:
            self.feed.reset()
            fed = 0
        if fed > head:
            raise CorruptLog(
                f"expected a log of at least {fed} entries, which the change feed covers, got"
                f" {head}: the log has lost its newest entries; restore it from a replica or backup"
                " (to go on without them, delete the partition's checkpoints/ and feed/)"
            )
        if loaded is not None and loaded.fed <= fed:
            self._fed = loaded.fed
            self._begin(loaded.state)
        self.checkpointed = self.state.position
        try:
            self._replay_tail(head)
        except FeedDamaged:
            self.feed.reset()
            self._fed = 0
            self._begin(empty_state(self.config.max_profiles))
            self._replay_tail(head)

    def _replay_tail(self, head: int) -> None:
        for position in range(self.state.position, head):
            with self.log.view(position) as view:
                self._replay(decode(view, f"position {position}"))

    def _replay(self, entry: Entry) -> None:
        state, envelope = self.state, entry.envelope
        if envelope.kind == "definition":
            catalogue = msgspec.json.decode(envelope.definition, type=Catalogue)
            self._drain()
            self._apply(Backfill(state, self.log, catalogue), envelope.now)
            return
        if envelope.slots is not None:
            self.apply_slice(*envelope.slots, envelope.now)
            return
        first_new_slot = state.directory.slots
        if entry.identities is not None:
            table = entry.identities.table
            state.directory.restore_identities(
                table.column(K0).to_numpy(),
                table.column(K1).to_numpy(),
                table.column(NAMESPACE).to_pylist(),
                table.column(VALUE).combine_chunks(),
            )
        early = self.take_early(entry.blocks)
        delta = fold_rows(state, entry.blocks, envelope.now, first_new_slot)
        delta.add(early)
        self._settle(entry.blocks, envelope.batches, delta)


def placed(reply: Reply, state: State) -> Reply:
    """An accepted reply with the entry's position and now."""
    position = reply.position if reply.position >= 0 else state.position - 1
    return Reply(
        reply.status,
        reply.accepted,
        reply.duplicate,
        reply.late,
        position,
        state.now,
        reply.expected,
        reply.open,
        reply.taken,
    )
