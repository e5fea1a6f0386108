"""A reactive edge below Ray: it has who was asked for, and says of those what the hub says (L7)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from msgspec import structs

from profile_actors.actors.edges import edge_actor, edge_misses
from profile_actors.definitions.declared import ProjectionConfiguration
from profile_actors.engine.edges.projections import chosen
from profile_actors.errors import StorageFull, StoreUnavailable
from tests.model.copies import compare
from tests.model.edge_below_ray import Edge, RemoteHub, key_of_profile, looked_up, status
from tests.model.hub import BASE
from tests.waiting import until


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> RemoteHub:
    monkeypatch.setattr(edge_actor, "WAIT_S", 0.02)
    monkeypatch.setattr(edge_misses, "AWAY_S", 0.05)
    return RemoteHub("reactive")


@pytest.fixture
def edge(hub: RemoteHub, tmp_path: Path) -> Iterator[Edge]:
    edge = Edge(tmp_path, hub)
    until(lambda: status(edge).is_complete)
    yield edge
    edge.stop()


def caught_up(edge: Edge, hub: RemoteHub) -> None:
    until(lambda: status(edge).positions == [hub.partition.position])


def hit(number: int, at: int, n: int) -> dict[str, Any]:
    return {"who": f"w{number}", "at": BASE - at, "_id": f"{number} {at} {n}", "n": n}


def check(edge: Edge, hub: RemoteHub, numbers: list[int]) -> None:
    """What was asked for is here, and equal to the hub in every field."""
    caught_up(edge, hub)
    found = chosen(hub.hub.catalogue, "e")
    assert found is not None
    assert found[0] is not None
    keys = b"".join(key_of_profile(hub, n) for n in numbers)
    brought = status(edge).brought
    wanted = hub.partition.reader.profiles(
        [(int(a), int(b)) for a, b in np.frombuffer(keys, np.uint64).reshape(-1, 2)], None, found[0]
    )
    for mine, theirs in zip(looked_up(edge, keys), wanted, strict=True):
        assert mine is not None
        assert theirs is not None
        compare(theirs, mine, {}, False, set())
    assert status(edge).brought == brought, "asked for again"


def test_only_who_is_asked_for_is_here_and_is_followed_from_then_on(
    edge: Edge, hub: RemoteHub
) -> None:
    assert status(edge).profiles == 0
    looked_up(edge, key_of_profile(hub, 1))
    assert (status(edge).profiles, status(edge).brought) == (1, 1)
    hub.submit([hit(1, 5, 9), hit(2, 5, 9), hit(77, 5, 9)])
    check(edge, hub, [1])
    assert status(edge).profiles == 1
    assert looked_up(edge, bytes(16)) == [None]
    assert status(edge).profiles == 1
    assert status(edge).progress == 1.0


@pytest.mark.parametrize("seed", range(3))
def test_it_is_equal_to_the_hub_for_what_was_asked(edge: Edge, hub: RemoteHub, seed: int) -> None:
    rng, asked = random.Random(seed), set[int]()
    clock = BASE
    for step in range(40):
        number = rng.randrange(5)
        if rng.random() < 0.4:
            looked_up(edge, key_of_profile(hub, number))
            asked.add(number)
        elif rng.random() < 0.2:
            clock += rng.choice((1, 1_000, 100_000_000))
            hub.hub.submit([("hits", "q", [])], clock)
        else:
            hub.submit([hit(number, step, rng.randrange(9))])
    if asked:
        check(edge, hub, sorted(asked))
    assert status(edge).profiles == len(asked)


def test_what_comes_late_is_answered_and_not_kept(edge: Edge, hub: RemoteHub) -> None:
    """Planted: a touch is followed while an older answer is on its way, for one who is not here."""

    def meanwhile() -> None:
        hub.meanwhile = lambda: None
        hub.submit([hit(3, 7, 8)])
        caught_up(edge, hub)

    hub.meanwhile = meanwhile
    (late,) = looked_up(edge, key_of_profile(hub, 3))
    assert late is not None
    assert late.computed["most"] == 1
    (now,) = looked_up(edge, key_of_profile(hub, 3))
    assert now is not None
    assert now.computed["most"] == 8
    check(edge, hub, [3])


def test_cut_off_it_answers_who_is_here_and_refuses_others_at_once(
    edge: Edge, hub: RemoteHub
) -> None:
    one, other = key_of_profile(hub, 0), key_of_profile(hub, 1)
    looked_up(edge, one)
    hub.error = RuntimeError("cut off")
    with pytest.raises(StoreUnavailable, match="'cut off' - at a reactive edge"):
        looked_up(edge, other)
    until(lambda: "cut off" in status(edge).trouble)
    edge_misses.AWAY_S = 60.0  # put back by the fixture's monkeypatch
    assert edge._misses is not None
    edge._misses._away_until = 0.0
    with pytest.raises(StoreUnavailable, match="'cut off'"):
        looked_up(edge, one + other)
    calls = hub.calls
    with pytest.raises(StoreUnavailable, match="lately"):
        looked_up(edge, other)
    assert hub.calls - calls <= 1, (
        "each look-up waits for a store that is away"
    )  # its follower asks
    assert looked_up(edge, one) != [None]
    hub.error = None
    edge._misses._away_until = 0.0
    assert looked_up(edge, other) != [None]


def test_what_is_projected_changes_and_who_is_asked_for_comes_anew(
    edge: Edge, hub: RemoteHub
) -> None:
    looked_up(edge, key_of_profile(hub, 0))
    projections = {"p": ProjectionConfiguration("p", "e", segments=("fresh",))}
    changed = structs.replace(hub.catalogue, version=2, projections=projections)
    hub.partition.define(changed, None)
    hub.hub.catalogue = changed
    until(lambda: status(edge).profiles == 0)
    (found,) = looked_up(edge, key_of_profile(hub, 0))
    assert found is not None
    assert (found.computed, list(found.segments)) == ({}, ["fresh"])
    check(edge, hub, [0])


def test_files_that_are_made_anew_begin_empty(edge: Edge, hub: RemoteHub) -> None:
    looked_up(edge, key_of_profile(hub, 0))
    cast(Any, edge).renew("planted")
    until(lambda: status(edge).profiles == 0 and status(edge).is_complete)
    looked_up(edge, key_of_profile(hub, 0))
    hub.submit([hit(0, 3, 5)])
    check(edge, hub, [0])


def test_without_room_whoever_is_asked_for_is_answered_and_not_kept(
    edge: Edge, hub: RemoteHub
) -> None:
    assert edge._misses is not None
    edge._misses._lack = lambda: StorageFull("expected room")
    for _ in range(2):
        (found,) = looked_up(edge, key_of_profile(hub, 1))
        assert found is not None
    assert (status(edge).profiles, status(edge).brought) == (0, 2)
    edge._misses._lack = lambda: None
    looked_up(edge, key_of_profile(hub, 1))
    assert status(edge).profiles == 1
