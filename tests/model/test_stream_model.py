"""L1-L5, L11 for streams: threads, sizes, rejects, lost answers and dead drivers at random.

Theory: the partition and the door are real; between them and the stream stands a road that is slow,
loses batches before or after they are stored, and says so. The interpreter switches threads as
often as it can, so that what a stream does without a lock is done in every order. The model: a row
is stored at most once, in its thread's order; what a flush or a receipt counted is stored; with a
producer every row of the source is, however often the driver begins again.
"""

from __future__ import annotations

import queue
import random
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any, cast

import pytest

from profile_actors.config import Config
from profile_actors.driver.receipts import PendingReceipt, Receipt
from profile_actors.driver.sender import Sender
from profile_actors.driver.streams.row_stream import RowStream
from profile_actors.driver.streams.travel import OnReject
from profile_actors.engine.log.sub_batch import SubBatch
from profile_actors.errors import Backpressure, OffsetGap, StoreUnavailable
from profile_actors.ingest.identity_keys import key_of
from tests.model.hub import BASE, DAY, SEED, WHO, Hub
from tests.waiting import PATIENCE_S

SOON_S = PATIENCE_S
ROWS = 100
SOURCE = 200


@pytest.fixture(autouse=True)
def restless() -> Iterator[None]:
    """Threads change places as often as the interpreter lets them."""
    known = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(known)


class Road:
    """Stands where the ``Sender`` does. chance: of delays and losses; losses: share of batches."""

    def __init__(self, hub: Hub, chance: random.Random, losses: float = 0.0) -> None:
        self.hub = hub
        self.chance = chance
        self.losses = losses
        self.next = 0
        self.sizes: list[int] = []
        self.queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self.drive, daemon=True)
        self.thread.start()

    def submit(
        self, dataset: str, rows: Any, producer: str | None, offset: int | None, *, later: bool
    ) -> PendingReceipt:
        assert later
        first = self.next if offset is None else offset
        prepared = self.hub.doors[dataset].prepare(rows, first, BASE + 400 * DAY)
        self.next = through = first + len(rows)
        self.sizes.append(len(rows))
        name = producer or "~1-x"
        batch = SubBatch(dataset, name, first or None, through, 1, BASE, prepared.table)
        result: Future[Receipt] = Future()
        rejects = [(one.row - first, one.path, one.reason) for one in prepared.rejects]
        self.queue.put((batch, rejects, result))
        return PendingReceipt([result], 1_000)

    def drive(self) -> None:
        (partition,) = self.hub.partitions
        while (parcel := self.queue.get()) is not None:
            batch, rejects, result = parcel
            if self.chance.random() < 0.3:
                time.sleep(self.chance.random() / 500)
            lost = self.chance.random() < self.losses
            if lost and self.chance.random() < 0.5:
                result.set_exception(StoreUnavailable("lost before it was stored"))
                continue
            (reply,) = partition.commit([batch], None)
            if lost:
                result.set_exception(StoreUnavailable("lost after it was stored"))
            elif reply.status != "ok":
                result.set_exception(OffsetGap("gap", reply.expected))
            else:
                result.set_result(
                    Receipt(reply.accepted, reply.duplicate, reply.late, 0, len(rejects), rejects)
                )

    def end(self) -> None:
        self.queue.put(None)
        self.thread.join(SOON_S)


def begin(
    road: Road,
    config: Config,
    *,
    producer: str | None = None,
    start: int = 0,
    block: bool = True,
    on_reject: OnReject | None = None,
) -> RowStream:
    return RowStream(
        cast(Sender, road), "hits", config, linger_ms=1, producer=producer, block=block,
        on_reject=on_reject, start=start,
    )  # fmt: skip


def row(who: str, number: int, *, is_bad: bool = False) -> dict[str, Any]:
    n: Any = "none" if is_bad else number
    return {"_id": f"{who}{number}", "who": who, "at": BASE + number, "kind": "buy", "n": n}


def stored(hub: Hub, who: str) -> list[int]:
    """The numbers of a customer's rows, in the order of the log."""
    (partition,) = hub.partitions
    page = partition.events(key_of(WHO, who, SEED), limit=100_000)
    return [event["n"] for event in page.events]


SEEDS = [0, 1, *(pytest.param(n, marks=pytest.mark.slow) for n in range(2, 12))]


@pytest.mark.parametrize("seed", SEEDS)
def test_rows_of_many_threads_are_stored_once_in_their_order(seed: int) -> None:
    hub, chance = Hub(), random.Random(seed)
    config = Config(
        max_stream_rows=chance.choice((3, 40, 300)), max_in_flight=chance.choice((1, 3)),
        max_stream_batch_rows=chance.choice((5, 20, 64)),
    )  # fmt: skip
    road = Road(hub, chance)
    refused: list[int] = []
    block = bool(seed % 2)
    stream = begin(road, config, block=block, on_reject=lambda number, *_: refused.append(number))
    errors: list[BaseException] = []
    bad = [0] * 4

    def drive(number: int) -> None:
        mine = random.Random(seed * 10 + number)
        rows = [row(f"w{number}", n) for n in range(ROWS)]
        try:
            while rows:
                part, rows = rows[: (size := mine.choice((1, 1, 3, 20)))], rows[size:]
                if mine.random() < 0.1:
                    part.append(row(f"w{number}", 1_000, is_bad=True))
                    bad[number] += 1
                patiently(stream, part[0] if len(part) == 1 else part)
                if mine.random() < 0.03:
                    total = stream.flush()
                    # Its own rows are among what the flush counted.
                    assert total.accepted + total.rejected_count >= ROWS - len(rows)
                    assert stored(hub, f"w{number}") == list(range(ROWS - len(rows)))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=drive, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON_S)
        assert not thread.is_alive(), "a sender hangs"
    stream.close()
    road.end()
    assert errors == []
    for number in range(4):
        assert stored(hub, f"w{number}") == list(range(ROWS))
    found = stream.receipt()
    assert (found.accepted, found.duplicate, found.rejected_count) == (4 * ROWS, 0, sum(bad))
    assert [one for one, _, _ in found.rejected] == refused == sorted(refused)
    assert max(road.sizes) <= config.max_stream_batch_rows


def patiently(stream: RowStream, rows: Any) -> None:
    """Send, again and again where there is no room."""
    while True:
        try:
            return stream.send(rows)
        except Backpressure:
            time.sleep(0.0005)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_producer_goes_on_until_every_row_is_there_once(seed: int) -> None:
    """Batches are lost, drivers die in the midst of it, rows are refused."""
    hub, chance = Hub(), random.Random(seed)
    (partition,) = hub.partitions
    config = Config(max_stream_rows=50, max_stream_batch_rows=chance.choice((5, 30)))
    source = [row("p", n, is_bad=n % 9 == 4) for n in range(SOURCE)]
    drivers, refused = 0, set()
    while (partition.cursor("p") or 0) < len(source):
        drivers += 1
        assert drivers < 400
        start = partition.cursor("p") or 0
        road = Road(hub, chance, losses=0.08)
        stream = begin(
            road, config, producer="p", start=start,
            on_reject=lambda number, *_: refused.add(number),
        )  # fmt: skip
        end = min(len(source), start + chance.randrange(1, 100))
        try:
            for one in source[start:end]:
                stream.send(one)
            if chance.random() < 0.5:
                stream._abandon("death")  # what was on its way still arrives
            stream.close()
            assert (partition.cursor("p") or 0) == end
        except (StoreUnavailable, OffsetGap) as error:
            with pytest.raises(type(error)):
                stream.send(source[0])
            with pytest.raises(type(error)):
                stream.close()
        finally:
            road.end()
        known = stream.receipt()
        assert known.duplicate == 0
        there = partition.cursor("p") or 0
        assert known.accepted + known.rejected_count <= there - start
    assert stored(hub, "p") == [n for n in range(SOURCE) if n % 9 != 4]
    assert refused <= set(range(4, SOURCE, 9))
    assert partition.verify() == []


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_sent_while_a_stream_closes_is_there_or_refused(seed: int) -> None:
    """No send returns for a row that nobody will ever take."""
    hub, chance = Hub(), random.Random(seed)
    road = Road(hub, chance)
    for number in range(15):
        stream = begin(road, Config(max_stream_rows=60, max_stream_batch_rows=30))
        sent: list[int] = []

        def drive(stream: RowStream = stream, sent: list[int] = sent, who: int = number) -> None:
            try:
                for n in range(10_000):
                    stream.send(row(f"c{who}", n))
                    sent.append(n)
            except StoreUnavailable:
                pass

        thread = threading.Thread(target=drive)
        thread.start()
        time.sleep(chance.random() / 300)
        stream.close()
        thread.join(SOON_S)
        assert not thread.is_alive()
        assert stored(hub, f"c{number}")[: len(sent)] == sent
        assert len(stored(hub, f"c{number}")) <= len(sent) + 1
    road.end()
