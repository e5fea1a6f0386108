"""All logs of a store compacted by hand, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import msgspec

from profile_actors.actors.logs.compactor import CompactionPart

AT_ONCE = 8
"""Copies of logs that are compacted at a time."""


class CompactionReport(msgspec.Struct, frozen=True):
    """One copy of a log. name: whose, as in 'partition 0', 'standby of partition 0',
    'ledger' or 'standby of the ledger'.
    The other numbers are of all that was compacted since its process began, in the background too.

    entries: put together, or moved with theirs. bytes_before, bytes_after: of the log segments that
    they were in, and are in. waiting: entries that are small and single still. error: why, or
    empty.
    """

    name: str
    entries: int
    bytes_before: int
    bytes_after: int
    waiting: int
    error: str


def compacted(copies: Mapping[str, Callable[[], CompactionPart]]) -> list[CompactionReport]:
    """Compact them all. copies: by name, how some seconds of it are asked for."""
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="compact") as pool:
        return list(pool.map(_whole, copies, copies.values()))


def _whole(name: str, ask: Callable[[], CompactionPart]) -> CompactionReport:
    part = ask()
    while not part.is_done:
        part = ask()
    one = part.status
    return CompactionReport(
        name, one.entries, one.bytes_before, one.bytes_after, one.waiting, one.error
    )
