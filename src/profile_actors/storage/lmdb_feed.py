"""The change feed of one partition: packed blocks by log position, derived from the log.

Theory: a row of LMDB environments like the log's, ``<directory>/feed/segment-<first position>/``,
and ``segments.json``, which lists them: one that is missing is not what retention dropped. A feed
that is not whole is deleted at its opening and is new. Commits are not synced; ``flush`` is. After
the machine's crash a tail may be missing, and the engine appends it again from its newest
checkpoint on, which overwrites. So flush before a checkpoint is saved.

Retention drops whole feed segments, an eighth of ``feed_retention_bytes`` each: deleting rows would
leave their bytes in the file and fragment it. Blocks carry no time that this module reads: when a
feed segment is to end, or is too old, the engine says (``engine/partition/feed_writer.py``).

Damage. A damaged block raises FeedDamaged when it is read: it can be made again and appended in
its place (``engine/partition/feed_mending.py``). Where that cannot be done the feed is condemned: a
file ``condemned`` says why, and the next opening deletes it and begins a new one.

Limits: an OS crash may damage an unsynced environment.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import deque
from pathlib import Path

import lmdb
import msgspec

from profile_actors.config import Config
from profile_actors.errors import UNDECODED, CorruptLog, FeedDamaged, FencedOut
from profile_actors.storage.files.atomic_files import (
    CrashPoint,
    failed_write,
    make_directory,
    no_crash,
    remove_tree,
    write_whole,
)
from profile_actors.storage.files.framing import frame
from profile_actors.storage.files.layout import PartitionLayout
from profile_actors.storage.log_segment import LogSegment

SEGMENTS_KEPT = 8


PREFIX = "segment-"


LIST = "segments.json"


CONDEMNED = "condemned"


_NAMES = msgspec.json.Decoder(list[str])


class LmdbFeed:
    """A Feed (``engine/log/ports.py``) in ``<directory>/feed``; directory is the partition's.

    One thread appends, any thread reads. is_new: there was no feed here, or a damaged one that was
    deleted; whoever has a checkpoint but a new feed must replay the log from its start to have all
    changes again. Raises StorageFull.
    """

    def __init__(
        self, directory: Path | str, config: Config, *, crash_point: CrashPoint = no_crash
    ) -> None:
        self._dropped: deque[LogSegment] = deque(maxlen=2)
        self._directory = PartitionLayout(Path(directory)).feed
        self._segment_bytes = max(1, config.feed_retention_bytes // SEGMENTS_KEPT)
        self._retention_bytes = config.feed_retention_bytes
        # An entry's block must fit whatever the size at which a feed segment is left.
        self._map_bytes = config.log_map_bytes
        self._crash_point = crash_point
        self._writing = threading.Lock()
        make_directory(self._directory)
        self._log_segments: tuple[LogSegment, ...] = ()
        try:
            for path in self._whole():
                first = int(path.name[len(PREFIX) :])
                opened = LogSegment.open(path, first, self._map_bytes, sync=False)
                self._log_segments = (*self._log_segments, opened)
        except CorruptLog:
            self._clear()
        self.is_new = not self._log_segments
        if self.is_new:
            self._begin(0)
        else:
            self._list()

    def _whole(self) -> list[Path]:
        """Directories of the feed segments. Raises FeedDamaged if one is missing or condemned."""
        found = self._listing()
        if (self._directory / CONDEMNED).exists():
            raise FeedDamaged(f"expected a feed, got a condemned one - at {self._directory}")
        try:
            listed = _NAMES.decode((self._directory / LIST).read_bytes())
        except FileNotFoundError:
            return found  # a new feed, or one from before there were lists
        except UNDECODED as error:
            raise FeedDamaged(f"expected names, got {error} - at {self._directory}") from error
        missing = set(listed) - {path.name for path in found}
        if missing:
            raise FeedDamaged(f"expected {min(missing)}, got none - at {self._directory}")
        return found

    def _list(self) -> None:
        """Write down which feed segments there are. Raises StorageFull."""
        names = [log_segment.path.name for log_segment in self._log_segments]
        try:
            write_whole(self._directory / LIST, (msgspec.json.encode(names),))
        except OSError as error:
            raise failed_write(error, str(self._directory / LIST)) from error

    def _listing(self) -> list[Path]:
        """Segment directories; one that a crash left without its two meta pages is deleted."""
        out = []
        for path in sorted(self._directory.glob(f"{PREFIX}*")):
            data = path / "data.mdb"
            if data.is_file() and data.stat().st_size > 0:
                out.append(path)
            else:
                remove_tree(path)
        return out

    def _path(self, first: int) -> Path:
        return self._directory / f"{PREFIX}{first:020d}"

    def _begin(self, first: int) -> None:
        path = self._path(first)
        try:
            log_segment = LogSegment.create(path, first, self._map_bytes, sync=False)
        except (OSError, lmdb.Error) as error:
            raise failed_write(error, str(path)) from error
        self._log_segments = (*self._log_segments, log_segment)
        self._list()

    def _clear(self) -> None:
        """Delete every feed segment, the list first."""
        self._log_segments = ()
        (self._directory / LIST).unlink(missing_ok=True)
        for path in self._directory.glob(f"{PREFIX}*"):
            remove_tree(path)
        (self._directory / CONDEMNED).unlink(missing_ok=True)

    def end(self) -> int:
        """One past the newest block, or where an empty last feed segment begins. Cost: one look-up
        and a hash pass over the newest block, which a crash of the machine is likeliest to damage.

        Raises CorruptLog (FeedDamaged).
        """
        if not self._log_segments:
            raise FencedOut(f"expected an open feed, got a closed one - at {self._directory}")
        end = self._log_segments[-1].end()
        if end:
            self.get(end - 1)
        return end

    def reset(self) -> None:
        """Delete everything and begin anew. Raises StorageFull."""
        with self._writing:
            self._clear()
            self._begin(0)
            self.is_new = True

    def append(self, position: int, block: bytes) -> None:
        """Store or overwrite one block; not synced. Cost: one copy, one unsynced commit (~50 us).

        Raises StorageFull, CorruptLog if retention has dropped the position.
        """
        with self._writing:
            log_segments = self._log_segments
            if not log_segments:
                raise FencedOut(f"expected an open feed, got a closed one - at {self._directory}")
            if position < log_segments[0].first:
                raise CorruptLog(
                    f"expected a position from {log_segments[0].first} on, got {position} - at"
                    f" {self._directory}; retention has dropped it"
                )
            last = log_segments[-1]
            if position > last.first and last.used_bytes() >= self._segment_bytes:
                self._turn(position)
            log_segment = self._log_segment_of(position)
            try:
                log_segment.put(position, frame(position, (block,)))
            except (OSError, lmdb.Error) as error:
                raise failed_write(error, log_segment.where(position)) from error
            self._crash_point("feed.after_append")

    def _turn(self, position: int) -> None:
        """Begin a feed segment beyond all stored positions; drop the oldest over the limit."""
        last = self._log_segments[-1]
        if position < last.end():
            return
        last.sync()
        self._begin(position)
        while len(self._log_segments) > 1 and self.size_bytes() > self._retention_bytes:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        oldest, *kept = self._log_segments
        self._log_segments = tuple(kept)
        self._list()
        # Held for two more turns: an environment let go by a reader's thread, whose inode the
        # next one gets at that moment, would be taken for still open.
        self._dropped.append(oldest)
        remove_tree(oldest.path)

    def firsts(self) -> list[int]:
        return [log_segment.first for log_segment in self._log_segments]

    def turn(self, position: int) -> None:
        with self._writing:
            if self._log_segments and position > self._log_segments[-1].first:
                self._turn(position)

    def drop(self, before: int) -> None:
        with self._writing:
            while len(self._log_segments) > 1 and self._log_segments[1].first <= before:
                self._drop_oldest()

    def _log_segment_of(self, position: int) -> LogSegment:
        log_segments = self._log_segments
        index = bisect_right(log_segments, position, key=lambda log_segment: log_segment.first) - 1
        return log_segments[max(index, 0)]

    def read(self, after: int, limit_bytes: int) -> list[tuple[int, bytes]]:
        """Copies of the blocks with position > after, in order; at least one if there is one."""
        out: list[tuple[int, bytes]] = []
        left = limit_bytes
        for log_segment in self._log_segments:
            if left < 0:
                break
            # Skipping whole feed segments that end before ``after`` is LMDB's own cheap look-up.
            try:
                found = log_segment.range(after, left)
            except CorruptLog as error:
                raise self._damaged(error) from error
            out.extend(found)
            left -= sum(len(block) for _, block in found)
        return out

    def get(self, position: int) -> bytes | None:
        if not self._log_segments or position < self._log_segments[0].first:
            return None
        try:
            return self._log_segment_of(position).get(position)
        except CorruptLog as error:
            raise self._damaged(error) from error

    def _damaged(self, error: CorruptLog) -> FeedDamaged:
        fault = str(error).split(";")[0]
        return FeedDamaged(
            f"{fault}; the change feed is derived, nothing is lost: it is made anew from the log"
        )

    def faults(self) -> list[int]:
        """Positions of damaged blocks. Cost: one hash pass over the feed, nothing is copied.

        Raises FeedDamaged if a feed segment's tables cannot be walked; the feed is condemned then.
        """
        found: list[int] = []
        for log_segment in self._log_segments:
            try:
                found += [p for p in log_segment.positions() if log_segment.fault(p) is not None]
            except CorruptLog as error:
                raise self.condemn(str(error)) from error
        return found

    def condemn(self, reason: str) -> FeedDamaged:
        """Have the next opening begin the feed anew, durably. Raises StorageFull."""
        fault = reason.split(";")[0]
        try:
            write_whole(self._directory / CONDEMNED, (fault.encode(),))
        except OSError as error:
            raise failed_write(error, str(self._directory / CONDEMNED)) from error
        return FeedDamaged(
            f"{fault}; the change feed is derived, nothing is lost, but this cannot be mended while"
            " it is open: restart the store, and the feed is made anew from the log"
        )

    def first_kept(self) -> int:
        return self._log_segments[0].first if self._log_segments else 0

    def flush(self) -> None:
        """Make everything appended durable. Feed segments left earlier are synced when left."""
        log_segments = self._log_segments
        if log_segments:
            try:
                log_segments[-1].sync()
                if len(log_segments) > 1:
                    log_segments[-2].sync()  # blocks appended again after a crash may lie there
            except lmdb.Error as error:
                raise failed_write(error, str(log_segments[-1].data)) from error

    def size_bytes(self) -> int:
        return sum(log_segment.used_bytes() for log_segment in self._log_segments)

    def close(self) -> None:
        """Flush and let go of the files. Blocks already read are copies."""
        with self._writing:
            self.flush()
            self._log_segments = ()


def begin_at(directory: Path, first: int) -> None:
    """A new feed of a log of which nothing below ``first`` is to be told: it was copied, and a
    checkpoint of that position with it. Raises OSError, lmdb.Error.
    """
    make_directory(directory)
    LogSegment.create(directory / f"{PREFIX}{first:020d}", first, 1 << 20, sync=True).discard()
