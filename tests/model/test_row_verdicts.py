"""Where several callers' rows travel as one sub-batch, the reply says which rows it counts (L5)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from profile_actors.engine.log.in_memory import MemoryCheckpoints, MemoryFeed
from profile_actors.engine.log.sub_batch import Reply
from profile_actors.engine.partition.partition import Partition
from profile_actors.ingest.offsets import offsets_of, unpacked
from tests.model.hub import BASE, CONFIG, Hub, Rows


def hits(numbers: list[int]) -> Rows:
    """One row of customer a per number, which is its id and its minute."""
    return [
        {"_id": f"h{n}", "who": "a", "at": BASE + 60_000 * n, "kind": "buy", "n": n}
        for n in numbers
    ]


def told(reply: Reply) -> tuple[list[int], list[int]]:
    """The offsets of duplicates and of late rows."""
    assert reply.rows is not None
    duplicate, late = (offsets_of(unpacked(one)).tolist() for one in reply.rows)
    assert (len(duplicate), len(late)) == (reply.duplicate, reply.late)
    return duplicate, late


@pytest.mark.parametrize("how", ["live", "resent", "reopened", "from checkpoint"])
def test_a_reply_says_which_rows_were_duplicate_or_late(how: str) -> None:
    hub = Hub()
    (partition,) = hub.partitions
    first = hub.sub_batch("hits", "~1-x", 0, hits([10, 11, 12]), clock=BASE)
    assert partition.commit([first], None)[0].rows is None, "nobody asked"
    # Late 3 and 4, 12 and 20 repeated, the first in the log, the other in the batch itself.
    batch = replace(
        hub.sub_batch("hits", "~1-x", 3, hits([20, 3, 12, 21, 20, 4]), clock=BASE), by_row=True
    )
    other = replace(
        hub.sub_batch("hits", "~1-y", 0, hits([5, 12, 30]), clock=BASE), after=None, by_row=True
    )
    reply, beside = partition.commit([batch, other], None)
    if how in ("reopened", "from checkpoint"):
        log, feed, checkpoints = hub.stores[0]
        if how == "from checkpoint":
            job = partition.checkpoint_job(force=True)
            assert job is not None
            job()
        else:
            feed, checkpoints = MemoryFeed(), MemoryCheckpoints()
        partition.close()
        partition = Partition(log, feed, checkpoints, CONFIG)
    if how != "live":
        again = [replace(one, resend=True) for one in (batch, other)]
        reply, beside = partition.commit(again, None)
    assert told(reply) == ([5, 7], [4, 8])
    assert told(beside) == ([1], [0])
    assert (reply.accepted, beside.accepted) == (4, 2)


def test_rows_below_the_cursor_are_told_as_duplicates() -> None:
    """Sent again in other batches, whose receipts nobody remembers."""
    hub = Hub()
    (partition,) = hub.partitions
    sent = hub.sub_batch("hits", "~1-x", 0, hits([1, 2, 3]), clock=BASE)
    partition.commit([sent], None)
    wider = hub.sub_batch("hits", "~1-x", 0, hits([1, 2, 3, 4, 3]), clock=BASE)
    (reply,) = partition.commit([replace(wider, by_row=True, resend=True)], None)
    assert told(reply) == ([0, 1, 2, 4], [])
    assert reply.accepted == 1
