"""Profiles whose fields are made when they are read are like those that were made at once."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import threading
from typing import Any

import msgspec
import pytest

from profile_actors.actors.wire import dumps, loads
from profile_actors.engine.reading.answers import PROFILE_FIELDS, Membership, Profile
from tests.unit.engine.reading.test_look_ups import NOW, World

SEGMENTS = {"spent": "xEvent.sum(price) > 10", "born": "isNotNull(born)"}
VALUES = {
    "visits": "xEvent.count()", "paid": "xEvent.sum(price)", "dearest": "xEvent.max(price)",
    "seen": "xEvent.max(timestamp)", "kinds": "xEvent.eventType.distinct()", "first": "name.first",
}  # fmt: skip


@pytest.fixture(scope="module")
def answer() -> bytes:
    """What a partition sends of ann (events and a record), bob (events) and nobody."""
    world = World(SEGMENTS, VALUES)
    world.send("people", [{"who": "ann", "at": NOW, "born": NOW, "name.first": "Ann"}])
    for price in (5.5, 6.25):
        rows = [{"who": who, "at": NOW, "kind": "buy", "price": price} for who in ("ann", "bob")]
        world.send("hits", rows[: 1 if price > 6 else 2])
    return dumps(world.answer(["ann", "eve", "bob", "ann"]))


def made(answer: bytes) -> list[Any]:
    found: list[Any] = loads(answer).profiles()
    return found


def read(profile: Profile) -> Profile:
    """The same, made at once."""
    return Profile(*(getattr(profile, name) for name in PROFILE_FIELDS))


def test_fields_are_those_of_the_profile(answer: bytes) -> None:
    ann, nobody, bob, again = made(answer)
    assert nobody is None
    assert again is ann
    assert ann.segments == {
        "born": Membership("realized", NOW, None), "spent": Membership("realized", NOW, None)
    }  # fmt: skip
    assert ann.computed == {
        "visits": 2, "paid": 11.75, "dearest": 6.25, "seen": NOW, "kinds": ["buy"], "first": "Ann",
    }  # fmt: skip
    assert list(ann.computed) == sorted(VALUES, key=list(ann.computed_valid_until).index)
    assert bob.computed == {
        "visits": 1, "paid": 5.5, "dearest": 5.5, "seen": NOW, "kinds": ["buy"], "first": None,
    }  # fmt: skip
    assert set(bob.computed_valid_until.values()) == {None}
    assert [identity.value for identity in bob.identities] == ["bob"]
    assert ann.attributes["name"] == {"first": "Ann"}
    assert bob.attributes == {}
    assert (bob.now, bob.last_modified, bob.pending) == (NOW, NOW, {})


@pytest.mark.parametrize(
    "use",
    [
        repr, msgspec.json.encode, msgspec.to_builtins, dataclasses.asdict, copy.copy,
        copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p)),
        lambda p: dataclasses.replace(p, now=1), lambda p: p == p, lambda p: [p] == [read(p)],
    ],
)  # fmt: skip
def test_every_use_of_one_nobody_has_read_is_that_of_a_whole_one(answer: bytes, use: Any) -> None:
    untouched, whole = made(answer)[0], read(made(answer)[0])
    assert use(untouched) == use(whole)


def test_what_was_read_stays_and_the_answer_is_let_go_of(answer: bytes) -> None:
    ann = made(answer)[0]
    assert ann.segments is ann.segments
    assert "_made_of" in vars(ann)
    read(ann)
    assert set(vars(ann)) == set(PROFILE_FIELDS)
    assert ann == made(answer)[0]


def test_other_names_are_no_fields(answer: bytes) -> None:
    ann = made(answer)[0]
    for _ in range(2):
        with pytest.raises(AttributeError, match="no attribute 'segment'"):
            _ = ann.segment
        read(ann)
    with pytest.raises(dataclasses.FrozenInstanceError):
        ann.now = 3


def test_threads_may_read_one_profile(answer: bytes) -> None:
    whole = read(made(answer)[0])
    for _ in range(30):
        ann, gate = made(answer)[0], threading.Barrier(6)
        seen: list[Profile] = []

        def look(ann: Profile = ann, gate: Any = gate, seen: list[Profile] = seen) -> None:
            gate.wait()
            seen.append(read(ann))

        threads = [threading.Thread(target=look) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == [whole] * 6
