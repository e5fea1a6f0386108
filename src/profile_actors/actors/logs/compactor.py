"""Sealed log segments of small entries are compacted beside the writer, a little at a time.

Theory: what is done is ``storage/compaction``; here is when. One thread looks now and then whether
there is something to do below the newest checkpoint: what a recovery replays stays as it was
written. It works in steps of some 20 ms, each followed by as much rest as keeps it from the rows
that come in: 19 times its length while there are any, else its length again. Who asks for all of it
by hand (``step``) has it go on without rest, and waits.

Limits: a process that ends begins the log segment anew that it was at.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Self

import msgspec
import pyarrow as pa

from profile_actors.actors.actor_status import CompactionStatus
from profile_actors.config import Config
from profile_actors.errors import FencedOut, ProfileActorsError, StorageFull
from profile_actors.storage.checkpoint_files import newest_position
from profile_actors.storage.compaction.compacting import (
    Stopped,
    bytes_of,
    compact,
    due,
    is_small,
)
from profile_actors.storage.files.atomic_files import Room
from profile_actors.storage.scrub.mendable_log import MendableLog

LOOK_S = 5.0
"""Between two looks whether there is something to do."""


BUSY_RESTS = 19
"""Lengths of a step that are rested while rows come in: a twentieth of a core's time is used."""


IDLE_RESTS = 1


CALL_S = 5.0
"""After so long a call by hand answers with what is left, to be asked again."""


MAX_REST_S = 0.25


LEAST_REST_S = 0.05


FEW_ENTRIES = 256
"""Fewer in the log segment that is written are not sealed, by hand either."""


def give_back() -> None:
    """Return to the system what was freed. Allocators keep what a compaction had for a moment, and
    each larger one leaves the process some MB larger for good. Cost: milliseconds, no lock held."""
    pa.default_memory_pool().release_unused()
    with suppress(AttributeError, OSError):  # glibc's alone keeps so much
        ctypes.CDLL(None).malloc_trim(0)


class CompactionPart(msgspec.Struct, frozen=True):
    """What a call by hand answers. is_done: there is nothing more to do."""

    is_done: bool
    status: CompactionStatus


class Compactor:
    """Of one log. directory: the sequencer's. queued: whether rows wait. swapped: called when other
    files have taken the place of some. below: entries below it may be compacted; by itself those
    that the newest checkpoint covers."""

    def __init__(
        self,
        log: MendableLog,
        directory: Path,
        config: Config,
        queued: Callable[[], int] = lambda: 0,
        swapped: Callable[[], None] = lambda: None,
        below: Callable[[], int] | None = None,
    ) -> None:
        self._log = log
        self._config = config
        self._queued = queued
        self._swapped = swapped
        self._below = partial(newest_position, directory) if below is None else below
        self._room = Room(directory, config.min_free_bytes)
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._hurried_s = 0.0  # until then nobody rests
        self._is_idle = False
        self._failed: dict[str, str] = {}
        self._entries = self._before = self._after = 0
        self._error = ""
        self._head, self._step_s = 0, 0.0

    def start(self) -> Self:
        """Compact in the background, until the log is closed, unless the config says not to."""
        if self._config.compact_entries is not None:
            self._begin()
        return self

    def _begin(self) -> None:
        with self._wake:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="compact", daemon=True)
                self._thread.start()

    def status(self) -> CompactionStatus:
        """See there."""
        error = self._error or next(iter(self._failed.values()), "")
        return CompactionStatus(self._entries, self._before, self._after, self._waiting(), error)

    def step(self) -> CompactionPart:
        """Do all of it now, for some seconds. Raises FencedOut once the log is closed."""
        end = time.monotonic() + CALL_S
        with self._wake:
            self._hurried_s, self._is_idle, self._failed = end + CALL_S, False, {}
            self._wake.notify_all()
        self._begin()
        with self._wake:
            while not self._is_idle and time.monotonic() < end:
                if not self._log.is_open():
                    raise FencedOut("expected an open log, got a closed one - start the store")
                self._wake.wait(0.1)
            return CompactionPart(self._is_idle, self.status())

    # -- the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        while self._log.is_open():
            error, is_stopped = "", False
            try:
                is_done = not self._one()
            except (Stopped, FencedOut):
                is_done, is_stopped = False, True
            except ProfileActorsError as reason:  # no room, or the log writes no more
                error, is_done = f"{type(reason).__name__}: {reason}", True
            if is_stopped:
                time.sleep(LEAST_REST_S)  # whoever it stopped for goes first
            with self._wake:
                self._error, self._is_idle = error, is_done
                self._wake.notify_all()
                if is_done:
                    self._wake.wait(LOOK_S)

    @property
    def _is_hurried(self) -> bool:
        return time.monotonic() < self._hurried_s

    def _one(self) -> bool:
        """Compact once, if there is something to compact."""
        log, config = self._log, self._config
        self._room.check()
        self._seal()
        entries = due(log, self._below(), config.log_segment_bytes, self._failed)
        if not entries:
            return False
        before = bytes_of(log, entries)
        self._head, self._step_s = log.head(), time.monotonic()
        try:
            after = compact(log, entries, config.log_map_bytes, self.go_on)
        except (Stopped, FencedOut, StorageFull):
            raise
        except Exception as error:  # a damaged entry, or a defect: the log is as it was
            self._failed |= {one.name: f"{type(error).__name__}: {error}" for one in entries}
            return True
        self._entries += sum(one.entries or 0 for one in entries)
        self._before, self._after = self._before + before, self._after + after
        self._swapped()
        give_back()
        return True

    def _least(self) -> int:
        """So many entries in the log segment that is written are sealed."""
        entries = self._config.compact_entries
        return FEW_ENTRIES if entries is None or self._is_hurried else entries

    def _seal(self) -> None:
        """Seal the log segment that is written if it has many small entries below a checkpoint."""
        newest = self._log.listed[-1]
        if self._below() - newest.first >= self._least() and is_small(self._log, newest):
            self._log.sealed_with(newest.first)

    def go_on(self) -> bool:
        """Asked between two steps: rests first."""
        is_busy = self._queued() > 0 or self._log.head() != self._head
        rest_s = (BUSY_RESTS if is_busy else IDLE_RESTS) * (time.monotonic() - self._step_s)
        if not self._is_hurried:
            with self._wake:
                self._wake.wait(min(rest_s, MAX_REST_S))
        self._head, self._step_s = self._log.head(), time.monotonic()
        return self._room.lack() is None

    def _waiting(self) -> int:
        below, log = self._below(), self._log
        small = [one for one in log.listed if is_small(log, one)]
        ends = [one.first + (one.entries or 0) if one.sealed else below for one in small]
        counts = [end - one.first for one, end in zip(small, ends, strict=True) if end <= below]
        return sum(count for count in counts if count > 0)
