"""L5, L11: anonymous connections come, fall silent and close; what was let go of is never new.

Theory: the model is the contract: a connection is *known* from its first rows until it closes or
until an entry is written more than an hour of wall time after it was heard last. A row is stored
at most once, whoever sends it again and whenever; what goes to a connection that is no longer known
is refused. The process may die before or after each entry is written, and what is opened then is
what was there.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from profile_actors.config import Config
from profile_actors.engine.log.connections import KEPT_MS, name_of
from profile_actors.engine.log.in_memory import MemoryCheckpoints, MemoryFeed
from profile_actors.engine.log.sub_batch import Reply, SubBatch
from profile_actors.engine.partition.partition import Partition
from profile_actors.ingest.identity_keys import key_of
from tests.model.hub import BASE, SEED, WHO, Hub

CONFIG = Config(max_profiles=64, max_ahead_ms=1 << 50, max_receipts=3, max_receipt_producers=4)
MINUTE = 60_000


class Died(Exception):
    """The process ends here."""


@dataclass
class Caller:
    """One connection. sizes: of its batches. cursor: None where the partition knows of none."""

    name: str
    born: int
    sizes: list[int]
    first_row: int
    heard: int = 0
    cursor: int | None = None
    closed: bool = False

    def span(self, index: int) -> tuple[int, int]:
        first = sum(self.sizes[:index])
        return first, first + self.sizes[index]


class ConnectionMachine(RuleBasedStateMachine):
    """See the module."""

    @initialize()
    def start(self) -> None:
        self.hub = Hub()
        self.log = self.hub.stores[0][0]
        self.feed, self.checkpoints = MemoryFeed(), MemoryCheckpoints()
        self.partition = Partition(self.log, self.feed, self.checkpoints, CONFIG)
        self.wall = 1_700_000_000_000
        self.logged = 0  # the newest wall time of an entry
        self.callers: list[Caller] = []
        self.stored: Counter[int] = Counter()
        self.numbered = 0

    # -- the model ------------------------------------------------------------------------------

    def entry(self, heard: Caller | None, closed: Caller | None = None) -> None:
        """What an entry at this wall time does to the connections."""
        self.logged = max(self.logged, self.wall)
        for one in self.callers:
            if one is heard:
                one.heard = self.logged
            elif one.heard < self.logged - KEPT_MS and one.born < self.logged - KEPT_MS:
                one.cursor = None
        if closed is not None:
            closed.cursor, closed.closed = None, True

    def is_gone(self, one: Caller) -> bool:
        return one.cursor is None and (one.closed or one.born < self.logged - KEPT_MS)

    def commit(self, batch: SubBatch, fate: str) -> Reply | None:
        """The answer, None where the process died."""
        append = self.log.append_at

        def dies(*args: Any) -> None:
            if fate == "dies after":
                append(*args)
            raise Died

        if fate:
            self.log.append_at = dies  # type: ignore[method-assign, assignment]
        try:
            return self.partition.commit([batch], None, self.wall)[0]
        except Died:
            return None
        finally:
            self.log.append_at = append  # type: ignore[method-assign]
            if fate:
                self.reopen("tail")

    def offer(self, one: Caller, index: int, fate: str, *, resend: bool) -> None:
        first, through = one.span(index)
        rows = [{"who": "a", "at": BASE, "n": one.first_row + n} for n in range(first, through)]
        batch = self.hub.sub_batch("calls", one.name, first, rows, resend=resend, clock=BASE)
        heads = len(self.log.entries)
        reply = self.commit(replace(batch, after=first or None), fate)
        is_written = len(self.log.entries) > heads
        if self.is_gone(one):
            assert reply is None or reply.status == "forgotten"
            assert not is_written
            return
        known = one.cursor or 0
        if reply is not None:
            if first > known:
                assert (reply.status, reply.expected) == ("gap", known)
                return
            assert reply.status == "ok"
            assert reply.accepted + reply.duplicate == through - first
        if is_written:
            for n in range(max(first, known), through):
                self.stored[one.first_row + n] += 1
            one.cursor = max(known, through)
            self.entry(one)

    # -- what happens ---------------------------------------------------------------------------

    @rule(minutes=st.sampled_from((0, 0, 5, -5)))
    def connect(self, minutes: int) -> None:
        """A connection begins; clocks may differ a little."""
        born = max(self.wall + minutes * MINUTE, self.logged)
        name = name_of(born, str(len(self.callers)))
        self.callers.append(Caller(name, born, [], self.numbered))
        self.numbered += 1000

    @precondition(lambda self: self.callers)
    @rule(data=st.data(), size=st.integers(1, 3), fate=st.sampled_from(("", "", "", "dies before", "dies after")))  # fmt: skip # noqa: E501
    def send(self, data: st.DataObject, size: int, fate: str) -> None:
        one = data.draw(st.sampled_from(self.callers[-4:]))
        one.sizes.append(size)
        self.offer(one, len(one.sizes) - 1, fate, resend=False)

    @precondition(lambda self: any(one.sizes for one in self.callers))
    @rule(data=st.data(), fate=st.sampled_from(("", "", "dies before", "dies after")), resend=st.booleans())  # fmt: skip # noqa: E501
    def send_again(self, data: st.DataObject, fate: str, resend: bool) -> None:
        """Any batch of any connection, known or not: one that was lost, or one that was slow."""
        one = data.draw(st.sampled_from([one for one in self.callers if one.sizes]))
        self.offer(one, data.draw(st.integers(0, len(one.sizes) - 1)), fate, resend=resend)

    @precondition(lambda self: self.callers)
    @rule(data=st.data(), fate=st.sampled_from(("", "", "dies before", "dies after")))
    def close(self, data: st.DataObject, fate: str) -> None:
        one = data.draw(st.sampled_from(self.callers))
        end = one.cursor or 0
        heads = len(self.log.entries)
        reply = self.commit(SubBatch("", one.name, end, end, 0, closes=True), fate)
        assert reply is None or reply.status == "ok"
        if len(self.log.entries) > heads:
            self.entry(None, one)

    @rule(minutes=st.sampled_from((1, 20, 59, 61, 200, -30)))
    def time_passes(self, minutes: int) -> None:
        self.wall += minutes * MINUTE

    @rule(how=st.sampled_from(("checkpoint", "tail", "nothing")))
    def reopen(self, how: str) -> None:
        if how == "checkpoint" and (job := self.partition.checkpoint_job(force=True)):
            job()
        if how == "nothing":
            self.feed, self.checkpoints = MemoryFeed(), MemoryCheckpoints()
        self.partition.close()
        self.partition = Partition(self.log, self.feed, self.checkpoints, CONFIG)

    # -- always ---------------------------------------------------------------------------------

    @invariant()
    def each_row_is_there_once(self) -> None:
        page = self.partition.events(key_of(WHO, "a", SEED), limit=10_000)
        assert Counter(event["n"] for event in page.events) == self.stored
        assert set(self.stored.values()) <= {1}

    @invariant()
    def known_are_those_that_were_heard(self) -> None:
        state = self.partition.state
        for one in self.callers:
            assert self.partition.cursor(one.name) == one.cursor, one
        assert set(state.receipts) <= set(state.cursors)

    def teardown(self) -> None:
        if hasattr(self, "partition"):
            live = self.partition.state
            fresh = Partition(self.log, MemoryFeed(), MemoryCheckpoints(), CONFIG).state
            assert fresh.cursors == live.cursors
            assert fresh.receipts == live.receipts
            assert list(fresh.connections.heard.items()) == list(live.connections.heard.items())
            assert fresh.connections.wall == live.connections.wall
            assert self.partition.verify() == []
            self.partition.close()


TestConnections = ConnectionMachine.TestCase
TestConnections.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)
