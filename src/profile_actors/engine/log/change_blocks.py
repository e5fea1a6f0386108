"""Packed changes of one entry, as the feed keeps them (format).

Theory: a membership change is (gauge, slot, old level, new level): with the gauge's layout it
expands to the segments that flipped. A computed attribute's change is a mark; its value is read at
delivery. The layouts of a catalogue version stand in the feed block of its definition entry, so a
block can be read without compiling rules, also by a later planner.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np

from profile_actors.columnar.vectors import Array

CAUSES = ("event", "late", "clock", "definition", "identity")


class Group(msgspec.Struct, array_like=True):
    """Changes of one gauge (``source`` >= 0), of one segment by name, or of computed attributes.

    idents: uint32[n] bytes. old, new: levels (uint8 or uint16) of a gauge; 0/1 of a named segment;
    for computed attributes ``new`` has one bit row per name (packed, ``names``). at: int64[n]
    bytes, or b'' when all are at ``now``. cause: index into CAUSES, or uint8[n] bytes.
    """

    source: int
    names: tuple[str, ...]
    idents: bytes
    old: bytes
    new: bytes
    at: bytes
    cause: int | bytes


class PackedLayout(msgspec.Struct, array_like=True):
    """A gauge's layout: segments, and the truth table's rows as packed bits."""

    segments: tuple[str, ...]
    levels: int
    truth: bytes


class Packed(msgspec.Struct, array_like=True):
    """A feed block. layouts_at: position of the block that holds the layouts of its gauges."""

    now: int
    layouts_at: int
    groups: list[Group]
    layouts: list[PackedLayout] | None = None


def pack_layouts(layouts: list[Layout]) -> list[PackedLayout]:
    """Layouts as bytes."""
    return [
        PackedLayout(layout.segments, len(layout.truth), np.packbits(layout.truth).tobytes())
        for layout in layouts
    ]


def unpack_layouts(packed: list[PackedLayout]) -> list[Layout]:
    """Inverse of ``pack_layouts``."""
    out = []
    for one in packed:
        shape = (one.levels, len(one.segments))
        bits = np.unpackbits(np.frombuffer(one.truth, np.uint8), count=shape[0] * shape[1])
        out.append(Layout(one.segments, bits.reshape(shape).astype(np.bool_)))
    return out


def encode(packed: Packed) -> bytes:
    """A block as bytes."""
    return msgspec.msgpack.encode(packed)


def decode(block: bytes) -> Packed:
    """A block from bytes."""
    return msgspec.msgpack.decode(block, type=Packed)


def gauge_group(
    gauge: int, idents: Array, old: Array, new: Array, at: Array | None, cause: int | Array
) -> Group:
    """Level changes of one gauge. at None: all at the entry's now."""
    return Group(
        gauge,
        (),
        idents.astype(np.uint32).tobytes(),
        old.tobytes(),
        new.tobytes(),
        b"" if at is None else at.astype(np.int64).tobytes(),
        cause if isinstance(cause, int) else cause.astype(np.uint8).tobytes(),
    )


def segment_group(
    name: str, idents: Array, old: Array, new: Array, at: Array | None, cause: int
) -> Group:
    """Changes of one segment by name. old, new: bool[n]; at None: all at the entry's now."""
    return Group(
        -1,
        (name,),
        idents.astype(np.uint32).tobytes(),
        old.tobytes(),
        new.tobytes(),
        b"" if at is None else at.astype(np.int64).tobytes(),
        cause,
    )


def computed_group(
    names: tuple[str, ...], idents: Array, marks: Array, at: Array | None, cause: int | Array
) -> Group:
    """Marks of computed attributes. marks: bool[names, n]."""
    return Group(
        -2,
        names,
        idents.astype(np.uint32).tobytes(),
        b"",
        np.packbits(marks).tobytes(),
        b"" if at is None else at.astype(np.int64).tobytes(),
        cause if isinstance(cause, int) else cause.astype(np.uint8).tobytes(),
    )


class Expanded(msgspec.Struct, frozen=True):
    """One change: ident, name, kind ('membership' | 'computed'), instant, before, after, cause."""

    ident: int
    name: str
    kind: str
    at: int
    old: bool
    new: bool
    cause: str
    had: bool


def expand(packed: Packed, layouts: list[Layout]) -> list[Expanded]:
    """All changes of a block, in order of (at, ident). Cost: Python per change; for delivery only.

    had: the profile existed before (its old status is 'exited' rather than none).
    """
    out: list[Expanded] = []
    for group in packed.groups:
        idents = np.frombuffer(group.idents, np.uint32)
        count = len(idents)
        at = np.frombuffer(group.at, np.int64) if group.at else np.full(count, packed.now)
        causes = (
            np.full(count, group.cause)
            if isinstance(group.cause, int)
            else np.frombuffer(group.cause, np.uint8)
        )
        for name, kind, rows, old, new, had in _flips(group, layouts, count):
            for i, row in enumerate(rows.tolist()):
                out.append(
                    Expanded(
                        int(idents[row]), name, kind, int(at[row]), bool(old[i]), bool(new[i]),
                        CAUSES[causes[row]], bool(had[i]),
                    )
                )  # fmt: skip
    out.sort(key=lambda change: (change.at, change.ident, change.kind, change.name))
    return out


def _flips(
    group: Group, layouts: list[Layout], count: int
) -> list[tuple[str, str, Array, Array, Array, Array]]:
    """(name, kind, rows, old, new, had) per segment or attribute of a group."""
    yes = np.ones(count, np.bool_)
    if group.source == -2:
        total = len(group.names) * count
        marks = np.unpackbits(np.frombuffer(group.new, np.uint8), count=total)
        table = marks.reshape(len(group.names), count)
        rows_of = [np.flatnonzero(table[i]) for i in range(len(group.names))]
        return [
            (name, "computed", rows, yes[rows], yes[rows], yes[rows])
            for name, rows in zip(group.names, rows_of, strict=True)
        ]
    if group.source == -1:
        old = np.frombuffer(group.old, np.bool_)
        new = np.frombuffer(group.new, np.bool_)
        return [(group.names[0], "membership", np.arange(count), old, new, yes)]
    layout = layouts[group.source]
    dtype = np.uint8 if len(layout.truth) <= 256 else np.uint16
    before: Array = np.frombuffer(group.old, dtype)
    after: Array = np.frombuffer(group.new, dtype)
    out = []
    for column, name in enumerate(layout.segments):
        old, new = layout.truth[before, column], layout.truth[after, column]
        rows = np.flatnonzero(old != new)
        if len(rows):
            out.append((name, "membership", rows, old[rows], new[rows], before[rows] > 0))
    return out


@dataclass(frozen=True, slots=True)
class Layout:
    """How a gauge's levels read: truth bool[levels, segments], and the segments' names. It is all
    that the change feed needs to expand a level change."""

    segments: tuple[str, ...]
    truth: Array
