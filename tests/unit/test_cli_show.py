"""What ``status`` prints of a store that is back-filling, as text and as JSON."""

from __future__ import annotations

import json

import pytest
from rich.console import Console

from profile_actors.actors.partition_actor import ActorStatus
from profile_actors.actors.results import StoreStatus, store_status
from profile_actors.cli import show
from profile_actors.definitions import SegmentDefinition, merge
from tests.model.hub import BASE, CATALOGUE, Hub


def accounts() -> list[StoreStatus]:
    """A store's status between the steps of a back-fill over 21 log entries, and after it."""
    hub = Hub()
    for number in range(20):
        hub.submit(
            [("hits", "p", [{"who": "ann", "at": BASE + number, "_id": f"e{number}"}])], BASE
        )
    (partition,) = hub.partitions
    found: list[StoreStatus] = []

    def look() -> bool:
        actor = ActorStatus(partition.status(), "", 0, "", 1)
        found.append(store_status("/shop", "event", 1, {}, [actor]))
        return True

    wanted = merge(CATALOGUE, [SegmentDefinition("new", "xEvent.count() > 3")])
    partition.backfill(wanted, look)
    look()
    return found


def printed(status: StoreStatus) -> str:
    console = Console(width=80)
    with console.capture() as shown:
        show.status(console, status)
    return shown.get()


def test_a_back_fill_says_how_far_it_is(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    begin, middle, *_, after = accounts()
    assert "partition 0 back-fills new rules: 0 of 21 log entries (0 %)" in printed(begin)
    assert "partition 0 back-fills new rules: 8 of 21 log entries (38 %)" in printed(middle)
    assert "back-fill" not in printed(after)
    assert max(map(len, printed(middle).splitlines())) <= 80
    for status, wanted in ((middle, [8, 21]), (after, None)):
        show.as_json(status)
        document = json.loads(capsysbinary.readouterr().out)
        assert document["partitions"][0]["partition"]["backfill"] == wanted
