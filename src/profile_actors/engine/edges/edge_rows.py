"""Profiles of a copy as bytes, made where the copy is; and what they say at an instant.

    home: uint32, count: uint16 | count identity keys of 16 bytes each, the profile's own first |
    MessagePack of ``Row``

Theory: a copy knows of each membership until when it holds. So it needs neither rules nor work at
that instant: whoever looks later is told that it has flipped. Of what a computed attribute will be
it knows nothing, nor what comes after the flip: that much is *stale* until the hub has said it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from profile_actors.columnar.vectors import Array
from profile_actors.engine.edges.edge_pages import Page
from profile_actors.engine.identity.identity import Identity
from profile_actors.engine.membership.stored_values import packed_value, unpacked_value
from profile_actors.engine.reading.answers import Membership, Profile
from profile_actors.engine.reading.profile_columns import (
    EXITED,
    REALIZED,
    STATUS,
    ProfileColumns,
    or_none,
    rows_or_none,
)
from profile_actors.errors import UNDECODED, StoreUnavailable

HEADER = struct.Struct("<IH")


KEY_BYTES = 16


Damaged = Callable[[str], object]


class Row(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One profile. segments: name -> (number of its status, last qualification, until, version).
    computed, until: name -> value, and until when. Instants in ms, None for none."""

    identities: list[tuple[str, str]]
    modified: int
    attributes: dict[str, Any]
    segments: dict[str, tuple[int, int | None, int | None, int]]
    computed: dict[str, Any]
    until: dict[str, int | None]
    pending: dict[str, str]


_ROW = msgspec.msgpack.Decoder(Row, ext_hook=unpacked_value)


_ENCODE = msgspec.msgpack.Encoder().encode


_WORDS: tuple[str, ...] = tuple(STATUS.tolist())


@dataclass(frozen=True)
class EdgeProfile(Profile):
    """A profile as an edge knows it, as of the edge's ``now``.

    stale: something of it has passed its ``valid_until``, and the hub has not said yet what came
    after: a membership has flipped there by itself, a computed attribute has the value it had.
    """

    stale: bool = field(kw_only=True)


class EdgeBodies:
    """The profiles of one answer of an edge as of ``now`` ms, each decoded when it is first read,
    and each of its fields made then.

    damaged: is told what is wrong with bytes that are no profile, and raises.
    """

    def __init__(self, now: int, bodies: Sequence[bytes | memoryview], damaged: Damaged) -> None:
        self._now = now
        self._bodies = bodies
        self._damaged = damaged
        self._known: dict[int, Row] = {}

    def field(self, name: str, row: int) -> Any:
        """One field of one profile. Cost: 3 us for the first, and 0.4 us a membership."""
        found = self._known.get(row)
        if found is None:
            try:
                found = _ROW.decode(self._bodies[row])
            except UNDECODED as error:
                self._damaged(str(error))
                raise
            self._known[row] = found
        return _FIELDS[name](found, self._now)


def row_bytes(home: int, keys: bytes, body: bytes) -> bytes:
    """A profile's bytes. keys: its identity keys, one after the other."""
    return HEADER.pack(home, len(keys) // KEY_BYTES) + keys + body


def body_of(data: bytes) -> bytes:
    """The body of a profile's bytes alone. Raises struct.error for damaged bytes."""
    _, count = HEADER.unpack_from(data)
    return data[HEADER.size + count * KEY_BYTES :]


def parted(data: bytes | memoryview) -> tuple[int, list[bytes], memoryview]:
    """Home, identity keys and body of a profile's bytes."""
    view = memoryview(data)
    home, count = HEADER.unpack_from(view)
    end = HEADER.size + count * KEY_BYTES
    keys = bytes(view[HEADER.size : end])
    return home, [keys[at : at + KEY_BYTES] for at in range(0, len(keys), KEY_BYTES)], view[end:]


def rows_of(page: Page) -> Iterator[tuple[bytes, bytes]]:
    """Of each profile of a page, in their order: its key, and its bytes."""
    keys, ends = page.keys.tobytes(), page.ends.tolist()
    homes = [0] * len(ends) if page.homes is None else page.homes.tolist()
    begin = 0
    for home, end, body in zip(homes, ends, bodies_of(page.parts), strict=True):
        mine = keys[begin * KEY_BYTES : end * KEY_BYTES]
        yield mine[:KEY_BYTES], row_bytes(home, mine, body)
        begin = end


def bodies_of(parts: list[ProfileColumns]) -> Iterator[bytes]:
    """The profiles as MessagePack of ``Row``. Cost: some 10 us each."""
    for part in parts:
        names = part.segments
        segments = [names[number] for number in part.segment.tolist()]
        versions = part.versions[part.segment].tolist()
        cells = list(zip(
            part.status.tolist(), or_none(part.last), or_none(part.until), versions, strict=True
        ))  # fmt: skip
        ends: list[int] = part.ends.tolist()
        modified = part.modified.tolist()
        values, untils = _computed(part), rows_or_none(part.validity)
        begin = 0
        for row, end in enumerate(ends):
            refused = {rule: why for rule, why, first in part.refused if row >= first}
            yield _ENCODE((
                _identities(part, row),
                modified[row],
                packed_value(part.attributes[row]) if part.attributes else {},
                dict(zip(segments[begin:end], cells[begin:end], strict=True)),
                dict(zip(part.computed, values[row], strict=True)),
                dict(zip(part.computed, untils[row], strict=True)),
                refused,
            ))  # fmt: skip
            begin = end


def _identities(part: ProfileColumns, row: int) -> list[tuple[str, str]]:
    """A profile's identities, its own first; none where they are not asked."""
    if not part.ids:
        return []
    return [(part.namespaces[row], part.ids[row]), *part.more.get(row, ())]


def _computed(part: ProfileColumns) -> list[list[Any]]:
    """The computed attributes by profile, as MessagePack takes them."""
    table = part.table()
    for place in part.plain:
        for row in range(len(table)):
            table[row, place] = packed_value(table[row, place])
    out: list[list[Any]] = table.tolist()
    return out


def profile_of(body: bytes | memoryview, now: int) -> EdgeProfile:
    """What a profile says at ``now`` ms. Its fields raise StoreUnavailable if its bytes are
    damaged. Cost: as ``EdgeBodies``."""
    return EdgeProfile.of(EdgeBodies(now, (body,), _refuse), 0)


def _refuse(damage: str) -> None:
    raise StoreUnavailable(
        f"expected a whole profile, got '{damage}' - at an edge's files; ask store.edge(name), who"
        " has them made anew, or ask the store"
    ) from None


def _segments(row: Row, now: int) -> dict[str, Membership]:
    words, made = _WORDS, {}
    for name, (status, last, until, version) in row.segments.items():
        if until is not None and until <= now:
            status, last, until = (EXITED if status == REALIZED else REALIZED), until, None
        made[name] = Membership(words[status], last, until, version)
    return made


def _is_stale(row: Row, now: int) -> bool:
    for _, _, until, _ in row.segments.values():
        if until is not None and until <= now:
            return True
    return any(until is not None and until <= now for until in row.until.values())


_FIELDS: dict[str, Callable[[Row, int], Any]] = {
    "identities": lambda row, _: [Identity(*one) for one in row.identities],
    "attributes": lambda row, _: row.attributes,
    "segments": _segments,
    "computed": lambda row, _: row.computed,
    "computed_valid_until": lambda row, _: row.until,
    "last_modified": lambda row, _: row.modified,
    "now": lambda _, now: now,
    "pending": lambda row, _: row.pending,
    "sources": lambda *_: {},
    "stale": _is_stale,
}


def packed_keys(keys: Array) -> list[bytes]:
    """uint64[n, 2] as 16 bytes each."""
    data = keys.tobytes()
    return [data[at : at + KEY_BYTES] for at in range(0, len(data), KEY_BYTES)]
