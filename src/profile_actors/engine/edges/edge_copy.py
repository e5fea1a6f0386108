"""The copy of a store's profiles at an edge: how pages are applied, and how it is read.

Theory: pages say what profiles are, not what happened to them, so that a page may be applied twice,
and the newest counts. What is written of a page, with the place that the copy then has, is one
transaction: after a crash it goes on from there. A profile is kept under the key of its own
identity, and every identity of it names that key.

When people are joined, one partition sends a profile with more identities and another one takes its
own away, in either order. So an identity is given to another profile only by a home that is as new
or newer, and taken away only from the profile that it still names.

    profiles   profile's key -> bytes of ``edge_rows``
    ids        identity's key -> home: uint32, profile's key
    seen       profile's key -> ms when it was last touched or looked up, where profiles may expire
    meta       "place <partition>" -> ``Standing``
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Protocol

import msgspec

from profile_actors.engine.edges.edge_pages import Page, Place
from profile_actors.engine.edges.edge_rows import KEY_BYTES, packed_keys, parted, rows_of

PROFILES, IDS, SEEN, META = ROOMS = ("profiles", "ids", "seen", "meta")


OWNER = struct.Struct("<I16s")


AT = struct.Struct("<q")


class EdgeRows(Protocol):
    """The rooms of a copy within one transaction: all of it happens, or nothing."""

    def get(self, room: str, key: bytes) -> bytes | None:
        """A value, None where there is none."""
        ...

    def many(self, room: str, keys: list[bytes]) -> dict[bytes, bytes]:
        """Those of many that are there."""
        ...

    def put(self, room: str, key: bytes, value: bytes) -> None:
        """Keep a value in place of any other."""
        ...

    def delete(self, room: str, key: bytes) -> None:
        """Keep none."""
        ...

    def after(self, room: str, key: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """The keys after one, in their order, and their values."""
        ...


class Standing(msgspec.Struct, frozen=True, array_like=True):
    """What a copy has of one partition. has_all: everybody was copied once. is_complete: it was
    equal to it with the last page. now: the partition's then, ms; at: the edge's wall time, ms.
    version, total, left as of ``Page``."""

    place: Place = Place()
    has_all: bool = False
    is_complete: bool = False
    now: int = 0
    at: int = 0
    version: int = 0
    total: int = 0
    left: int = 0


_STANDING = msgspec.msgpack.Decoder(Standing)


def _meta_key(partition: int) -> bytes:
    return b"place %d" % partition


def standing(rows: EdgeRows, partition: int) -> Standing:
    """What the copy has of a partition. Raises msgspec.DecodeError for damaged bytes."""
    data = rows.get(META, _meta_key(partition))
    return Standing() if data is None else _STANDING.decode(data)


def put_profiles(
    rows: EdgeRows, profiles: Iterable[tuple[bytes, bytes]], at: int, is_expiring: bool
) -> None:
    """Put profiles into the copy, by key and bytes (``rows_of``). at: wall time, ms."""
    for key, data in profiles:
        _put(rows, key, data)
        if is_expiring:
            rows.put(SEEN, key, AT.pack(at))


def apply_page(
    rows: EdgeRows,
    partition: int,
    page: Page,
    at: int,
    is_expiring: bool = False,
    profiles: Iterable[tuple[bytes, bytes]] | None = None,
) -> Standing:
    """Put a page of a partition into the copy; idempotent. at: wall time, ms. profiles: those of
    the page that the copy is to have, by key and bytes; None: all."""
    known = standing(rows, partition)
    if known.place.form != page.place.form:
        known = Standing()
    put_profiles(rows, rows_of(page) if profiles is None else profiles, at, is_expiring)
    if page.removed is not None:
        gone = packed_keys(page.removed)
        homes = [0] * len(gone) if page.removed_homes is None else page.removed_homes.tolist()
        for key, home in zip(gone, homes, strict=True):
            _remove(rows, key, home)
    made = Standing(
        page.place, known.has_all or not page.has_more, page.is_complete, page.now, at,
        page.version, page.total, page.left,
    )  # fmt: skip
    rows.put(META, _meta_key(partition), msgspec.msgpack.encode(made))
    return made


def _put(rows: EdgeRows, key: bytes, data: bytes) -> None:
    """A profile, and its identities."""
    old = rows.get(PROFILES, key)
    home, ids, _ = parted(data)
    if old is not None:
        old_home, old_ids, _ = parted(old)
        if home < old_home:
            return
        if (home, ids) == (old_home, old_ids):
            rows.put(PROFILES, key, data)
            return
        for one in old_ids:
            if one not in ids:
                _let_go(rows, one, key)
    rows.put(PROFILES, key, data)
    for one in ids:
        owner = rows.get(IDS, one)
        if owner is None or OWNER.unpack(owner)[0] <= home:
            rows.put(IDS, one, OWNER.pack(home, key))


def _let_go(rows: EdgeRows, identity: bytes, key: bytes) -> None:
    """An identity is no longer of a profile; it may be of another one by now."""
    owner = rows.get(IDS, identity)
    if owner is not None and OWNER.unpack(owner)[1] == key:
        rows.delete(IDS, identity)


def _remove(rows: EdgeRows, key: bytes, home: int) -> None:
    """A profile has left a home."""
    old = rows.get(PROFILES, key)
    if old is None:
        return
    old_home, ids, _ = parted(old)
    if home < old_home:  # it lives elsewhere since
        return
    rows.delete(PROFILES, key)
    rows.delete(SEEN, key)
    for one in ids:
        _let_go(rows, one, key)


def found(rows: EdgeRows, identity: bytes) -> tuple[bytes, bytes] | None:
    """The key and the bytes of the profile that has an identity."""
    owner = rows.get(IDS, identity)
    if owner is None:
        return None
    _, key = OWNER.unpack(owner)
    data = rows.get(PROFILES, key)
    return None if data is None else (key, data)


def found_of(rows: EdgeRows, identities: list[bytes]) -> list[tuple[bytes, bytes] | None]:
    """``found`` of many, in their order. Cost: some 2 us each."""
    if len(identities) == 1:
        return [found(rows, identities[0])]
    owners = rows.many(IDS, identities)
    keys = {one: owner[-KEY_BYTES:] for one, owner in owners.items()}
    bodies = rows.many(PROFILES, list(keys.values()))
    out: list[tuple[bytes, bytes] | None] = []
    for one in identities:
        key = keys.get(one)
        data = None if key is None else bodies.get(key)
        out.append(None if key is None or data is None else (key, data))
    return out


def held(rows: EdgeRows, page: Page) -> list[bytes]:
    """The keys of a page's profiles of which the copy has any identity."""
    every, ends = packed_keys(page.keys), page.ends.tolist()
    known = rows.many(IDS, every)
    begins = [0, *ends][: len(ends)]
    return [
        every[begin]
        for begin, end in zip(begins, ends, strict=True)
        if any(key in known for key in every[begin:end])
    ]


def note_seen(rows: EdgeRows, keys: list[bytes], at: int) -> None:
    """Profiles were looked up at that time (ms): they stay for a while."""
    for key in keys:
        if rows.get(SEEN, key) is not None:
            rows.put(SEEN, key, AT.pack(at))


def expire(rows: EdgeRows, before: int, after: bytes, limit: int) -> tuple[int, bytes]:
    """Drop profiles that nobody has touched or looked up since (ms), among the next ``limit`` after
    a key: (how many, the key reached, empty at the end). What is touched again comes again."""
    page = rows.after(SEEN, after, limit)
    gone = [key for key, seen in page if AT.unpack(seen)[0] < before]
    for key in gone:
        _remove(rows, key, (1 << 32) - 1)
    return len(gone), page[-1][0] if len(page) == limit else b""
