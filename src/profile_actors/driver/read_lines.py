"""A driver's direct lines to the partitions of its machine (``actors.read_line``).

Theory: a line carries one question at a time, so that each thread that asks has one for itself
while it does; between questions lines lie idle for whoever comes next. A line that breaks, or that
says anything but an answer, is no error: Ray is asked instead. A partition without a line, on
another machine or while it restarts, is looked for again after a while.
"""

from __future__ import annotations

import os
import pickle
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from profile_actors.actors.calls import LONGEST_WAIT_S, Away, Patience, Remote
from profile_actors.actors.read_line import (
    ANSWERED,
    BEHIND,
    ENDS,
    is_own,
    proven,
    receive,
    send,
    set_timeout,
)

FIRST_WAIT_S = 1.0
"""For a partition to say where its line is, and for a line to be taken."""


ANSWER_WAIT_S = 10.0
"""For an answer by a line; then Ray is asked."""


REST_S = 2.0
"""After a line that could not be had, before the next is looked for."""


class Unanswered(Exception):
    """The question is to be asked by Ray."""


class Asked(NamedTuple):
    """A question on its way."""

    partition: int
    line: socket.socket


class ReadLines:
    """Thread-safe. No line is used in a child forked from the process that made this."""

    def __init__(self, partitions: Sequence[Remote]) -> None:
        self._partitions = partitions
        self._idle: list[list[socket.socket]] = [[] for _ in partitions]
        self._rests_until = [0.0] * len(partitions)  # by the monotonic clock
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._is_closed = False

    def begin(self, partition: int, *question: Any) -> Asked | None:
        """Ask without waiting; None where there is no line."""
        line = self._taken(partition)
        if line is None:
            return None
        try:
            send(line, ANSWERED, pickle.dumps(question, pickle.HIGHEST_PROTOCOL))
        except OSError:
            self._drop(partition, line)
            return None
        return Asked(partition, line)

    def finish(self, asked: Asked) -> bytes | None:
        """The answer to what ``begin`` asked; None if the partition's definitions are older.

        Raises Unanswered, and StoreUnavailable within LONGEST_WAIT_S once the store is closed.
        """
        partition, line = asked
        actor = self._partitions[partition]
        session, end = actor.session, time.monotonic() + min(ANSWER_WAIT_S, actor.timeout_s)

        def more() -> bool:
            with session:  # raises where it was closed
                return time.monotonic() < end

        is_whole = False
        try:
            kind, data = receive(line, more)
            is_whole = True
        except (OSError, EOFError, Away):
            raise Unanswered from None
        finally:
            if is_whole:
                self._give_back(partition, line)
            else:
                self._drop(partition, line)
        if kind == ANSWERED:
            return data
        if kind == BEHIND:
            return None
        raise Unanswered

    def close(self) -> None:
        """Hang up on all lines, and make no more. Not in a child: they are its parent's."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            self._is_closed = True
            idle = [line for lines in self._idle for line in lines]
            self._idle = [[] for _ in self._partitions]
        for line in idle:
            _hang_up(line)

    def _taken(self, partition: int) -> socket.socket | None:
        if os.getpid() != self._pid:  # in a child nobody may ever give the lock back
            return None
        with self._lock:
            if self._is_closed:
                return None
            if self._idle[partition]:
                return self._idle[partition].pop()
            if time.monotonic() < self._rests_until[partition]:
                return None
            # Others that come meanwhile go by Ray, and need not wait for this.
            self._rests_until[partition] = time.monotonic() + REST_S
        line = self._opened(partition)
        if line is not None:
            with self._lock:
                self._rests_until[partition] = 0.0
        return line

    def _opened(self, partition: int) -> socket.socket | None:
        """A new line, None where there is none to be had."""
        actor = self._partitions[partition]
        try:
            wait = Patience(min(FIRST_WAIT_S, actor.timeout_s))
            address = actor.finish(actor.begin("line"), wait)
            if address is None:
                return None
            name, secret = address
            line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        except Exception:  # whatever it is, it is told where Ray is asked
            return None
        try:
            set_timeout(line, socket.SO_SNDTIMEO, FIRST_WAIT_S)
            set_timeout(line, socket.SO_RCVTIMEO, LONGEST_WAIT_S)
            line.connect(name)
            if is_own(line) and proven(line, secret, *ENDS, lambda: False):
                return line
        except (OSError, EOFError):
            pass  # on another machine, or there are too many
        line.close()
        return None

    def _give_back(self, partition: int, line: socket.socket) -> None:
        with self._lock:
            if not self._is_closed:
                self._idle[partition].append(line)
                return
        _hang_up(line)

    def _drop(self, partition: int, line: socket.socket) -> None:
        """Hang up on a broken line, and on those that lie idle: they broke with it."""
        with self._lock:
            idle, self._idle[partition] = self._idle[partition], []
        for one in (line, *idle):
            _hang_up(one)


def _hang_up(line: socket.socket) -> None:
    """Also where a forked child has the line open, too."""
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)
    line.close()
