"""Sealed log segments of small entries become one of groups of entries; positions stay.

Theory: as an erasure or the mending of damage does it, a log segment is written beside those that
it is for, read again and compared, and takes their place by the replacement of the manifest; a
crash leaves the one form or the other. What is written are groups (``engine/log/entry_groups``):
the entries' own bytes, compressed, and their rows in tables. Both are compared with the entries
themselves, read from the old form, before anything is replaced.

Two things are worth doing (``due``): a log segment of single, small entries is put into groups; and
where FAN grouped ones of a size follow each other they become one, their groups copied as they are.
So there are few log segments however long the log is, and an entry is copied few times.

Limits: an entry that cannot be grouped fails its log segment, which stays as it is. The new form
takes its bytes of free space beside the old one.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import lmdb

from profile_actors.engine.log.entry_groups import (
    MAX_ENTRY_BYTES,
    Group,
    Packing,
    compared,
    is_group,
)
from profile_actors.errors import CorruptLog
from profile_actors.storage.environment import DATA
from profile_actors.storage.erasure.rewriting import next_name
from profile_actors.storage.files.atomic_files import (
    CrashPoint,
    failed_write,
    no_crash,
    remove_tree,
)
from profile_actors.storage.files.framing import frame
from profile_actors.storage.files.manifest import GROUPED, PLAIN, LogSegmentEntry
from profile_actors.storage.log_segment import LogSegment
from profile_actors.storage.scrub.mendable_log import MendableLog

FAN = 8
"""So many grouped log segments of a size become one."""


COPY_BYTES = 4 << 20
"""Of groups that are copied at a time."""


STEP_ENTRIES = 64
"""Put into a group between two looks whether to go on: some 10 ms."""


Value = tuple[int, bytes, int]
"""A framed value, before it the position it is put under, after it how many entries it has."""


class Stopped(Exception):
    """Who compacts was told to stop; nothing was changed."""


def due(
    log: MendableLog, below: int, max_bytes: int, failed: Collection[str] = ()
) -> tuple[LogSegmentEntry, ...]:
    """The listed log segments that are to become one, none if there is nothing to do.

    below: only entries below it are touched. max_bytes: of the log segment that comes out. failed:
    names of those that could not be compacted.
    """
    sealed = [one for one in log.listed if one.sealed and one.first + (one.entries or 0) <= below]
    sealed = [one for one in sealed if one.name not in failed]
    for one in sealed:
        if is_small(log, one):
            return (one,)
    run: list[LogSegmentEntry] = []
    for one in sealed:
        is_alike = bool(run) and one.format == GROUPED and _level(one) == _level(run[0])
        run = [*run, one] if is_alike else [one] if one.format == GROUPED else []
        if len(run) == FAN:
            if bytes_of(log, run) <= max_bytes:
                return tuple(run)
            run = []
    return ()


def is_small(log: MendableLog, entry: LogSegmentEntry) -> bool:
    """Whether a log segment has single entries that are small; one that is written as well."""
    count = (entry.entries or 0) if entry.sealed else log.head() - entry.first
    return entry.format == PLAIN and 0 < _bytes(log, entry) < MAX_ENTRY_BYTES * count


def bytes_of(log: MendableLog, entries: Iterable[LogSegmentEntry]) -> int:
    """What log segments take on the disk."""
    return sum(_bytes(log, one) for one in entries)


def _level(entry: LogSegmentEntry) -> int:
    """The power of FAN that a log segment's entries have reached."""
    count, level = entry.entries or 0, 0
    while count >= FAN:
        count, level = count // FAN, level + 1
    return level


def _bytes(log: MendableLog, entry: LogSegmentEntry) -> int:
    try:
        return (log.directory / entry.name / DATA).stat().st_size
    except FileNotFoundError:  # another form has just taken its place
        return 0


def compact(
    log: MendableLog,
    entries: Sequence[LogSegmentEntry],
    map_bytes: int,
    go_on: Callable[[], bool],
    crash_point: CrashPoint = no_crash,
) -> int:
    """Write sealed log segments that follow each other as one; how many bytes that has.

    go_on: asked between steps of at most some 20 ms; False ends it. map_bytes: see
    ``Config.log_map_bytes``. May run beside appends and reads. Cost: some 300 us for a single
    entry, for comparing them as well; nearly nothing where groups are copied. Raises Stopped,
    CorruptLog, StorageFull.
    """
    with log.compacting() as is_alone:
        try:
            return _compacted(log, entries, map_bytes, lambda: is_alone() and go_on(), crash_point)
        except BaseException as error:
            # What it had open is let go of before others, who may open it anew, go on.
            traceback.clear_frames(error.__traceback__)
            raise


def _compacted(
    log: MendableLog,
    entries: Sequence[LogSegmentEntry],
    map_bytes: int,
    go_on: Callable[[], bool],
    crash_point: CrashPoint,
) -> int:
    old = log.sealed(entries)
    name = next_name(entries[0])
    path = log.directory / name
    new: LogSegment | None = None
    try:
        remove_tree(path)
        new = LogSegment.create(path, entries[0].first, map_bytes, sync=False)
        stamp = old[-1].stamp()
        new.claim(stamp.epoch, old[-1].log(), stamp.told)
        crash_point("compact.begun")
        for entry, segment in zip(entries, old, strict=True):
            is_copied = entry.format == GROUPED
            values = _copied(segment) if is_copied else _grouped(entry, segment, go_on)
            for position, value, count in values:
                new.fill([(position, value)], count - 1)
                if not is_copied:
                    _compare(new, segment, range(position + 1 - count, position + 1), go_on)
                _step(go_on)
        new.sync()
        end = entries[-1].first + (entries[-1].entries or 0)
        if new.extent() != (end, end - entries[0].first):
            raise CorruptLog(
                f"expected positions {entries[0].first} to {end - 1}, got {new.extent()[1]} entries"
                f" up to {new.extent()[0] - 1} - at {new.data}; nothing was changed"
            )
        size = new.used_bytes()
        crash_point("compact.written")
        new.discard()
        new = None
        log.replace(entries, name, GROUPED)
        crash_point("compact.replaced")
    except (OSError, lmdb.Error) as error:
        raise failed_write(error, f"{path} (compacting a log segment)") from error
    finally:
        if new is not None:
            new.discard()
            remove_tree(path)
    return size


def _step(go_on: Callable[[], bool]) -> None:
    if not go_on():
        raise Stopped


def _grouped(
    entry: LogSegmentEntry, segment: LogSegment, go_on: Callable[[], bool]
) -> Iterator[Value]:
    """A log segment's single entries as groups; those that are large, or alone, as they are."""
    packing = Packing(entry.first)
    for position in range(entry.first, entry.first + (entry.entries or 0)):
        view = segment.view(position)
        if len(view) > MAX_ENTRY_BYTES:
            yield from _finished(packing, segment)
            yield position, frame(position, (view,)), 1
            packing = Packing(position + 1)
            continue
        packing.add(view)
        if packing.is_full:
            yield from _finished(packing, segment)
            packing = Packing(position + 1)
        if position % STEP_ENTRIES == 0:
            _step(go_on)
    yield from _finished(packing, segment)


def _finished(packing: Packing, segment: LogSegment) -> Iterator[Value]:
    count = packing.end - packing.first
    if count == 1:
        yield packing.first, frame(packing.first, (segment.view(packing.first),)), 1
    elif count:
        yield packing.end - 1, frame(packing.end - 1, packing.parts()), count


def _copied(segment: LogSegment) -> Iterator[Value]:
    """A grouped log segment's values, each compared with its checksum."""
    after = segment.first - 1
    while found := segment.range(after, COPY_BYTES):
        for position, content in found:
            count = 1
            if is_group(content):
                group = Group(memoryview(content), segment.where(position))
                count = group.end - group.first
            yield position, frame(position, (content,)), count
        after = found[-1][0]


def _compare(new: LogSegment, old: LogSegment, positions: range, go_on: Callable[[], bool]) -> None:
    """Raises CorruptLog where the new form says something else than the old one."""
    group = new.group(positions[-1])
    alone = None if group or new.view(positions[0]) == old.view(positions[0]) else positions[0]
    for found in [alone] if group is None else compared(group, old.view):
        if found is None:
            _step(go_on)
            continue
        raise CorruptLog(
            f"expected the entry that was written, got another one in its compacted form - at"
            f" {new.where(found)}; nothing was changed: this is a defect, report it"
        )
