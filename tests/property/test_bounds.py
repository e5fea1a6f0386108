"""L11: what a partition holds and does per event does not grow with its history.

Counted rather than timed where it can be: a count does not depend on the machine. The one
measurement of time, the processor's, compares two stretches of the same run with a generous factor.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import pytest

from profile_actors.config import Config
from profile_actors.engine.log.in_memory import MemoryCheckpoints, MemoryFeed, MemoryLog
from profile_actors.engine.log.sub_batch import SubBatch
from profile_actors.engine.partition.partition import Partition
from tests.model.hub import BASE, CONFIG, HOUR, Hub, Rows

PEOPLE = 60
PRODUCERS = ("p", "q", "r")
STEP = 12 * HOUR  # the longest window of the rules, a week, is 14 entries
EARLY = 80
LATE = 10 * EARLY


def batch(number: int) -> Rows:
    """The rows of one entry: the same work every time, of other people and at a later time."""
    first = number * STEP + BASE
    return [
        {
            "who": f"w{(number * 7 + i * 11) % PEOPLE}",
            "at": first + i * HOUR,
            "_id": f"e{number}-{i}",
            "kind": ("buy", "view")[i % 2],
            "place": f"place {i % 5}",
            "n": i,
            "x": 0.1 * i,
        }
        for i in range(10)
    ]


def held(partition: Partition) -> dict[str, int]:
    """Everything that could grow, counted."""
    state = partition.state
    lines = [line for s in state.book.streams for line in (s.enter, s.leave)]
    lines += [tree.timer.line for tree in state.book.trees if tree.timer is not None]
    return {
        "runs": len(state.locator.runs),
        "lines": max(len(line) for line in lines),
        "chunks": max(len(line.chunks) for line in lines),
        "cursors": len(state.cursors),
        "receipts": max(map(len, state.receipts.values())),
        "bytes": state.size_bytes(state.directory.slots),
    }


@pytest.fixture(scope="module")
def history() -> dict[int, dict[str, Any]]:
    """What was held and spent after EARLY and after LATE entries."""
    hub = Hub()
    partition, log = hub.partitions[0], hub.stores[0][0]
    out: dict[int, dict[str, Any]] = {}
    spent: list[float] = []
    read: list[int] = []
    plain_view = log.view

    def counted(position: int) -> Any:
        read.append(position)
        return plain_view(position)

    log.view = counted  # type: ignore[method-assign]
    for number in range(LATE):
        rows = batch(number)
        began = time.thread_time()
        hub.submit([("hits", PRODUCERS[number % 3], rows)], rows[-1]["at"])
        spent.append(time.thread_time() - began)
        if number + 1 in (EARLY, LATE):
            entry = len(log.entries[-1])
            ms = statistics.median(spent[-EARLY // 2 :]) * 1000
            out[number + 1] = {**held(partition), "entry": entry, "ms": ms, "read": len(read)}
    assert partition.status().events == 10 * LATE
    return out


@pytest.mark.parametrize("what", ["lines", "cursors", "bytes", "entry"])
def test_nothing_held_grows(history: dict[int, dict[str, Any]], what: str) -> None:
    early, late = history[EARLY][what], history[LATE][what]
    assert late <= 1.25 * early + 8, history


def test_pieces_grow_like_a_logarithm_at_most(history: dict[int, dict[str, Any]]) -> None:
    for what, limit in (("runs", (10 * LATE).bit_length() + 3), ("chunks", 8)):
        assert history[LATE][what] <= limit, history


def test_rows_in_order_never_read_the_log(history: dict[int, dict[str, Any]]) -> None:
    assert history[LATE]["read"] == 0, history


def test_receipts_are_bounded_per_producer(history: dict[int, dict[str, Any]]) -> None:
    assert history[LATE]["receipts"] <= CONFIG.max_receipts < LATE / len(PRODUCERS)


def test_receipts_are_bounded_over_all_producers() -> None:
    config = Config(max_profiles=16, max_receipt_producers=10)
    log = MemoryLog()
    partition = Partition(log, MemoryFeed(), MemoryCheckpoints(), config)
    for number in range(200):
        partition.commit([SubBatch("none", f"p{number}", None, 5, 0, BASE)], None)
    replayed = Partition(log, MemoryFeed(), MemoryCheckpoints(), config)
    for held_by in (partition, replayed):
        assert list(held_by.state.receipts) == [f"p{number}" for number in range(190, 200)]
        # A cursor is what keeps a row from counting twice: none may be forgotten.
        assert [held_by.cursor(f"p{number}") for number in range(200)] == [5] * 200


def test_an_entry_takes_no_longer(history: dict[int, dict[str, Any]]) -> None:
    # Medians of 40 entries each, in one run; twenty times the work per entry would be 20.
    assert history[LATE]["ms"] <= 4 * history[EARLY]["ms"] + 1, history
