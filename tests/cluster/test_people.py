"""People of several identities on real Ray: joined, parted, killed in the midst of it."""

from __future__ import annotations

import json
import os
import random
import re
import signal
from collections import Counter, defaultdict
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest

import profile_actors as pf
from tests.cluster.shop import DAY, START
from tests.waiting import until

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_runtime")]

SPACES = [
    pf.Namespace("CRMID", "cross_device", unique=True, priority=1),
    pf.Namespace("ECID", "cookie", priority=2),
]
ANN, BEN, TABLET = ("CRMID", "ann"), ("CRMID", "ben"), ("ECID", "tablet")


def definitions() -> list[pf.Definition]:
    return [
        *SPACES,
        pf.Schema("hit", "event", {"page": "string"}),
        pf.Dataset(
            "hits", "hit", {"customer": "CRMID", "device": "ECID"}, timestamp="at", id="_id"
        ),
        pf.ComputedAttribute("hits", "xEvent.count()"),
        pf.SegmentDefinition("twice", "xEvent.count() >= 2"),
        pf.SegmentDefinition("fresh", "xEvent[timestamp occurs <= 1 day before now].count() >= 1"),
    ]


def hit(number: int, at: int, **identities: str) -> dict[str, Any]:
    return {"_id": f"h{number}", "at": at, "page": "home", **identities}


def whole(store: pf.Store, *who: tuple[str, str]) -> tuple[list[str], int, list[str]]:
    """The one answer of all these identities: identities, count, ids of events."""
    found: set[tuple[tuple[str, ...], int, tuple[str, ...]]] = set()
    for one in who:
        profile = store.profile(*one)
        assert profile is not None, one
        events = [event["_id"] for event in store.events(*one).events]
        names = [identity.value for identity in profile.identities]
        assert profile.computed["hits"] == len(events)
        found.add((tuple(names), len(events), tuple(events)))
    assert len(found) == 1, found
    who_is, count, ids = found.pop()
    return list(who_is), count, list(ids)


def test_a_tablet_that_changes_hands_and_is_unlinked(tmp_path: Path) -> None:
    with pf.start(tmp_path, partitions=2, clock="event") as store:
        store.apply(*definitions())
        store.submit("hits", [hit(1, START, device="tablet")])
        assert store.status().ledger is None, "nobody is linked: there is no ledger"
        store.submit("hits", [hit(2, START + 1, device="tablet", customer="ann")])
        store.advance_to(START + 2)
        assert whole(store, ANN, TABLET) == (["ann", "tablet"], 2, ["h1", "h2"])
        assert list(store.members("twice")) == [pf.Identity(*ANN)]
        store.submit("hits", [hit(3, START + 3, device="tablet", customer="ben")])
        store.submit(
            "hits", [hit(4, START + 4, device="tablet"), hit(5, START + 4, customer="ann")]
        )
        store.advance_to(START + 5)
        assert whole(store, BEN, TABLET) == (["ben", "tablet"], 3, ["h1", "h3", "h4"])
        assert whole(store, ANN) == (["ann"], 2, ["h2", "h5"])
        graph = store.identity_graph("ECID", "tablet")
        assert graph.members == [pf.Identity(*BEN), pf.Identity(*TABLET)]
        assert [(link.one.value, link.at, link.verdict, link.by) for link in graph.links] == [
            ("ben", START + 3, "used", ""),
            ("ann", START + 1, "skipped", "CRMID"),
        ]
        assert store.unlink(TABLET, BEN).at == START + 5
        store.advance_to(START + DAY)
        assert whole(store, ANN, TABLET) == (["ann", "tablet"], 4, ["h1", "h2", "h4", "h5"])
        assert whole(store, BEN) == (["ben"], 1, ["h3"])
        verdicts = [link.verdict for link in store.identity_graph(*TABLET).links]
        assert verdicts == ["withdrawn", "used"]
        store.advance_to(START + 5 * DAY)
        assert store.members("fresh").count() == 0
        status = store.status()
        assert status.ledger is not None
        assert status.ledger.ledger is not None
        assert (status.ledger.ledger.people, status.ledger.ledger.pending) == (1, 0)
        assert (status.outbox, status.profiles) == ({}, 2)
        assert store.verify() == []
        check_identities_alone(store)
        check_access(store, tmp_path)
        told = Counter[tuple[str, str]]()
        for change in store.changes():
            if change.kind == "membership":
                step = (change.new == "realized") - (change.old == "realized")
                told[change.identity.value, change.name] += step
        assert {who for (who, name), n in told.items() if n and name != "again"} == {"ann"}
        assert {who for who, name in told if name == "again"} == {"ann", "tablet"}
    with pf.start(tmp_path) as store:  # what was joined and parted is so after a start
        assert whole(store, ANN, TABLET)[0] == ["ann", "tablet"]
        assert [one.value for one in store.identity_graph(*TABLET).members] == ["ann", "tablet"]


def blocks_of(document: str) -> list[str]:
    """The Python of a document."""
    text = (Path(__file__).resolve().parents[2] / "docs" / document).read_text("utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def check_identities_alone(store: pf.Store) -> None:
    """Rules of a policy that does not stitch are about whom rows are of, at every door."""
    store.apply(
        pf.MergePolicy("device", stitching="none"),
        pf.SegmentDefinition("again", "xEvent.count() >= 2", merge_policy="device"),
        pf.ComputedAttribute("seen", "xEvent.count()", merge_policy="device"),
    )
    one = pf.Identity(*TABLET)
    alone = store.profile(*TABLET, merge_policy="device")
    assert alone is not None
    assert (alone.identities, alone.computed) == ([one], {"seen": 2})
    assert sorted(store.members("again")) == [pf.Identity(*ANN), one]
    rows = store.scan(["identities", "computed.seen"], segment="again").read_all().to_pylist()
    assert sorted((row["id"], row["computed.seen"]) for row in rows) == [("ann", 2), ("tablet", 2)]
    together = store.profile(*TABLET)
    assert together is not None
    assert together.computed == {"hits": 4}
    with pytest.raises(pf.DefinitionError, match="got computed attribute 'seen', whose is 'none'"):
        store.profile(*TABLET, fields=["computed.seen"])
    with pytest.raises(pf.DefinitionError, match="got computed attribute 'hits', whose is 'graph'"):
        store.scan(["computed.hits"], segment="again")


def check_access(store: pf.Store, tmp_path: Path) -> None:
    """All that is held on Ann, and nothing of Ben: not even that the tablet was in his hands."""
    store.submit("hits", [{"_id": "bad", "at": "never", "customer": "ann", "page": "ben's?"}])
    store.submit("hits", [{"_id": "worse", "at": "never", "customer": "ben", "page": "ann"}])
    folder = tmp_path.with_name(tmp_path.name + ".held")  # not among the store's own files
    folder.mkdir()
    place = folder / "ann"
    done = store.access(*TABLET, place)
    assert [one.value for one in done.identities] == ["ann", "tablet"]
    assert place.stat().st_mode & 0o777 == 0o700
    assert done.positions.keys() & {0, 1}
    held = {
        name: [json.loads(line) for line in (place / name).read_text().splitlines()]
        for name in done.files
        if name.endswith(".ndjson")
    }
    assert {name: len(rows) for name, rows in held.items()} == {
        name: count for name, count in done.files.items() if name.endswith(".ndjson")
    }
    events = {(one["identity"]["value"], one["fields"]["_id"]) for one in held["events.ndjson"]}
    assert events == {("tablet", "h1"), ("ann", "h2"), ("tablet", "h4"), ("ann", "h5")}
    assert done.files["events.ndjson"] == 4
    verdicts = [(one["one"]["value"], one["verdict"]) for one in held["links.ndjson"]]
    assert verdicts == [(None, "withdrawn"), ("ann", "used")]
    assert ["bad" in one["raw"] for one in held["rejected.ndjson"]] == [True]
    told = {(one["id"], one["name"], one["cause"]) for one in held["changes.ndjson"]}
    assert {who for who, _, _ in told} <= {"ann", "tablet"}
    assert {("ann", "fresh", "clock"), ("ann", "twice", "event")} <= told
    index = json.loads((place / "access.json").read_text())
    assert (index["files"], set(index["contents"])) == (done.files, set(done.files))
    assert done.feed[1] == START
    profile = json.loads((place / "profile.json").read_text())
    assert profile["computed"] == {"hits": 4}
    each = [(one["identities"][0]["value"], one["computed"]) for one in profile["views"]["device"]]
    assert each == [("ann", {"seen": 2}), ("tablet", {"seen": 2})]
    everything = "".join(path.read_text() for path in place.iterdir()).replace("ben's?", "")
    assert "ben" not in everything
    assert "h3" not in everything
    for path in place.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(pf.CallerError, match="new or empty"):
        store.access(*ANN, place)
    nobody = store.access("CRMID", "nobody", folder / "nobody")
    assert (set(nobody.files.values()), nobody.now) == ({0}, None)
    with pytest.raises(pf.CallerError, match="outside of the store"):
        store.access(*ANN, tmp_path / "ann")
    with chdir(folder):
        for block in blocks_of("ACCESS.md"):
            exec(compile(block, "docs/ACCESS.md", "exec"), {"store": store})


def test_the_document_runs_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = blocks_of("IDENTITY.md")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in (blocks[0], *(block for block in blocks if "pf.start" in block)):
        exec(compile(block, "docs/IDENTITY.md", "exec"), names)
    assert "store" in names


def pids_of(store: pf.Store) -> list[int]:
    """The processes of ledger and partitions; 0 (which is this one's group) if one is not there."""
    status = store.status()
    pids = [0 if status.ledger is None else status.ledger.pid]
    return [*pids, *(one.pid for one in status.partitions)]


@pytest.mark.slow
def test_joins_survive_the_death_of_partitions_and_ledger(tmp_path: Path) -> None:
    chance = random.Random(7)
    people, devices = 12, 40
    rows = []
    for number in range(200):
        named = {"device": f"d{chance.randrange(devices)}"}
        if chance.random() < 0.4:
            named["customer"] = f"c{chance.randrange(people)}"
        rows.append(hit(number, START + 1000 * number, **named))
    with pf.start(tmp_path, partitions=2) as store:
        store.apply(*definitions())
        pending = []
        for first in range(0, len(rows), 10):
            pending.append(store.submit_async("hits", rows[first : first + 10]))
            if first in (60, 130):
                pending[-1].result()
                until(lambda: all(pids_of(store)), "the ledger did not begin")
                victims = pids_of(store)
                assert all(victims)
                os.kill(victims[0 if first == 60 else 1], signal.SIGKILL)
                os.kill(victims[2 if first == 60 else 0], signal.SIGKILL)
        receipts = [one.result() for one in pending]
        assert sum(receipt.accepted for receipt in receipts) == len(rows)

        def is_quiet() -> bool:
            status = store.status()
            one = None if status.ledger is None else status.ledger.ledger
            if one is None or status.outbox:
                return False
            return not (one.pending or one.unpublished)

        until(is_quiet, "messages did not arrive")
        check_people(store, rows)
        assert store.verify() == []


def check_people(store: pf.Store, rows: list[dict[str, Any]]) -> None:
    """Each is who ``pf.simulate`` says, each event is in exactly one profile, once."""
    columns = {"customer": "CRMID", "device": "ECID"}
    named = [[(columns[k], row[k]) for k in columns if k in row] for row in rows]
    found = pf.simulate(
        [(row["at"], who) for row, who in zip(rows, named, strict=True)], None, SPACES
    )
    person = {identity: people for people in found.people for identity in people}
    events: dict[tuple[pf.Identity, ...], list[str]] = defaultdict(list)
    for row, who in zip(rows, named, strict=True):
        events[person[pf.Identity(*min(who))]].append(row["_id"])
    for people in found.people:
        ids = sorted(events[people])
        asked = [(one.namespace, one.value) for one in people]
        for one, profile in zip(asked, store.profiles(asked), strict=True):
            assert profile is not None, one
            # The order of identities of one namespace is that of their keys, which have a seed.
            assert profile.identities[0] == people[0], one
            assert sorted(profile.identities) == sorted(people), one
            assert profile.computed["hits"] == len(ids)
            page = store.events(*one, limit=1000)
            assert sorted(event["_id"] for event in page.events) == ids, one
    listed = [people[0] for people in found.people if len(events[people]) >= 2]
    assert sorted(store.members("twice")) == sorted(listed)
