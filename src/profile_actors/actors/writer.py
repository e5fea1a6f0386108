"""The one thread that writes a partition: group commit, ticks, checkpoints.

Theory: many callers, one writer. Callers leave a sub-batch in a bounded queue and wait for its
reply; the writer takes what is there, lets the partition make one log entry of it (one synced
commit, however many callers), and wakes them. Between entries it runs control work (definitions,
clock moves), lets due work happen, does a slice of the rescans, and starts checkpoint jobs in a
helper thread. Threads may deliver one producer's sub-batches out of order; those that came too
early are held back for a short while, so that the common race costs no round trip (the
partition's cursors decide in any case). Messages of other sequencers go into the next entry,
whatever else is queued: rows of people with several identities wait for them.

On the event clock every sub-batch is an entry of its own, unless ``max_event_entry_batches`` says
otherwise: where entries end decides which net changes are in the feed, and a replay shall give the
same feed whatever the timing was.

A ``Halt`` (a damaged log, a failed write, another owner) or a defect stops the writing for good:
callers get the error, ``status`` keeps it, reads go on. A wall clock that jumps too far ahead, or
too little room on the disk, only pauses the writing: nothing is written, and it resumes by itself.

Rules for editors: no Ray here; the wall clock is passed in. Only this thread may call
``commit``, ``tick``, ``advance``, ``define`` and ``checkpoint_job``.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition, Thread
from typing import Any, TypeVar

from profile_actors.actors.calls import Stopped
from profile_actors.actors.hooks import Hook, no_hook
from profile_actors.config import Config
from profile_actors.engine.identity.messages import Message, Op
from profile_actors.engine.log.sub_batch import Reply, SubBatch
from profile_actors.engine.partition.partition import Partition
from profile_actors.errors import ClockError, Halt, ProfileActorsError, StorageFull

EARLY_WAIT_S = 0.25
"""How long a sub-batch waits for its predecessor: far above thread races, not felt by users."""


ROOM_LOOK_S = 0.25
"""Between two looks whether there is room again; one costs a system call."""


IDLE_S = 3600.0
"""Wake-up of a writer without a clock of its own; all else notifies it."""

T = TypeVar("T")


class _Refused(Exception):
    """Control work that was not begun for want of room."""

    def __init__(self, reason: StorageFull) -> None:
        super().__init__(str(reason))
        self.reason = reason


@dataclass(slots=True)
class Ticket:
    """A sub-batch in the queue, and where its caller waits."""

    batch: SubBatch
    arrived_s: float
    reply: Future[Reply] = field(default_factory=Future)

    @property
    def rows(self) -> int:
        return 0 if self.batch.table is None else int(self.batch.table.num_rows)

    @property
    def size_bytes(self) -> int:
        """Bytes of its rows, or of what holds them. Cost: some 5 us, so not for one alone."""
        return 0 if self.batch.table is None else int(self.batch.table.get_total_buffer_size())


@dataclass(slots=True)
class Letter:
    """Messages of other sequencers, or links to withdraw, and where who brought them waits."""

    messages: Sequence[Message]
    withdrawn: Sequence[Op]
    position: Future[int] = field(default_factory=Future)


class Writer:
    """The writer thread of one partition and its queue."""

    def __init__(
        self,
        partition: Partition,
        config: Config,
        *,
        clock: str,
        wall: Callable[[], int],
        hook: Hook = no_hook,
        room: Callable[[], StorageFull | None] = lambda: None,
        written: Callable[[], None] = lambda: None,
    ) -> None:
        """clock: 'wall' or 'event'. wall: ms since 1970, the real one in both modes. room: asked
        before anything is written; the error that refuses it, None if there is room. written:
        called after every entry of rows or messages.
        """
        self._partition = partition
        self._config = config
        self._wall = wall if clock == "wall" else None
        self._real_wall = wall
        self._last_wall, self._last_look_s = wall(), time.monotonic()
        self._hook = hook
        self._room = room
        self._written = written
        self._wake = Condition()
        self._tickets: list[Ticket] = []
        self._letters: list[Letter] = []
        self._work: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._stopping = False
        self._rescans = 1  # until the first look: an opening may have found work left over
        self._checkpoint: Thread | None = None
        self.halted: BaseException | None = None
        self.clock_error: ClockError | None = None
        self.room_error: StorageFull | None = None
        self.checkpoint_error = ""
        self._thread = Thread(target=self._loop, name="writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(self, batch: SubBatch) -> Reply:
        """Queue a sub-batch and wait until it is durable and folded.

        'busy' at once when the queue is full. Raises Halt, ClockError.
        """
        ticket = Ticket(batch, time.monotonic())
        with self._wake:
            self._refuse_if_stopped()
            if len(self._tickets) >= self._config.max_queue_batches:
                return Reply("busy")
            self._tickets.append(ticket)
            self._wake.notify()
        return ticket.reply.result()

    def deliver(self, messages: Sequence[Message], withdrawn: Sequence[Op] = ()) -> int:
        """Take in messages, or withdraw links, with the next entry; returns the position after it
        once that is durable and folded. Never refused for a full queue: whoever sends them has one
        call under way. Raises Halt, ClockError, StorageFull.
        """
        letter = Letter(messages, withdrawn)
        with self._wake:
            self._refuse_if_stopped()
            self._letters.append(letter)
            self._wake.notify()
        return letter.position.result()

    def run(self, work: Callable[[], T], writes: bool = True) -> T:
        """Run control work on the writer thread, after what was queued before it is committed.

        writes: whether it writes: StorageFull where there is no room.
        """

        def with_room() -> T:
            if writes and self.room_error is not None:
                raise _Refused(self.room_error)
            return work()

        future: Future[T] = Future()
        with self._wake:
            self._refuse_if_stopped()
            self._work.append((with_room, future))
            self._wake.notify()
        return future.result()

    def now(self) -> int | None:
        """The instant of reads: the wall clock's, never back; None on the event clock."""
        if self._wall is None:
            return None
        last = self._partition.now or 0
        return last if self.clock_error is not None else max(last, self._wall())

    def born(self) -> int:
        """Wall ms for the name of a connection that begins now: forgotten later than all before."""
        return max(self._real_wall(), self._partition.heard_until)

    def queued(self) -> int:
        return len(self._tickets)

    def stop(self) -> None:
        """Commit what is queued, finish a running checkpoint, end the thread."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join()
        if self._checkpoint is not None:
            self._checkpoint.join()

    def _refuse_if_stopped(self) -> None:
        error = self.halted or self.clock_error
        if error is not None:
            raise error
        if self._stopping:
            raise Stopped(
                "expected a running partition, got one that is being stopped - at its writer"
            )

    def _loop(self) -> None:
        while True:
            with self._wake:
                is_idle = not (self._tickets or self._letters or self._work)
                if is_idle and not self._stopping:
                    self._wake.wait(self._pause_s())
                tickets = self._take(time.monotonic())
                letters, self._letters = self._letters, []
                work = [self._work.popleft() for _ in range(len(self._work))]
                if not (tickets or letters or work):
                    if self._stopping and not self._tickets:
                        return
                    if self._tickets:  # early ones alone: their predecessors are on their way
                        self._wake.wait(EARLY_WAIT_S / 10)
            try:
                self._check_wall()
                self.room_error = self._room()
                if tickets or letters:
                    self._commit(tickets, letters)
                for step, future in work:
                    self._step(step, future)
                if self.room_error is None:
                    self._tick()
                    before = self._partition.position
                    self._rescans = self._partition.work(self._config.max_rescan_evaluations)
                    if self._partition.position != before:  # it may have told of past links
                        self._written()
                    self._start_checkpoint()
            except Exception as error:  # a Halt, or a defect that must not write another byte
                self._halt(error, tickets, letters, work)
                return

    def _pause_s(self) -> float:
        """Seconds until the writer must look again by itself."""
        if self.room_error is not None:
            return ROOM_LOOK_S
        if self._rescans:
            return 0.0
        if self._wall is None:
            return IDLE_S
        if self.clock_error is not None:  # what is due has to wait: only the clock is looked at
            return self._config.max_tick_ms / 1000
        due = int(self._partition.next_due()) - self._wall()
        return max(0.0, min(due, self._config.max_tick_ms) / 1000)

    def _take(self, now_s: float) -> list[Ticket]:
        """Move the next entry's tickets out of the queue, each producer's in its own order."""
        taken: list[Ticket] = []
        kept: list[Ticket] = []
        reach: dict[str, int] = {}
        stopped: set[str] = set()
        rows = size = 0
        config = self._config
        most = config.max_event_entry_batches if self._wall is None else config.max_entry_batches
        is_alone = len(self._tickets) == 1
        first: dict[str, float] = {}
        for ticket in self._tickets:
            first.setdefault(ticket.batch.producer, ticket.arrived_s)

        def turn(ticket: Ticket) -> tuple[float, str, int]:
            """Producers in the order of their oldest ticket, each one's rows in their order."""
            batch = ticket.batch
            return first[batch.producer], batch.producer, batch.after or 0

        for ticket in sorted(self._tickets, key=turn):
            producer = ticket.batch.producer
            if producer not in reach:
                reach[producer] = self._partition.cursor(producer) or 0
            is_early = (ticket.batch.after or 0) > reach[producer]
            is_full = bool(taken) and (
                len(taken) >= most
                or rows + ticket.rows > config.max_entry_rows
                or size + ticket.size_bytes > config.max_entry_bytes
            )
            must_wait = is_early and now_s - ticket.arrived_s < EARLY_WAIT_S
            if is_full or must_wait or producer in stopped:
                stopped.add(producer)
                kept.append(ticket)
                continue
            if not is_early:
                reach[producer] = max(reach[producer], ticket.batch.through)
            taken.append(ticket)
            rows += ticket.rows
            size += 0 if is_alone else ticket.size_bytes
        kept.sort(key=lambda t: t.arrived_s)
        self._tickets = kept
        return taken

    def _check_wall(self) -> None:
        """Pause writing while the wall clock is implausibly far ahead.

        Of the latest reading, that is, and of the time that has passed since: a clock that went
        back for a while and is set right again has not jumped.
        """
        if self._wall is None:
            return
        wall, at_s = self._wall(), time.monotonic()
        passed_ms = int(1000 * (at_s - self._last_look_s))
        jump = wall - self._last_wall - passed_ms
        if jump > self._config.max_clock_jump_ms:
            self.clock_error = ClockError(
                f"expected the wall clock to move at most {self._config.max_clock_jump_ms} ms"
                f" between two looks, got a jump of {jump} ms - at the partition's writer; set the"
                " clock right, or restart the store to accept the new time"
            )
            return
        self.clock_error = None
        if wall >= self._last_wall:
            self._last_wall, self._last_look_s = wall, at_s

    def _commit(self, tickets: list[Ticket], letters: list[Letter]) -> None:
        refusal = self.clock_error or self.room_error
        if refusal is not None:
            for ticket in tickets:
                ticket.reply.set_exception(refusal)
            for letter in letters:
                letter.position.set_exception(refusal)
            return
        replies = self._partition.commit(
            [ticket.batch for ticket in tickets],
            self.now(),
            self._real_wall(),
            mail=[message for letter in letters for message in letter.messages],
            withdrawn=[op for letter in letters for op in letter.withdrawn],
        )
        self._hook("writer.before_reply")
        for ticket, reply in zip(tickets, replies, strict=True):
            ticket.reply.set_result(reply)
        for letter in letters:
            letter.position.set_result(self._partition.position)
        self._written()

    def _step(self, step: Callable[[], Any], future: Future[Any]) -> None:
        """Run control work; what the caller did wrong goes back to the caller, the rest halts."""
        try:
            future.set_result(step())
        except _Refused as refused:
            future.set_exception(refused.reason)
        except ProfileActorsError as error:
            future.set_exception(error)
            if isinstance(error, Halt):
                raise

    def _tick(self) -> None:
        if self._wall is None or self.clock_error is not None:
            return
        self._partition.tick(max(self._partition.now or 0, self._wall()))

    def _start_checkpoint(self) -> None:
        if self._checkpoint is not None and self._checkpoint.is_alive():
            return
        job = self._partition.checkpoint_job()
        if job is None:
            return

        def save() -> None:
            try:
                job()
                self.checkpoint_error = ""
            except Exception as error:  # checkpoints are derived: report, and go on writing
                self.checkpoint_error = f"{type(error).__name__}: {error}"

        self._checkpoint = Thread(target=save, name="checkpoint", daemon=True)
        self._checkpoint.start()

    def _halt(
        self,
        error: Exception,
        tickets: list[Ticket],
        letters: list[Letter],
        work: list[tuple[Callable[[], Any], Future[Any]]],
    ) -> None:
        """Stop writing for good; everybody who waits gets the reason."""
        reason = error
        if not isinstance(error, ProfileActorsError):
            reason = Halt(
                f"expected the writer to go on, got {type(error).__name__}: {error} - at position"
                f" {self._partition.position}; this is a defect: report it, and restart the store"
            )
            reason.__cause__ = error
        with self._wake:
            self.halted = reason
            waiting: list[Future[Any]] = [t.reply for t in [*tickets, *self._tickets]]
            waiting += [letter.position for letter in [*letters, *self._letters]]
            self._tickets, self._letters = [], []
            steps = [future for _, future in [*work, *self._work]]
            self._work.clear()
        for future in [*waiting, *steps]:
            if not future.done():
                future.set_exception(reason)
