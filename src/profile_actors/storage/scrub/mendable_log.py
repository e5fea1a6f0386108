"""A log whose sealed log segments can be replaced by others that have the same entries.

Theory: the manifest says which form of a log segment is in force, and is replaced whole. Whoever
reads the old form meanwhile keeps it mapped, though its directory is gone.

Limits: the room of an old form is free when its last reader has let go of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from msgspec import structs

from profile_actors.errors import CorruptLog
from profile_actors.storage.files.atomic_files import remove_tree
from profile_actors.storage.files.manifest import (
    PLAIN,
    LogSegmentEntry,
    Manifest,
    save_manifest,
)
from profile_actors.storage.lmdb_log import LmdbLog
from profile_actors.storage.log_segment import LogSegment

CLOSE_S = 5.0
"""How long a compaction is waited for, which looks whether to go on every 100 ms or so."""


class Sealed(NamedTuple):
    """A log segment that changes no more."""

    entry: LogSegmentEntry
    segment: LogSegment


class MendableLog(LmdbLog):
    """See the module."""

    _awaited = 0

    @contextmanager
    def rewriting(self) -> Iterator[None]:
        """While a log segment is mended, or the log's end taken away; a compaction stops for it."""
        self._awaited += 1
        try:
            with self._rewriting:
                yield
        finally:
            self._awaited -= 1

    @contextmanager
    def compacting(self) -> Iterator[Callable[[], bool]]:
        """While log segments are compacted: nobody else writes other forms of them. Yields what
        says whether to go on: others may wait."""
        with self._rewriting:
            yield lambda: not self._awaited and self.is_open()

    def close(self) -> None:
        """As ``LmdbLog.close``; a compaction is ended first, so that the files can be opened
        anew."""
        self._awaited += 1
        has_ended = self._rewriting.acquire(timeout=CLOSE_S)
        super().close()
        if has_ended:
            self._rewriting.release()

    def is_open(self) -> bool:
        """Whether it was not closed."""
        return bool(self._log_segments)

    @property
    def directory(self) -> Path:
        """That of the log segments."""
        return self._paths.log

    def sealed(self, entries: Sequence[LogSegmentEntry]) -> list[LogSegment]:
        """Sealed log segments as they are listed. Raises CorruptLog if one is not any more."""
        with self._writing:
            listed = dict(zip(self._manifest.segments, self._log_segments, strict=False))
            if not all(entry.sealed and entry in listed for entry in entries):
                raise CorruptLog(
                    f"expected {entries[0].name} to be listed, got it changed meanwhile - at"
                    f" {self._paths.manifest}; nothing was changed: try again"
                )
            return [listed[entry] for entry in entries]

    def sealed_with(self, position: int) -> Sealed:
        """The log segment with an entry, sealed: it changes no more. Raises as ``append_at``."""
        with self._writing:
            self._check_writable(self._head, self.epoch)
            if not 0 <= position < self._head:
                raise CorruptLog(
                    f"expected a position below {self._head}, got {position} - at"
                    f" {self._paths.log}; it was taken away meanwhile: nothing is to be mended"
                )
            if position >= self._log_segments[-1].first:
                self._rotate()
            index = self._log_segments.index(self._log_segment_of(position, self._log_segments))
            return Sealed(self._manifest.segments[index], self._log_segments[index])

    def replace(self, entries: Sequence[LogSegmentEntry], name: str, form: int = PLAIN) -> None:
        """Put a log segment in the place of sealed ones that have the same positions, durably, and
        delete those. entries: listed one after another. form: of the new one.

        Raises CorruptLog if they are not there any more; as ``append_at``.
        """
        with self._writing:
            self._check_writable(self._head, self.epoch)
            segments = self._manifest.segments
            index = segments.index(entries[0]) if entries[0] in segments else len(segments)
            following = index + len(entries)
            if segments[index:following] != tuple(entries):
                raise CorruptLog(
                    f"expected {entries[0].name} to be listed, got it changed meanwhile - at"
                    f" {self._paths.manifest}; nothing was changed: try again"
                )
            count = sum(one.entries or 0 for one in entries)
            fresh = structs.replace(entries[0], name=name, entries=count, format=form)
            opened = self._open_log_segment(fresh)
            manifest = Manifest((*segments[:index], fresh, *segments[following:]))
            with self._log_segments[-1].held(self.epoch):  # a newer writer reads the manifest
                self._write(
                    "replacing a log segment",
                    lambda: save_manifest(self._paths.manifest, manifest, self._crash_point),
                )
            self._manifest = manifest
            before, after = self._log_segments[:index], self._log_segments[following:]
            self._log_segments = (*before, opened, *after)
            self._crash_point("log.replaced")
            for one in entries:
                remove_tree(self._paths.log / one.name)
