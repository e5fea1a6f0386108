"""A back-fill finished later than it was begun: due work and rows of one profile, both count."""

from __future__ import annotations

from profile_actors.definitions.catalogue_changes import extended
from profile_actors.definitions.declared import SegmentDefinition
from profile_actors.engine.refold.backfill import Backfill
from tests.model.hub import BASE, CATALOGUE, DAY, Hub


def test_what_is_due_and_what_comes_while_a_back_fill_runs_both_count() -> None:
    hub = Hub()
    (partition,) = hub.partitions

    def hit(number: int, at: int) -> None:
        rows = [{"_id": f"e{number}", "who": "ann", "at": at, "kind": "buy", "n": 1, "x": 1.0}]
        hub.submit([("hits", "p", rows)], at)

    hit(0, BASE)
    rule = 'xEvent[eventType = "buy" and timestamp occurs <= 3 days before now].count() = 1'
    wanted = extended(CATALOGUE, [SegmentDefinition("one", rule)])
    job = Backfill(partition.state, partition.log, wanted)
    job.work(2)
    hit(1, BASE + 4 * DAY)  # the first event is out of the window by now
    partition.define(wanted, None, job)
    assert [i.value for i in partition.members("one")[0]] == ["ann"]
