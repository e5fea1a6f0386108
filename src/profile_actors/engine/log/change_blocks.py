"""Packed changes of one entry, as the feed keeps them (format).

Theory: a membership change is (gauge, slot, old level, new level): with the gauge's layout it
expands to the segments that flipped. A computed attribute's change is a mark; its value is read at
delivery. The layouts of a catalogue version stand in the feed block of its definition entry, so a
block can be read without compiling rules, also by a later planner.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import NamedTuple

import msgspec
import numpy as np

from profile_actors.columnar.runs import order_by, starts_of
from profile_actors.columnar.vectors import Array

CAUSES = ("event", "late", "clock", "definition", "identity")


SEGMENT, COMPUTED, MANY = -1, -2, -3


class Group(msgspec.Struct, array_like=True):
    """Changes of one gauge (``source`` >= 0), of many, of one segment by name, or of computed
    attributes.

    idents: uint32[n] bytes. old, new: levels (uint8 or uint16) of a gauge; 0/1 of a named segment;
    for computed attributes ``new`` has one bit row per name (packed, ``names``). at: int64[n]
    bytes, or b'' when all are at ``now``. cause: index into CAUSES, or uint8[n] bytes. gauges: of
    many, the number of each change's, ascending: uint32[n] bytes.
    """

    source: int
    names: tuple[str, ...]
    idents: bytes
    old: bytes
    new: bytes
    at: bytes
    cause: int | bytes
    gauges: bytes = b""


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


class _When(msgspec.Struct, array_like=True):
    now: int


_when = msgspec.msgpack.Decoder(_When)


def now_of(data: bytes) -> int:
    """When a block's changes happened, ms, without making them."""
    return _when.decode(data).now


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


_PACKED = msgspec.msgpack.Decoder(Packed)  # for the threads that read: see engine/log/entry.py


def decode(block: bytes) -> Packed:
    """A block from bytes."""
    return _PACKED.decode(block)


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


def gauges_group(
    gauges: Array, idents: Array, old: Array, new: Array, at: Array | None, cause: int | Array
) -> Group:
    """Level changes of many gauges, whose levels are uint8. gauges: int64[n] ascending."""
    one = gauge_group(MANY, idents, old, new, at, cause)
    one.gauges = gauges.astype(np.uint32).tobytes()
    return one


def segment_group(
    name: str, idents: Array, old: Array, new: Array, at: Array | None, cause: int
) -> Group:
    """Changes of one segment by name. old, new: bool[n]; at None: all at the entry's now."""
    return Group(
        SEGMENT,
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
        COMPUTED,
        names,
        idents.astype(np.uint32).tobytes(),
        b"",
        np.packbits(marks).tobytes(),
        b"" if at is None else at.astype(np.int64).tobytes(),
        cause if isinstance(cause, int) else cause.astype(np.uint8).tobytes(),
    )


Name = tuple[str, str]
"""('membership' | 'computed', name of the segment or computed attribute)."""


class Expanded(NamedTuple):
    """All changes of a block, in order of (at, ident, kind, name).

    idents: uint32[n]; name: int[n], numbers of ``names``; at: int64[n] ms; new: bool[n], whether
    it is a member then (before, it was the other); had: bool[n], whether the profile existed before
    (else its old status is none rather than 'exited'); cause: uint8[n], indexes into CAUSES.
    """

    names: list[Name]
    idents: Array
    name: Array
    at: Array
    new: Array
    had: Array
    cause: Array


def expand(packed: Packed, layouts: list[Layout]) -> Expanded:
    """All changes of a block. Cost: a few array passes per group, and three sorts by digits."""
    groups = chain.from_iterable(map(_one_by_one, packed.groups))
    parts = [_flips(group, layouts, packed.now) for group in groups]
    names = sorted({name for part in parts for name in part.names})
    number = {name: place for place, name in enumerate(names)}
    tables = [np.array([number[name] for name in part.names], np.int32) for part in parts]
    nothing = Expanded(
        [], np.zeros(0, np.uint32), np.zeros(0, np.int32), np.zeros(0, np.int64),
        np.zeros(0, np.bool_), np.zeros(0, np.bool_), np.zeros(0, np.uint8),
    )  # fmt: skip
    every = [nothing, *parts]
    name = np.concatenate([nothing.name, *(t[p.name] for t, p in zip(tables, parts, strict=True))])
    idents = np.concatenate([part.idents for part in every])
    at = np.concatenate([part.at for part in every])
    order = order_by(name)
    order = order[order_by(idents[order])]
    if len(at) and (at != at[0]).any():
        order = order[np.argsort(at[order], kind="stable")]
    return Expanded(
        names, idents[order], name[order], at[order],
        np.concatenate([part.new for part in every])[order],
        np.concatenate([part.had for part in every])[order],
        np.concatenate([part.cause for part in every])[order],
    )  # fmt: skip


def _one_by_one(group: Group) -> Iterator[Group]:
    """A group of many gauges as one of each."""
    if group.source != MANY:
        yield group
        return
    gauges = np.frombuffer(group.gauges, np.uint32)
    bounds = [*starts_of(gauges).tolist(), len(gauges)]
    for low, high in pairwise(bounds):
        yield Group(
            int(gauges[low]), (), group.idents[4 * low : 4 * high], group.old[low:high],
            group.new[low:high], group.at[8 * low : 8 * high],
            group.cause if isinstance(group.cause, int) else group.cause[low:high],
        )  # fmt: skip


def _flips(group: Group, layouts: list[Layout], now: int) -> Expanded:
    """The changes of one group, of each name in the group's own order."""
    idents = np.frombuffer(group.idents, np.uint32)
    count = len(idents)
    if group.source == COMPUTED:
        marks = np.unpackbits(np.frombuffer(group.new, np.uint8), count=len(group.names) * count)
        name, row = np.nonzero(marks.reshape(len(group.names), count))
        names = [("computed", one) for one in group.names]
        new = had = np.ones(len(row), np.bool_)
    elif group.source == SEGMENT:
        row, name = np.arange(count), np.zeros(count, np.int64)
        names = [("membership", group.names[0])]
        new, had = np.frombuffer(group.new, np.bool_), np.ones(count, np.bool_)
    else:
        layout = layouts[group.source]
        dtype = np.uint8 if len(layout.truth) <= 256 else np.uint16
        before: Array = np.frombuffer(group.old, dtype)
        after: Array = np.frombuffer(group.new, dtype)
        truth = np.ascontiguousarray(layout.truth.T)
        is_in = truth.take(after, axis=1)
        name, row = np.nonzero(truth.take(before, axis=1) != is_in)
        names = [("membership", one) for one in layout.segments]
        new, had = is_in[name, row], before[row] > 0
    at = np.frombuffer(group.at, np.int64)[row] if group.at else np.full(len(row), now)
    if isinstance(group.cause, int):
        cause = np.full(len(row), group.cause, np.uint8)
    else:
        cause = np.frombuffer(group.cause, np.uint8)[row]
    return Expanded(names, idents[row], name, at, new, had, cause)


@dataclass(frozen=True, slots=True)
class Layout:
    """How a gauge's levels read: truth bool[levels, segments], and the segments' names. It is all
    that the change feed needs to expand a level change."""

    segments: tuple[str, ...]
    truth: Array
