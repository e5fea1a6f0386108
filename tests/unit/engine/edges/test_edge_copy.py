"""A copy below any store: who is found, who stays and for how long, and profiles read from it."""

from __future__ import annotations

import pickle

import msgspec
import pytest

from profile_actors.engine.edges import edge_copy
from profile_actors.engine.edges.edge_copy import AT, IDS, OWNER, PROFILES, SEEN
from profile_actors.engine.edges.edge_rows import (
    EdgeBodies,
    EdgeProfile,
    Row,
    profile_of,
    row_bytes,
)
from profile_actors.engine.identity.identity import Identity
from profile_actors.engine.reading.answers import Membership, Profile
from tests.model.copies import MemoryRows

HOUR = 3_600_000
EMPTY = msgspec.msgpack.encode(Row([], 0, {}, {}, [], [], [], {}, [], None, {}))
BODY = msgspec.msgpack.encode(Row(
    [("C", "ann")], 5, {"tier": "gold"}, {"in": 1, "out": 0}, [3, 4], [100, None], [2, 1],
    {"spent": 12.5}, [None], 100, {"odd": "why"},
))  # fmt: skip
DAMAGED = b"\xc1 no profile"


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def copy_of(*numbers: int, seen: int = 0) -> MemoryRows:
    rows = MemoryRows()
    for one in map(key, numbers):
        rows.put(PROFILES, one, row_bytes(0, one, EMPTY))
        rows.put(IDS, one, OWNER.pack(0, one))
        rows.put(SEEN, one, AT.pack(seen))
    return rows


def left(rows: MemoryRows) -> list[int]:
    assert rows.rooms[PROFILES].keys() == rows.rooms[IDS].keys() == rows.rooms[SEEN].keys()
    return [int.from_bytes(one, "big") for one in sorted(rows.rooms[PROFILES])]


def test_many_are_found_as_one_by_one() -> None:
    rows = copy_of(1, 2, 3)
    rows.delete(PROFILES, key(2))  # an identity whose profile is not there
    for asked in ([], [3], [9], [3, 9, 1, 2, 3, 1]):
        keys = [key(one) for one in asked]
        assert edge_copy.found_of(rows, keys) == [edge_copy.found(rows, one) for one in keys]


def test_who_is_looked_up_stays_and_who_is_not_leaves() -> None:
    rows = copy_of(1, 2, 3, 4)
    edge_copy.note_seen(rows, [key(2), key(9)], HOUR)  # 9 has left meanwhile: it stays away
    assert edge_copy.expire(rows, HOUR, b"", 10) == (3, b"")
    assert left(rows) == [2]
    assert edge_copy.expire(rows, HOUR, b"", 10) == (0, b"")
    assert edge_copy.expire(rows, HOUR + 1, b"", 10) == (1, b"")
    assert left(rows) == []


def test_a_round_of_a_few_at_a_time_comes_past_everybody() -> None:
    rows = copy_of(*range(1, 8))
    edge_copy.note_seen(rows, [key(3), key(6)], HOUR)
    after, gone, rounds = b"", 0, 0
    while rounds == 0 or after:
        some, after = edge_copy.expire(rows, HOUR, after, 2)
        gone, rounds = gone + some, rounds + 1
    assert (gone, rounds, left(rows)) == (5, 4, [3, 6])


def bodies(*given: bytes) -> tuple[EdgeBodies, list[str]]:
    told: list[str] = []
    return EdgeBodies(50, [memoryview(one) for one in given], told.append), told


def test_a_profile_that_is_decoded_later_is_the_same() -> None:
    rows, told = bodies(EMPTY, BODY)
    found = EdgeProfile.of(rows, 1)
    assert repr(found.computed) == "{'spent': 12.5}"
    assert found == profile_of(BODY, 50)
    assert found.segments["in"] == Membership("realized", 3, 100, 2)
    assert found.identities == [Identity("C", "ann")]
    assert not found.stale
    assert told == []


def test_what_is_stale_is_so_after_a_journey_too() -> None:
    later = EdgeProfile.of(EdgeBodies(100, [memoryview(BODY)], str), 0)
    for found in (profile_of(BODY, 100), later):
        there = pickle.loads(pickle.dumps(found))
        assert there.stale
        assert there == found
        assert there.segments["in"] == Membership("exited", 100, None, 2)


def test_damage_is_told_when_it_is_read() -> None:
    rows, told = bodies(DAMAGED)
    found = EdgeProfile.of(rows, 0)
    assert told == []
    with pytest.raises(msgspec.MsgspecError):
        _ = found.computed
    assert len(told) == 1
    with pytest.raises(AttributeError, match="no attribute 'compted'"):
        _ = found.compted  # type: ignore[attr-defined]
    assert isinstance(found, Profile)
