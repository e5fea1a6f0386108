"""One partition: log, state, and the one way from sub-batches to acknowledged, folded rows.

Theory: a partition has a writer, a clock and a reader over one ``State``, and what it still owes
in one record. ``commit`` admits sub-batches, appends one durable entry, folds it and publishes the
delta; replay after a restart runs the same fold over the decoded entry. One thread writes; reads
take the lock for as long as a copy of what they need, so they never see half an entry and never
wait for a whole fold.

Rules for editors: nothing here knows Ray, LMDB or a clock; ``now`` is passed in. The order is
admit, append, fold, publish, and a crash between any two loses nothing acknowledged.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial

from profile_actors.columnar.state_columns import UNSET
from profile_actors.columnar.vectors import Array
from profile_actors.config import Config
from profile_actors.definitions.declared import Catalogue
from profile_actors.engine.edges.edge_pages import Page, Place
from profile_actors.engine.edges.projector import Projector
from profile_actors.engine.exchange.admission import admit
from profile_actors.engine.exchange.carried_rows import outgoing
from profile_actors.engine.exchange.letters import open_letters
from profile_actors.engine.fold.stage_times import Stages, no_clock
from profile_actors.engine.fold.state import State, empty_state
from profile_actors.engine.identity.identity import Identity
from profile_actors.engine.identity.mailbox import NO_POST, Mailbox, Post
from profile_actors.engine.identity.messages import Message, Op
from profile_actors.engine.log.change_columns import ChangeColumns
from profile_actors.engine.log.crowds import Crowds, read_ids
from profile_actors.engine.log.ports import Checkpoints, Feed, Log
from profile_actors.engine.log.repairs import Rejects
from profile_actors.engine.log.sub_batch import Reply, SubBatch
from profile_actors.engine.partition.checkpoint_job import Job, finish, is_due
from profile_actors.engine.partition.entry_writer import EntryWriter, placed
from profile_actors.engine.partition.feed_writer import FeedWriter
from profile_actors.engine.partition.partition_clock import PartitionClock
from profile_actors.engine.partition.recovery import Replay, newest_checkpoint
from profile_actors.engine.reading.answers import Change, EventPage, PartitionStatus, Profile
from profile_actors.engine.reading.change_delivery import changes_of
from profile_actors.engine.reading.fields import EVERYTHING, Fields
from profile_actors.engine.reading.profile_columns import Answer
from profile_actors.engine.reading.reader import Reader
from profile_actors.engine.reading.rule_preview import PartPreview
from profile_actors.engine.reading.scans import ScanPage
from profile_actors.engine.refold.backfill import Backfill, text_of
from profile_actors.engine.refold.definition_use import kept
from profile_actors.engine.refold.dossiers import Dossiers
from profile_actors.engine.refold.owed import Owed
from profile_actors.engine.refold.rescans import Rescans
from profile_actors.errors import FeedDamaged, ProfileActorsError
from profile_actors.ingest.offsets import packed

Profiles = list[Profile | None]
MembersPage = tuple[list[Identity], int | None]
BACKFILL_ENTRIES = 8
"""Entries of one step of a back-fill beside the writer, and about what it leaves to the writer."""


class Partition:
    """index: its number in the store; epoch: the owner's fencing number.

    Log and feed are the partition's from here on: ``close`` closes them, and so does an opening
    that fails. It recovers: newest valid checkpoint, then the log's tail; all of the log if the
    feed lacks what the checkpoint covers. Raises CorruptLog.
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
        post: Post = NO_POST,
    ) -> None:
        self.log = log
        self.feed = feed
        self.config = config
        self.index = index
        self.post = post
        self.lock = threading.RLock()
        self.stages = Stages(clock)
        self.owed = Owed()
        self._checkpoints = checkpoints
        self._epoch = epoch
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="log")
        self._crowds = Crowds(config.max_crowded_rows, partial(read_ids, log))
        self._begin(empty_state(config, post), 0)
        try:
            self._recover()
        except BaseException:
            with suppress(ProfileActorsError):
                self.close()
            raise

    def _begin(self, state: State, fed: int) -> None:
        """Writer, clock and reader of this state; its changes are in the feed up to ``fed``."""
        self.state = state
        self.owed.rescans = Rescans()
        self._dossiers = Dossiers(state, self.log)
        self._feed_writer = FeedWriter(self.feed, fed, self.config.feed_retention_days)
        self._writer = EntryWriter(
            self.log, self._feed_writer, self.config, state, self.owed, self.lock,
            epoch=self._epoch, disk=self._disk, stages=self.stages,
        )  # fmt: skip
        self.clock = PartitionClock(state, self.owed, self._writer, self.config.max_due_rows)
        self.reader = Reader(
            self.log, self.feed, self.index, state, self.owed, self.lock, self.stage_seconds,
            self.config.max_open_entries,
        )  # fmt: skip
        self.projector = Projector(
            state, self.reader, self.lock, self._epoch, self.config.edge_page_profiles
        )

    def close(self) -> None:
        """Flush the feed and let go of log, feed and the disk thread; twice is once.

        Whatever was acknowledged is in the log already. Raises StorageFull from the feed's flush
        (the log is closed all the same).
        """
        self._disk.shutdown()
        self.reader.close()
        try:
            self.feed.close()
        finally:
            self.log.close()

    def commit(
        self,
        batches: Sequence[SubBatch],
        now: int | None,
        wall: int | None = None,
        mail: Sequence[Message] = (),
        withdrawn: Sequence[Op] = (),
    ) -> list[Reply]:
        """One entry of the given sub-batches: durable, folded and visible when this returns.

        now: wall ms; None on the event clock, where the largest ``clock`` of the batches rules.
        wall: the wall clock's ms on either clock, by which silent connections are forgotten. mail:
        messages; ``mailbox`` says which were taken. withdrawn: of links. Raises StorageFull,
        FencedOut, CorruptLog: the partition must be reopened then."""
        state = self.state
        self.stages.start()
        admitted = admit(state, batches, self._crowds, self.lock, wall)
        self.stages.lap("resolve")
        letters = open_letters(state, mail, admitted, withdrawn, self.lock)
        wanted = admitted.clock if now is None else now
        if letters is not None:
            wanted = letters.moment(wanted)
        moment = state.now if wanted is None else max(state.now, wanted)
        moment = self.clock.moment_of_rows(moment, is_wall=now is not None)
        if admitted.notes or admitted.closed or letters is not None or moment > state.now:
            self._writer.write(admitted, moment, letters)
        return [
            placed(reply, state) if reply.status == "ok" else reply for reply in admitted.replies
        ]

    def backfill(self, catalogue: Catalogue, go_on: Callable[[], bool]) -> Backfill:
        """Fold a catalogue version's new rules beside the writer, up to about the present.

        For one thread at a time, not the writer's; give the result to ``define``. go_on: asked
        between steps; stops the work early. Cost: one pass over the log when rules are new. Raises
        RuleError for rules that cannot be planned.
        """
        known = self.state.catalogue
        job = Backfill(self.state, self.log, kept(known, catalogue, self.log, self.state.position))
        self.owed.filling = job
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
            self.owed.filling = None
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
        finish(state)  # columns and what they mean are about to be others
        self._drain()
        if moment > state.now and self.clock.next_due() <= moment:
            self.clock.advance(moment)
            self._drain()  # what the old rules still owe is done by the old rules
        self._writer.define(catalogue, text, moment)
        self._writer.apply(prepared, moment)

    def checkpoint_job(self, force: bool = False) -> Job | None:
        """What saves the state as it is now, for a helper thread; None when not due yet. The state
        may go on meanwhile. Cost here: a look at each column, none at its rows."""
        if not is_due(self.state, self.owed, self.config, force):
            return None
        self.owed.unsaved_rows = 0
        self._drain()
        job = Job(self.state, self._checkpoints, self.feed, self._feed_writer.end)
        self.owed.checkpointed = self.state.position
        return job

    def work(self, limit: int) -> int:
        """Do a slice of the clock's work and up to ``limit`` rescan evaluations; returns how many
        entries have some left. For the writer's thread, between entries.

        Changes join the block of their entry. Past links are told in one, which may have rescans.
        """
        if self.state.drain is not None:
            self.clock.next_slice()
        rescans, state = self.owed.rescans, self.state
        if rescans.pending:
            rescans.work(state.book, self._dossiers, limit, self._writer.finish, self._changing)
            with self.lock:  # a rule that failed without a profile of its own
                state.touch_if_failed(state.position)
        return self._writer.tell_past() + rescans.pending + (self.state.drain is not None)

    @property
    def mailbox(self) -> Mailbox:
        """What other sequencers told and were told. Under the lock."""
        return self.state.homes.mailbox

    def outgoing(self, to: str, after: int, limit: int) -> list[Message]:
        """Messages to another sequencer from number ``after`` + 1 on. Any thread."""
        return outgoing(self.state, self.log, self.lock, self.post.me, to, after, limit)

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

    def advance(self, now: int) -> None:
        """Move the clock and let what is due happen. Raises ClockError for an earlier instant."""
        self.clock.advance(now)

    def tick(self, now: int) -> None:
        """Wall clock: let what is due happen, as much as one step takes, and old changes go."""
        self.clock.tick(now)
        self._feed_writer.tick(now)

    def next_due(self) -> int:
        """The next instant (ms) at which the clock alone changes something; FOREVER if none."""
        return self.clock.next_due()

    def profiles(self, keys: Sequence[tuple[int, int]], now: int | None = None) -> Profiles:
        """Profiles by identity key as of ``now`` ms, in order; None where unknown."""
        return self.reader.profiles(keys, now)

    def look_up(self, keys: Array, now: int | None, fields: Fields = EVERYTHING) -> Answer:
        """The same as columns, of the asked fields alone. keys: uint64[n, 2]."""
        return self.reader.look_up(keys, now, fields)

    def scan_slots(self, segment: str | None) -> tuple[int, Array]:
        """How many entries were seen, and the slots of a segment's members, or of everybody."""
        return self.reader.scan_slots(segment)

    def scan_page(self, slots: Array, now: int | None, fields: Fields) -> ScanPage:
        """The asked fields of some slots, as of one position."""
        return self.reader.scan_page(slots, now, fields)

    def profile_keys(self, after: int, limit: int) -> tuple[bytes, int]:
        """The keys of some profiles, and the last slot that was looked at."""
        return self.reader.profile_keys(after, limit)

    def project(self, fields: Fields, form: str, place: Place, now: int | None = None) -> Page:
        """The next page of a copy of those fields, of a form, that stands there."""
        return self.projector.page(fields, form, place, now, self.config.edge_page_bytes)

    def events(
        self,
        key: tuple[int, int],
        start: int | None = None,
        end: int | None = None,
        order: str = "asc",
        limit: int = 1000,
        cursor: str | None = None,
    ) -> EventPage:
        """A page of one profile's events."""
        return self.reader.events(key, start, end, order, limit, cursor)

    def members(self, segment: str, after: int = -1, limit: int = 10_000) -> MembersPage:
        """A page of a segment's members and the cursor of the next page (None: the last)."""
        return self.reader.members(segment, after, limit)

    def count(self, segment: str) -> int:
        """How many members a segment has."""
        return self.reader.count(segment)

    def changes(self, after: int = -1, limit_bytes: int = 1 << 18) -> tuple[list[Change], int]:
        """Changes of entries after a position, in order, and the position they reach."""
        page = self.reader.changes(after, limit_bytes)
        return changes_of(page, 0, len(page)), page.reached

    def change_columns(self, after: int, limit_bytes: int) -> ChangeColumns:
        """The same as columns."""
        return self.reader.changes(after, limit_bytes)

    def has_rows_of(self, kind: str, name: str) -> bool:
        """Whether rows name a dataset or namespace."""
        return self.reader.has_rows_of(kind, name)

    def preview(self, text: str, now: int | None, sample: int) -> PartPreview:
        """Who would qualify for a rule that is not defined. Raises RuleError."""
        return self.reader.preview(text, now, sample)

    def status(self) -> PartitionStatus:
        """The partition's own account of itself."""
        return self.reader.status()

    def verify(self, sample: int | None = None) -> list[str]:
        """Differences between this state and what the log says, after the slices that are left:
        until then columns are of two instants. For the writer's thread."""
        self.clock.finish_slices()
        return self.reader.verify(sample)

    def cursor(self, producer: str) -> int | None:
        """The next offset expected of a producer; None if it never sent."""
        return self.state.cursors.get(producer)

    def progress(self, producer: str) -> tuple[int | None, bytes, bytes]:
        """The cursor, and of the offsets below it those that are open and those that are taken
        (``repairs``), packed."""
        with self.lock:
            mine = self.state.rejects.get(producer) or Rejects()
            cursor = self.state.cursors.get(producer)
            return cursor, packed(mine.open.ranges), packed(mine.taken.ranges)

    @property
    def heard_until(self) -> int:
        """The newest wall time (ms) in the log."""
        return self.state.connections.wall

    def stage_seconds(self) -> dict[str, float]:
        """Seconds by stage, for who measures."""
        return dict(self.stages.seconds)

    @contextmanager
    def _changing(self, slots: Array) -> Iterator[None]:
        state = self.state
        with state.changing(lambda: slots), self.lock:
            yield
            state.touch(state.position, slots)

    def _drain(self) -> None:
        """Finish all slices and rescans: before rules change, and before a checkpoint."""
        while self.work(1 << 10):
            pass

    def _recover(self) -> None:
        """State and feed as they were; from the log's start if the feed lacks what is covered."""
        head = self.log.head()
        loaded = newest_checkpoint(self._checkpoints, self.feed, self.config, head, self.post)
        if loaded is not None:
            self._begin(loaded.state, loaded.fed)
        self.owed.checkpointed = self.state.position
        try:
            self._replay(head)
        except FeedDamaged:
            self.feed.reset()
            self._begin(empty_state(self.config, self.post), 0)
            self._replay(head)

    def _replay(self, head: int) -> None:
        Replay(self.log, self.state, self._writer, self.clock, self._drain).up_to(head)
