"""The Python surface sentence by sentence: names, types, counts, instants, errors; on real Ray."""

from __future__ import annotations

import datetime as dt
import inspect
import itertools
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest

import profile_actors as pf
from tests.cluster.shop import DAY, SPENT, START, order, orders, shop
from tests.waiting import in_time, until, wall_ms

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_runtime")]

HOUR = 3_600_000
NEW_YEAR = 852_076_800_000  # 1997-01-01T00:00:00Z
HEADER = "_id,customer,at,price,sku\n"
Case = tuple[Callable[[pf.Store], Any], type[pf.ProfileActorsError], str]


@pytest.fixture(scope="module")
def event(tmp_path_factory: pytest.TempPathFactory, ray_runtime: None) -> Iterator[pf.Store]:
    """A store on the event clock with the shop's definitions; each test brings own customers."""
    with pf.start(tmp_path_factory.mktemp("event") / "s", partitions=2, clock="event") as store:
        store.apply(*shop())
        yield store


@pytest.fixture(scope="module")
def wall(tmp_path_factory: pytest.TempPathFactory, ray_runtime: None) -> Iterator[pf.Store]:
    """A store on the wall clock with a window of an hour."""
    burst = "xEvent[timestamp occurs <= 1 hour before now].count() >= 1"
    with pf.start(tmp_path_factory.mktemp("wall") / "s", partitions=2) as store:
        store.apply(*shop(), pf.SegmentDefinition("burst", burst))
        yield store


# ---- what comes back ------------------------------------------------------------------------


def test_parameters_are_called_as_promised() -> None:
    def names(of: Any) -> list[str]:
        return [name for name in inspect.signature(of).parameters if name != "self"]

    assert names(pf.start)[:4] == ["path", "partitions", "clock", "config"]
    assert names(pf.Store.submit) == [
        *("dataset", "rows", "producer", "offset", "offsets", "through")
    ]
    assert names(pf.Store.submit_async) == ["dataset", "rows", "producer", "offset", "block"]
    assert names(pf.Store.ingest)[:3] == ["dataset", "files", "max_bad_percent"]
    assert names(pf.Store.quarantine) == ["dataset", "limit"]
    assert names(pf.Store.scan) == ["fields", "segment", "batch_rows"]
    assert names(pf.Store.profile) == [
        "namespace",
        "value",
        "fields",
        "merge_policy",
        "sources",
        "as_of",
    ]
    assert names(pf.Store.profiles) == ["identities", "fields", "merge_policy", "sources"]
    assert names(pf.Store.unlink) == ["one", "other", "at"]
    assert names(pf.Store.delete_profile) == ["namespace", "value"]
    assert names(pf.Store.identity_graph)[:2] == ["namespace", "value"]
    assert names(pf.Store.lookup) == ["schema", "namespace", "value"]
    assert names(pf.Store.events) == [
        *("namespace", "value", "start", "end", "order", "limit", "cursor"),
    ]
    assert names(pf.Store.changes) == ["after", "follow", "consumer"]
    assert names(pf.Store.advance_to) == ["when"]
    assert names(pf.Store.verify) == ["sample"]
    assert pf.Dataset.__struct_fields__ == (
        *("name", "schema", "identities", "identity_map", "primary", "timestamp", "id"),
        *("event_type", "event_type_field", "mode"),
        *("timestamp_unit", "timestamp_format", "ignore", "retention_days"),
    )
    assert pf.Namespace.__struct_fields__ == ("code", "kind", "unique", "priority", "normalize")
    limits = ("required", "enum", "minimum", "maximum", "pattern", "max_length", "labels")
    assert pf.Field.__struct_fields__ == ("type", *limits)
    assert pf.evaluate("xEvent.count() > 1", profile={}, events=[{"timestamp": 1}], now=2) == (
        False,
        None,
    )


def test_receipts_profiles_and_pages_have_their_fields(event: pf.Store) -> None:
    receipt = event.submit("orders", [order(1, 1, price=150.0), {"customer": "c0001"}])
    assert isinstance(receipt, pf.Receipt)
    assert (receipt.accepted, receipt.duplicate, receipt.late, receipt.forwarding) == (1, 0, 0, 0)
    assert receipt.rejected_count == 1
    assert receipt.rejected == [(1, "at", "expected a timestamp, got none")]
    profile = event.profile("CRMID", "c0001")
    assert isinstance(profile, pf.Profile)
    assert profile.identities == [pf.Identity("CRMID", "c0001")]
    assert profile.attributes == {}
    assert profile.computed == {"orders": 1, "spent": 150.0}
    assert type(profile.computed["orders"]) is int
    assert type(profile.last_modified) is int
    big, fresh = profile.segments["big"], profile.segments["fresh"]
    assert (big.status, big.last_qualification_time, big.valid_until) == ("realized", START, None)
    assert fresh.valid_until == START + 7 * DAY + 1
    page = event.events("CRMID", "c0001", limit=100)
    assert page.next is None
    assert page.events == [
        {"_id": "o1", "timestamp": START, "eventType": "purchase", "price": 150.0, "sku": "x"}
    ]
    assert event.events("CRMID", "nobody") == pf.EventPage([], None)
    members = event.members("big")
    assert pf.Identity("CRMID", "c0001") in list(members)
    assert members.count() == len(list(members))
    assert event.profiles(members) == [event.profile(i.namespace, i.value) for i in members]
    assert event.profile("CRMID", "never") is None


def test_a_profile_never_in_a_segment_does_not_list_it_and_nulls_are_keys(event: pf.Store) -> None:
    event.apply(pf.ComputedAttribute("cheapest", 'xEvent[sku = "gold"].min(price)'))
    event.submit("orders", [order(2, 2, price=1.0)])
    profile = event.profile("CRMID", "c0002")
    assert profile is not None
    assert "big" not in profile.segments
    assert profile.computed["cheapest"] is None


def test_fields_are_what_is_asked_of_a_profile(event: pf.Store) -> None:
    event.submit("orders", [order(3, 3, price=150.0)])
    whole = event.profile("CRMID", "c0003")
    some = event.profile("CRMID", "c0003", ["segments.big", "computed(spent)"])
    assert whole is not None
    assert some == pf.Profile(
        [], {}, {"big": whole.segments["big"]}, {"spent": 150.0}, {"spent": None},
        whole.last_modified, whole.now,
    )  # fmt: skip
    assert event.profiles([("CRMID", "c0003"), ("CRMID", "never")], ["identities"]) == [
        pf.Profile(whole.identities, {}, {}, {}, {}, whole.last_modified, whole.now),
        None,
    ]


def test_scans_and_batches_of_changes_are_arrow(event: pf.Store) -> None:
    event.submit("orders", [order(n, 8880 + n, price=150.0 + n) for n in range(3)])
    table = event.scan(["identities", "computed.spent", "segments.big"], "big").read_all()
    assert set(table["id"].to_pylist()) == {one.value for one in event.members("big")}
    for row in table.to_pylist():
        profile = event.profile(row["namespace"], row["id"])
        assert profile is not None
        assert row["computed.spent"] == profile.computed["spent"]
        assert row["segments.big"]["status"] == profile.segments["big"].status
    for batch in event.scan(batch_rows=2):
        assert batch.num_rows <= 2
        assert set(batch.schema.metadata) == {b"partition", b"position", b"now"}
    feed, rows = event.changes(), list(event.changes())
    sizes = [batch.num_rows for batch in feed.batches(rows=5)]
    assert (sum(sizes), max(sizes) <= 5) == (len(rows), True)
    assert list(event.changes(feed.cursor)) == []


def test_status_tells_how_far_a_named_reader_of_the_feed_is_behind(event: pf.Store) -> None:
    feed = event.changes(consumer="mailer")
    for _ in feed.batches():
        pass
    assert event.status().consumers["mailer"].behind == 0
    event.submit("orders", [order(9, 8890)])
    assert event.status().consumers["mailer"].behind >= 1
    for _ in event.changes(feed.cursor, consumer="mailer"):
        pass
    assert event.status().consumers["mailer"].behind == 0


def test_status_and_reports_are_frozen(event: pf.Store, tmp_path: Path) -> None:
    status = event.status()
    for name in ("profiles", "events", "late", "rejected", "bytes"):
        assert hasattr(status, name)
    for actor in status.partitions:
        assert actor.partition is not None
        assert actor.partition.position >= 0
        assert actor.partition.lag == 0
    with pytest.raises(AttributeError):
        status.events = 0  # type: ignore[misc]
    (tmp_path / "a.csv").write_text(HEADER)
    report = event.ingest("orders", tmp_path / "a.csv")
    assert (report.files, report.rows, report.accepted, report.duplicate) == (1, 0, 0, 0)
    assert (report.rejected_count, report.bytes) == (0, len(HEADER))
    assert report.seconds > 0
    assert event.verify() == []
    assert event.verify(sample=3) == []


# ---- instants -------------------------------------------------------------------------------

INSTANTS: list[Any] = [
    NEW_YEAR,
    np.int64(NEW_YEAR),
    "1997-01-01",
    "1997-01-01T00:00:00Z",
    "1997-01-01 00:00:00",
    "1997-01-01T02:00:00+02:00",
    dt.date(1997, 1, 1),
    dt.datetime(1997, 1, 1),
    dt.datetime(1997, 1, 1, tzinfo=dt.UTC),
    dt.datetime(1997, 1, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=2))),
]
COLUMNS = [
    pa.array([NEW_YEAR]),
    pa.array(["1997-01-01T00:00"]),
    pa.array(["1997-01-01"], pa.large_string()),
    pa.array(["1997-01-01"]).dictionary_encode(),
    pa.array([dt.date(1997, 1, 1)]),
    pa.array([dt.date(1997, 1, 1)], pa.date64()),
    *(pa.array([dt.datetime(1997, 1, 1)], pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns")),
    pa.array([dt.datetime(1997, 1, 1, tzinfo=dt.UTC)], pa.timestamp("us", "Europe/Paris")),
]


def test_timestamps_mean_one_instant_however_written(event: pf.Store) -> None:
    rows = [order(n, 10) | {"at": at} for n, at in enumerate(INSTANTS)]
    assert event.submit("orders", rows).accepted == len(INSTANTS)
    for n, column in enumerate(COLUMNS, len(INSTANTS)):
        table = pa.table({"_id": [f"o{n}"], "customer": ["c0010"], "at": column})
        assert event.submit("orders", table).accepted == 1, column.type
        assert event.submit("orders", table.to_batches()[0]).duplicate == 1
    stored = event.events("CRMID", "c0010", limit=1000).events
    assert len(stored) == len(INSTANTS) + len(COLUMNS)
    assert {row["timestamp"] for row in stored} == {NEW_YEAR}


@pytest.mark.parametrize("at", ["852076800000", "soon", "1997-1-1", 1.5, True, b"1997-01-01", None])
def test_what_is_no_instant_is_a_rejected_row(event: pf.Store, at: Any) -> None:
    receipt = event.submit("orders", [order(1, 11) | {"at": at}])
    assert (receipt.accepted, receipt.rejected_count) == (0, 1)
    assert receipt.rejected[0][:2] == (0, "at")


def test_the_event_clock_takes_instants_of_all_kinds_and_never_goes_back(tmp_path: Path) -> None:
    with pf.start(tmp_path / "s", partitions=1, clock="event") as store:
        store.apply(*shop())
        store.submit("orders", [order(1, 1, NEW_YEAR)])
        ways: list[Any] = [
            *(NEW_YEAR, "1997-01-02", dt.date(1997, 1, 3), dt.datetime(1997, 1, 4)),
            *(dt.datetime(1997, 1, 5, tzinfo=dt.UTC), "1997-01-06T00:00:00Z"),
            np.int64(NEW_YEAR + 6 * DAY),
        ]
        for days, when in enumerate(ways):
            store.advance_to(when)
            store.advance_to(when)
            assert store.status().now == NEW_YEAR + days * DAY
        with pytest.raises(pf.ClockError, match="never goes back"):
            store.advance_to("1997-01-01")
        for nonsense in ("soon", None, True, 1.5, "", 10**20, -(10**15), "99999-01-01"):
            with pytest.raises(pf.CallerError):
                store.advance_to(nonsense)  # type: ignore[arg-type]
        assert store.status().halted == {}
        assert store.submit("orders", [order(2, 1, NEW_YEAR - 1)]).late == 1


def test_events_are_paged_between_instants_both_ways(event: pf.Store) -> None:
    event.submit("orders", [order(n, 12, NEW_YEAR + n * DAY) for n in range(10)])
    whole = event.events("CRMID", "c0012", start="1997-01-02", end=dt.date(1997, 1, 9), limit=50)
    assert [e["timestamp"] for e in whole.events] == [NEW_YEAR + n * DAY for n in range(1, 8)]
    seen: list[Any] = []
    cursor = None
    for _ in range(10):
        page = event.events("CRMID", "c0012", end=NEW_YEAR + 8 * DAY, order="desc", limit=3,
                            cursor=cursor)  # fmt: skip
        seen += page.events
        cursor = page.next
        if cursor is None:
            break
    assert [e["_id"] for e in seen] == [f"o{n}" for n in range(7, -1, -1)]


# ---- what is wrong is said ------------------------------------------------------------------

WRONG: list[Case] = [
    (lambda s: s.profile("Email", "x"), pf.DefinitionError, "CRMID"),
    (lambda s: s.profile("CRMID", None), pf.CallerError, "texts"),  # type: ignore[arg-type]
    (lambda s: s.profile("CRMID", "\ud800"), pf.CallerError, "texts"),
    (lambda s: s.profiles("CRMID"), pf.CallerError, "pairs"),  # type: ignore[arg-type]
    (lambda s: s.profile("CRMID", "x", ["segments.nope"]), pf.DefinitionError, "known: big"),
    (lambda s: s.profile("CRMID", "x", "segments"), pf.CallerError, "fields="),
    (lambda s: s.profiles([], fields=[3]), pf.CallerError, "fields="),  # type: ignore[list-item]
    (lambda s: s.events("Email", "x"), pf.DefinitionError, "CRMID"),
    (lambda s: s.events("CRMID", "x", order="up"), pf.CallerError, "desc"),  # type: ignore[arg-type]
    (lambda s: s.events("CRMID", "x", limit=0), pf.CallerError, "limit"),
    (lambda s: s.events("CRMID", "x", limit="5"), pf.CallerError, "limit"),  # type: ignore[arg-type]
    (lambda s: s.events("CRMID", "x", cursor="zz"), pf.CallerError, "page.next"),
    (lambda s: s.events("CRMID", "x", start="soon"), pf.CallerError, "1997-07-01"),
    (lambda s: s.members("nonesuch"), pf.DefinitionError, "known: big"),
    (lambda s: s.scan(segment="nonesuch"), pf.DefinitionError, "known: big"),
    (lambda s: s.scan(batch_rows=0), pf.CallerError, "batch_rows"),
    (lambda s: next(s.changes().batches(rows=0)), pf.CallerError, "rows"),
    (lambda s: s.submit("nonesuch", []), pf.DefinitionError, "known: orders"),
    (lambda s: s.submit("orders", {"a": 1}), pf.CallerError, "into a list"),
    (lambda s: s.submit("orders", "rows"), pf.CallerError, "dicts"),
    (lambda s: s.submit("orders", [], producer="p", offset=-1), pf.CallerError, "offset"),
    (lambda s: s.submit("orders", [{}], offset=3), pf.CallerError, "producer"),
    (lambda s: s.submit("orders", [{}], producer=""), pf.CallerError, "producer"),
    (lambda s: s.submit("orders", [{}], producer="p", offset="1"), pf.CallerError, "offset"),  # type: ignore[arg-type]
    (lambda s: s.submit("orders", [{}], producer="p", offset=7), pf.OffsetGap, "cursor"),
    (lambda s: s.cursor(""), pf.CallerError, "producer"),
    (lambda s: s.quarantine("nonesuch"), pf.DefinitionError, "known: orders"),
    (lambda s: s.quarantine("orders", limit=-1), pf.CallerError, "limit"),
    (lambda s: s.changes(after="yesterday"), pf.CallerError, "Changes.cursor"),
    (lambda s: s.changes(consumer=""), pf.CallerError, "consumer"),
    (lambda s: s.changes(after="9" * 40 + ".0-0.0"), pf.CallerError, "Changes.cursor"),
    (lambda s: s.verify(sample=-1), pf.CallerError, "sample"),
    (lambda s: s.explain("xEvent.cuont() >"), pf.RuleError, "line 1"),
    (lambda s: s.ingest("orders", "/nowhere/*.csv"), pf.CallerError, "/nowhere"),
    (lambda s: s.ingest("orders", "/"), pf.CallerError, "csv"),
    (lambda s: s.ingest("nonesuch", "/nowhere/*.csv"), pf.DefinitionError, "known: orders"),
    (lambda s: s.ingest("orders", [], max_bad_percent=-1), pf.CallerError, "0 to 100"),
    (lambda s: s.apply("segments"), pf.DefinitionError, "SegmentDefinition"),  # type: ignore[arg-type]
    (lambda s: s.apply_file("/nowhere.yaml"), pf.DefinitionError, "/nowhere.yaml"),
]


def test_errors_of_the_caller_are_typed_pickle_and_change_nothing(event: pf.Store) -> None:
    before = (event.definitions().version, event.status().events)
    for number, (call, kind, word) in enumerate(WRONG):
        with pytest.raises(kind) as caught:
            call(event)
        error = caught.value
        assert word in str(error), (number, error)
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again)) == (type(error), str(error))
        if not isinstance(error, pf.RuleError):
            assert "expected" in str(error), number
            assert "got" in str(error), number
    assert (event.definitions().version, event.status().events) == before
    assert event.status().halted == {}


def test_start_options_are_checked(event: pf.Store, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    wrong: list[tuple[Any, dict[str, Any]]] = [
        (tmp_path / "s", {"partitions": 0}),
        (tmp_path / "s", {"partitions": "2"}),
        (tmp_path / "s", {"partitions": True}),
        (tmp_path / "s", {"partitions": 5000}),
        (tmp_path / "s", {"clock": "Wall"}),
        (tmp_path / "s", {"config": {}}),
        (tmp_path / "file", {}),
        (tmp_path / "file" / "below", {}),
        (event.path, {}),
        (event.path, {"partitions": 3}),
        (event.path, {"clock": "wall"}),
    ]
    for path, options in wrong:
        with pytest.raises(pf.ConfigError, match=r"expected .*got"):
            pf.start(path, **options)
    assert not (tmp_path / "s").exists()
    assert event.profile("CRMID", "nobody") is None


def test_a_store_that_another_process_has_open_is_refused(event: pf.Store) -> None:
    """Its lock names the owner, and nothing waits for long."""
    program = f"import profile_actors as pf; pf.start({str(event.path)!r})"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "FencedOut" in last
    assert "stop that process" in last


# ---- definitions ----------------------------------------------------------------------------


def test_definitions_are_added_all_or_nothing(event: pf.Store) -> None:
    version = event.definitions().version
    fine = pf.SegmentDefinition("fine", "xEvent.count() > 3")
    for wrong in (
        pf.SegmentDefinition("w", "xEvent.count( > 3"),
        pf.SegmentDefinition("w", "xEvent.count()"),
        pf.SegmentDefinition("w", "xEvent.sum(nonesuch) > 3"),
        pf.SegmentDefinition("w", 'inSegment("nonesuch")'),
        pf.SegmentDefinition("w", 'not inSegment("w")'),
        pf.ComputedAttribute("w", "computed.w + 1"),
        pf.Schema("order", behavior="event", fields={"price": "string", "sku": "string"}),
        pf.Schema("order", behavior="event", fields={"sku": "string"}),
        pf.Dataset("o2", schema="nonesuch", identities={"c": "CRMID"}, timestamp="at"),
        pf.Dataset("o2", schema="order", identities={"c": "Email"}, timestamp="at"),
        pf.Dataset("o2", schema="order", identities={"c": "CRMID"}),
        pf.Namespace("CRMID", kind="email"),
        pf.Namespace("CRMID", kind="cross_device", unique=True, priority=1, normalize="lower"),
        pf.SegmentDefinition("fine", "xEvent.count() > 4"),
    ):
        with pytest.raises(pf.CallerError):
            event.apply(fine, wrong)
    catalogue = event.definitions()
    assert catalogue.version == version
    assert "fine" not in catalogue.segments
    assert event.apply(fine) == version + 1
    assert event.apply(fine, *shop()) == version + 1
    assert {"big", "fresh", "fine"} <= set(event.definitions().segments)


def test_record_datasets_feed_attributes_newest_source_time_wins(event: pf.Store) -> None:
    event.apply(
        pf.Schema("person", behavior="record", fields={"name": "string", "home.city": "string"}),
        pf.Dataset("people", schema="person", identities={"customer": "CRMID"}, timestamp="seen"),
        pf.SegmentDefinition("parisians", 'home.city = "Paris"'),
    )
    row = {"customer": "c0700", "seen": START, "name": "Ann", "home": {"city": "Paris"}}
    event.submit("people", [row])
    event.submit("people", [row | {"seen": START - 1, "name": "Old", "home": {"city": "Rome"}}])
    profile = event.profile("CRMID", "c0700")
    assert profile is not None
    assert profile.attributes == {"name": "Ann", "home": {"city": "Paris"}}
    assert pf.Identity("CRMID", "c0700") in list(event.members("parisians"))
    event.submit("people", [row | {"seen": START + 1, "home": {"city": "Rome"}}])
    assert pf.Identity("CRMID", "c0700") not in list(event.members("parisians"))


# ---- rows -----------------------------------------------------------------------------------


def test_each_bad_row_leaves_with_path_and_reason_and_the_good_ones_load(event: pf.Store) -> None:
    good = order(50, 50)
    bad: list[tuple[Any, str]] = [
        (None, ""),
        (17, ""),
        ({}, "at"),
        (good | {"price": "10"}, "price"),
        (good | {"price": True}, "price"),
        (good | {"price": float("nan")}, "price"),
        (good | {"price": float("inf")}, "price"),
        (good | {"price": 10**400}, "price"),
        (good | {"price": -1.0}, "price"),
        (good | {"sku": 5}, "sku"),
        (good | {"sku": "\ud800"}, "sku"),
        (good | {"extra": 1}, "extra"),
        (good | {"customer": ""}, "customer"),
        (good | {"customer": None}, "customer"),
        (good | {"customer": "x" * 1025}, "customer"),
        (good | {"customer": 1.5}, "customer"),
        (good | {"_id": None}, "_id"),
        (good | {"at": wall_ms() + 3_600_000}, "at"),
    ]
    kept = event.status().rejected.get("orders", 0)
    rows = [row for row, _ in bad]
    receipt = event.submit("orders", [*rows, good], producer="bad rows", offset=0)
    assert (receipt.accepted, receipt.duplicate) == (1, 0)
    assert receipt.rejected_count == len(bad)
    assert [(row, path) for row, path, _ in receipt.rejected] == [
        (number, path) for number, (_, path) in enumerate(bad)
    ]
    mine = [r for r in event.quarantine("orders", limit=1000) if r.source == "bad rows"]
    assert [(r.row, r.path, r.reason) for r in mine] == receipt.rejected
    assert all(r.raw for r in mine)
    assert event.status().rejected["orders"] == kept + len(bad)
    again = event.submit("orders", [*rows, good], producer="bad rows", offset=0)
    assert again.accepted == 0
    assert again.duplicate + again.rejected_count == len(rows) + 1


def test_rows_come_in_every_shape(event: pf.Store) -> None:
    table = pa.Table.from_pylist(orders(6, customers=6, first=600))
    assert event.submit("orders", table.slice(0, 2)).accepted == 2
    assert event.submit("orders", table.to_batches()[0].slice(2, 1)).accepted == 1
    assert event.submit("orders", tuple(table.slice(3, 1).to_pylist())).accepted == 1
    assert event.submit("orders", iter(table.slice(4, 1).to_pylist())).accepted == 1
    dated = table.slice(5, 1).set_column(2, "at", pa.array([dt.date(2020, 1, 1)]))
    assert event.submit("orders", dated.append_column("more", pa.nulls(1))).accepted == 1
    empty: list[Any] = [[], pa.table({}), table.slice(0, 0), table.slice(0, 0).to_batches()]
    for nothing in empty:
        assert event.submit("orders", nothing) == pf.Receipt()
    odd = table.slice(0, 1).append_column("more", pa.array([1]))
    assert event.submit("orders", odd).rejected[0][1] == "more"


def test_a_stream_with_offsets_is_exactly_once(tmp_path: Path) -> None:
    rows = orders(30)
    with pf.start(tmp_path / "s", partitions=1, clock="event") as store:
        store.apply(*shop())
        assert store.cursor("loader") == 0
        assert store.submit("orders", rows[:10], producer="loader", offset=0).accepted == 10
        assert store.submit("orders", rows[:10], producer="loader", offset=0).duplicate == 10
        with pytest.raises(pf.OffsetGap) as gap:
            store.submit("orders", rows[20:], producer="loader", offset=20)
        assert gap.value.expected == store.cursor("loader") == 10
    with pf.start(tmp_path / "s") as store:
        assert store.cursor("loader") == 10
        receipt = store.submit("orders", rows[5:], producer="loader", offset=5)
        assert (receipt.accepted, receipt.duplicate) == (20, 5)
        future = store.submit_async("orders", rows, producer="loader", offset=0)
        assert future.result().duplicate == 30
        assert store.cursor("loader") == 30
        assert store.status().events == 30


# ---- files ----------------------------------------------------------------------------------

ROW = "f{0},c0800,2020-01-01,1.5,x"
FILES: dict[str, tuple[str | bytes, tuple[int, int, int]]] = {
    # content; rows, accepted, rejected
    "header only": (HEADER.strip(), (0, 0, 0)),
    "no last line end": (HEADER + ROW, (1, 1, 0)),
    "byte-order mark": (b"\xef\xbb\xbf" + (HEADER + ROW).encode(), (1, 1, 0)),
    "crlf": ((HEADER + ROW + "\n").replace("\n", "\r\n"), (1, 1, 0)),
    "quoted line end": (HEADER + 'f{0},c0800,2020-01-01,1,"x\ny, ""z"""\n', (1, 1, 0)),
    "quoted header": ('"_id","customer","at"\nf{0},c0800,2020-01-01\n', (1, 1, 0)),
    "not utf-8": ((HEADER + ROW).encode() + b"\xe9\n" + ROW.encode(), (2, 1, 1)),
    "short and long": (HEADER + "f{0},c0800\n" + ROW + ",1,2\n" + ROW, (3, 1, 2)),
    "never closed": (HEADER + ROW + '\nf{0}b,c0800,2020-01-01,1,"x\n', (2, 1, 1)),
    "missing columns": ("_id,customer,at\nf{0},c0800,2020-01-01\n", (1, 1, 0)),
    "unknown column": ("_id,customer,at,zz\nf{0},c0800,2020-01-01,1\n", (1, 0, 1)),
    "texts of null": (HEADER + "f{0},c0800,2020-01-01,NA,x\n", (1, 0, 1)),
    "zeros in front": ("_id,customer,at\nf{0},00004,2020-01-01\n", (1, 1, 0)),
}
REFUSED: dict[str, tuple[bytes, str]] = {
    "empty.csv": (b"", "header"),
    "twice.csv": (b"_id,at,at\n", "twice"),
    "utf16.csv": (HEADER.encode("utf-16"), "UTF-8"),
    "cr.csv": (HEADER.replace("\n", "\r").encode() + ROW.encode(), "CRLF"),
    "odd.txt": (b"_id", "convert it"),
    "torn.csv.gz": (b"\x1f\x8b", "UTF-8"),
    "packed.csv": (b"\x1f\x8b\x08\x00", "packed with gzip"),
}


def test_files_of_every_kind(event: pf.Store, tmp_path: Path) -> None:
    for number, (name, (content, counts)) in enumerate(FILES.items()):
        data = content if isinstance(content, bytes) else content.encode()
        path = tmp_path / f"{number}.csv"
        path.write_bytes(data.replace(b"{0}", b"%d" % number))
        report = event.ingest("orders", str(path))
        assert (report.rows, report.accepted, report.rejected_count) == counts, name
        assert report.bytes == path.stat().st_size, name
        again = event.ingest("orders", path)
        # What the store does not have is no duplicate: rejected rows are judged anew.
        told = (again.rows, again.accepted, again.duplicate, again.rejected_count)
        assert told == (counts[0], 0, counts[1], counts[2]), name
    for name, (data, word) in REFUSED.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(pf.CallerError, match=word):
            event.ingest("orders", tmp_path / name)
    assert event.profile("CRMID", "00004") is not None
    assert event.profile("CRMID", "4") is None


def test_a_file_counts_once_repeated_renamed_and_grown(event: pf.Store, tmp_path: Path) -> None:
    """Of a dataset without an id: nothing but the file's content tells its rows from new ones."""
    header = "customer,at\n"
    event.apply(
        pf.Dataset("calls", "order", {"customer": "CRMID"}, timestamp="at", event_type="call")
    )

    def load(name: str, text: str, **how: Any) -> tuple[int, int, int]:
        path = tmp_path / name
        path.write_text(header + text)
        report = event.ingest("calls", path, **how)
        return report.accepted, report.duplicate, len(report.warnings)

    two = "c0950,2020-01-01\nc0950,2020-01-02\n"
    assert load("g.csv", two) == (2, 0, 0)
    assert load("g.csv", two) == (0, 2, 0)
    assert load("g-copy.csv", two) == (0, 2, 1)
    assert load("g.csv", two + "c0950,2020-01-03\nc0950,20", closed=False) == (1, 2, 0)
    assert load("g.csv", two + "c0950,2020-01-03\nc0950,2020-01-04") == (1, 3, 0)
    assert load("g.csv", two + "c0950,2020-01-03\nc0950,2020-01-04\n") == (0, 4, 0)
    assert len(event.events("CRMID", "c0950").events) == 4
    accepted, _, warnings = load("g.csv", "c0950,2020-01-05\n")
    assert (accepted, warnings) == (1, 1)


def test_a_share_of_bad_rows_can_be_too_much(event: pf.Store, tmp_path: Path) -> None:
    good = "".join(f"m{n},c0801,2020-01-01,1,x\n" for n in range(9))
    path = tmp_path / "mixed.csv"
    path.write_text(HEADER + good + "m10,c0801,soon,1,x\n")
    with pytest.raises(pf.SchemaError, match=r"at most 5 percent.*row 9, at"):
        event.ingest("orders", path, max_bad_percent=5)
    assert len(event.events("CRMID", "c0801").events) == 0  # refused whole
    path.write_text(HEADER + good + "m10,c0801,soon,1,x\nm11,c0801,2020-01-02,1,x\n")
    report = event.ingest("orders", [path], max_bad_percent=50)
    assert (report.accepted, report.duplicate, report.rejected_count) == (10, 0, 1)


def test_a_broken_file_does_not_keep_the_others_from_loading(
    event: pf.Store, tmp_path: Path
) -> None:
    def file(name: str, content: bytes) -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    def rows(name: str, count: int) -> bytes:
        return "".join(f"{name}{n},c0811,2020-01-01,1,x\n" for n in range(count)).encode()

    header = HEADER.encode()
    bad = file("d_bad.csv", header + rows("d", 1) + b"d1,c0811,soon,1,x\n")
    twice = file("b_twice.csv", b"at," + header + rows("b", 1))
    files = [
        file("a.csv", header + rows("a", 2)),
        twice,
        file("c_empty.csv", b""),
        bad,
        file("e_latin.csv", "größe,".encode("latin-1") + header),
        file("f.csv", header + rows("f", 3)),
    ]
    report = event.ingest("orders", files, max_bad_percent=10)
    assert list(report.broken) == [str(file) for file in files[1:5]]
    assert "twice" in report.broken[str(twice)] or "'at'" in report.broken[str(twice)]
    assert "10 percent" in report.broken[str(bad)]
    assert (report.files, report.accepted, report.rejected_count) == (6, 2 + 3, 0)
    assert report.accepted + report.rejected_count == report.rows
    assert report.refused == []
    assert len(event.events("CRMID", "c0811").events) == 5
    with pytest.raises(pf.SchemaError, match="c_empty"):
        event.ingest("orders", files[2:3])
    # Mended, it goes on; the others are known.
    file("b_twice.csv", header + rows("b", 1))
    again = event.ingest("orders", files[:2])
    assert (again.accepted, again.duplicate, again.broken) == (1, 2, {})


# ---- time -----------------------------------------------------------------------------------


def test_replays_repeat_their_feed_to_the_byte(tmp_path: Path) -> None:
    def replay(name: str, pause: float) -> tuple[list[bytes], Any]:
        with pf.start(tmp_path / name, partitions=2, clock="event") as store:
            store.apply(*shop())
            for first in range(0, 400, 40):
                rows = orders(40, customers=40, first=first, step=DAY // 8)
                store.submit_async("orders", rows, producer="replay", offset=first)
                time.sleep(pause)
            store.advance_to(START + 90 * DAY)
            feed = store.changes()
            got = [msgspec.json.encode(change) for change in feed]
            people = store.profiles([("CRMID", f"c{n:04}") for n in range(40)])
            return [*got, feed.cursor.encode()], people

    assert replay("a", 0.0) == replay("b", 0.02)


def someone_leaves(store: pf.Store, customer: int) -> tuple[pf.Identity, int]:
    """Somebody who is about to leave the window of an hour, and when."""
    sent: list[str] = []

    def send(leaves: int) -> None:
        number = customer + len(sent)
        sent.append(f"c{number:04}")
        store.submit("orders", [order(number, number, leaves - HOUR - 1, price=500.0)])

    leaves = in_time(send)
    return pf.Identity("CRMID", sent[-1]), leaves


def test_a_window_ends_by_itself_and_look_ups_are_exact_meanwhile(wall: pf.Store) -> None:
    feed = wall.changes()
    list(feed)
    who, leaves = someone_leaves(wall, 100)

    def look() -> pf.Profile | None:
        found = wall.profile(who.namespace, who.value)
        assert found is not None
        burst = found.segments["burst"]
        is_in = burst.status == "realized"
        assert is_in == (found.now < leaves), found
        assert not is_in or burst.valid_until == leaves
        return None if is_in else found

    gone = until(look)
    assert gone.segments["burst"].last_qualification_time == leaves

    def told() -> list[tuple[str | None, int, str]]:
        mine = [c for c in wall.changes(feed.cursor) if (c.identity, c.name) == (who, "burst")]
        return [(c.new, c.at, c.cause) for c in mine][1:]

    assert until(told) == [("exited", leaves, "clock")]


def test_rows_ahead_of_the_clock_wait_and_farther_ones_are_rejected(wall: pf.Store) -> None:
    at = wall_ms() + 700
    receipt = wall.submit(
        "orders", [order(2, 2, at), order(3, 2, wall_ms() + 240_000), order(4, 2, at + 3_600_000)]
    )
    assert (receipt.accepted, receipt.rejected_count) == (2, 1)
    assert receipt.rejected[0][:2] == (2, "at")

    def counted() -> bool:
        found = wall.profile("CRMID", "c0002")
        assert found is not None
        assert found.computed["orders"] == (1 if found.now >= at else 0), found
        return bool(found.computed["orders"])

    until(counted)
    assert len(wall.events("CRMID", "c0002").events) == 2


def test_changes_can_be_followed(wall: pf.Store) -> None:
    feed = wall.changes()
    list(feed)
    follower = wall.changes(after=feed.cursor, follow=True)
    who, leaves = someone_leaves(wall, 200)
    *got, last = itertools.islice((c for c in follower if c.identity == who), 6)
    assert {(c.kind, c.name) for c in got} == {
        *(("membership", name) for name in ("big", "burst", "fresh")),
        *(("computed", name) for name in ("orders", "spent")),
    }
    assert (last.name, last.new, last.at) == ("burst", "exited", leaves)


def test_the_wall_clock_is_not_moved_by_hand(wall: pf.Store) -> None:
    with pytest.raises(pf.ClockError, match="clock='event'"):
        wall.advance_to(wall_ms() + DAY)


def test_too_many_in_flight_is_backpressure(tmp_path: Path) -> None:
    config = pf.Config(max_in_flight=1)
    with pf.start(tmp_path / "s", partitions=1, clock="event", config=config) as store:
        store.apply(*shop())
        pending = []

        def push() -> None:
            for _ in range(200):
                pending.append(store.submit_async("orders", orders(500), block=False))

        with pytest.raises(pf.Backpressure, match="max_in_flight"):
            push()
        assert sum(p.result().accepted for p in pending) == 500
        assert store.explain(f"{SPENT} > 7").report["incremental"] is True
