"""One partition as a Ray actor: opens the files, owns the writer thread, answers reads.

Theory: thin and synchronous. Eight concurrency groups keep callers apart: ``submit`` (threads that
wait in the writer's queue), ``mail`` (messages of other sequencers, which those that submit may
wait for), ``read`` (never behind a fold or a queue), ``preview``, ``define``, ``backups`` (one at a
time each, since they read the whole log), ``edges`` (threads that wait for changes), and the
default one for control. The actor is detached and restarts without limit; ``__init__`` recovers.

An actor that cannot open its files stands, and answers every call with the reason (``opening``).

Limits: ``num_cpus=0``, since partitions are few and pinned by design; Ray schedules nothing here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from profile_actors.actors.actor_status import ActorStatus, PartitionPlace
from profile_actors.actors.calls import Remote, Session, Stopped
from profile_actors.actors.comeback import Comeback
from profile_actors.actors.consumers import Consumers
from profile_actors.actors.edges.edge_pulls import pull
from profile_actors.actors.hooks import Hook, no_hook
from profile_actors.actors.logs.enlisted_log import REPLICA, EnlistedLog
from profile_actors.actors.logs.expirer import Expirer
from profile_actors.actors.logs.log_steps import log_step
from profile_actors.actors.logs.mender import Mender
from profile_actors.actors.logs.opening import refusal_of
from profile_actors.actors.logs.standing_still import leave
from profile_actors.actors.mail.interpreter import tune
from profile_actors.actors.mail.mail_room import MailRoom, look, post_of
from profile_actors.actors.mail.postman import Delivered, Look
from profile_actors.actors.read_line import ReadLine
from profile_actors.actors.wall_clock import wall_ms
from profile_actors.actors.wire import dumps, unpack
from profile_actors.actors.writer import Writer
from profile_actors.definitions.declared import Catalogue
from profile_actors.engine.identity.messages import Op
from profile_actors.engine.log.sub_batch import Reply
from profile_actors.engine.partition.partition import Partition
from profile_actors.engine.partition.partition_trials import TRIALS
from profile_actors.errors import (
    FencedOut,
    LostLog,
    ProfileActorsError,
    StorageFull,
    StoreUnavailable,
)
from profile_actors.storage.checkpoint_files import FileCheckpoints
from profile_actors.storage.files.atomic_files import Room
from profile_actors.storage.files.layout import PartitionLayout
from profile_actors.storage.lmdb_feed import LmdbFeed

READS = frozenset({
    "profiles", "events", "members", "count", "change_columns", "head", "scan_slots", "scan_page",
    "profile_keys", "entity", "feed_kept",
})  # fmt: skip
"""What ``read`` may ask of a partition."""

TELL_LOOK_S = 1.0
"""How often is looked whether there is a checkpoint, or so much time has passed, to tell of."""

LAST_TELL_S = 5.0  # a partition that stops tries for so long to tell where its log ends
READ_THREADS = 4
"""Reads that are worked on at a time: by Ray, and as many by direct lines."""

PAUSES = 3.0
"""Length of a back-fill's pause beside ingest, in lengths of the step before."""

MAX_PAUSE_S = 1.0


class PartitionActor:
    """The shell; see the module."""

    def __init__(self, place: PartitionPlace, hook: Hook = no_hook) -> None:
        """hook: called at named points; crash tests kill the process there."""
        tune()
        self._place = place
        self._hook = hook
        self._opening = Lock()
        self._defining = Lock()
        self._consumers = Consumers(place.config.max_consumers)
        self._line = ReadLine(self.read, place.config.max_read_lines, READ_THREADS)
        self._stopping = False
        self._stopped = Event()
        self._refusal: ProfileActorsError | None = None
        self._try_to_open()

    def _try_to_open(self) -> None:
        place = self._place
        self._refusal = refusal_of(self._open, f"partition {place.index}", place.path)

    def _open(self) -> None:
        place = self._place
        coordinator = ray.get_actor("coordinator", namespace=place.namespace)
        remote = Remote(
            coordinator, "coordinator", place.config.call_timeout_s,
            Session(place.path, place.namespace),
        )  # fmt: skip
        # The log first: its lock keeps a dying predecessor (or another store) out of the rest.
        self._enlisted = EnlistedLog(remote, place.index, place.path, place.config, self._hook)
        log, known, directory = (one := self._enlisted).log, one.known, Path(one.path)
        epoch, clock, catalogue = known.epoch, known.clock, known.catalogue
        try:
            self._hook("log.begun")
            # Nothing is appended before the catalogue knows that there is a log to be missed.
            self._enlisted.tell()
            feed = LmdbFeed(directory, place.config, crash_point=self._hook)
            checkpoints = FileCheckpoints(directory, crash_point=self._hook)
        except BaseException:
            log.close()
            raise
        self._partition = Partition(
            log, feed, checkpoints, place.config,
            index=place.index, epoch=epoch, clock=time.thread_time,
            post=post_of(place.index, known),
        )  # fmt: skip
        if self._partition.catalogue.version > catalogue.version:
            try:
                remote.call("recall", place.index, self._partition.catalogue)
            except BaseException:
                self._partition.close()
                raise
        lack = Room(directory, place.config.min_free_bytes).lack
        self._mail = MailRoom(place, self._partition)
        self._writer = Writer(
            self._partition, place.config,
            clock=clock, wall=wall_ms, hook=self._hook, room=lack, written=self._mail.written,
        )  # fmt: skip
        self._comeback = Comeback(lambda: self._writer.halted, PartitionLayout(directory), lack)
        self._mender = Mender(self._partition, place.config.pending_wait_ms, self._pace)
        self._enlisted.tend(self._mender, self._writer.queued, self._partition.reader.let_go)
        self._expirer = Expirer(remote, self._partition, self._take, is_wall=clock == "wall")
        self._writer.start()
        self._mail.postman.start()
        Thread(target=self._tell, name="positions", daemon=True).start()
        if self._partition.catalogue.version:
            # A back-fill that a crash cut short begins again, beside ingest as before.
            Thread(target=self._take, args=(catalogue,), name="definitions", daemon=True).start()
        else:
            with suppress(StorageFull):  # whoever sends rows has it taken then
                self._take(catalogue)

    def _tell(self) -> None:
        """Tell the coordinator how long the log is, and look after what goes on by itself."""
        told, saved = self._partition.log.head(), self._partition.owed.checkpointed
        pause_s = self._place.config.tell_position_ms / 1000
        due = time.monotonic() + pause_s
        while not self._stopped.wait(min(TELL_LOOK_S, pause_s)):
            self._comeback.look()
            self._expirer.look()
            self._enlisted.end_if_lost()
            head, checkpoint = self._partition.log.head(), self._partition.owed.checkpointed
            if head == told or (checkpoint == saved and time.monotonic() < due):
                continue
            with suppress(ProfileActorsError):  # the next look tells it
                told, saved = self._enlisted.tell(), checkpoint
            due = time.monotonic() + pause_s

    def _opened(self) -> Partition:
        # A predecessor that Ray wrongly thinks dead holds the lock until it is, files that were
        # missing may be back, and so may the coordinator: try again.
        may_open = isinstance(self._refusal, FencedOut | LostLog | StoreUnavailable)
        if may_open and not self._stopping and self._opening.acquire(blocking=False):
            try:
                self._try_to_open()
            finally:
                self._opening.release()
        if self._refusal is not None:
            raise self._refusal
        return self._partition

    @ray.method(concurrency_group="read")
    def replica(self, name: str, *args: Any) -> Any:
        """One of REPLICA: what a driver asks of the log's standby."""
        self._opened()
        assert name in REPLICA, name
        return getattr(self._enlisted, name)(*args)

    @ray.method(concurrency_group="submit")
    def submit(self, header: bytes, rows: pa.Buffer | None = None) -> Reply:
        """Answer when the sub-batch is durable and folded, or why it must come again."""
        partition = self._opened()
        batch = unpack(header, rows)
        if partition.catalogue.version < batch.catalogue:
            return Reply("behind")
        return self._mail.forwarding.told(batch, self._writer.submit(batch))

    @ray.method(concurrency_group="mail")
    def deliver(self, source: str, data: bytes) -> Delivered:
        """Take messages of another sequencer; answers when what was taken is durable and folded."""
        self._opened()
        return self._mail.deliver(self._writer, source, data)

    @ray.method(concurrency_group="submit")
    def withdraw(self, version: int, ops: list[Op]) -> bool | None:
        """Withdraw links of identities that this partition owns; whether that is shown already.
        None if the definitions here are older than ``version``."""
        if self._opened().catalogue.version < version:
            return None
        return self._mail.forwarding.wait(self._writer.deliver((), ops) - 1)

    @ray.method(concurrency_group="read")
    def cursor_of(self, source: str) -> int:
        return self._opened().mailbox.cursor(source)

    @ray.method(concurrency_group="read")
    def rest(self) -> Look:
        """Whether it waits for messages, or others for its own (``mail_room``)."""
        return look(self._opened())

    @ray.method(concurrency_group="read")
    def read(self, version: int, name: str, *args: Any) -> bytes | None:
        """Call one of READS; None if the definitions here are older than version."""
        partition = self._opened()
        if partition.catalogue.version < version:
            return None
        assert name in READS, name
        self._enlisted.log.check_lease()
        if name == "head":
            return dumps(partition.position)
        if name == "feed_kept":
            return dumps((partition.feed.first_kept(), self._enlisted.known.renewed))
        if name == "entity":
            return dumps(partition.reader.entity(*args))
        if name == "profiles":
            keys = np.frombuffer(args[0], np.uint64).reshape(-1, 2)
            return dumps(partition.look_up(keys, self._writer.now(), *args[1:]))
        if name == "scan_page":
            slots = np.frombuffer(args[0], np.uint32)
            return dumps(partition.scan_page(slots, self._writer.now(), args[1]))
        if name == "change_columns":
            after, limit_bytes, consumer = args
            found = self._mender.mended(lambda: partition.change_columns(after, limit_bytes))
            found.renewed = self._enlisted.known.renewed
            self._consumers.note(consumer, found.reached, wall_ms())
            return dumps(found)
        return dumps(self._mender.mended(lambda: getattr(partition, name)(*args)))

    @ray.method(concurrency_group="read")
    def line(self) -> tuple[str, bytes] | None:
        """Where processes of this machine may ask what ``read`` answers, without Ray, and what they
        prove there (``read_line``)."""
        return self._line.address()

    @ray.method(concurrency_group="edges")
    def project(self, *asked: Any) -> bytes | None:
        """The next page of an edge, or some profiles for it (``edge_pulls.pull``)."""
        partition, writer = self._opened(), self._writer
        return pull(partition, writer.now, writer.queued, self._enlisted.known.erasures, *asked)

    @ray.method(concurrency_group="backups")
    def log_step(self, name: str, *args: Any) -> Any:
        self._opened()
        return log_step(self._enlisted, self._pace(), self._hook, name, *args)

    def leave(self, number: int) -> None:
        leave(self._enlisted.known.erasures if self._refusal is None else None, number)

    @ray.method(concurrency_group="preview")
    def preview(self, version: int, name: str, *args: Any) -> Any:
        """One of TRIALS; None if the definitions here are older."""
        partition = self._opened()
        if partition.catalogue.version < version:
            return None
        return TRIALS[name](partition, self._writer.now(), *args)

    @ray.method(concurrency_group="preview")
    def has_rows_of(self, kind: str, name: str) -> bool:
        return self._opened().has_rows_of(kind, name)

    @ray.method(concurrency_group="read")
    def owed(self) -> tuple[int, int | None]:
        """The next position, and the oldest whose rescans are not all done (None: all are)."""
        partition = self._opened()
        return partition.position, partition.owed.rescans.first_pending

    @ray.method(concurrency_group="read")
    def cursor(self, producer: str) -> int | None:
        return self._opened().cursor(producer)

    @ray.method(concurrency_group="read")
    def born(self) -> int:
        """The wall time (ms) that a connection which begins now says in its name."""
        self._opened()
        return self._writer.born()

    @ray.method(concurrency_group="read")
    def progress(self, producer: str) -> tuple[int | None, bytes, bytes]:
        return self._opened().progress(producer)

    @ray.method(concurrency_group="read")
    def status(self) -> ActorStatus:
        """Never raises: a partition that is in trouble says so here."""
        if self._refusal is not None:
            return ActorStatus(None, str(self._refusal), 0, "", os.getpid())
        writer = self._writer
        why = writer.halted or writer.clock_error or writer.room_error
        return ActorStatus(
            self._partition.status(), "" if why is None else f"{type(why).__name__}: {why}",
            writer.queued(), writer.checkpoint_error, os.getpid(), self._mender.account,
            self._consumers.all(self._partition.position), self._mail.postman.account(),
            self._enlisted.standing(), scrub=self._enlisted.scrubber.status(),
            compaction=self._enlisted.compactor.status(),
        )  # fmt: skip

    def hello(self) -> int | None:
        """The partition's now, once it is open."""
        return self._opened().now

    @ray.method(concurrency_group="define")
    def define(self, catalogue: Catalogue) -> int:
        """Take the definitions if they are newer; returns the version that holds. Idempotent.

        New rules are folded from the log in this thread while the writer goes on; the writer only
        publishes what was folded.
        """
        self._opened()
        return self._take(catalogue)

    def _take(self, catalogue: Catalogue) -> int:
        partition, writer = self._partition, self._writer
        with self._defining:
            if partition.catalogue.version >= catalogue.version:
                return partition.catalogue.version
            prepared = partition.backfill(catalogue, self._pace())
            self._hook("partition.before_switch")

            def switch() -> int:
                partition.define(catalogue, writer.now(), prepared)
                self._hook("partition.after_switch")
                return partition.catalogue.version

            return writer.run(switch)

    def _pace(self) -> Callable[[], bool]:
        """Asked between steps of a back-fill: whether to go on; sleeps first while rows come in.

        The fold and the back-fill share cores and the interpreter: while entries are written, a
        step is followed by PAUSES times its own length, so ingest keeps most of its speed.
        """
        last, position = time.monotonic(), self._partition.position

        def go_on() -> bool:
            nonlocal last, position
            self._hook("partition.between_steps")
            is_busy = self._writer.queued() > 0 or self._partition.position != position
            if is_busy and not self._stopping:
                time.sleep(min(MAX_PAUSE_S, PAUSES * (time.monotonic() - last)))
            last, position = time.monotonic(), self._partition.position
            return not self._stopping

        return go_on

    def advance(self, now: int) -> int | None:
        """Move the event clock to now (ms) unless it is there already. Idempotent."""
        partition = self._opened()

        def step() -> int | None:
            if partition.now is None or partition.now < now:
                partition.advance(now)
            return partition.now

        return self._writer.run(step)

    def verify(self, sample: int | None) -> list[str]:
        """Re-read every log entry, then refold and compare; the differences, [] when none. On the
        writer's thread: submissions wait."""
        partition = self._opened()
        return self._writer.run(lambda: partition.verify(sample), writes=False)

    def stop(self) -> None:
        """Commit what is queued, flush, close the files. The actor can be killed then."""
        if self._refusal is not None:
            return
        self._stopping = True  # first: nobody opens it anew
        self._refusal = Stopped("expected a running partition, got a stopped one - start the store")
        self._stopped.set()
        self._line.close()
        self._writer.stop()
        self._mail.postman.stop()
        if self._writer.halted is None and self._writer.room_error is None:
            job = self._partition.checkpoint_job(force=True)  # the next opening replays nothing
            if job is not None:
                job()
        with suppress(ProfileActorsError):  # of use, and not needed, for the next opening
            self._enlisted.tell(LAST_TELL_S)
        with self._defining:  # a back-fill beside the writer reads the log
            self._partition.close()
