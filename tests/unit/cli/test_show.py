"""What ``status`` prints of work that is under way, as text and as JSON."""

from __future__ import annotations

import json

import msgspec
import pytest
from rich.console import Console

from profile_actors.actors.actor_status import ActorStatus
from profile_actors.cli import show
from profile_actors.definitions.catalogue_changes import extended
from profile_actors.definitions.declared import Relationship, Schema, SegmentDefinition
from profile_actors.driver.receipts import StoreStatus, store_status
from profile_actors.engine.partition import clock_steps
from profile_actors.errors import Pending
from profile_actors.ingest.identity_keys import key_of
from tests.model.hub import BASE, CATALOGUE, DAY, SEED, WHO, Hub


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

    wanted = extended(CATALOGUE, [SegmentDefinition("new", "xEvent.count() > 3")])
    partition.backfill(wanted, look)
    look()
    return found


def printed(status: StoreStatus) -> str:
    console = Console(width=80)
    with console.capture() as shown:
        show.status(console, status)
    return shown.get()


def test_rules_without_an_answer_are_counted_and_shown_as_pending() -> None:
    hub = Hub()
    hub.submit([("hits", "p", [{"who": "ann", "at": BASE, "_id": "e"}])], BASE)
    (partition,) = hub.partitions
    partition.state.book.pending |= {
        ("computed", "points"): "position 1: it raised", ("segment", "day"): "and it",
    }  # fmt: skip
    status = store_status("/shop", "event", 1, {}, [ActorStatus(partition.status(), "", 0, "", 1)])
    assert "rules without an answer 2" in printed(status)
    assert "points: position 1: it raised" in printed(status)
    (found,) = partition.profiles([key_of(WHO, "ann", SEED)])
    assert found is not None
    console = Console(width=80)
    with console.capture() as shown:
        show.profile(console, found, frozenset())
    (line,) = [line for line in shown.get().splitlines() if "points" in line]
    assert "pending" in line


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


def test_clock_work_in_steps_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock_steps, "FEWEST_SLOTS", 1)
    today = SegmentDefinition("today", "xEvent[timestamp occurs this day].count() > 0")
    hub = Hub(catalogue=extended(CATALOGUE, [today]))
    (partition,) = hub.partitions
    partition.clock._max_due_rows = 2
    people = [{"who": name, "at": BASE, "_id": f"e{name}"} for name in ("ann", "bob", "cid")]
    hub.submit([("hits", "p", people)], BASE)

    def now() -> str:
        actor = ActorStatus(partition.status(), "", 0, "", 1)
        return printed(store_status("/shop", "wall", 1, {}, [actor]))

    assert "step by step" not in now()
    seen = []
    for _ in range(50):
        partition.tick(BASE + DAY)
        seen.append(now())
        if "one instant" in seen[-1]:
            with pytest.raises(Pending, match="step by step"):
                partition.members("today")
        partition.work(1)
    assert any("does the clock's work of one instant: 2 of 3 profiles" in text for text in seen)
    assert "partition 0" not in seen[-1]
    assert partition.members("today") == ([], None)


def test_warnings_are_shown_one_a_line_and_a_bounded_number_of_them() -> None:
    console = Console(width=80)
    with console.capture() as shown:
        show.warnings(console, ["a\nb\x1b[31m", *(f"file {number}" for number in range(30))])
    lines = shown.get().splitlines()
    assert len(lines) == show.MAX_WARNINGS + 1
    assert lines[0].startswith("warning: a")
    assert "\x1b" not in lines[0]
    assert lines[-1] == "… and 11 more"


def test_a_datasets_reading_of_times_and_its_ignored_columns_are_shown() -> None:
    stored = CATALOGUE.datasets["hits"]
    told = msgspec.structs.replace(
        stored, timestamp_unit="s", timestamp_format="%d/%m/%Y", ignore=("note",)
    )
    console = Console(width=160)
    with console.capture() as shown:
        show.definitions(console, extended(CATALOGUE, [told]))
    assert f"{stored.timestamp} ('%d/%m/%Y' or s)" in shown.get()
    assert "note" in shown.get()


def test_relationships_are_shown() -> None:
    console = Console(width=160)
    with console.capture() as shown:
        show.definitions(console, extended(CATALOGUE, [
            Schema("spot", "lookup", {"side": "string"}),
            Relationship("hit", "place", "spot", "spotted"),
        ]))  # fmt: skip
    assert "relationship: hit place → spot, read as spotted (version 1)" in shown.get()
