"""The log of one partition: a row of LMDB environments, each entry checksummed and synced.

Theory. ``<directory>/log/manifest.json`` lists the log segments; only the last is written. An
append is one put in one transaction with one synced commit. When a log segment has
``log_segment_bytes``, or the next entry might not fit its map, a new one is made durable first and
then named by replacing the manifest: a crash between the two leaves a nameless directory, deleted
at the next opening.

Fencing. A ``flock`` on ``<directory>/lock`` for the object's life keeps other processes out; each
append and each rotation also checks, inside its transaction, that no higher epoch has been recorded
on disk. An opening records its epoch first and reads the head then.

Failed commits. When a commit fails nobody knows whether its bytes reached the disk, and a second
fsync may lie about the first. So after any failed write the log refuses to write until it is
opened anew; reading goes on.

Threads. One thread appends; any thread reads, meanwhile and during ``close``.

Limits: damage to the newest meta page of the last log segment makes LMDB fall back to the commit
before, silently: a derived position beyond ``head()`` shows it. fsync is as good as the disk's.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import lmdb
from msgspec import structs

from profile_actors.config import Config
from profile_actors.engine.log.entry_groups import Group
from profile_actors.engine.log.ports import Buffer
from profile_actors.errors import CorruptLog, FencedOut, Halt, StorageFull
from profile_actors.storage.environment import DATA
from profile_actors.storage.files.atomic_files import (
    CrashPoint,
    failed_write,
    make_directory,
    no_crash,
    remove_asides,
    remove_tree,
)
from profile_actors.storage.files.framing import frame
from profile_actors.storage.files.layout import PartitionLayout
from profile_actors.storage.files.lock import DirectoryLock
from profile_actors.storage.files.manifest import (
    LogSegmentEntry,
    Manifest,
    load_manifest,
    save_manifest,
)
from profile_actors.storage.log_id import LogClaim, check_place, save_log_id
from profile_actors.storage.log_segment import LogSegment
from profile_actors.storage.segment_checks import check_whole, entries_of_stray, strays

MAP_SLACK_BYTES = 1 << 18
"""Room for tree, meta and free-list pages beside a value: 64 pages, far above one append's need."""


def log_segment_name(first: int) -> str:
    return f"segment-{first:020d}"


class LmdbLog:
    """A Log (``engine/log/ports.py``) in ``<directory>/log``.

    directory: the partition's. epoch: given by the catalogue, higher for each new owner. claim:
    what the catalogue knows of the log (``log_id.py``); without one an empty place becomes a log
    without an id, for tests and measurements. lock_wait_s: how long to wait for a dying
    predecessor. crash_point: see files.py. Raises FencedOut, LostLog, CorruptLog, StorageFull.
    """

    def __init__(
        self,
        directory: Path | str,
        config: Config,
        *,
        epoch: int,
        claim: LogClaim | None = None,
        lock_wait_s: float = 5.0,
        crash_point: CrashPoint = no_crash,
    ) -> None:
        self._paths = PartitionLayout(Path(directory))
        self._config = config
        self._claim = claim
        self.id = "" if claim is None else claim.id.log
        self._since = 0
        self._told = 0
        self.epoch = epoch
        self._crash_point = crash_point
        self._writing = threading.Lock()
        self._rewriting = threading.Lock()
        self._halted: Halt | None = None
        self._closed = False
        if claim is not None:
            check_place(self._paths, claim)
        make_directory(self._paths.log)
        self._lock = DirectoryLock(self._paths.lock, lock_wait_s)
        self._log_segments: tuple[LogSegment, ...] = ()
        try:
            self._manifest = self._open()
        except BaseException:
            self._discard()
            self._lock.release()
            raise

    def _open(self) -> Manifest:
        """Make this the only writer, and only then read where the log ends.

        A writer whose lock file was deleted may append, and rotate, until the epoch is recorded in
        the log segment that it writes; a rotation meanwhile means that it is the next one.
        """
        self._take_id()
        if load_manifest(self._paths.manifest) is None:
            self._begin()
        while True:
            manifest = load_manifest(self._paths.manifest)
            assert manifest is not None, self._paths.manifest
            self._open_log_segments(manifest)
            self._check_id()
            check_whole(manifest.segments, self._log_segments)
            self._write("recording the epoch", self._record_epoch)
            if load_manifest(self._paths.manifest) == manifest:
                break
            self._discard()
        check_whole(manifest.segments, self._log_segments)
        self._head = self._log_segments[-1].end()
        remove_asides(self._paths.log)
        self._drop_strays(manifest.segments)
        return manifest

    def _record_epoch(self) -> None:
        self._log_segments[-1].claim(self.epoch, self.id)

    def _open_log_segments(self, manifest: Manifest) -> None:
        for entry in manifest.segments:
            if self._claim is not None and not (self._paths.log / entry.name / DATA).is_file():
                got = f"a log without {entry.name}/{DATA}"
                raise self._claim.lost(got, self._paths.directory)
            self._log_segments = (*self._log_segments, self._open_log_segment(entry))

    def _discard(self) -> None:
        for log_segment in self._log_segments:
            log_segment.discard()
        self._log_segments = ()

    def _take_id(self) -> None:
        """Look again, now that nobody else writes here, and write ``log.json`` of a new log."""
        claim = self._claim
        if claim is None:
            return
        found = check_place(self._paths, claim)
        if found is not None:
            self._since, self.id = found.since, found.log
            return
        manifest = load_manifest(self._paths.manifest)
        self._since = manifest.segments[-1].first if manifest else 0
        wanted = structs.replace(claim.id, since=self._since)
        self._write("naming the log", lambda: save_log_id(self._paths, wanted))
        self._crash_point("log.named")

    def _check_id(self) -> None:
        """All log segments are this log's, and none that the catalogue was told of is missing."""
        claim = self._claim
        if claim is None:
            return
        for log_segment in self._log_segments:
            found = log_segment.log()
            # The last one of an older log gets its id only after ``log.json`` is written.
            may_lack = log_segment.first < self._since or claim.state == "accepting"
            if found != self.id and (found or not may_lack):
                got = f"log segment {log_segment.path.name} of log {found or 'without an id'}"
                raise claim.lost(got, self._paths.directory)
        newest = self._log_segments[-1]
        claim.check(newest.end(), newest.stamp().epoch, self._paths.directory)

    def _begin(self) -> None:
        """The first log segment of a new log, and its manifest."""
        self._drop_strays(())
        name = log_segment_name(0)
        manifest = Manifest((LogSegmentEntry(name, 0),))
        self._new_log_segment(name, 0).discard()
        self._write(
            "creating the log", lambda: save_manifest(self._paths.manifest, manifest, no_crash)
        )

    def _drop_strays(self, listed: Sequence[LogSegmentEntry]) -> None:
        """What is not listed goes."""
        found = strays(self._paths.log, listed)
        for path in found.forms:
            remove_tree(path)
        for path in found.others:
            self._drop_stray(path)

    def _drop_stray(self, path: Path) -> None:
        """Delete what a crash left of a rotation: an empty log segment that no manifest names.

        One with entries means that the manifest is lost or old: then nothing is deleted.
        """
        if entries_of_stray(path, self._config.log_map_bytes):
            raise CorruptLog(
                f"expected {path.name} to be listed, got one with entries that is not - at"
                f" {self._paths.manifest}; restore the newest manifest from a replica or backup"
            )
        remove_tree(path)

    def _new_log_segment(self, name: str, first: int) -> LogSegment:
        path = self._paths.log / name
        try:
            log_segment = LogSegment.create(path, first, self._config.log_map_bytes, sync=True)
            log_segment.claim(self.epoch, self.id, self._told)
        except (OSError, lmdb.Error) as error:
            raise failed_write(error, str(path)) from error
        return log_segment

    def _open_log_segment(self, entry: LogSegmentEntry) -> LogSegment:
        path = self._paths.log / entry.name
        # A sealed log segment never grows: its file's size is map enough.
        data = path / DATA
        size = data.stat().st_size if entry.sealed and data.is_file() else 0
        return LogSegment.open(
            path,
            entry.first,
            max(size, 1 << 20) if entry.sealed else self._config.log_map_bytes,
            sync=True,
            sealed=entry.sealed,
        )

    @property
    def listed(self) -> tuple[LogSegmentEntry, ...]:
        """The log segments in order; all but the last are sealed."""
        return self._manifest.segments

    def head(self) -> int:
        return self._head

    def append_at(self, position: int, parts: Sequence[Buffer], epoch: int) -> None:
        """Write one entry durably.

        Cost: one hash pass, one copy, one commit of two flushes. Raises FencedOut, StorageFull,
        CorruptLog if position is not the head; after a failed commit the same error at each call.
        """
        with self._writing:
            self._check_writable(position, epoch)
            value = frame(position, parts)
            log_segment = self._log_segments[-1]
            try:
                if self._needs_rotation(len(value)):
                    log_segment = self._rotate()
                self._crash_point("log.before_put")
                log_segment.append(position, value, epoch, self._before_commit, self._told)
            except lmdb.MapFullError as error:  # raised by put: nothing was written
                raise StorageFull(
                    f"expected an entry that fits Config.log_map_bytes"
                    f" {self._config.log_map_bytes}, got {len(value)} bytes - at"
                    f" {log_segment.where(position)}; enlarge it or submit smaller batches"
                ) from error
            except (OSError, lmdb.Error) as error:
                self._halted = failed_write(error, log_segment.where(position))
                raise self._halted from error
            except Halt as error:
                self._halted = error
                raise
            self._crash_point("log.after_commit")
            self._head = position + 1

    def _before_commit(self) -> None:
        self._crash_point("log.before_commit")

    def _check_writable(self, position: int, epoch: int) -> None:
        if self._closed:
            raise FencedOut(f"expected an open log, got a closed one - at {self._paths.log}")
        if self._halted is not None:
            raise self._halted
        if epoch != self.epoch:
            raise FencedOut(
                f"expected this log's epoch {self.epoch}, got {epoch} - at {self._paths.log};"
                " another incarnation owns this partition, end this one"
            )
        if position != self._head:
            raise CorruptLog(
                f"expected position {self._head}, got {position} - at {self._paths.log};"
                " entries are written one after another"
            )

    def _needs_rotation(self, value_bytes: int) -> bool:
        log_segment = self._log_segments[-1]
        if self._head == log_segment.first:
            return False
        used = log_segment.used_bytes()
        return (
            used >= self._config.log_segment_bytes
            or used + value_bytes + MAP_SLACK_BYTES > self._config.log_map_bytes
        )

    def _rotate(self) -> LogSegment:
        """Seal the last log segment and begin the next one at the head.

        Inside the last one's write transaction, where a newer writer records its epoch: it does so
        before (FencedOut: what stands at the head is that writer's) or finds the new manifest.
        """
        name = log_segment_name(self._head)
        *sealed, last = self._manifest.segments
        with self._log_segments[-1].held(self.epoch):
            remove_tree(self._paths.log / name)
            log_segment = self._new_log_segment(name, self._head)
            self._crash_point("log.rotate.segment_made")
            closed = structs.replace(last, sealed=True, entries=self._head - last.first)
            manifest = Manifest((*sealed, closed, LogSegmentEntry(name, self._head)))
            self._write(
                "sealing a log segment",
                lambda: save_manifest(self._paths.manifest, manifest, self._crash_point),
            )
        self._manifest = manifest
        self._log_segments = (*self._log_segments, log_segment)
        return log_segment

    def _write(self, what: str, action: Callable[[], None]) -> None:
        try:
            action()
        except (OSError, lmdb.Error) as error:
            self._halted = failed_write(error, f"{self._paths.log} ({what})")
            raise self._halted from error

    @staticmethod
    def _log_segment_of(position: int, log_segments: tuple[LogSegment, ...]) -> LogSegment:
        index = bisect_right(log_segments, position, key=lambda log_segment: log_segment.first) - 1
        return log_segments[index]

    def _opened(self) -> tuple[LogSegment, ...]:
        if not self._log_segments:
            raise FencedOut(f"expected an open log, got a closed one - at {self._paths.log}")
        return self._log_segments

    @contextmanager
    def view(self, position: int) -> Iterator[memoryview]:
        """The entry's bytes, verified at their first reading; may be called from any thread.

        What is derived from the view stays readable after the context, but keeps the log segment
        mapped. Raises CorruptLog, IndexError outside 0 <= position < head, FencedOut once closed.
        """
        log_segments = self._opened()
        if not 0 <= position < self._head:
            raise IndexError(f"expected a position below {self._head}, got {position}")
        entry = self._log_segment_of(position, log_segments).view(position)
        try:
            yield entry
        finally:
            with suppress(BufferError):  # something derived from it is alive, and keeps the map
                entry.release()

    def group(self, position: int) -> Group | None:
        """The group of entries that has this one, None where it stands alone; as ``view``."""
        return self._log_segment_of(position, self._opened()).group(position)

    def size_bytes(self) -> int:
        return sum(log_segment.used_bytes() for log_segment in self._log_segments)

    def verify(self) -> Iterator[str]:
        """Re-read every entry from the file. Cost: one hash pass over the whole log."""
        log_segments = self._log_segments
        for position in range(self._head):
            fault = self._log_segment_of(position, log_segments).fault(position)
            if fault is not None:
                yield fault

    def checked(self, position: int) -> tuple[int, str | None]:
        """Re-read one entry from the file, whatever was verified before: its bytes, and None if it
        is whole, else one sentence. Raises FencedOut once closed."""
        return self._log_segment_of(position, self._opened()).checked(position)

    def whole(self, position: int) -> bytes:
        """A copy of an entry, compared with its checksum just now, whatever was verified before.
        Raises as ``checked`` and ``view``."""
        _, fault = self.checked(position)
        if fault is not None:
            raise CorruptLog(fault)
        with self.view(position) as view:
            return bytes(view)

    def told(self, entries: int) -> None:
        """The catalogue durably knows of so many entries: noted with the next one, or at the end.

        A catalogue that knows less is an older copy then (``log_ages.py``).
        """
        self._told = entries

    def close(self) -> None:
        """Free the lock and let go of the files; views that are held stay readable."""
        with self._writing:
            if self._told and self._halted is None and self._log_segments:
                with suppress(Halt, OSError, lmdb.Error):  # of use, and not needed
                    self._log_segments[-1].claim(self.epoch, self.id, self._told)
            self._closed = True
            self._log_segments = ()
            self._lock.release()
