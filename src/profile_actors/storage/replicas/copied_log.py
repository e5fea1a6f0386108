"""A partition's log as its standby keeps it: promises, and loses its end.

Theory: ``engine/shipping/standby_copy`` says what a standby does; here is what makes its steps
durable. A promise is an epoch recorded in the last log segment, as an opening records its own. What
is trim off leaves the manifest first, then the last log segment that stays: so a crash between two
steps leaves a log that is whole, and longer than wanted; the primary compares again.

Rules for editors: values are deleted here, which ``log_segment`` forbids where views are handed
out; nobody reads a standby.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import xxhash

from profile_actors.config import Config
from profile_actors.engine.log.ports import Buffer
from profile_actors.errors import FencedOut, Halt, StorageFull
from profile_actors.storage.files.atomic_files import CrashPoint, no_crash, remove_tree
from profile_actors.storage.files.manifest import LogSegmentEntry, Manifest, save_manifest
from profile_actors.storage.lmdb_log import LmdbLog
from profile_actors.storage.log_id import LogClaim
from profile_actors.storage.replicas.copied_checkpoints import drop_beyond
from profile_actors.storage.scrub.mendable_log import MendableLog


def digest_of(log: LmdbLog, position: int) -> int:
    """64 bits of an entry's bytes. Cost: one hash pass over it."""
    with log.view(position) as view:
        return xxhash.xxh3_64_intdigest(view)


class CopiedLog(MendableLog):
    """The log in a standby's directory; opening it promises nothing new. lack: the error while
    there is too little room to write an entry; promises are made all the same."""

    def __init__(
        self,
        directory: Path | str,
        config: Config,
        claim: LogClaim,
        *,
        lock_wait_s: float = 5.0,
        crash_point: CrashPoint = no_crash,
        lack: Callable[[], StorageFull | None] = lambda: None,
    ) -> None:
        self._lack = lack
        # A pass over the disk, or a primary whose entry is damaged, reads beside what comes in.
        self._reading = threading.RLock()
        super().__init__(
            directory, config, epoch=0, claim=claim, lock_wait_s=lock_wait_s,
            crash_point=crash_point,
        )  # fmt: skip

    def _record_epoch(self) -> None:
        self.epoch = self._log_segments[-1].stamp().epoch

    def _drop_stray(self, path: Path) -> None:
        """One that is not listed was beyond an end that was just being taken away."""
        remove_tree(path)

    @property
    def halted(self) -> Halt | None:
        """The write that failed, after which this log is not written any more."""
        return self._halted

    @property
    def refusal(self) -> Halt | None:
        """Why no entry can be written now: the disk is full, or a write has failed."""
        return self._halted or self._lack()

    def append_at(self, position: int, parts: Sequence[Buffer], epoch: int) -> None:
        """As ``LmdbLog``; nothing is written where there is too little room."""
        lack = self._lack()
        if lack is not None:
            raise lack
        super().append_at(position, parts, epoch)

    def promise(self, epoch: int) -> None:
        """Refuse lower epochs from now on, durably. Raises FencedOut if a higher one was."""
        with self._writing:
            if epoch < self.epoch:
                raise FencedOut(
                    f"expected an epoch above {self.epoch}, got {epoch} - at {self._paths.log};"
                    " another primary was given it",
                    epoch=self.epoch,
                )
            self._change("promising", lambda: self._log_segments[-1].claim(epoch, self.id))
            self.epoch = epoch

    def trim(self, head: int) -> None:
        """Take away the entries from a position on, durably. Cost: of each that goes, some us."""
        with self.rewriting(), self._writing:
            if head >= self._head:
                return
            drop_beyond(self._paths.directory, head)
            with self._reading:
                self._change("trimming", lambda: self._trim(head))
                self._head = head

    def checked(self, position: int) -> tuple[int, str | None]:
        """As ``LmdbLog``; the files stay open meanwhile, which taking its end away closes."""
        with self._reading:
            return super().checked(position)

    def whole(self, position: int) -> bytes:
        """As ``LmdbLog``, likewise."""
        with self._reading:
            return super().whole(position)

    def _trim(self, head: int) -> None:
        kept = [one for one in self._manifest.segments if one.first < head or one.first == 0]
        dropped = self._manifest.segments[len(kept) :]
        last = LogSegmentEntry(kept[-1].name, kept[-1].first, format=kept[-1].format)
        if dropped or self._manifest.segments[-1] != last:
            self._manifest = Manifest((*kept[:-1], last))
            save_manifest(self._paths.manifest, self._manifest, self._crash_point)
        self._crash_point("log.trim.listed")
        self._discard()
        for one in dropped:
            remove_tree(self._paths.log / one.name)
        self._open_log_segments(self._manifest)
        # The epoch was promised in a log segment that is gone, perhaps.
        self._log_segments[-1].claim(self.epoch, self.id)
        self._log_segments[-1].trim(head)

    def _change(self, what: str, step: Callable[[], None]) -> None:
        if self._halted is not None:
            raise self._halted
        self._write(what, step)

    def digest(self, position: int) -> int:
        """64 bits of an entry's bytes."""
        return digest_of(self, position)
