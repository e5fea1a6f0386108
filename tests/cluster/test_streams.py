"""Streams on real actors: rows sent one by one are there once, in order, whatever dies (L1-L5, L8).

What a stream does with a store that answers late, refuses or fails at chosen moments is in
``tests/model/test_stream_model.py``.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from msgspec import structs

import profile_actors as pf
from profile_actors.actors.calls import call_all
from tests import waiting
from tests.cluster.shop import DAY, START, order, orders, shop
from tests.waiting import PATIENCE_S

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_runtime")]

CONFIG = pf.Config(
    max_stream_rows=300, max_stream_batch_rows=64, max_in_flight=3, checkpoint_rows=2_000
)


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """While this file is there, the store's answers wait."""
    return tmp_path_factory.mktemp("held") / "held"


@pytest.fixture(scope="module")
def store(
    tmp_path_factory: pytest.TempPathFactory, ray_runtime: None, held: Path
) -> Iterator[pf.Store]:
    """One store for this file, on the wall clock, narrow so that streams meet their limits; each
    test has customers of its own."""

    def hook(point: str) -> None:
        while point == "writer.before_reply" and held.exists():
            time.sleep(0.01)

    with pf.start(tmp_path_factory.mktemp("s") / "s", 2, "wall", CONFIG, hook=hook) as store:
        store.apply(*shop())
        yield store
        assert store.verify() == []


def orders_of(whose: str, count: int, customers: int = 25) -> list[dict[str, Any]]:
    """Rows of a test's own customers."""
    rows = orders(count, customers)
    return [row | {"customer": whose + row["customer"], "_id": whose + row["_id"]} for row in rows]


def bad(row: dict[str, Any]) -> dict[str, Any]:
    """The row with a price that the schema refuses."""
    return row | {"price": -1.0}


def check_exactly_once(store: pf.Store, rows: list[dict[str, Any]]) -> None:
    """Of these rows' customers the store holds just these rows, each once, in order."""
    wanted: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        wanted.setdefault(row["customer"], []).append(row)
    found = store.profiles([("CRMID", customer) for customer in wanted])
    for (customer, mine), profile in zip(wanted.items(), found, strict=True):
        assert profile is not None
        assert profile.computed["orders"] == len(mine)
        assert profile.computed["spent"] == sum(row["price"] for row in mine)
        page = store.events("CRMID", customer, limit=10_000)
        assert [event["_id"] for event in page.events] == [row["_id"] for row in mine]


def test_what_was_sent_is_there_when_flush_returns(store: pf.Store) -> None:
    rows = orders_of("flush", 2_000)
    before = len(store.quarantine("orders", limit=100_000))
    told: list[tuple[int, str, str]] = []
    with store.stream("orders", on_reject=lambda *one: told.append(one)) as stream:
        assert (stream.start, stream.receipt()) == (0, pf.Receipt())
        for row in rows[:700]:
            stream.send(row)
        assert stream.flush().accepted == 700
        check_exactly_once(store, rows[:700])
        stream.send([bad(rows[0]), *rows[700:1400], rows[5], {"no": "thing"}])
        table = pa.Table.from_pylist(rows[1400:1700])
        stream.send(table)
        stream.send(table.slice(0, 0))
        stream.send([])
        for first in range(1700, 2000, 50):
            (batch,) = pa.Table.from_pylist(rows[first : first + 50]).to_batches()
            stream.send(batch)
        found = stream.flush()
        assert (found.accepted, found.duplicate, found.rejected_count) == (2000, 1, 2)
        assert [row for row, _, _ in found.rejected] == [700, 1402]
        assert told == found.rejected
        assert told[0][1] == "price"
        with pytest.raises(pf.CallerError, match="expected a row as a dict, or a list"):
            stream.send("row")
    assert stream.receipt() == found
    with pytest.raises(pf.StoreUnavailable, match="one that was closed"):
        stream.send(rows[0])
    check_exactly_once(store, rows)
    assert len(store.quarantine("orders", limit=100_000)) == before + 2
    with pytest.raises(pf.DefinitionError, match="known: orders"):
        store.stream("order")
    with pytest.raises(pf.CallerError, match="linger_ms"):
        store.stream("orders", linger_ms=-1)
    with pytest.raises(pf.CallerError, match="begin with"):
        store.stream("orders", producer="~x")


def test_a_row_that_changes_after_it_was_sent_is_stored_as_it_was(store: pf.Store) -> None:
    """One dict for all rows, as careless loops do."""
    rows = orders_of("change", 504)
    with store.stream("orders") as stream:
        one: dict[str, Any] = {}
        for row in rows[:500]:
            one.update(row)
            stream.send(one)
        own: list[dict[str, Any]] = [{}, {}]
        for pair in (rows[500:502], rows[502:]):
            for mine, row in zip(own, pair, strict=True):
                mine.update(row)
            stream.send(own)
    check_exactly_once(store, rows)


def test_many_threads_send_beside_submissions(store: pf.Store) -> None:
    """Each thread's rows keep their order; forms, sizes, rejects and flushes at random."""
    stream = store.stream("orders", linger_ms=1)
    refused = [0] * 5

    def drive(number: int) -> None:
        chance = random.Random(number)
        rows = orders_of(f"thread{number}", 600)
        while rows:
            size = chance.choice((1, 1, 1, 2, 20, 90))
            part, rows = rows[:size], rows[size:]
            form = chance.choice(("dict", "list", "table", "bad", "submit"))
            if form == "submit":
                stream.flush()
                assert store.submit("orders", part).accepted == len(part)
            elif form == "table":
                stream.send(pa.Table.from_pylist(part))
            elif form == "list":
                stream.send(part)
            else:
                for row in part:
                    stream.send(row)
                    if form == "bad":
                        stream.send(bad(row))
                        refused[number] += 1

    threads = [threading.Thread(target=drive, args=(n,)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = stream.flush()
    stream.close()
    assert found.rejected_count == sum(refused)
    assert found.duplicate == 0
    for number in range(5):
        check_exactly_once(store, orders_of(f"thread{number}", 600))


def test_too_much_waits_or_is_refused(store: pf.Store, held: Path) -> None:
    rows = orders_of("much", 3_000)
    held.touch()
    try:
        sent = 0

        def fill() -> None:
            nonlocal sent
            while True:
                stream.send(rows[sent])
                sent += 1

        stream = store.stream("orders", block=False)
        with pytest.raises(pf.Backpressure, match="max_stream_rows"):
            fill()
        assert 300 <= sent <= 300 + 3 * 64
        with pytest.raises(pf.Backpressure):
            stream.send(rows[sent : sent + 3])
        held.unlink()
        stream.flush()
        stream.send(rows[sent])
        stream.close()
        held.touch()
        with store.stream("orders") as stream:
            late = threading.Thread(target=lambda: [*map(stream.send, rows[sent + 1 :])])
            late.start()
            late.join(0.5)
            assert late.is_alive(), "send waits for room"
            held.unlink()
            late.join(PATIENCE_S)
            assert not late.is_alive()
    finally:
        held.unlink(missing_ok=True)
    check_exactly_once(store, rows)


class Mine(Exception):
    """An error of the program's own."""


def test_what_ends_a_stream_is_told(store: pf.Store) -> None:
    """At the next send, at flush and at close; not in the place of the program's own error."""
    store.apply(
        pf.Dataset("more", "order", {"customer": "CRMID"}, timestamp="at", event_type="purchase")
    )
    stream = store.stream("more")
    store.delete("more")
    row = order(1, 1)
    stream.send(row)
    until(lambda: stream.send(row), pf.DefinitionError, "known: orders")
    for call in (stream.flush, stream.close, stream.close):
        with pytest.raises(pf.DefinitionError, match="known: orders"):
            call()
    stream._thread.join(PATIENCE_S)
    assert not stream._thread.is_alive()

    def leave(sent: list[dict[str, Any]], on_reject: Callable[..., object] | None = None) -> None:
        with store.stream("orders", on_reject=on_reject) as stream:
            for row in sent:
                stream.send(row)
            if on_reject is not None:
                until(lambda: stream.send(row), ZeroDivisionError, "division")
            raise Mine

    rows = orders_of("leave", 100)
    with pytest.raises(Mine) as caught:
        leave(rows)
    assert not getattr(caught.value, "__notes__", [])
    check_exactly_once(store, rows)  # what was sent before an exception is sent
    with pytest.raises(Mine) as caught:
        leave([bad(row)], lambda *_: 1 / 0)
    assert "division" in caught.value.__notes__[0]
    stream = store.stream("orders", on_reject=lambda *_: stream.flush())
    stream.send(bad(row))
    with pytest.raises(pf.CallerError, match="stream's own"):
        stream.close()


def until(call: Callable[[], object], kind: type[Exception], match: str) -> None:
    """Call until it raises what is expected."""

    def again() -> None:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            call()
            time.sleep(0.005)

    with pytest.raises(kind, match=match):
        again()


def test_partitions_die_under_a_stream(store: pf.Store) -> None:
    """Kills of either partition go unnoticed: each row once, in order."""
    rows = orders_of("die", 2_000)
    with store.stream("orders", linger_ms=1) as stream:
        for number, row in enumerate(rows):
            stream.send(row)
            if number == 1000:
                for actor in store.status().partitions:
                    os.kill(actor.pid, signal.SIGKILL)
    assert stream.receipt().accepted == len(rows)
    check_exactly_once(store, rows)


DRIVER = """
import sys
import time
import profile_actors as pf
from tests.cluster.test_streams import bad, orders_of

count, name, is_slow = int(sys.argv[2]), sys.argv[3], sys.argv[4] == "True"
rows = orders_of(name, count)
rows[3::10] = map(bad, rows[3::10])
with pf.start(sys.argv[1]) as store, store.stream("orders", producer=name, linger_ms=1) as stream:
    print(stream.start, flush=True)
    for number, row in enumerate(rows[stream.start:]):
        stream.send(row)
        if is_slow and number % 5 == 0:
            time.sleep(0.002)  # or all would be sent before somebody kills it
print("done", flush=True)
"""


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kills", [1, pytest.param(12, marks=pytest.mark.slow)])
def test_a_killed_driver_goes_on_where_the_store_is(store: pf.Store, kills: int) -> None:
    """SIGKILL at random moments of a driver with a producer; now and then a partition dies too."""
    import ray

    count, chance = 3_000 * (kills + 1), random.Random(kills)
    name, starts = f"p{kills}", []
    for number in range(kills + 1):
        driver = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(store.path), str(count), name, str(number < kills)],
            env=os.environ | {"RAY_ADDRESS": ray.get_runtime_context().gcs_address},
            cwd=Path(__file__).resolve().parents[2],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert driver.stdout is not None
        starts.append(int(driver.stdout.readline()))
        if number < kills:
            goal = starts[-1] + chance.randrange(1, count // (3 * kills + 3))
            while store.cursor(name) < goal:
                time.sleep(0.005)
            driver.send_signal(signal.SIGKILL)
            if number % 2:
                os.kill(store.status().partitions[0].pid, signal.SIGKILL)
        else:
            assert driver.stdout.read() == "done\n"
        driver.wait(PATIENCE_S)
        driver.stdout.close()
    assert starts[0] == 0
    assert starts == sorted(set(starts))
    assert store.cursor(name) == count
    check_exactly_once(store, [row for n, row in enumerate(orders_of(name, count)) if n % 10 != 3])
    refused = [one.row for one in store.quarantine("orders", 100_000) if one.source == name]
    assert sorted(refused) == list(range(3, count, 10)), "each rejected row is kept once"


@pytest.mark.parametrize("count", [10_000, pytest.param(200_000, marks=pytest.mark.slow)])
def test_neither_driver_nor_partitions_grow(store: pf.Store, count: int) -> None:
    """Memory after so many single rows, against that after some of them; of the partitions without
    mapped files, and without the 16 bytes a row that find it in the log."""
    pids = [os.getpid(), *(actor.pid for actor in store.status().partitions)]

    def anonymous_mb() -> list[float]:
        lines = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
        return [int(text.split("RssAnon:")[1].split()[0]) / 1024 for text in lines]

    sizes = []
    with store.stream("orders") as stream:
        for number in range(count):
            row = order(number, number % 200, START + number)
            stream.send(row | {"customer": f"grow{count}-{row['customer']}"})
            if number % (count // 10) == count // 10 - 1:
                stream.flush()
                sizes.append(anonymous_mb())
        assert len(stream._on_way) == len(stream._waiting.items) == 0
    assert stream.receipt().accepted == count
    driver, *partitions = (after - before for before, after in zip(*sizes[2::7], strict=True))
    assert driver < 12, sizes
    assert max(partitions) < 12 + 16 * count / (1 << 20), sizes


def expected(
    groups: list[list[dict[str, Any]]], known: dict[tuple[str, int], str], newest: int
) -> list[pf.Receipt]:
    """The receipts of submissions in turn. known: rows that are stored, by id and time; what is
    older than newest is late."""
    out = []
    for rows in groups:
        count: dict[str, Any] = dict.fromkeys(("accepted", "duplicate", "late"), 0)
        refused, odd = [], 0
        for number, row in enumerate(rows):
            odd += row["at"] < 10**11
            key = (row["_id"], row["at"])
            if row["price"] < 0:
                refused.append(number)
            elif key in known:
                count["duplicate"] += 1
            else:
                known[key] = row["customer"]
                count["accepted"] += 1
                count["late"] += row["at"] < newest
        out.append(
            pf.Receipt(
                **count,
                rejected_count=len(refused),
                rejected=[(n, "price", "") for n in refused],
                odd_times={"odd": odd} if odd else {},
            )
        )
    return out


@pytest.mark.parametrize("dies", [False, True])
def test_small_submissions_that_travel_together_keep_their_receipts(
    store: pf.Store, held: Path, dies: bool
) -> None:
    """Duplicates, late and rejected rows, odd times: each is told to the call that brought it,
    after a partition died with the answers in its hands as well."""
    chance = random.Random(dies)
    rows = orders_of(f"small{dies}", 460)
    newest = rows[299]["at"]
    for customer in range(25):  # everybody's newest is the same, so that what is late is plain
        rows[275 + customer]["at"] = newest
    known = {(row["_id"], row["at"]): row["customer"] for row in rows[:300]}
    assert store.submit("orders", rows[:300]).accepted == 300
    groups: list[list[dict[str, Any]]] = []
    fresh = rows[300:]
    while fresh:
        size = chance.randrange(1, 8)
        part, fresh = fresh[:size], fresh[size:]
        for row in [*part]:
            what = chance.randrange(12)
            if what == 0:
                part.append(row)
            elif what == 1:
                part.insert(0, bad(row) | {"_id": row["_id"] + "bad"})
            elif what == 2:
                part.append(chance.choice(rows[:300]))
            elif what == 3:
                part.append(row | {"_id": row["_id"] + "late", "at": newest - 5_000})
            elif what == 4 and len(groups) % 10 == 7:
                part.append(row | {"_id": row["_id"] + "odd", "at": START // 1000})
        groups.append(part)
    assert sum(map(len, groups)) < CONFIG.max_stream_rows
    held.touch()
    try:
        mine = [[dict(row) for row in group] for group in groups]
        pending = [store.submit_async("orders", group) for group in mine[:25]]
        for group in mine:
            for row in group:
                row.clear()  # the caller's own again
        queue = store._submissions
        for group in groups[25:]:  # the sender takes what there is, until enough are on their way
            waiting.until(lambda: queue._on_way == CONFIG.max_in_flight or not queue._waiting)
            pending.append(store.submit_async("orders", group))
        assert queue._on_way == CONFIG.max_in_flight
        assert len(queue._waiting) > 5, "the rest wait for others"
        if dies:
            time.sleep(0.5)
            for actor in store.status().partitions:
                os.kill(actor.pid, signal.SIGKILL)
        late = threading.Thread(target=store.submit, args=("orders", rows[:1]))
        late.start()  # behind all of them
    finally:
        held.unlink()
    found = [one.result() for one in pending]
    late.join()
    wanted = expected(groups, known, newest)
    for got, want in zip(found, wanted, strict=True):
        odd = {"odd": sum(got.odd_times.values())} if got.odd_times else {}
        plain = [(row, path, "") for row, path, _ in got.rejected]
        assert structs.replace(got, rejected=plain, odd_times=odd) == want
    counts = Counter(known.values())
    for customer, profile in zip(
        counts, store.profiles([("CRMID", one) for one in counts]), strict=True
    ):
        assert profile is not None
        assert profile.computed["orders"] == counts[customer]


def test_the_same_for_asyncio(store: pf.Store) -> None:
    rows = orders_of("async", 3_000)
    told: list[tuple[int, str, str]] = []
    ticks = 0
    loop_thread = threading.current_thread()

    def on_reject(row: int, path: str, reason: str) -> None:
        assert threading.current_thread() is loop_thread
        told.append((row, path, reason))

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.001)
            ticks += 1

    async def service() -> None:
        async with store.astream("orders", producer="a", on_reject=on_reject) as stream:
            assert stream.start == 0
            ticker = asyncio.create_task(tick())
            for row in rows[:500]:
                await stream.send(row)
            assert (await stream.flush()).accepted == 500
            await stream.send([bad(rows[0])])
            assert (await stream.flush()).rejected == told
            assert [row for row, _, _ in told] == [500]

            async def handle(row: dict[str, Any]) -> None:
                await stream.send(row)
                await stream.flush()

            await asyncio.gather(*map(handle, rows[500:700]))
            assert stream.receipt().accepted == 700
            for row in rows[700:]:
                await stream.send(row)
            ticker.cancel()
        assert stream.receipt().accepted == 3_000
        assert ticks > 10, "the loop went on while sends waited for room"
        async with store.astream("orders", producer="a") as stream:
            assert stream.start == 3_001

        async def fill() -> None:
            while True:
                await stream.send(rows[:100])

        async with store.astream("orders", block=False) as stream:
            with pytest.raises(pf.Backpressure):
                await fill()
        with pytest.raises(pf.StoreUnavailable, match="one that was closed"):
            await stream.send(rows[0])

    asyncio.run(service())
    check_exactly_once(store, rows)


def test_the_store_closes_its_streams_and_nothing_is_left(tmp_path: Path) -> None:
    """On the event clock. No cursor of an anonymous connection remains, and no thread."""
    rows = orders(900)
    before = {thread for thread in threading.enumerate() if thread.name == "stream"}
    with pf.start(tmp_path / "s", 1, "event") as store:
        store.apply(*shop())
        names = set()
        for number in range(3):
            with store.stream("orders") as stream:
                for row in rows[200 * number : 200 * (number + 1)]:
                    stream.send(row)
            mine = store._sender._anonymous
            assert mine is not None
            names.add(mine.producer)
        assert len(names) == 1, "streams number their rows in the connection's"
        assert {one for one in threading.enumerate() if one.name == "stream"} == before
        assert store.members("fresh").count() == 50
        store.advance_to(START + 9 * DAY)
        assert store.members("fresh").count() == 0
        stream = store.stream("orders", linger_ms=30_000)
        for row in rows[600:]:
            stream.send(row)
    assert stream.receipt().accepted == 300
    with pytest.raises(pf.StoreUnavailable, match="closed"):
        stream.send(order(0, 0))
    stream.close()
    with pf.start(tmp_path / "s") as store:
        check_exactly_once(store, rows)
        assert store.members("fresh").count() == 0
        assert store.verify() == []
        ways = store._connection.partitions
        assert [call_all(ways, "cursor", name) for name in names] == [[None]]
