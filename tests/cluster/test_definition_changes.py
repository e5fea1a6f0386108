"""Definitions edited, withheld, deleted and previewed, on real Ray and over restarts."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import profile_actors as pf
from tests.cluster.shop import SPENT, START, order, orders, shop

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_runtime")]

TWICE = "chain(xEvent, timestamp, [A: WHAT(price >= 5), B: WHAT(price >= 5)])"


def test_a_segment_is_edited_withheld_and_deleted(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with pf.start(path, partitions=1, clock="event") as store:
        store.apply(*shop())
        store.submit("orders", orders(200))
        assert store.members("big").count() == 0
        store.apply(pf.SegmentDefinition("big", TWICE))
        twice = {i.value for i in store.members("big")}
        assert 0 < len(twice) < 50
        some = min(twice)
        entered = store.profile("CRMID", some)
        assert entered is not None
        assert entered.segments["big"].version == 2
        store.apply(pf.SegmentDefinition("big", f"{SPENT} > 1"))
        assert store.members("big").count() > len(twice)
        again = store.profile("CRMID", some)
        assert again is not None
        assert again.segments["big"].version == 3
        assert (
            again.segments["big"].last_qualification_time
            == entered.segments["big"].last_qualification_time
        )
        store.apply(pf.SegmentDefinition("big", f"{SPENT} > 1", state="inactive"))
        with pytest.raises(pf.DefinitionError, match="inactive"):
            store.members("big").count()
        with pytest.raises(pf.RuleError, match="inactive"):
            store.apply(pf.SegmentDefinition("other", 'inSegment("big")'))
        store.submit("orders", [order(1000 + n, 500 + n, START + 300_000, 9.0) for n in range(20)])
    with pf.start(path) as store:
        with pytest.raises(pf.DefinitionError, match="inactive"):
            list(store.members("big"))
        store.apply(pf.SegmentDefinition("big", f"{SPENT} > 1"))
        came = {
            c.identity.value for c in store.changes() if c.name == "big" and c.new == "realized"
        }
        assert {f"c{n:04}" for n in range(500, 520)} <= came
        before = store.definitions().version
        with pytest.raises(pf.DefinitionError, match="nobody"):
            store.delete("nobody")
        assert store.delete("big") == before + 1
        with pytest.raises(pf.DefinitionError, match="big"):
            store.members("big")
        profile = store.profile("CRMID", some)
        assert profile is not None
        assert "big" not in profile.segments
        assert store.verify() == []
    with pf.start(path) as store:
        assert "big" not in store.definitions().segments
        left = [c for c in store.changes() if c.name == "big" and c.kind == "membership"]
        inside: set[str] = set()
        for change in left:
            who = change.identity.value
            assert (who in inside) == (change.new == "exited")
            (inside.discard if change.new == "exited" else inside.add)(who)
        assert inside == set()


def test_what_came_is_not_deleted_and_what_did_not_is(tmp_path: Path) -> None:
    extra: list[pf.Definition] = [
        pf.Schema("visit", behavior="event", fields={"page": "string"}),
        pf.Namespace("ECID", kind="cookie"),
        pf.Dataset("visits", schema="visit", identities={"cookie": "ECID"}, timestamp="at"),
    ]
    with pf.start(tmp_path / "s", partitions=1, clock="event") as store:
        store.apply(*shop(), *extra)
        store.submit("orders", orders(10))
        with pytest.raises(pf.DefinitionError, match="rows"):
            store.delete("orders", "dataset")
        for name, user in (("order", "orders"), ("CRMID", "orders"), ("visit", "visits")):
            with pytest.raises(pf.DefinitionError, match=f"dataset '{user}'"):
                store.delete(name)
        for name in ("visits", "visit", "ECID"):
            store.delete(name)
        with pytest.raises(pf.DefinitionError, match="visits"):
            store.submit("visits", [{"cookie": "x", "page": "y", "at": START}])
        store.apply(*extra)
        assert store.submit("visits", [{"cookie": "x", "page": "y", "at": START}]).accepted == 1
        with pytest.raises(pf.DefinitionError, match="rows"):
            store.delete("visits")
        bad = pf.Dataset("typos", schema="visit", identities={"cookie": "ECID"}, timestamp="at")
        store.apply(bad)
        store.submit("typos", [{"cookie": "x", "page": 7.5, "at": "yesterday"}])
        with pytest.raises(pf.DefinitionError, match="quarantine"):
            store.delete("typos")
        assert store.verify() == []


def test_a_preview_is_exact_while_rows_come_in(tmp_path: Path) -> None:
    with pf.start(tmp_path / "s", partitions=1, clock="event") as store:
        store.apply(*shop())
        store.submit("orders", orders(300))
        version = store.definitions().version
        for rule in (f"{SPENT} > 15", TWICE, "1 = 2"):
            found = store.preview(rule, sample=100)
            assert store.definitions().version == version
            store.apply(pf.SegmentDefinition("tried", rule))
            assert {*found.sample} == {*store.members("tried")}
            assert (found.count, found.profiles) == (store.members("tried").count(), 50)
            store.delete("tried")
            version = store.definitions().version
        assert len(store.preview(f"{SPENT} > 15", sample=3).sample) == 3
        value = store.preview(SPENT, sample=2)
        assert (value.kind, value.count, len(value.values)) == ("computed", 50, 2)
        with pytest.raises(pf.RuleError, match="prise"):
            store.preview("xEvent.sum(prise) > 1")
        stop = threading.Event()

        def go_on() -> None:
            first = 300
            while not stop.is_set():
                store.submit("orders", orders(100, first=first))
                first += 100

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            for _ in range(5):
                found = store.preview("xEvent.count() >= 6", sample=0)
                assert (found.count, found.sample) == (50, [])
        finally:
            stop.set()
            thread.join()


def test_rows_go_on_coming_while_rules_are_applied(tmp_path: Path) -> None:
    with pf.start(tmp_path / "s", partitions=1, clock="event") as store:
        store.apply(*shop())
        store.submit("orders", orders(500))
        stop, accepted = threading.Event(), [500]

        def go_on() -> None:
            while not stop.is_set():
                first = accepted[0]
                accepted[0] += store.submit("orders", orders(50, first=first)).accepted

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            for number in range(8):
                store.apply(pf.SegmentDefinition(f"more-{number}", f"{SPENT} > {number * 7}"))
                assert store.members(f"more-{number}").count() <= 50
        finally:
            stop.set()
            thread.join()
        assert accepted[0] > 500
        assert store.status().events == accepted[0]
        assert store.verify() == []
        followed: dict[str, set[str]] = {}
        for change in store.changes():
            if change.kind == "membership":
                known = followed.setdefault(change.name, set())
                who = change.identity.value
                (known.discard if change.new == "exited" else known.add)(who)
        for name in store.definitions().segments:
            assert followed.get(name, set()) == {i.value for i in store.members(name)}
