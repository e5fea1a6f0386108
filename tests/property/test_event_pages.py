"""Pages of events, put together, are the one long page; and cost no more than what they show.

Theory: the long page is compared with the rows themselves, sorted here by the order key; then every
order, limit, start and end must come to the same rows, page after page. Rows are drawn with heavy
ties: many per millisecond, many per second, the same row more than once where it has no id, and in
any number of entries, so that seconds are spread over the locator's runs.
"""

from __future__ import annotations

import base64
import json
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profile_actors.engine.log.entry import Block, encode
from profile_actors.engine.log.row_locator import Run
from profile_actors.engine.merge.opened_blocks import OpenedBlocks
from profile_actors.engine.partition.partition import Partition
from profile_actors.engine.reading import event_pages
from profile_actors.engine.reading.event_pages import place_of
from profile_actors.ingest.identity_keys import key_of
from tests.model import hub as hubs
from tests.model.hub import BASE, DAY, SEED, WHO, Hub

KEY = key_of(WHO, "a", SEED)
CLOCK = BASE + DAY
CATALOGUE = msgspec.structs.replace(hubs.CATALOGUE, segments={}, computed={})

Order = Literal["asc", "desc"]

instants = st.one_of(
    st.just(0),  # most of all
    st.just(0),
    st.integers(-2, 2),
    st.sampled_from((-1000, -1, 999, 1000, 1001, 1999, 2000)),
    st.integers(-5_000, 5_000),
)
ids = st.one_of(st.integers(0, 40).map(str), st.sampled_from(("\0", "a\0", "a", "é", "😀", "~")))
hit = st.tuples(st.just("hits"), instants, ids)
call = st.tuples(st.just("calls"), instants, st.integers(0, 2))
"""Rows without an id: the same one comes again and again."""
row = st.one_of(hit, hit, call)


def filled(entries: list[list[tuple[str, int, Any]]]) -> Partition:
    """A partition with these entries: of each, the rows of both datasets; two people."""
    hub = Hub(1, CATALOGUE)
    for entry in entries:
        groups: dict[str, list[dict[str, Any]]] = {"hits": [], "calls": []}
        for dataset, at, mark in entry:
            fields = {"who": "a", "at": BASE + at}
            fields |= {"_id": mark, "kind": "v"} if dataset == "hits" else {"n": mark}
            groups[dataset] += [fields, {**fields, "who": "b"}]
        hub.submit([(name, name, rows) for name, rows in groups.items() if rows], CLOCK)
    return hub.partitions[0]


def paged(partition: Partition, order: Order, limit: int, **bounds: Any) -> list[dict[str, Any]]:
    """All pages, put together; each but the last is full, and none empty but an only one."""
    out: list[dict[str, Any]] = []
    cursor = None
    while True:
        page = partition.events(KEY, order=order, limit=limit, cursor=cursor, **bounds)
        out += page.events
        assert len(page.events) == limit or page.next is None
        assert page.events or cursor is None
        if page.next is None:
            return out
        cursor = page.next


def expected(entries: list[list[tuple[str, int, Any]]]) -> list[tuple[int, str | None, Any]]:
    """(timestamp, id, n) of the stored rows: hits once each; no order among those without id."""
    hits = {(BASE + at, mark) for entry in entries for name, at, mark in entry if name == "hits"}
    calls = [(BASE + at, m) for entry in entries for name, at, m in entry if name == "calls"]
    return [(at, mark, None) for at, mark in sorted(hits)] + [
        (at, None, n) for at, n in sorted(calls)
    ]


def seen(events: list[dict[str, Any]]) -> list[tuple[int, str | None, Any]]:
    return [(e["timestamp"], e.get("_id"), e.get("n")) for e in events]


@settings(max_examples=60)
@given(
    st.lists(st.lists(row, max_size=30), max_size=6),
    st.sampled_from((1, 2, 3, 5, 7, 50)),
    st.none() | instants,
    st.none() | instants,
)
def test_pages_put_together_are_the_one_long_page(
    entries: list[list[tuple[str, int, Any]]], limit: int, start: int | None, end: int | None
) -> None:
    one = filled(entries)
    whole = one.events(KEY, limit=10_000)
    assert whole.next is None
    by_id = [e for e in seen(whole.events) if e[1] is not None]
    others = sorted(e for e in seen(whole.events) if e[1] is None)
    assert by_id + others == expected(entries)
    times = [e["timestamp"] for e in whole.events]
    assert times == sorted(times)
    bounds: dict[str, Any] = {
        "start": None if start is None else BASE + start,
        "end": None if end is None else BASE + end,
    }
    wanted = [
        e
        for e in whole.events
        if (start is None or e["timestamp"] >= BASE + start)
        and (end is None or e["timestamp"] < BASE + end)
    ]
    assert paged(one, "asc", limit, **bounds) == wanted
    assert paged(one, "desc", limit, **bounds) == wanted[::-1]
    assert one.events(KEY, limit=10_000, **bounds).events == wanted


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 2, 5, 10])
def test_a_second_with_more_than_two_pages_of_events_is_read_to_its_end(
    order: Order, limit: int
) -> None:
    crowd = [("hits", 0, f"e{i:02}") for i in range(25)]
    one = filled([[("hits", -DAY, "early"), *crowd, ("hits", DAY, "late")]])
    names = ["early", *(name for _, _, name in crowd), "late"]
    got = [e["_id"] for e in paged(one, order, limit)]
    assert got == (names if order == "asc" else names[::-1])
    # From within the crowded second on there is only what comes later, and up to there the rest.
    assert [e["_id"] for e in paged(one, order, limit, start=BASE + 1)] == ["late"]
    upto = [e["_id"] for e in paged(one, order, limit, end=BASE + 1)]
    assert sorted(upto) == sorted(names[:-1])


@pytest.mark.parametrize("before", [False, True], ids=["of-now", "from-before"])
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_cursor_holds_while_rows_arrive(order: Order, before: bool) -> None:
    """before: as cursors were when they did not say of which identity a row is."""
    hub = Hub(1, CATALOGUE)

    def put(*names: str) -> None:
        rows = [{"who": "a", "at": BASE, "_id": name, "kind": "v"} for name in names]
        hub.submit([("hits", "p", rows)], CLOCK)

    put("b", "d", "f", "h")
    one = hub.partitions[0]
    first = one.events(KEY, order=order, limit=2)
    assert first.next is not None
    cursor = first.next
    time, tie, dataset, primary, occurrence = json.loads(base64.b64decode(cursor))
    assert tuple(primary) == KEY
    if before:
        cursor = base64.b64encode(json.dumps([time, tie, dataset, occurrence]).encode()).decode()
    put("a", "c", "e", "g", "i")
    rest = one.events(KEY, order=order, limit=10, cursor=cursor)
    assert [e["_id"] for e in (*first.events, *rest.events)] == (
        ["b", "d", "e", "f", "g", "h", "i"]
        if order == "asc"
        else ["h", "f", "e", "d", "c", "b", "a"]
    )


def test_rows_of_several_identities_are_paged_by_whose_they_are() -> None:
    """In a profile of several, equal rows of two of its identities are two events."""
    hub = Hub(1, CATALOGUE)
    plain = hub.table("calls", [{"who": "a", "at": BASE, "n": 1}] * 4, 0)
    primaries = [(5, 1), (3, 9), (5, 1), (3, 2)]
    hub.submit([("calls", "p", [{"who": "a", "at": BASE, "n": 1}])], CLOCK)
    partition = hub.partitions[0]
    table = plain.drop_columns(["@value", "@namespace", "@row"])
    for place, half in enumerate(("@k0", "@k1")):
        halves = pa.array([one[place] for one in primaries], pa.uint64())
        table = table.set_column(table.column_names.index(half), half, halves)
    count, ident = len(primaries), np.zeros(4, np.int64)
    block = Block("calls", table, ident, np.arange(count), np.full(count, BASE))
    position = partition.position
    partition.log.append_at(position, encode("rows", 0, CLOCK, 1, blocks=[block]), 0)
    partition = hub.reopen()
    opened = OpenedBlocks(partition.log, 4)
    blocks = opened.of([position] * count, list(range(count)))
    own = [block.key(row, (0, 0))[3] for block, row in blocks]
    assert own == primaries
    for order in ("asc", "desc"):
        cursor, seen_keys = None, []
        while True:
            page = partition.events(KEY, order=order, limit=1, cursor=cursor)
            assert len(page.events) == 1
            cursor = page.next
            if cursor is None:
                break
            seen_keys.append(place_of(cursor, (0, 0))[3:])
        keys = sorted([((3, 2), 0), ((3, 9), 0), ((5, 1), 0), ((5, 1), 1), (KEY, 0)])
        assert seen_keys == (keys if order == "asc" else keys[::-1])[:-1]


def test_a_page_looks_at_few_rows_of_a_long_history(monkeypatch: pytest.MonkeyPatch) -> None:
    one = filled([[("hits", 1000 * i, str(i)) for i in range(n, 4000, 4)] for n in range(4)])
    taken = 0
    real = event_pages._nearest

    def counted(runs: tuple[Run, ...], *args: Any) -> Any:
        nonlocal taken
        found = real(runs, *args)
        taken += len(found[0])
        return found

    monkeypatch.setattr(event_pages, "_nearest", counted)
    for order in ("asc", "desc"):
        page = one.events(KEY, order=order, limit=10)
        one.events(KEY, order=order, limit=10, cursor=page.next)
    assert taken <= 4 * 12, taken
