"""Links in entries that nobody was told of: told once there is somebody, and never in a replay."""

from __future__ import annotations

import pyarrow as pa

from profile_actors.definitions.catalogue_changes import extended
from profile_actors.definitions.declared import (
    Catalogue,
    ComputedAttribute,
    Dataset,
    Namespace,
    Schema,
    SegmentDefinition,
)
from profile_actors.engine.exchange.admission import nothing
from profile_actors.engine.exchange.carried_rows import OP
from profile_actors.engine.exchange.letters import _copied
from profile_actors.engine.identity.books import Place, Residence
from profile_actors.engine.identity.mailbox import NO_POST, Post
from profile_actors.engine.identity.messages import LEDGER, LINK, ROWS, Named, Op
from profile_actors.engine.log.entry import Block
from profile_actors.engine.log.in_memory import MemoryCheckpoints, MemoryFeed, MemoryLog
from profile_actors.engine.log.sub_batch import SubBatch
from profile_actors.engine.partition.partition import Partition
from profile_actors.ingest.door import Door
from profile_actors.ingest.identity_keys import key_of
from tests.sim.world import BASE, CONFIG, SEED

SPACES = [
    Namespace("Email", "email", priority=1),
    Namespace("ECID", "cookie", priority=2),
    Namespace("SKU", "non_people"),
]
CATALOGUE = extended(
    Catalogue(),
    [
        *SPACES,
        Schema("hit", "event", {"n": "integer"}),
        Dataset("hits", "hit", {"e": "Email", "d": "ECID", "s": "SKU"}, timestamp="at"),
    ],
)
LINKING = Post("0", lambda _: "0", SEED)


class Log:
    """A partition's log, and what opens it again."""

    def __init__(self) -> None:
        self.log, self.sent = MemoryLog(), 0

    def opened(self, post: Post) -> Partition:
        return Partition(self.log, MemoryFeed(), MemoryCheckpoints(), CONFIG, post=post)

    def submit(self, partition: Partition, **row: str) -> None:
        door = Door(CATALOGUE, "hits", SEED, CONFIG)
        table = door.prepare([{**row, "at": BASE}], self.sent, BASE).table
        batch = SubBatch("hits", "p", self.sent, self.sent + 1, 1, BASE, table)
        assert partition.commit([batch], None)[0].accepted == 1
        self.sent += 1


def told(partition: Partition) -> list[tuple[str, str]]:
    """The links that messages to the ledger tell of."""
    messages = partition.outgoing(LEDGER, 0, 100)
    ops = [op for message in messages for op in message.ops if op.kind == LINK]
    return [(op.one.value, op.other.value) for op in ops if op.one and op.other]


def test_a_replay_writes_nothing_whatever_was_not_told() -> None:
    """A definition in the log's tail has what is owed done first: not the telling."""
    store = Log()
    partition = store.opened(LINKING)
    partition.define(CATALOGUE, None)
    store.submit(partition, e="z", s="sku1")
    store.submit(partition, e="z", d="t")
    store.submit(partition, e="z", s="sku1")
    partition.define(extended(CATALOGUE, [ComputedAttribute("c", "xEvent.count()")]), None)
    head = partition.position
    again = store.opened(LINKING)
    assert again.position == head
    assert told(again) == [("z", "t")]
    while again.work(1):
        pass
    assert (again.position, told(again)) == (head, [("z", "t")]), "told already, by its own entry"


def test_the_past_of_a_store_without_links_is_told_once() -> None:
    store = Log()
    partition = store.opened(NO_POST)
    partition.define(CATALOGUE, None)
    store.submit(partition, e="z", d="t")
    partition.define(extended(CATALOGUE, [SegmentDefinition("s", "xEvent.count() > 0")]), None)
    store.submit(partition, e="y", d="t")
    again = store.opened(LINKING)
    assert told(again) == []
    while again.work(1):
        pass
    assert told(again) == [("z", "t"), ("y", "t")]
    third = store.opened(LINKING)
    while third.work(1):
        pass
    assert told(third) == [("z", "t"), ("y", "t")]


def test_rows_that_come_for_a_past_book_are_dropped() -> None:
    """A person who is shown in a newer book, or another's, is read there: her old book stays as it
    was for whoever still reads it."""
    store = Log()
    partition = store.opened(LINKING)
    partition.define(CATALOGUE, None)
    state = partition.state
    ann, other = (Named(*key_of(SPACES[1], value, SEED), "ECID", value) for value in "ab")
    op = Op(ROWS, other, ann, number=3, version=3, low=0, high=5)
    table = Door(CATALOGUE, "hits", SEED, CONFIG).prepare([{"d": "b", "at": BASE}], 0, BASE).table
    rows = table.append_column(OP, pa.array([0], pa.int32()))

    def taken() -> Block | None:
        return _copied(state, [op], "hits", rows, nothing(state), partition.lock)

    assert taken() is not None, "whoever is at home here is not known yet"
    for shown, is_past in (
        (None, False),
        (Place(ann, 3, 3), False),
        (Place(ann, 2, 2), False),
        (Place(ann, 7, 7), True),
        (Place(other, 3, 8), True),
    ):
        state.homes.residences[ann.key] = Residence(ann, Place(ann, 3, 3), 0, shown=shown)
        assert (taken() is None) == is_past, shown
