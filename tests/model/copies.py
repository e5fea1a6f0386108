"""A copy of a partition's profiles in memory, as an edge has it, and the law that it obeys (L7).

Theory: pages are pulled one by one, at any moment. Whenever one says that the copy is complete, the
copy must say of every profile what the partition says at that moment, in every field. Of what has
passed its ``valid_until`` the copy says that it is stale; that may be only while the partition owes
work of its own, and for values that move with every millisecond.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from msgspec import structs

from profile_actors.engine.edges import edge_copy
from profile_actors.engine.edges.edge_pages import Page
from profile_actors.engine.edges.edge_rows import EdgeProfile, packed_keys, parted, profile_of
from profile_actors.engine.partition.partition import Partition
from profile_actors.engine.reading.answers import Membership, Profile
from profile_actors.engine.reading.fields import EVERYTHING, Fields


class MemoryRows:
    """``EdgeRows`` in dicts."""

    def __init__(self) -> None:
        self.rooms: dict[str, dict[bytes, bytes]] = {room: {} for room in edge_copy.ROOMS}

    def get(self, room: str, key: bytes) -> bytes | None:
        return self.rooms[room].get(key)

    def many(self, room: str, keys: list[bytes]) -> dict[bytes, bytes]:
        return {key: self.rooms[room][key] for key in keys if key in self.rooms[room]}

    def put(self, room: str, key: bytes, value: bytes) -> None:
        self.rooms[room][key] = value

    def delete(self, room: str, key: bytes) -> None:
        self.rooms[room].pop(key, None)

    def after(self, room: str, key: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        found = sorted(item for item in self.rooms[room].items() if item[0] > key)
        return found[:limit]


class Copy:
    """Of partition 0. fields: what of each profile. checks: comparisons of whole profiles."""

    def __init__(self, fields: Fields = EVERYTHING) -> None:
        self.fields = fields
        self.rows = MemoryRows()
        self.checks = self.pages = 0

    @property
    def form(self) -> str:
        return repr(self.fields)

    def pull(self, partition: Partition) -> Page:
        """One page, applied; compared if the copy is complete then."""
        place = edge_copy.standing(self.rows, 0).place
        if place.form != self.form:  # what is copied is something else now
            self.rows = MemoryRows()
        page = partition.project(self.fields, self.form, place)
        edge_copy.apply_page(self.rows, 0, page, page.now)
        once = copy.deepcopy(self.rows.rooms)
        edge_copy.apply_page(self.rows, 0, page, page.now)
        assert self.rows.rooms == once, "a page that comes twice changes something"
        self.pages += 1
        if page.is_complete:
            self.compare(partition, page.now)
        return page

    def follow(self, partition: Partition) -> None:
        """Pages until the copy is complete; compared then."""
        for _ in range(10_000):
            if self.pull(partition).is_complete:
                return
        raise AssertionError("a copy never became complete, and nobody wrote meanwhile")

    def look_up(self, key: bytes, now: int) -> EdgeProfile | None:
        found = edge_copy.found(self.rows, key)
        return None if found is None else profile_of(parted(found[1])[2], now)

    def compare(self, partition: Partition, now: int) -> None:
        """Law L7."""
        state = partition.state
        k0, k1 = state.directory.table.keys()
        keys = list(zip(k0.tolist(), k1.tolist(), strict=True))[: state.known]
        due = state.book.next_due()
        is_owed = bool(state.drain is not None or partition.owed.rescans.pending or due <= now)
        # Since when, and whether ever, is known of a rescanned rule once its tasks are done.
        again = {rule.rule.name for rule in state.book.rescans if partition.owed.rescans.pending}
        hub = partition.reader.profiles(keys, None, self.fields)
        packed = packed_keys(state.directory.keys_of(np.arange(len(keys))))
        assert len(self.rows.rooms[edge_copy.PROFILES]) == len(packed)
        for key, wanted in zip(packed, hub, strict=True):
            got = self.look_up(key, now)
            assert wanted is not None, key
            assert got is not None, wanted
            compare(wanted, got, self._untils(key), is_owed, again)
            self.checks += 1

    def _untils(self, key: bytes) -> dict[str, int | None]:
        """Until when the copy was told that each membership holds."""
        found = edge_copy.found(self.rows, key)
        assert found is not None
        told = profile_of(parted(found[1])[2], -(1 << 62))
        return {name: one.valid_until for name, one in told.segments.items()}


def compare(
    hub: Profile, got: EdgeProfile, told: dict[str, int | None], is_owed: bool, again: set[str]
) -> None:
    """Every field of what is not stale; what is must have a reason. again: segments of which it is
    not known yet when they were entered or left."""
    flipped = {name for name, until in told.items() if until is not None and until <= got.now}
    assert not flipped or is_owed, (flipped, hub, got)
    moving = {n for n, until in got.computed_valid_until.items() if until and until <= got.now}
    for name in moving:
        assert is_owed or hub.computed_valid_until[name] == hub.now + 1, (name, hub, got)
    assert got.stale == bool(flipped | moving)
    for name in ("identities", "attributes", "last_modified", "pending", "now"):
        assert repr(getattr(got, name)) == repr(getattr(hub, name)), (name, hub, got)
    for name, skipped in (
        ("segments", flipped), ("computed", moving), ("computed_valid_until", moving),
    ):  # fmt: skip
        mine, theirs = (_plain(getattr(of, name), skipped, again) for of in (got, hub))
        assert mine == theirs, (name, hub, got)


def _plain(found: dict[str, Any], skipped: set[str], again: set[str]) -> list[str]:
    """As texts, in which a NaN is equal to itself."""
    out = []
    for name, value in found.items():
        if isinstance(value, Membership) and name in again:
            if value.status == "exited":  # or never in: only its tasks will tell
                continue
            value = structs.replace(value, last_qualification_time=0)
        if name not in skipped:
            out.append(f"{name} {value!r}")
    return sorted(out)
