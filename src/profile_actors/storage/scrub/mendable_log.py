"""A log whose sealed log segments can be replaced by others that have the same entries.

Theory: the manifest says which form of a log segment is in force, and is replaced whole. Whoever
reads the old form meanwhile keeps it mapped, though its directory is gone.

Limits: the room of an old form is free when the process ends.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from msgspec import structs

from profile_actors.errors import CorruptLog
from profile_actors.storage.files.atomic_files import remove_tree
from profile_actors.storage.files.manifest import LogSegmentEntry, Manifest, save_manifest
from profile_actors.storage.lmdb_log import LmdbLog
from profile_actors.storage.log_segment import LogSegment


class Sealed(NamedTuple):
    """A log segment that changes no more."""

    entry: LogSegmentEntry
    segment: LogSegment


class MendableLog(LmdbLog):
    """See the module."""

    # Held: LMDB tells open environments apart by their inodes, and one may be given again.
    _replaced: tuple[LogSegment, ...] = ()

    def is_open(self) -> bool:
        """Whether it was not closed."""
        return bool(self._log_segments)

    @property
    def directory(self) -> Path:
        """That of the log segments."""
        return self._paths.log

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

    def replace(self, entry: LogSegmentEntry, name: str) -> None:
        """Put a log segment in the place of a sealed one that has the same positions, durably, and
        delete that. Raises CorruptLog if it is not there any more; as ``append_at``."""
        with self._writing:
            self._check_writable(self._head, self.epoch)
            segments = list(self._manifest.segments)
            if entry not in segments:
                raise CorruptLog(
                    f"expected {entry.name} to be listed, got it changed meanwhile - at"
                    f" {self._paths.manifest}; nothing was changed: try again"
                )
            index = segments.index(entry)
            segments[index] = structs.replace(entry, name=name)
            opened = self._open_log_segment(segments[index])
            manifest = Manifest(tuple(segments))
            with self._log_segments[-1].held(self.epoch):  # a newer writer reads the manifest
                self._write(
                    "replacing a log segment",
                    lambda: save_manifest(self._paths.manifest, manifest, self._crash_point),
                )
            self._manifest = manifest
            self._replaced = (*self._replaced, self._log_segments[index])
            before, after = self._log_segments[:index], self._log_segments[index + 1 :]
            self._log_segments = (*before, opened, *after)
            self._crash_point("log.replaced")
            remove_tree(self._paths.log / entry.name)
