"""A log's files made anew, each value through a function; what is derived from them is dropped.

Theory: a log segment of which something changes is written once more beside it, under another name,
read again and compared by its checksums, and takes its place by the replacement of the manifest:
of all log segments at once, so that a crash leaves the log as it was or as it is to be. The old
directories are deleted then. Who does all of it again finds nothing to change, and deletes what a
crash left.

The caller holds the directory's lock, and nobody has the log open.

Limits: both forms of the segments that change are on the disk for a while. What is deleted is not
overwritten on the medium: that is for the disk's encryption, or its owner, to do.

Cost: one pass over the log, and one synced file per log segment that changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import lmdb
from msgspec import structs

from profile_actors.engine.log.ports import Buffer
from profile_actors.errors import CorruptLog
from profile_actors.storage.environment import DATA
from profile_actors.storage.files.atomic_files import (
    CrashPoint,
    failed_write,
    no_crash,
    remove_tree,
    sync_directory,
)
from profile_actors.storage.files.framing import frame
from profile_actors.storage.files.layout import PartitionLayout, reset_derived
from profile_actors.storage.files.manifest import (
    PLAIN,
    LogSegmentEntry,
    Manifest,
    load_manifest,
    save_manifest,
)
from profile_actors.storage.lmdb_log import log_segment_name
from profile_actors.storage.log_segment import LogSegment
from profile_actors.storage.segment_checks import strays

Change = Callable[[bytes, str], Sequence[Buffer] | None]
"""What an entry becomes, as parts; None: it stays. Asked once for each, in the log's order. The
text names it in errors."""


def rewrite(
    directory: Path,
    map_bytes: int,
    change: Change,
    crash_point: CrashPoint = no_crash,
    note: Callable[[list[Path]], None] = lambda _: None,
) -> list[Path]:
    """Put a sequencer's log through a function; the files that were written anew.

    directory: a partition's, or the ledger's. map_bytes: see ``Config.log_map_bytes``. Feed,
    checkpoints and runs go first: they are made again from the log. note: told what will be
    answered before it takes the place of what is there, since nothing tells of it afterwards. A
    directory without a log stays as it is. Raises CorruptLog, StorageFull.
    """
    paths = PartitionLayout(directory)
    manifest = load_manifest(paths.manifest)
    if manifest is None:
        return []
    try:
        reset_derived(directory)
        crash_point("erase.derived_gone")
        _drop_strays(paths, manifest)
        entries = [
            _rewritten(paths, entry, map_bytes, change, crash_point) for entry in manifest.segments
        ]
        fresh = Manifest(tuple(entries))
        changed = zip(manifest.segments, entries, strict=True)
        files = [paths.log / new.name / DATA for old, new in changed if new.name != old.name]
        if files:
            note(files)
            sync_directory(paths.log)
            save_manifest(paths.manifest, fresh, crash_point)
            crash_point("erase.manifest_replaced")
            _drop_strays(paths, fresh)
    except (OSError, lmdb.Error) as error:
        raise failed_write(error, f"{paths.log} (taking rows out of a log)") from error
    return files


def _drop_strays(paths: PartitionLayout, manifest: Manifest) -> None:
    """Delete the other forms of the log segments that a manifest names."""
    for path in strays(paths.log, manifest.segments).forms:
        remove_tree(path)


def _rewritten(
    paths: PartitionLayout,
    entry: LogSegmentEntry,
    map_bytes: int,
    change: Change,
    crash_point: CrashPoint,
) -> LogSegmentEntry:
    """One log segment; the same entry of the manifest if nothing in it changes."""
    path = paths.log / entry.name
    size = (path / DATA).stat().st_size if (path / DATA).is_file() else 0
    old = LogSegment.open(path, entry.first, max(size, 1 << 20), sync=True, sealed=True)
    new: LogSegment | None = None
    name = next_name(entry)
    try:
        positions = old.positions()
        for position in positions:
            value = old.get(position)
            assert value is not None, position
            parts = change(value, old.where(position))
            if parts is not None and new is None:
                remove_tree(paths.log / name)
                new = begun_beside(paths.log / name, old, map_bytes)
                crash_point("erase.segment_begun")
                for before in range(entry.first, position):
                    new.put(before, frame(before, [old.get(before) or b""]))
            if new is not None:
                new.put(position, frame(position, [value] if parts is None else parts))
        if new is None:
            return entry
        new.sync()
        if new.positions() != positions or any(map(new.fault, positions)):
            raise CorruptLog(
                f"expected the {len(positions)} entries that were written, got others - at"
                f" {new.data}; check the disk, then start again"
            )
        crash_point("erase.segment_written")
        return structs.replace(entry, name=name, format=PLAIN)
    finally:
        old.discard()
        if new is not None:
            new.discard()


def next_name(entry: LogSegmentEntry) -> str:
    """``segment-<first>``, then ``segment-<first>-1`` and so on."""
    plain = log_segment_name(entry.first)
    written = entry.name.removeprefix(plain).removeprefix("-")
    return f"{plain}-{int(written or 0) + 1}"


def begun_beside(path: Path, old: LogSegment, map_bytes: int) -> LogSegment:
    """An empty, unsynced log segment with what another one says of its log and its writer; its map
    takes that one's entries, one by one, whatever ``map_bytes``."""
    size = max(map_bytes, old.map_bytes_alone())
    new = LogSegment.create(path, old.first, size, sync=False)
    stamp = old.stamp()
    new.claim(stamp.epoch, old.log(), stamp.told)
    return new
