"""Consecutive rows of a file, each with its number: what a reader hands to the door.

Theory: rows are numbered from 0, the broken ones included, so a row's number is its offset for
exactly-once, whatever the size of the blocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from profile_actors.ingest.offsets import contains
from profile_actors.ingest.rejects import Reject, raw_text


@dataclass(frozen=True, slots=True)
class Lines:
    """The text that rows had in their file. starts, ends: int64[n], places in data."""

    data: memoryview
    starts: np.ndarray
    ends: np.ndarray

    def raw(self, row: int) -> str:
        """The row's text, bounded, as a quarantine keeps it."""
        part = self.data[int(self.starts[row]) : int(self.ends[row])]
        return raw_text(str(part, "utf-8", "backslashreplace"))

    def only(self, chosen: Any) -> Lines:
        """Of some rows: a slice, or bool[n]."""
        return Lines(self.data, self.starts[chosen], self.ends[chosen])


@dataclass(frozen=True, slots=True)
class RowBlock:
    """Consecutive rows of a file.

    first_row: number of the first. count: rows, broken ones included. rows: those of a sound
    structure, as a pa.Table or a list of what JSON gave. numbers: int64, their places in 0..count;
    None: all. rejects: the broken rows, numbered in the file. size_bytes: of the file, header
    included. is_text: every cell is a text that stands for a value. lines: what the rows looked
    like, if they were lines.
    """

    first_row: int
    count: int
    rows: Any
    numbers: np.ndarray | None
    rejects: tuple[Reject, ...]
    size_bytes: int
    is_text: bool = False
    lines: Lines | None = None

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, part: slice) -> RowBlock:
        """Rows start:stop of the block; the bytes go with the first row."""
        start, stop, _ = part.indices(self.count)
        numbers = np.arange(self.count) if self.numbers is None else self.numbers
        low, high = (int(i) for i in np.searchsorted(numbers, (start, stop)))
        first = self.first_row + start
        rejects = [r for r in self.rejects if first <= r.row < self.first_row + stop]
        return replace(
            self,
            first_row=first,
            count=stop - start,
            rows=self.rows[low:high],
            numbers=None if self.numbers is None else numbers[low:high] - start,
            rejects=tuple(rejects),
            size_bytes=self.size_bytes if start == 0 else 0,
            lines=None if self.lines is None else self.lines.only(slice(low, high)),
        )

    def only(self, ranges: np.ndarray) -> RowBlock:
        """The same block, of which only rows in these ranges of the file are left. int64[k, 2]."""
        numbers = np.arange(self.count) if self.numbers is None else self.numbers
        kept = contains(ranges, numbers + self.first_row)
        rejects = [r for r in self.rejects if contains(ranges, np.array([r.row]))[0]]
        return replace(
            self,
            rows=_some(self.rows, kept),
            numbers=numbers[kept],
            rejects=tuple(rejects),
            lines=None if self.lines is None else self.lines.only(kept),
        )


def _some(rows: Any, kept: np.ndarray) -> Any:
    if isinstance(rows, pa.Table):
        return rows.filter(pa.array(kept))
    return [rows[place] for place in np.flatnonzero(kept).tolist()]


def rejects_of(
    source: pa.Table | Sequence[Any],
    block: RowBlock | None,
    refused: Mapping[int, tuple[str, str]],
    offsets: np.ndarray,
) -> list[Reject]:
    """Ascending rejects with the rows' own text."""
    rows = sorted(refused)
    if block is not None and block.lines is not None:
        return [Reject(int(offsets[row]), *refused[row], block.lines.raw(row)) for row in rows]
    if isinstance(source, pa.Table):
        try:
            found = source.take(pa.array(rows, pa.int64())).to_pylist()
        except (ValueError, OverflowError, pa.ArrowException):
            found = ["a row that Python cannot hold"] * len(rows)
    else:
        found = [source[row] for row in rows]
    return [
        Reject(int(offsets[row]), *refused[row], raw_text(own))
        for row, own in zip(rows, found, strict=True)
    ]
