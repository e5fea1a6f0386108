"""Rows that repeat compacted ones: known as before, and no entry is unpacked for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from profile_actors.engine.log.crowds import read_ids
from profile_actors.engine.log.in_memory import MemoryCheckpoints, MemoryFeed
from profile_actors.engine.partition.partition import Partition
from profile_actors.storage.compaction.compacting import compact, due
from profile_actors.storage.scrub.mendable_log import MendableLog
from tests.memory import scratch
from tests.model.hub import BASE, CONFIG, Hub, Rows

SMALL = structs.replace(CONFIG, log_map_bytes=1 << 24, log_segment_bytes=1 << 17)
ENTRIES = 300


def row(number: int, suffix: str = "") -> dict[str, Any]:
    """Several of a person in a second, at the same instant and beside it."""
    at = BASE + number % 9 * 1_000 + number % 2
    return {"who": f"w{number % 5}", "at": at, "_id": f"e{number}{suffix}", "kind": "v"}


@pytest.fixture(scope="module")
def hub() -> Hub:
    made = Hub()
    for number in range(ENTRIES):
        made.submit([("hits", "p", [row(number)])], BASE + 10_000)
    return made


@pytest.fixture
def logs(hub: Hub) -> Iterator[tuple[MendableLog, MendableLog]]:
    """The same entries, compacted and not."""
    with scratch() as directory:
        both = tuple(MendableLog(Path(directory) / n, SMALL, epoch=1) for n in ("small", "plain"))
        for position in range(hub.partitions[0].log.head()):
            with hub.partitions[0].log.view(position) as view:
                for log in both:
                    log.append_at(position, (bytes(view),), 1)
        while entries := due(both[0], 1 << 40, 1 << 30):
            compact(both[0], entries, SMALL.log_map_bytes, lambda: True)
        yield both[0], both[1]
        for log in both:
            log.close()


def test_what_a_compacted_log_says_of_rows_is_what_it_said(
    logs: tuple[MendableLog, MendableLog],
) -> None:
    rng = np.random.default_rng(4)
    positions = rng.integers(1, ENTRIES + 1, 500)  # the first entry has definitions
    instants = np.unique(BASE + rng.integers(0, 9, 4) * 1_000)
    for only in (None, ("hits", instants), ("buys", instants)):
        said = [
            sorted(
                (int(asked), part.dataset, int(time), name)
                for part in read_ids(log, positions, np.zeros(500, np.int64), only)
                for asked, time, name in zip(
                    part.asked, part.times, part.ids.to_pylist(), strict=True
                )
            )
            for log in logs
        ]
        assert said[0] == said[1]
        assert len(said[0]) == 500 or only is not None


def test_repeated_rows_of_a_compacted_log_are_known_and_no_entry_is_unpacked(
    hub: Hub, logs: tuple[MendableLog, MendableLog]
) -> None:
    sent: Rows = [row(n) for n in range(ENTRIES)] + [row(n, " new") for n in range(50)]
    batch = hub.sub_batch("hits", "p", ENTRIES, sent, clock=BASE + 10_000)
    replies = []
    for log in logs:
        partition = Partition(log, MemoryFeed(), MemoryCheckpoints(), SMALL, epoch=1)
        unpacked: list[int] = []
        plain = log.view

        def counted(position: int, log: Any = log, plain: Any = plain, at: Any = unpacked) -> Any:
            if log.group(position) is not None:
                at.append(position)
            return plain(position)

        log.view = counted  # type: ignore[method-assign]
        replies += partition.commit([batch], None)
        assert unpacked == []
    assert [(one.accepted, one.duplicate) for one in replies] == [(50, ENTRIES)] * 2
    assert logs[0].group(0) is not None
    assert logs[1].group(0) is None
