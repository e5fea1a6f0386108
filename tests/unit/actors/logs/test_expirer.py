"""Which partition asks for new cutoffs, and until when."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

from profile_actors.actors.calls import Remote
from profile_actors.actors.logs.expirer import Expirer
from profile_actors.definitions.declared import Catalogue
from profile_actors.definitions.retention import expired
from tests.model.hub import BASE, DAY, Hub
from tests.model.test_retention import bought, with_retention

MIDNIGHT = BASE // DAY * DAY + DAY


class Coordinator:
    """Gives cutoffs by a clock of its own."""

    def __init__(self, catalogue: Catalogue, clock: int) -> None:
        self.catalogue, self.clock, self.asked = catalogue, clock, 0

    def call(self, name: str, now: int) -> Catalogue:
        assert name == "expire"
        self.asked += 1
        self.catalogue = expired(self.catalogue, min(now, self.clock))
        return self.catalogue


def test_a_coordinator_for_whom_it_is_yesterday_is_asked_again() -> None:
    hub = Hub(catalogue=with_retention(3, {}))
    (partition,) = hub.partitions
    bought(hub, "ann", MIDNIGHT - 4 * DAY, MIDNIGHT, now=MIDNIGHT + 5)
    coordinator = Coordinator(partition.catalogue, MIDNIGHT - 1)

    def take(catalogue: Catalogue) -> int:
        if catalogue.version > partition.catalogue.version:
            partition.define(catalogue, None)
        return partition.catalogue.version

    one = Expirer(cast(Remote, cast(Any, coordinator)), partition, take, is_wall=True)

    def until(is_so: Callable[[], bool]) -> None:
        end = time.monotonic() + 60
        while not is_so():
            assert time.monotonic() < end
            one.look()
            time.sleep(0.001)

    def cutoff() -> int | None:
        return partition.catalogue.expired.get("hits")

    until(lambda: cutoff() == MIDNIGHT - 4 * DAY)
    until(lambda: coordinator.asked >= 3)
    coordinator.clock = MIDNIGHT
    until(lambda: cutoff() == MIDNIGHT - 3 * DAY)
    assert partition.status().expired == 1
