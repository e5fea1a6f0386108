"""Sub-batches on their way to partitions: pipelined, bounded, resent until answered.

Theory: a *stream* numbers the rows of one producer. Each partition gets its share of the stream as
a chain of sub-batches, ``after`` of each being ``through`` of the one before it; so a partition
recognises what it has (a resend) and refuses what comes too early (a gap). That makes retrying a
local matter: every sub-batch is resent until it is answered, oldest first, and the chains put
themselves in order. Only a sub-batch that is refused, or unanswered until the deadline, breaks its
stream: an anonymous stream is then left for a new one, a named producer reads its cursor from the
store again. What had been sent after it does not wait for what will never come: a gap is judged
once it answers a try begun with nothing older of the stream on its way. Anonymous rows, whose
numbers nobody else knows, are linked to what the partition has; a named producer's are refused
with the offset it must resend from.

Closing refuses what is new, and waits for what is on its way; what is still unanswered when its
patience ends is told so. So every result that was promised comes, with a receipt or an error.

Limits: a client keeps at most ``Config.max_in_flight`` submissions unacknowledged.
"""

from __future__ import annotations

import queue
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from threading import Condition, Thread
from typing import Any

from profile_actors.actors.calls import Lost, Patience, Remote, closed_store
from profile_actors.actors.wire import pack
from profile_actors.columnar.vectors import Array
from profile_actors.engine.log.connections import KEPT_MS, name_of
from profile_actors.engine.log.sub_batch import Reply, SubBatch
from profile_actors.errors import (
    Backpressure,
    DefinitionError,
    OffsetGap,
    ProfileActorsError,
    StoreUnavailable,
)
from profile_actors.ingest.offsets import NONE

OWN_STREAM_S = KEPT_MS / 2000
"""How long a connection uses one name: half as long as partitions take one for new."""


@dataclass(slots=True)
class ProducerRows:
    """One producer's rows as this client sends them. sent: per partition, the chain's end.

    least: of a named one, the offset after the last rows that were numbered by their caller.
    waiting: its parcels on their way, oldest first. passed: offsets that some partition had
    passed over as rejected when the stream was begun, until they are stored; int64[k, 2].
    began_s: monotonic.
    """

    producer: str
    named: bool
    next_offset: int = 0
    sent: list[int | None] = field(default_factory=list)
    broken: bool = False
    least: int = 0
    passed: Array = field(default_factory=lambda: NONE)
    waiting: deque[Parcel] = field(default_factory=deque)
    began_s: float = field(default_factory=time.monotonic)

    def may_go_on(self, now_s: float) -> bool:
        """Whether an anonymous stream may number more rows. now_s: monotonic."""
        return not self.broken and now_s - self.began_s < OWN_STREAM_S

    def is_oldest(self, parcel: Parcel) -> bool:
        """Whether nothing sent before it is on its way."""
        try:
            return self.waiting[0] is parcel
        except IndexError:
            return True


@dataclass(slots=True)
class Part:
    """One sub-batch on its way. answer: Ray's reference of the newest try.

    is_first: that try was begun when everything sent before the parcel had been answered.
    """

    partition: int
    batch: SubBatch
    answer: Any
    is_first: bool


@dataclass(slots=True, eq=False)
class Parcel:
    """What one submission put on its way, and who waits for it. streams: the one its rows are
    numbered in, and the named one that they are appended to, if any."""

    streams: tuple[ProducerRows, ...]
    parts: list[Part]
    finish: Callable[[list[Reply]], Any]
    result: Future[Any] = field(default_factory=Future)

    def is_first(self) -> bool:
        """Whether nothing sent before it is on its way, in any of its streams."""
        return all(stream.is_oldest(self) for stream in self.streams)


class Courier:
    """Sends parcels, bounded; settles them oldest first on its own thread."""

    def __init__(
        self,
        path: str,
        partitions: Sequence[Remote],
        deliver: Callable[[int], None],
        max_in_flight: int,
    ) -> None:
        """path: the store's. deliver: gives a partition that is behind the definitions it lacks."""
        self._path = path
        self._partitions = partitions
        self._deliver = deliver
        self._max_in_flight = max_in_flight
        self._changed = Condition()
        self._in_flight = 0
        self._is_closed = False
        self._is_ended = False
        self._outbox: queue.SimpleQueue[Parcel | None] = queue.SimpleQueue()
        self._thread: Thread | None = None

    def reserve(self, block: bool = True) -> None:
        """Take one place in flight.

        Raises Backpressure if there is none and block is False, StoreUnavailable once closed.
        """
        with self._changed:
            while not self._is_closed and self._in_flight >= self._max_in_flight:
                if not block:
                    raise Backpressure(
                        f"expected fewer than {self._max_in_flight} unacknowledged submissions, got"
                        " as many - at Config.max_in_flight; wait for a result, or submit with"
                        " block=True"
                    )
                self._changed.wait()
            if self._is_closed:
                raise closed_store(self._path)
            self._in_flight += 1

    def release(self) -> None:
        """Give back a reserved place."""
        with self._changed:
            self._in_flight -= 1
            self._changed.notify_all()

    def send(
        self,
        streams: tuple[ProducerRows, ...],
        batches: Sequence[tuple[int, SubBatch]],
        finish: Callable[[list[Reply]], Any],
    ) -> Parcel:
        """Put sub-batches on their way (the place was reserved). finish: replies -> the result."""
        is_first = not any(stream.waiting for stream in streams)
        parts = [
            Part(
                partition,
                batch,
                self._partitions[partition].begin("submit", *pack(batch)),
                is_first,
            )
            for partition, batch in batches
        ]
        parcel = Parcel(streams, parts, finish)
        for stream in streams:
            stream.waiting.append(parcel)
        return parcel

    def settle_later(self, parcel: Parcel) -> None:
        """Let the courier's own thread wait for the answers."""
        with self._changed:
            if not self._is_ended:
                if self._thread is None:
                    self._thread = Thread(target=self._await_all, name="courier", daemon=True)
                    self._thread.start()
                self._outbox.put(parcel)
                return
        self.await_answers(parcel)  # nobody else will; calls are refused, so it ends at once

    def await_answers(self, parcel: Parcel) -> None:
        """Wait until every part is answered 'ok', resending as needed; then set the result."""
        try:
            replies = [self._answer(parcel, part) for part in parcel.parts]
            parcel.result.set_result(parcel.finish(replies))
        except BaseException as error:
            # An unanswered row may or may not be stored: its stream cannot be continued blindly.
            for stream in parcel.streams:
                stream.broken = True
            parcel.result.set_exception(error)
            if not isinstance(error, Exception):
                raise
        finally:
            for stream in parcel.streams:
                stream.waiting.remove(parcel)
            parcel.parts = []  # the rows are let go even if the caller keeps the future
            self.release()

    def say_closed(self, stream: ProducerRows, timeout_s: float) -> None:
        """Tell partitions that an anonymous stream has ended, if all of it was answered.

        One that cannot be told within timeout_s forgets it by itself.
        """
        if stream.broken or stream.waiting:
            return
        patience = Patience(timeout_s)
        with suppress(ProfileActorsError, Lost):
            begun = []
            for partition, end in enumerate(stream.sent):
                if end is not None:
                    actor = self._partitions[partition]
                    batch = SubBatch("", stream.producer, end, end, 0, closes=True)
                    begun.append((actor, actor.begin("submit", *pack(batch))))
            for actor, answer in begun:
                actor.finish(answer, patience)

    def drain(self, timeout_s: float | None = None) -> bool:
        """Wait until nothing is in flight, and say whether it is so; nobody may send meanwhile."""
        with self._changed:
            return self._changed.wait_for(lambda: self._in_flight == 0, timeout_s)

    def close(self, timeout_s: float) -> None:
        """Refuse what is new, and wait for what is on its way, but no longer than timeout_s."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self.drain(timeout_s)

    def end(self) -> None:
        """End the thread; calls are refused by now, so what is left in flight ends soon."""
        with self._changed:
            self._is_ended = True
            self._outbox.put(None)
        if self._thread is not None:
            self._thread.join()

    def _await_all(self) -> None:
        while (parcel := self._outbox.get()) is not None:
            self.await_answers(parcel)

    def _answer(self, parcel: Parcel, part: Part) -> Reply:
        actor = self._partitions[part.partition]
        patience = Patience(actor.timeout_s)
        while True:
            try:
                reply: Reply = actor.finish(part.answer, patience)
            except Lost:
                part.batch = replace(part.batch, resend=True)
            else:
                if reply.status == "ok":
                    return reply
                patience.reason = reply.status
                if reply.status == "unknown":
                    raise DefinitionError(
                        f"expected a dataset, got {part.batch.dataset!r}, which was deleted - at"
                        " submit; read store.definitions() again"
                    )
                if reply.status == "forgotten":
                    part.batch = self._renamed(parcel, part)
                if reply.status == "behind":
                    self._deliver(part.partition)
                if reply.status in ("gap", "early"):
                    self._judge(parcel, part, reply)
            patience.wait_or_raise(actor.name)
            part.is_first = parcel.is_first()
            part.answer = actor.begin("submit", *pack(part.batch))

    def _renamed(self, parcel: Parcel, part: Part) -> SubBatch:
        """Rows of a connection that the partition has let go of, under a name of their own: its
        wall clock may have jumped, or this machine slept.

        Raises StoreUnavailable where they were sent before: they may be there, and come twice.
        """
        parcel.streams[0].broken = True  # what comes after is numbered anew
        actor = self._partitions[part.partition]
        if part.batch.resend:
            raise _forgotten(actor.name, part.batch)
        name = name_of(int(actor.call("born")), uuid.uuid4().hex)
        return replace(part.batch, producer=name, after=None)

    def _judge(self, parcel: Parcel, part: Part, reply: Reply) -> None:
        """Something before this sub-batch is missing: wait for it, go on without, or refuse.

        An answer given while something before it was on its way is out of date: ask again.
        """
        if not part.is_first:
            return
        stream = parcel.streams[-1] if reply.status == "early" else parcel.streams[0]
        if stream.named:
            raise _gap(part.batch, stream, reply)
        part.batch = replace(part.batch, after=reply.expected)


def _forgotten(actor: str, batch: SubBatch) -> StoreUnavailable:
    return StoreUnavailable(
        "expected a connection that the partition remembers, got one that was closed or silent for"
        f" too long - at {actor}, dataset {batch.dataset!r}; what was sent may or may not be there:"
        " with producer= and offset= it can be sent again and counts once"
    )


def _gap(batch: SubBatch, stream: ProducerRows, reply: Reply) -> OffsetGap:
    return OffsetGap(
        f"expected rows of producer {stream.producer!r} from offset {reply.expected} on, got a"
        f" batch after them - at dataset {batch.dataset!r}; rows before it never arrived: resend"
        " from store.cursor(producer)",
        reply.expected,
    )
