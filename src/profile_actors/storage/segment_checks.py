"""Whether a log's segments are whole, and what lies beside them that its manifest does not name.

Theory: a log segment that is written anew, mended or compacted, is made beside those that it is
for, under another name. So what is not listed, but has positions that a listed one has, is another
form of that: a crash left it before the manifest named it, or before the old form was deleted. What
is beyond all of them is of a rotation, and empty, or the manifest is lost or old.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from profile_actors.errors import CorruptLog
from profile_actors.storage.environment import DATA
from profile_actors.storage.files.manifest import GROUPED, PLAIN, LogSegmentEntry
from profile_actors.storage.log_segment import LogSegment

NAME = re.compile(r"segment-(\d{20})(-\d+)?")


STRAY_BYTES = 1 << 16
"""Above what a new, empty environment takes."""


class Strays(NamedTuple):
    """Directories of log segments that are not listed. forms: other forms of those that are."""

    forms: list[Path]
    others: list[Path]


def strays(directory: Path, listed: Sequence[LogSegmentEntry]) -> Strays:
    """What lies beside a log's listed segments, in order."""
    named = {entry.name for entry in listed}
    firsts = {entry.first for entry in listed}
    found = Strays([], [])
    for path in sorted(directory.glob("segment-*")):
        if path.name in named:
            continue
        match = NAME.fullmatch(path.name)
        first = int(match[1]) if match else -1
        is_form = first in firsts or any(
            one.sealed and one.first <= first < one.first + (one.entries or 0) for one in listed
        )
        (found.forms if is_form else found.others).append(path)
    return found


def check_whole(listed: Sequence[LogSegmentEntry], log_segments: Sequence[LogSegment]) -> None:
    """Segments follow each other without a gap, and none has lost an entry. Raises CorruptLog."""
    following = [*listed[1:], None]
    for entry, log_segment, after in zip(listed, log_segments, following, strict=True):
        end, count = log_segment.extent()
        wanted = after.first if after else end
        if end != wanted or count != end - entry.first:
            raise CorruptLog(
                f"expected positions {entry.first} to {wanted - 1}, got {count} entries up to"
                f" {end - 1} - at {log_segment.data}; restore the file from a replica or backup"
            )


def entries_of_stray(path: Path, map_bytes: int) -> int:
    """How many entries a log segment has that no manifest lists, 0 for what a crash left of an
    empty one."""
    data = path / DATA
    if not data.is_file() or data.stat().st_size == 0:
        return 0
    try:
        stray = LogSegment.open(path, 0, map_bytes, sync=True)
        entries = stray.extent()[1]
        stray.discard()
    except CorruptLog:
        # Half-created files are a few pages; anything larger may be a damaged segment.
        return int(data.stat().st_size > STRAY_BYTES)
    return entries


def format_of(path: Path, first: int) -> int:
    """The format of a sealed log segment, by what it has. Raises CorruptLog."""
    size = max((path / DATA).stat().st_size, 1 << 20)
    found = LogSegment.open(path, first, size, sync=True, sealed=True)
    is_grouped = found.is_grouped
    found.discard()
    return GROUPED if is_grouped else PLAIN
