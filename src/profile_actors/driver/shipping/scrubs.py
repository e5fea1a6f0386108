"""All disks of a store read through by hand, and what was found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import msgspec

from profile_actors.actors.logs.scrubber import ScrubPart
from profile_actors.storage.scrub.scrubbing import Mark

AT_ONCE = 8
"""Copies of logs that are read at a time."""


class ScrubReport(msgspec.Struct, frozen=True):
    """One copy of a log, and what is derived from it, read whole. name: whose, as in 'partition 0',
    'standby of partition 0', 'ledger' or 'standby of the ledger'. read: log entries, files, and
    blocks of the change feed.

    faults: what is damaged, where, and what to do, in sentences, [] where all is whole. mended: log
    entries that were damaged and are fetched from another copy.
    """

    name: str
    read: int
    bytes: int
    faults: list[str]
    mended: int


def scrubbed(copies: Mapping[str, Callable[[Mark | None], ScrubPart]]) -> list[ScrubReport]:
    """Read them all, part by part. copies: by name, how a part is asked for."""
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="scrub") as pool:
        return list(pool.map(_whole, copies, copies.values()))


def _whole(name: str, ask: Callable[[Mark | None], ScrubPart]) -> ScrubReport:
    mark: Mark | None = None
    read = size = mended = 0
    faults: list[str] = []
    while True:
        part = ask(mark)
        read, size, mended = read + part.read, size + part.bytes, mended + part.mended
        faults += part.faults
        if part.mark is None:
            return ScrubReport(name, read, size, faults, mended)
        mark = part.mark
