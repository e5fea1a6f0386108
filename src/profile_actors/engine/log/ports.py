"""What the engine asks of storage: a log of entries, a feed, checkpoints.

Theory: the log is the ground state, feed and checkpoints are derived from it. The engine sees bytes
only through these protocols, so the same engine runs over LMDB, in memory, and in a simulator.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np

from profile_actors.errors import FeedDamaged

Arrays = Mapping[str, np.ndarray]


Buffer = bytes | memoryview


class RowGroup(Protocol):
    """Entries first ... end - 1 of a log, whose rows are in few tables as well, ordered by (ident,
    timestamp) in each: ``entry_groups.Group``."""

    first: int
    end: int

    def located(self, positions: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(table, place in it) of rows of entries. int64[n]"""

    def shapes(self) -> Sequence[tuple[str, int]]:
        """(dataset, rows) of each table."""

    def stream(self, table: int) -> memoryview:
        """A table as an Arrow stream; its columns are those of the rows, without ROW and OTHERS of
        ``hidden_columns``."""


class Log(Protocol):
    """Entries by position: 0-based, gap-free, written by one writer, never changed."""

    def head(self) -> int:
        """The number of entries; the position the next one gets."""

    def append_at(self, position: int, parts: Sequence[Buffer], epoch: int) -> None:
        """Write one entry (the concatenation of parts) durably: one put, one synced commit.

        Raises FencedOut if epoch is not the owner's, StorageFull, CorruptLog if position is not
        head.
        """

    def view(self, position: int) -> AbstractContextManager[memoryview]:
        """The entry's bytes, checksum-verified; the view dies with the context.

        Raises CorruptLog (naming file and position), IndexError beyond the head.
        """

    def group(self, position: int) -> RowGroup | None:
        """The entries that this one is kept together with, which have their rows in few tables as
        well; None where it stands alone. As ``view``."""

    def size_bytes(self) -> int:
        """Bytes on disk of all log segments."""

    def verify(self) -> Iterator[str]:
        """Re-read and check every entry; yields one sentence per damaged one."""

    def close(self) -> None: ...


class Feed(Protocol):
    """Packed change blocks by log position. Derived: not synced at append, flushed on request."""

    def append(self, position: int, block: bytes) -> None:
        """Store (or overwrite with the same) the block of one entry; only non-empty ones come."""

    def read(self, after: int, limit_bytes: int) -> list[tuple[int, bytes]]:
        """Blocks with position > after, in order, until limit_bytes is passed (at least one).

        Raises FeedDamaged.
        """

    def get(self, position: int) -> bytes | None:
        """One block. Raises FeedDamaged."""

    def first_kept(self) -> int:
        """Positions below it may have been dropped by retention; 0 at first."""

    def firsts(self) -> list[int]:
        """Where the pieces begin that retention drops whole, in order; at least one, when open."""

    def turn(self, position: int) -> None:
        """Begin a new piece there, past all blocks; not while the newest is empty. Raises
        StorageFull."""

    def drop(self, before: int) -> None:
        """Drop the pieces whose blocks all lie before a position; the newest stays."""

    def end(self) -> int:
        """At least one past the newest block, at most the log's head then; 0 for a new feed.

        What was appended before the last ``flush`` lies below it, or this feed is another one.
        Raises CorruptLog.
        """

    def reset(self) -> None:
        """Drop every block: a damaged or incomplete feed is made again by replaying the log."""

    def faults(self) -> list[int]:
        """Positions of damaged blocks, every one looked at. Cost: one hash pass over the feed.

        Raises FeedDamaged, and condemns the feed, if its tables cannot be walked.
        """

    def condemn(self, reason: str) -> FeedDamaged:
        """Have the next opening begin the feed anew; returns the error that says so."""

    def flush(self) -> None: ...

    def size_bytes(self) -> int: ...

    def close(self) -> None:
        """Flush and let go of the files; a second call does nothing."""


class Checkpoints(Protocol):
    """Fold states as of a position, and immutable runs of the row locator."""

    def save(self, position: int, meta: bytes, arrays: Arrays) -> None:
        """Write aside, sync, rename; keep the two newest. May run beside the writer thread."""

    def load(self) -> tuple[int, bytes, dict[str, np.ndarray]] | None:
        """The newest valid one (arrays are owned and writable); damaged ones are skipped."""

    def save_run(self, name: str, arrays: Arrays) -> None: ...

    def load_run(self, name: str) -> dict[str, np.ndarray]:
        """Read-only arrays mapped from the file. Raises CorruptLog."""

    def drop_runs(self, keep: set[str]) -> None: ...
