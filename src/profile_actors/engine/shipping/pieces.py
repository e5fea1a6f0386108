"""What is to be copied of a log, given what it is made of and what the receiver has.

Theory: entries never change and follow each other, so a copy of a log is *pieces*, each a range of
positions: a sealed log segment as the file that it is, or entries, framed as they are stored, of
the segment that is still written. What is there already, in whatever pieces, is not copied again: a
piece is known by the log segment that it was read from, whose name changes when its content does
(when a person was erased). So a segment of which entries were copied goes on as entries when it is
sealed, and one that nobody has had goes as a file.

The receiver is a backup, which keeps pieces as files by content. Names are those of one copy of a
log: another one, a standby that came in force, may use a name for other content, so what was read
of it before is not "held" (``actors/logs/log_steps``).

Rules for editors: pure. Backups name pieces for years: fields are added with a default, or never.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import msgspec


class Listed(NamedTuple):
    """A log segment as its log lists it. end: one past its last position; of the one that is still
    written the log's head."""

    name: str
    first: int
    end: int
    is_sealed: bool


class Stored(msgspec.Struct, frozen=True):
    """A file by its content. digest: xxh3-128, in hex."""

    digest: str
    bytes: int

    @property
    def name(self) -> str:
        """What it is called where it is kept; of a file cut short the size differs."""
        return f"{self.digest}-{self.bytes}"


class Piece(msgspec.Struct, frozen=True):
    """Positions first ... end - 1 of a log. segment: the log segment that they were read from."""

    form: Literal["file", "entries"]
    segment: str
    first: int
    end: int
    stored: Stored


class Wanted(NamedTuple):
    """A piece that is to be copied."""

    form: Literal["file", "entries"]
    segment: str
    first: int
    end: int


class Needs(NamedTuple):
    """A log up to a position. kept: pieces that are there. wanted: what else it takes."""

    kept: list[Piece]
    wanted: list[Wanted]


def needs(listed: Sequence[Listed], end: int, held: Iterable[Piece]) -> Needs:
    """What it takes to have a log's entries below ``end``.

    listed: all of its log segments, in order. held: what the receiver has of this log, in any
    order; what it has above ``end`` is not used.
    """
    of_segment: dict[str, list[Piece]] = {}
    for piece in held:
        of_segment.setdefault(piece.segment, []).append(piece)
    kept: list[Piece] = []
    wanted: list[Wanted] = []
    for one in listed:
        if one.first >= end:
            break
        reached, upto = one.first, min(one.end, end)
        for piece in sorted(of_segment.get(one.name, ()), key=lambda piece: piece.first):
            if piece.first == reached and piece.end <= upto:
                kept.append(piece)
                reached = piece.end
        if reached == upto:
            continue
        is_file = one.is_sealed and one.end == upto and reached == one.first
        wanted.append(Wanted("file" if is_file else "entries", one.name, reached, upto))
    return Needs(kept, wanted)
