"""What one sequencer has heard of each other one, and what it told each that may not be there yet.

Theory: of each ordered pair of sequencers the messages are numbered 1, 2, 3 and so on. The receiver
takes the next number only: a lower one is a repeat, of which there is nothing to do, a higher one
came too early. The sender keeps no message: its log holds what each was made of, so what is kept
here is the position of the entry that sent it. What is acknowledged is forgotten; that is volatile
(after a restart the receiver is asked), so replay and run differ in nothing else.

Rules for editors: a number is noted here once the entry that took or sent it is durable, never
before: other threads acknowledge by what stands here, and read the log for what is to be sent.

Cost: a list's place a message that is not acknowledged. Thread-safe.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

from profile_actors.engine.identity.messages import Named
from profile_actors.errors import Halt

Taken = Literal["next", "repeat", "gap"]


class Post(NamedTuple):
    """Where messages go. me: the partition's name as a sequencer; owner_of: that of the sequencer
    that owns an identity, None where nobody is told of links. seed: the store's, of keys."""

    me: str
    owner_of: Callable[[Named], str] | None = None
    seed: int = 0


NO_POST = Post("")


class _Outgoing:
    """To one destination. newest: the last number given; acknowledged: all up to it are there.

    positions: of the entries that sent numbers acknowledged + 1 ... newest, in this order.
    """

    __slots__ = ("acknowledged", "newest", "positions")

    def __init__(self, newest: int = 0, acknowledged: int = 0) -> None:
        self.newest = newest
        self.acknowledged = acknowledged
        self.positions: list[int] = []


class Mailbox:
    """Cursors of what came in, and numbers of what went out."""

    def __init__(self) -> None:
        self._cursors: dict[str, int] = {}
        self._out: defaultdict[str, _Outgoing] = defaultdict(_Outgoing)
        self._lock = threading.RLock()

    # -- what comes in ----------------------------------------------------------------------------

    def cursor(self, source: str) -> int:
        """The number of the last message taken from a source; 0 before the first."""
        return self._cursors.get(source, 0)

    def cursors(self) -> dict[str, int]:
        """The same of every source there was a message of."""
        with self._lock:
            return dict(self._cursors)

    def take(self, source: str, number: int) -> Taken:
        """Note that a message is taken, if it is the next one; says whether it was."""
        with self._lock:
            expected = self.cursor(source) + 1
            if number == expected:
                self._cursors[source] = number
                return "next"
            return "repeat" if number < expected else "gap"

    def take_all(self, received: Iterable[tuple[str, int, int]]) -> None:
        """The same of all messages of an entry, which were found to be the next ones."""
        for source, number, _ in received:
            taken = self.take(source, number)
            assert taken == "next", (source, number, taken)

    # -- what goes out ----------------------------------------------------------------------------

    def sent(self, to: str, position: int) -> int:
        """Note that the entry at a log position sends a message; returns its number."""
        with self._lock:
            out = self._out[to]
            out.newest += 1
            out.positions.append(position)
            return out.newest

    def newest(self, to: str) -> int:
        """The newest number of a destination; 0 before the first."""
        out = self._out.get(to)
        return 0 if out is None else out.newest

    def heads(self) -> dict[str, int]:
        """The newest number of each destination."""
        with self._lock:
            return {to: out.newest for to, out in self._out.items()}

    def position_of(self, to: str, number: int) -> int:
        """The log position of the entry that sent a message that is not acknowledged.

        Raises KeyError for a number that is, or that was never given.
        """
        with self._lock:
            out = self._out.get(to)
            if out is None or not out.acknowledged < number <= out.newest:
                raise KeyError((to, number))
            return out.positions[number - out.acknowledged - 1]

    def acknowledged(self, to: str) -> int:
        """All messages up to this number are known to be taken."""
        out = self._out.get(to)
        return 0 if out is None else out.acknowledged

    def acknowledge(self, to: str, number: int) -> None:
        """All messages up to this number are taken; an older answer changes nothing.

        Raises Halt for a number never given.
        """
        with self._lock:
            out = self._out[to]
            if number > out.newest:
                raise Halt(
                    f"expected {to!r} to have messages up to {out.newest}, the last one sent to it,"
                    f" got {number}: it knows messages that this log does not; both must come from"
                    " one backup"
                )
            if number > out.acknowledged:
                del out.positions[: number - out.acknowledged]
                out.acknowledged = number

    def unacknowledged(self, to: str) -> int:
        """How many messages to a destination are not known to be taken."""
        with self._lock:
            out = self._out.get(to)
            return 0 if out is None else out.newest - out.acknowledged

    def waiting(self) -> int:
        """How many messages to anybody are not known to be taken."""
        with self._lock:
            return sum(out.newest - out.acknowledged for out in self._out.values())

    def is_quiet(self) -> bool:
        """Whether all that was sent is known to be taken."""
        return not self.waiting()

    def oldest_position(self) -> int | None:
        """The log position of the oldest message not known to be taken; None if all are."""
        with self._lock:
            return min(
                (out.positions[0] for out in self._out.values() if out.positions), default=None
            )

    def number_at(self, to: str, position: int) -> int:
        """The number of the last message sent by the entries up to a position, as far as it is not
        acknowledged; else the last that is. A row logged there has arrived once this has."""
        with self._lock:
            out = self._out.get(to)
            return 0 if out is None else out.acknowledged + bisect_right(out.positions, position)

    # -- checkpoints ------------------------------------------------------------------------------

    def to_plain(self) -> list[Any]:
        """For a checkpoint: lists, dicts, texts and integers alone."""
        with self._lock:
            out = {
                to: [one.newest, one.acknowledged, list(one.positions)]
                for to, one in self._out.items()
            }
            return [dict(self._cursors), out]

    @staticmethod
    def of_plain(plain: list[Any]) -> Mailbox:
        """The mailbox that ``to_plain`` saw."""
        mailbox = Mailbox()
        mailbox._cursors = {str(source): int(number) for source, number in plain[0].items()}
        for to, (newest, acknowledged, positions) in plain[1].items():
            out = mailbox._out[to] = _Outgoing(newest, acknowledged)
            out.positions = list(positions)
        return mailbox
