"""An edge's actor below Ray, on real files: what is wrong at the hub does not touch its own copy,
and what is wrong with its files passes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

import pytest
from msgspec import structs

from profile_actors.actors.edges import edge_actor
from profile_actors.actors.wire import loads
from profile_actors.definitions.declared import EdgeDestination, ProjectionConfiguration
from profile_actors.engine.edges.edge_pages import Place
from profile_actors.errors import CorruptLog, StorageFull, StoreUnavailable
from profile_actors.storage.edge_files import EdgeFiles
from profile_actors.storage.files.atomic_files import Room, remove_tree
from profile_actors.storage.files.lock import DirectoryLock
from tests.model.edge_below_ray import (
    Clock,
    Edge,
    RemoteHub,
    key_of_profile,
    looked_up,
    status,
)
from tests.model.hub import BASE, DAY
from tests.waiting import until


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> RemoteHub:
    monkeypatch.setattr(edge_actor, "WAIT_S", 0.02)
    return RemoteHub()


@pytest.fixture
def edge(hub: RemoteHub, tmp_path: Path) -> Iterator[Edge]:
    edge = Edge(tmp_path, hub)
    until(lambda: status(edge).is_complete)
    yield edge
    edge.stop()


def test_profiles_leave_after_their_time_unless_they_are_touched_or_looked_up(
    hub: RemoteHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(edge_actor, "wall_ms", clock)
    monkeypatch.setattr(edge_actor, "TTL_LOOK_S", 0.01)
    edge = Edge(tmp_path, hub, ttl_s=60)
    until(lambda: status(edge).profiles == 5)
    partition = hub.partition
    looked, touched = key_of_profile(hub, 0), key_of_profile(hub, 1)
    clock.now += 40_000
    assert loads(edge._read(looked))[1][0] > 0
    hub.submit([{"who": "w1", "at": BASE + 1, "_id": "again", "n": 1}])
    until(lambda: status(edge).positions == [partition.position])
    until(lambda: not edge._seen)
    clock.now += 40_000  # 80 s after all came, 40 s after the one was looked up, the other touched
    until(lambda: status(edge).expired == 3)
    assert [size > 0 for size in loads(edge._read(looked + touched))[1]] == [True, True]
    until(lambda: not edge._seen)
    clock.now += 61_000
    until(lambda: status(edge).expired == 5)
    assert loads(edge._read(looked))[1] == [-1]
    hub.submit([{"who": "w0", "at": BASE + 2, "_id": "back", "n": 1}])
    until(lambda: status(edge).profiles == 1)
    assert loads(edge._read(looked))[1][0] > 0
    edge.stop()


def inodes(path: Path) -> list[int]:
    return [found.stat().st_ino for found in path.glob("generation-*/data.mdb")]


def test_damage_at_the_hub_leaves_the_copy_alone(
    edge: Edge, hub: RemoteHub, tmp_path: Path
) -> None:
    before = inodes(tmp_path)
    hub.error = CorruptLog("the partition's own log")
    until(lambda: "own log" in status(edge).trouble)
    called, began = hub.calls, time.monotonic()
    time.sleep(2.5 * edge_actor.BACK_OFF_S)
    pauses = (time.monotonic() - began) / edge_actor.BACK_OFF_S
    assert hub.calls - called <= pauses + 2, "asked again and again, without a pause"
    found = status(edge)
    assert (found.profiles, found.is_complete) == (5, True)
    assert inodes(tmp_path) == before
    hub.error = None
    until(lambda: status(edge).trouble == "")
    assert inodes(tmp_path) == before


def test_cut_off_for_a_minute_it_answers_flips_and_catches_up(
    hub: RemoteHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    clock.now = BASE + DAY - 30_000  # its segment `fresh` ends within the minute
    monkeypatch.setattr(edge_actor, "wall_ms", clock)
    shown = SimpleNamespace(
        monotonic=lambda: clock.now / 1e3,
        monotonic_ns=lambda: clock.now * 1_000_000,
        thread_time=time.thread_time,
    )
    monkeypatch.setattr(edge_actor, "time", shown)
    edge, key = Edge(tmp_path, hub, clock="wall"), key_of_profile(hub, 0)
    until(lambda: status(edge).is_complete)
    hub.error = StoreUnavailable("cut off")
    until(lambda: "cut off" in status(edge).trouble)
    hub.submit([{"who": "w0", "at": BASE + 5, "_id": "meanwhile", "n": 7}])
    seen = []
    for _ in range(60):
        clock.now += 1_000
        (found,) = looked_up(edge, key)
        assert found is not None
        assert found.computed["most"] == 1
        seen.append((found.segments["fresh"].status, found.stale))
    assert seen == [("realized", False)] * 29 + [("exited", True)] * 31
    account = status(edge)
    assert (account.profiles, account.is_complete, account.lag_ms) == (5, True, 60_000)
    hub.error = None
    hub.hub.submit([("hits", "q", [])], clock.now)  # the hub's clock has gone on, too
    until(lambda: status(edge).positions == [hub.partition.position])
    (found,) = looked_up(edge, key)
    assert found is not None
    assert (found.computed["most"], found.segments["fresh"].status) == (7, "exited")
    assert not found.stale
    assert (status(edge).trouble, status(edge).lag_ms) == ("", 0)
    edge.stop()


def test_damage_here_is_made_anew_even_if_the_disk_is_full_at_first(
    edge: Edge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, begin_anew, tries = inodes(tmp_path), EdgeFiles.begin_anew, []

    def full_at_first(self: EdgeFiles) -> None:
        tries.append(1)
        if len(tries) == 1:
            raise StorageFull("expected room")
        begin_anew(self)

    monkeypatch.setattr(EdgeFiles, "begin_anew", full_at_first)
    cast(Any, edge).renew("planted")
    until(lambda: len(tries) == 2 and status(edge).is_complete)
    until(lambda: status(edge).trouble == "")
    assert status(edge).profiles == 5
    assert not set(inodes(tmp_path)) & set(before)


def test_without_room_it_answers_says_so_and_goes_on_when_there_is(
    edge: Edge, hub: RemoteHub, tmp_path: Path
) -> None:
    free = [0]
    edge._room = Room(tmp_path, 100, lambda _: free[0])
    until(lambda: "min_free_bytes" in status(edge).trouble)
    called = hub.calls
    hub.submit([{"who": "w0", "at": BASE, "_id": "meanwhile", "n": 7}])
    (found,) = looked_up(edge, key_of_profile(hub, 0))
    assert found is not None
    assert found.computed["most"] == 1
    assert status(edge).profiles == 5
    assert hub.calls == called, "pages that cannot be kept are not asked for"
    free[0] = 100
    until(lambda: status(edge).positions == [hub.partition.position])
    until(lambda: status(edge).trouble == "")
    (found,) = looked_up(edge, key_of_profile(hub, 0))
    assert found is not None
    assert found.computed["most"] == 7


def test_a_directory_that_was_deleted_is_made_anew(edge: Edge, tmp_path: Path) -> None:
    # Away in one step: a deletion name by name would race with the edge, which makes files anew.
    gone = tmp_path.with_name(tmp_path.name + "-gone")
    tmp_path.rename(gone)
    until(lambda: status(edge).profiles == 5 and len(inodes(tmp_path)) == 1)
    remove_tree(gone)
    assert (tmp_path / "edge.json").is_file()
    until(lambda: status(edge).trouble == "")


def test_files_that_another_process_is_just_leaving_are_waited_for(
    hub: RemoteHub, tmp_path: Path
) -> None:
    other = DirectoryLock(tmp_path / "edge.lock", 0.1)
    edge = Edge(tmp_path, hub)
    found = status(edge)
    assert not found.is_complete
    assert "FencedOut" in found.trouble
    other.release()
    until(lambda: status(edge).is_complete)
    assert status(edge).trouble == ""
    edge.stop()


def test_a_page_says_whether_rows_come_in_by_the_log_not_by_the_queue_alone(
    hub: RemoteHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where drivers are what is slow, nobody ever sees a sub-batch that waits."""
    monkeypatch.setattr(hub.partition.projector, "_most", 1)
    monkeypatch.setattr(hub.partition.projector, "_fitting", 1)
    place = Place()

    def busy_s() -> float:
        nonlocal place
        page = loads(hub.call("project", "e", place, 0.0))
        assert page.has_more
        place = page.place
        return float(page.busy_s)

    assert busy_s() == 0.0
    assert busy_s() == 0.0
    hub.submit([{"who": "w4", "at": BASE + 1, "_id": "meanwhile", "n": 1}])
    assert busy_s() > 0.0
    assert busy_s() == 0.0


def test_a_destination_that_is_made_again_with_other_fields_has_those_alone(
    hub: RemoteHub, tmp_path: Path
) -> None:
    """Deleted and made again at once, so that nobody ended its actor or deleted its files; then
    with another policy, and with a time to live: whatever is there of the older one is not used."""

    def become(policy: Literal["proactive", "reactive"], *projections: Any) -> None:
        destinations = {"e": EdgeDestination("e", policy=policy)}
        without = structs.replace(
            hub.catalogue, version=hub.catalogue.version + 1, destinations={}, projections={}
        )
        hub.partition.define(without, None)
        hub.submit([{"who": "w2", "at": BASE + 1, "_id": f"at {without.version}", "n": 1}])
        hub.hub.catalogue = hub.catalogue = structs.replace(
            without,
            version=without.version + 1,
            destinations=destinations,
            projections={one.name: one for one in projections},
        )
        hub.partition.define(hub.catalogue, None)

    def shown(edge: Edge) -> list[tuple[bool, bool, bool]]:
        found = looked_up(edge, b"".join(key_of_profile(hub, number) for number in range(5)))
        return [
            (bool(one.segments), bool(one.computed), bool(one.attributes))
            for one in found
            if one is not None
        ]

    def up_to_date(edge: Edge) -> bool:
        found = status(edge)
        return found.is_complete and found.positions == [hub.partition.position]

    both = ProjectionConfiguration("p", "e", segments="all", computed="all")
    values = ProjectionConfiguration("q", "e", computed="all")
    edge = Edge(tmp_path, hub)
    become("proactive", both)
    until(lambda: up_to_date(edge) and shown(edge) == [(True, True, False)] * 5)
    become("proactive", values)
    until(lambda: up_to_date(edge) and shown(edge) == [(False, True, False)] * 5)
    become("proactive")
    until(lambda: up_to_date(edge) and status(edge).profiles == 0)
    become("proactive", both)
    until(lambda: up_to_date(edge) and shown(edge) == [(True, True, False)] * 5)
    edge.stop()
    become("reactive", both)
    edge = Edge(tmp_path, hub)
    until(lambda: up_to_date(edge))
    assert status(edge).profiles == 0
    looked_up(edge, key_of_profile(hub, 3))
    until(lambda: status(edge).profiles == 1)
    edge.stop()
    become("proactive", both)
    edge = Edge(tmp_path, hub, ttl_s=60)
    until(lambda: up_to_date(edge) and shown(edge) == [(True, True, False)] * 5)
    edge.stop()
