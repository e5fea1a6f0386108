"""What keeps a copy equal to its partition, taken away piece by piece: each time the law's check
(``tests/model/copies.py``) must see it, on the story in which the whole holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from profile_actors.columnar.vectors import Array
from profile_actors.definitions.declared import Schema, SegmentDefinition
from profile_actors.engine.edges import edge_copy
from profile_actors.engine.edges.edge_pages import Page, Place
from profile_actors.engine.edges.projector import Projector
from profile_actors.engine.fold.touches import NEVER
from profile_actors.engine.partition import checkpoint_image
from profile_actors.engine.partition.partition import Partition
from tests.model.copies import Copy, MemoryRows
from tests.model.hub import BASE, CATALOGUE, CONFIG, HOUR, Hub

TAGGED = structs.replace(
    CATALOGUE,
    schemas={
        **CATALOGUE.schemas,
        "person": Schema(
            "person", "record", {"tier": "string", "score": "integer", "tags": "string[]"}
        ),
    },
    segments={
        **CATALOGUE.segments,
        "asked": SegmentDefinition(
            "asked",
            'tags.includes("a") and xEvent[timestamp occurs <= 2 hours before now].count() > 0',
        ),
    },
)
Plant = Callable[[pytest.MonkeyPatch], None]


def small_hub(epoch: int = 1, hub: Hub | None = None) -> Hub:
    """A hub of pages of one profile; opened again if there is one."""
    hub = hub or Hub(1, TAGGED)
    hub.partitions[0].close()
    config = structs.replace(CONFIG, edge_page_profiles=1)
    hub.partitions[0] = Partition(*hub.stores[0], config, epoch=epoch)
    return hub


def hits(hub: Hub, who: str, clock: int) -> None:
    hub.submit(
        [
            (
                "hits",
                "p",
                [{"who": name, "at": clock, "_id": f"{name}{clock}", "n": 1} for name in who],
            )
        ],
        clock,
    )


# A rescan that the clock alone brings: nobody's rows touch the profile.


def rescan_story() -> None:
    hub, copy = small_hub(), Copy()
    one = hub.partitions[0]
    hub.submit([("crm", "c", [{"who": "u", "at": BASE, "tags": ["a"]}])], BASE)
    hits(hub, "uv", BASE)
    while one.work(100):
        pass
    copy.follow(one)
    hits(hub, "v", BASE + 3 * HOUR)  # the clock passes, and with it u leaves
    copy.follow(one)
    while one.work(100):
        pass
    copy.follow(one)
    hits(hub, "v", BASE + 4 * HOUR)
    copy.follow(one)


def forget_rescans(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def changing(self: Partition, slots: Array) -> Iterator[None]:
        with self.state.changing(lambda: slots), self.lock:
            yield

    monkeypatch.setattr(Partition, "_changing", changing)


# A restart from a checkpoint that covers what the copy has not seen.


def checkpoint_story() -> None:
    hub, copy = small_hub(), Copy()
    hits(hub, "uv", BASE)
    copy.follow(hub.partitions[0])
    hits(hub, "u", BASE + HOUR)
    job = hub.partitions[0].checkpoint_job(force=True)
    assert job is not None
    job()
    small_hub(2, hub)
    copy.follow(hub.partitions[0])


def forget_touches(monkeypatch: pytest.MonkeyPatch) -> None:
    restore = checkpoint_image._restore

    def without(state: Any, arrays: dict[str, Array], namespaces: list[str]) -> None:
        restore(state, {**arrays, "touched": np.zeros_like(arrays["touched"])}, namespaces)

    monkeypatch.setattr(checkpoint_image, "_restore", without)


# Somebody is touched again between the pages of one pull, after the page that had him.


def page_story() -> None:
    hub, copy = small_hub(), Copy()
    hits(hub, "uvw", BASE)
    copy.pull(hub.partitions[0])
    hits(hub, "uvw", BASE + HOUR)
    copy.follow(hub.partitions[0])


def end_at_the_last_page(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Projector._made

    def late(self: Projector, fields: Any, place: Place, now: int | None, count: int) -> Page:
        newest = structs.replace(place, target=self._state.touches.reached)
        return made(self, fields, newest, now, count)

    monkeypatch.setattr(Projector, "_made", late)


# An identity moves to another home, and the old one's removal comes afterwards.


def page_of(ids: list[int], home: int) -> Page:
    """A profile whose key is the first of these numbers, by hand."""
    hub = Hub(1)
    hub.submit([("hits", "p", [{"who": "u", "at": BASE, "_id": "1", "n": 1}])], BASE)
    page = hub.partitions[0].project(Copy().fields, Copy().form, Place())
    keys = np.array([[number, 0] for number in ids], np.uint64)
    page.keys, page.ends, page.homes = keys, np.array([len(ids)]), np.array([home])
    return page


def removal_of(key: int, home: int) -> Page:
    page = page_of([], home)
    page.parts, page.ends, page.homes = [], np.zeros(0, np.int64), np.zeros(0, np.int64)
    page.keys = np.zeros((0, 2), np.uint64)
    page.removed = np.array([[key, 0]], np.uint64)
    page.removed_homes = np.array([home])
    return page


def key_of(number: int) -> bytes:
    return np.array([number, 0], np.uint64).tobytes()


def moving_story() -> None:
    rows = MemoryRows()
    edge_copy.apply_page(rows, 0, page_of([1, 2], 0), 0)
    edge_copy.apply_page(rows, 1, page_of([5], 0), 0)
    joined = page_of([5, 1, 2], 1)  # both are one person now, at the second one's home
    orders = [(1, joined), (0, removal_of(1, 0))]
    for pages in (orders, orders[::-1]):
        mine = MemoryRows()
        mine.rooms = {room: dict(found) for room, found in rows.rooms.items()}
        for partition, page in pages:
            edge_copy.apply_page(mine, partition, page, 0)
        for number in (1, 2, 5):
            found = edge_copy.found(mine, key_of(number))
            assert found is not None, number
            assert found[0] == key_of(5)
        assert set(mine.rooms[edge_copy.PROFILES]) == {key_of(5)}


def take_every_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    def let_go(rows: MemoryRows, identity: bytes, key: bytes) -> None:
        rows.delete(edge_copy.IDS, identity)

    monkeypatch.setattr(edge_copy, "_let_go", let_go)


STORIES: dict[str, tuple[Callable[[], None], Plant]] = {
    "a rescan's touch is forgotten": (rescan_story, forget_rescans),
    "touches are not in the checkpoint": (checkpoint_story, forget_touches),
    "a pull ends at the revision of its last page": (page_story, end_at_the_last_page),
    "a removal takes identities that have moved on": (moving_story, take_every_identity),
}


@pytest.mark.parametrize("name", STORIES)
def test_a_planted_fault_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    story, plant = STORIES[name]
    story()
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        story()


def test_a_copy_of_more_entries_than_there_are_begins_anew() -> None:
    hub, copy = small_hub(), Copy()
    hits(hub, "uv", BASE)
    copy.follow(hub.partitions[0])
    shorter = small_hub()
    hits(shorter, "u", BASE)
    place = edge_copy.standing(copy.rows, 0).place
    ahead = structs.replace(place, base=place.base + (9 << 24))
    page = shorter.partitions[0].project(copy.fields, copy.form, ahead)
    assert len(page.ends) == 1
    assert page.place.base >= 0
    assert page.is_complete


def test_everybody_has_been_copied_although_they_go_on_changing() -> None:
    hub, copy = small_hub(), Copy()
    one = hub.partitions[0]
    hits(hub, "uvw", BASE)
    while copy.pull(one).has_more:
        assert not edge_copy.standing(copy.rows, 0).has_all
        hits(hub, "uvw", BASE + HOUR + copy.pages)
    found = edge_copy.standing(copy.rows, 0)
    assert found.has_all
    assert not found.is_complete


def test_a_checkpoint_from_before_counts_everybody_as_touched() -> None:
    hub, copy = small_hub(), Copy()
    hits(hub, "uv", BASE)
    copy.follow(hub.partitions[0])
    hits(hub, "u", BASE + HOUR)
    job = hub.partitions[0].checkpoint_job(force=True)
    assert job is not None
    job()
    checkpoints = hub.stores[0][2]
    position, meta, arrays = checkpoints.load() or (0, b"", {})
    del arrays["touched"]
    checkpoints.save(position, meta, arrays)
    one = small_hub(2, hub).partitions[0]
    assert (one.state.touches.column[:2] > position << 24).all()
    copy.follow(one)
    assert one.project(copy.fields, copy.form, Place(copy.form)).left == 1


def test_large_pages_are_cut_by_bytes() -> None:
    hub, copy = small_hub(), Copy()
    one = hub.partitions[0]
    hits(hub, "abcdefghijklmnop", BASE)
    projector = Projector(one.state, one.reader, one.lock, 1, 1000)
    place, sizes = Place(), []
    while True:
        page = projector.page(copy.fields, copy.form, place, None, 2_000)
        place = page.place
        sizes.append(len(page.ends))
        if not page.has_more:
            break
    assert sum(sizes) == 16
    assert max(sizes) <= 8
    assert page.is_complete
    assert projector.page(copy.fields, copy.form, place, None, 1).ends.tolist() == []
    assert place.base != NEVER
