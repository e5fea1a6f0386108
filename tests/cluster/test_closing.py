"""Closing a store in the midst of things: every call ends, what was acknowledged is there after."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import ray

import profile_actors as pf
from tests.cluster.shop import START, order, orders, shop
from tests.waiting import PATIENCE_S

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_runtime")]

BATCH = 20


class Held:
    """A hook: acknowledgements wait while a file is there, so that calls are surely in flight."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, point: str) -> None:
        while point == "writer.before_reply" and self.path.exists():
            time.sleep(0.01)


class Calls:
    """Calls on threads of their own, and how each ended."""

    def __init__(self) -> None:
        self.ended: dict[str, Any] = {}
        self._threads: list[threading.Thread] = []

    def begin(self, name: str, call: Callable[[], object]) -> None:
        def run() -> None:
            try:
                self.ended[name] = call()
            except BaseException as error:
                self.ended[name] = error

        self._threads.append(threading.Thread(target=run, name=name, daemon=True))
        self._threads[-1].start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), f"{thread.name} hangs"


def batches(count: int) -> Iterator[list[dict[str, Any]]]:
    for first in range(0, count * BATCH, BATCH):
        yield orders(BATCH, first=first)


def stored(path: Path) -> set[str]:
    """The ids of all events of a store, opened anew."""
    with pf.start(path) as store:
        found = set()
        for number in range(50):
            page = store.events("CRMID", f"c{number:04}", limit=1000)
            found |= {str(event["_id"]) for event in page.events}
        assert store.verify(10) == []
        return found


def test_what_is_on_its_way_at_close_gets_its_receipt(tmp_path: Path) -> None:
    with pf.start(tmp_path / "s", 1, "event") as store:
        store.apply(*shop())
        futures = [store.submit_async("orders", rows) for rows in batches(6)]
    assert all(future.done() for future in futures)
    assert [future.result().accepted for future in futures] == [BATCH] * 6
    assert len(stored(tmp_path / "s")) == 6 * BATCH


def started(folder: Path, hold: Held) -> tuple[pf.Store, pf.Receipt]:
    """A store with one batch, whose calls give up as soon as this machine allows for."""
    for patience_s in (3.0, 30.0):
        config = pf.Config(call_timeout_s=patience_s, max_in_flight=2)
        with suppress(pf.StoreUnavailable):
            store = pf.start(folder / f"{patience_s:g}", 1, "event", config, hook=hold)
            try:
                store.apply(*shop())
                return store, store.submit("orders", orders(BATCH))
            except BaseException:
                store.close()
                raise
    raise AssertionError("a call on an idle store took more than 30 s")


def test_whatever_is_under_way_when_another_thread_closes_ends(tmp_path: Path) -> None:
    hold = Held(tmp_path / "hold")
    store, first = started(tmp_path, hold)
    file = tmp_path / "more.csv"
    rows = "\n".join(f"o{n},c{n % 50:04},{START + n},1.0,x" for n in range(100, 400))
    file.write_text(f"_id,customer,at,price,sku\n{rows}\n")
    seen: list[pf.Change] = []
    calls = Calls()
    feed = store.changes(follow=True)
    calls.begin("follow", lambda: seen.extend(feed))
    hold.path.touch()
    futures = [store.submit_async("orders", [order(n, 1)]) for n in (1001, 1002)]
    calls.begin("blocked", lambda: store.submit_async("orders", [order(1003, 1)]))
    calls.begin("ingest", lambda: store.ingest("orders", file))
    calls.begin("define", lambda: store.apply(pf.SegmentDefinition("x", "xEvent.count() > 1")))
    calls.begin("close", store.close)
    calls.begin("close again", store.close)
    for future in futures:
        with pytest.raises(pf.StoreUnavailable):
            future.result(PATIENCE_S)
    hold.path.unlink()
    calls.join()
    assert calls.ended.pop("close") is None
    assert calls.ended.pop("close again") is None
    assert {name: type(error) for name, error in calls.ended.items()} == dict.fromkeys(
        ("follow", "blocked", "ingest", "define"), pf.StoreUnavailable
    )
    assert seen
    assert first.accepted == BATCH
    found = stored(store.path)
    assert {f"o{n}" for n in range(BATCH)} <= found  # and of the others what became durable
    # Ingested again, the file is there once; the store goes on where it was.
    with pf.start(store.path) as again:
        again.ingest("orders", file)
        assert again.ingest("orders", file).accepted == 0
    assert {f"o{n}" for n in range(100, 400)} <= stored(store.path)


def test_writers_race_a_close(tmp_path: Path) -> None:
    store = pf.start(tmp_path / "s", 1, "event")
    store.apply(*shop())
    sent: list[tuple[set[str], Any]] = []

    def write(worker: int) -> None:
        for number in range(worker * 100_000, worker * 100_000 + 10_000, 5):
            rows = [order(n, n % 50) for n in range(number, number + 5)]
            sent.append(({row["_id"] for row in rows}, store.submit_async("orders", rows)))

    calls = Calls()
    for worker in range(3):
        calls.begin(f"writer {worker}", lambda worker=worker: write(worker))  # type: ignore[misc]
    while len(sent) < 30:
        time.sleep(0.01)
    store.close()
    calls.join()
    assert {type(error) for error in calls.ended.values()} == {pf.StoreUnavailable}
    acknowledged: set[str] = set()
    for ids, future in sent:
        assert future.done()
        assert future.result().accepted == 5
        acknowledged |= ids
    assert acknowledged <= stored(tmp_path / "s")


def test_a_closed_store_says_so_to_every_use(tmp_path: Path) -> None:
    with pf.start(tmp_path / "s", 1, "event") as store:
        store.apply(*shop())
        store.submit("orders", orders(BATCH))
        members, feed, half = store.members("fresh"), store.changes(), store.changes()
        next(half)
    store.close()
    uses: list[Callable[[], object]] = [
        lambda: store.apply(*shop()), store.definitions, lambda: store.delete("big"),
        lambda: store.submit("orders", orders(1)), lambda: store.submit_async("orders", orders(1)),
        lambda: store.cursor("p"), lambda: store.ingest("orders", "*.csv"),
        lambda: store.quarantine("orders"), lambda: store.profile("CRMID", "c0001"),
        lambda: store.profiles([]), lambda: store.events("CRMID", "c0001"),
        lambda: store.members("fresh"), store.changes, lambda: store.explain("1 = 1"),
        lambda: store.preview("1 = 1"), lambda: store.advance_to(START + 10**9), store.status,
        store.verify, members.count, lambda: list(members), lambda: next(feed),
    ]  # fmt: skip
    for use in uses:
        with pytest.raises(pf.StoreUnavailable, match="closed"):
            use()
    assert half.cursor != feed.cursor  # where a reader stands it still knows


@pytest.mark.parametrize(
    "error", [pytest.param(ValueError, marks=pytest.mark.slow), KeyboardInterrupt]
)
def test_a_block_left_by_an_error_closes_like_any(
    tmp_path: Path, error: type[BaseException]
) -> None:
    futures: list[pf.PendingReceipt] = []
    is_left = threading.Event()

    def interrupt() -> None:
        """Again if need be: one that strikes in a finalizer, where errors are ignored, is lost."""
        pause_s = 0.3
        while not is_left.wait(pause_s):
            os.kill(os.getpid(), signal.SIGINT)
            pause_s = 30.0

    def leave(store: pf.Store) -> None:
        store.apply(*shop())
        futures.extend(store.submit_async("orders", rows) for rows in batches(4))
        if error is ValueError:
            raise ValueError("the program's own")
        threading.Thread(target=interrupt).start()
        try:
            for _ in store.changes(follow=True):
                pass
        finally:
            is_left.set()

    with pytest.raises(error), pf.start(tmp_path / "s", 1, "event") as store:
        leave(store)
    assert [future.result(0).accepted for future in futures] == [BATCH] * 4
    assert len(stored(tmp_path / "s")) == 4 * BATCH


def test_a_store_opens_again_however_late_ray_ends_its_actors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray kills some time after it was told to; who asks by name meanwhile would be given the
    dying coordinator, and wait for it in vain."""
    kill = ray.kill

    def late(actor: Any, no_restart: bool = True) -> None:
        threading.Timer(0.5, kill, (actor,), {"no_restart": no_restart}).start()

    for _ in range(2):
        with pf.start(tmp_path / "s", partitions=1, clock="event") as store:
            store.apply(*shop())
            assert store.submit("orders", orders(5)).rejected == []
            monkeypatch.setattr(ray, "kill", late)
        monkeypatch.setattr(ray, "kill", kill)
