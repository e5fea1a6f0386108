"""What a partition answers to the edges that follow it."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from profile_actors.actors.wire import dumps
from profile_actors.engine.edges.edge_pages import Page, Place
from profile_actors.engine.edges.projections import NOTHING, chosen
from profile_actors.engine.partition.partition import Partition


def pull(
    partition: Partition,
    now: Callable[[], int | None],
    queued: Callable[[], int],
    destination: str,
    place: Place,
    seconds: float,
    erasures: int = 0,
) -> bytes | None:
    """The next page of an edge; None if these definitions have no such destination. Waits for
    something new up to so many seconds, then says that there is nothing. now: the writer's; queued:
    sub-batches that wait for him."""
    found = chosen(partition.catalogue, destination, erasures)
    if found is None:
        return None
    _, form = found
    touches, position = partition.state.touches, partition.position
    if place.form == form and not place.slot:
        touches.wait(place.base, seconds)
        found = chosen(partition.catalogue, destination, erasures)  # others may have come meanwhile
        if found is None:
            return None
    (fields, form), began = found, time.monotonic()
    page = partition.project(fields, form, place, now()) if fields else _nothing(partition)
    if queued() or (page.has_more and partition.position != position):
        page.busy_s = time.monotonic() - began
    return dumps(page)


def _nothing(partition: Partition) -> Page:
    """The page of a destination without projections: nobody, and that is all."""
    with partition.lock:
        reached, version = partition.state.touches.reached, partition.catalogue.version
    place = Place(NOTHING, -1, reached)
    none, ends = np.zeros((0, 2), np.uint64), np.zeros(0, np.int64)
    return Page(place, True, False, partition.now or 0, version, 0, 0, none, ends, [])
