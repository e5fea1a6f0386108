"""What a partition answers to the edges that follow it."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
import numpy as np

from profile_actors.actors.wire import dumps
from profile_actors.engine.edges.edge_pages import NO_POSITION, Page, Place
from profile_actors.engine.edges.projections import chosen
from profile_actors.engine.partition.partition import Partition
from profile_actors.engine.reading.fields import Fields

LONG_PAGE = 500
"""Profiles of a page whose making and taking rows that come in would notice. Shorter ones are
followed by the next at once: an event of an idle store is at the edge as soon as can be."""


KEYS_ALONE = Fields(identities=False, attributes=(), segments=(), computed=())
"""What is sent of touched profiles to an edge that asks for those which it has."""


def pull(
    partition: Partition,
    now: Callable[[], int | None],
    queued: Callable[[], int],
    erasures: int,
    destination: str,
    place: Place,
    seconds: float,
    keys: bytes = b"",
) -> bytes | None:
    """The next page of an edge; None if these definitions have no such destination. Waits for
    something new up to so many seconds, then says that there is nothing. now: the writer's; queued:
    sub-batches that wait for him. Rows come in (``Page.busy_s``) where some wait, or the log has
    grown since this copy's last page: where drivers share the cores, a queue may never be seen.

    keys: of identities, 16 bytes each: their profiles alone, at once, and who is to be asked for
    elsewhere (``Projector.of``). The pages of a reactive destination have keys alone, and begin
    with the moment of its first.
    """
    found = chosen(partition.catalogue, destination, erasures)
    if found is None:
        return None
    fields, form = found
    if keys:
        asked = np.frombuffer(keys, np.uint64).reshape(-1, 2)
        return dumps(
            partition.projector.of(fields, form, asked, now())
            if fields
            else (_nothing(partition, form), [])
        )
    touches = partition.state.touches
    if place.form == form and not place.slot:
        touches.wait(place.base, seconds)
        found = chosen(partition.catalogue, destination, erasures)  # others may have come meanwhile
        if found is None:
            return None
    (fields, form), began = found, time.monotonic()
    is_reactive = partition.catalogue.destinations[destination].policy == "reactive"
    if fields is None or (is_reactive and place.form != form):
        page = _nothing(partition, form)
    else:
        page = partition.project(KEYS_ALONE if is_reactive else fields, form, place, now())
    position = partition.position
    is_long = page.has_more or len(page.ends) >= LONG_PAGE
    if queued() or (is_long and place.position not in (NO_POSITION, position)):
        page.busy_s = time.monotonic() - began
    page.place = msgspec.structs.replace(page.place, position=position)
    return dumps(page)


def _nothing(partition: Partition, form: str) -> Page:
    """The first page of a destination that has nobody, and that is all."""
    with partition.lock:
        reached, version = partition.state.touches.reached, partition.catalogue.version
    place = Place(form, -1, reached)
    none, ends = np.zeros((0, 2), np.uint64), np.zeros(0, np.int64)
    return Page(place, True, False, partition.now or 0, version, 0, 0, none, ends, [])
