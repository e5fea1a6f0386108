"""Rejected rows are offered again while drivers die, partitions crash and definitions grow.

Theory: the real sender, coordinator, quarantine and partitions, with calls made in this process
instead of by Ray, so that each call may be the one that is lost, before or after it has run, the
one during which the driver dies, or the one before which another driver offers the same rows. The
model is the contract: a row of a producer, known by its offset, is stored at most once whatever is
in it; a receipt counts each row once, and calls nothing a duplicate that the store has not.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from profile_actors.actors.actor_status import CoordinatorPlace
from profile_actors.actors.calls import Lost, Patience, Remote, Session
from profile_actors.actors.coordinator import CoordinatorActor
from profile_actors.actors.wire import unpack
from profile_actors.config import Config
from profile_actors.definitions.declared import Catalogue, Dataset, Namespace, Schema
from profile_actors.driver.connection import Connection
from profile_actors.driver.receipts import Receipt
from profile_actors.driver.sender import Sender
from profile_actors.engine.log.in_memory import MemoryCheckpoints, MemoryFeed, MemoryLog
from profile_actors.engine.log.sub_batch import Reply
from profile_actors.engine.partition.partition import Partition
from profile_actors.ingest.identity_keys import key_of
from profile_actors.ingest.offsets import contains, unpacked
from profile_actors.storage.store_settings import StoreSettings
from tests.model.hub import BASE, SEED, WHO

PARTITIONS = 3
PEOPLE = tuple(f"w{n}" for n in range(6))
FIELDS = ("one", "two")
"""Fields that the schema gets one after the other; rows of offset n need the (n % 3)th."""


def row_of(offset: int, who: str) -> dict[str, Any]:
    """The row at an offset of the producer."""
    row: dict[str, Any] = {"who": who, "at": BASE, "n": offset}
    return row | ({FIELDS[offset % 3 - 1]: 1} if offset % 3 else {})


class Died(BaseException):
    """The driver is no more."""


class Local:
    """A partition's actor without Ray: what its shell does, and a restart."""

    def __init__(self, index: int, config: Config) -> None:
        self.stores = (MemoryLog(), MemoryFeed(), MemoryCheckpoints())
        self.index, self.config = index, config
        self.partition = Partition(*self.stores, config, index=index)

    def restart(self, how: str) -> None:
        if how == "checkpoint" and (job := self.partition.checkpoint_job(force=True)):
            job()
        self.partition.close()
        self.partition = Partition(*self.stores, self.config, index=self.index)

    def submit(self, header: bytes, rows: Any = None) -> Reply:
        batch = unpack(header, rows)
        if self.partition.catalogue.version < batch.catalogue:
            return Reply("behind")
        return self.partition.commit([batch], None)[0]

    def define(self, catalogue: Catalogue) -> int:
        self.partition.define(catalogue, None)
        return self.partition.catalogue.version

    def cursor(self, producer: str) -> int | None:
        return self.partition.cursor(producer)

    def born(self) -> int:
        return self.partition.heard_until

    def progress(self, producer: str) -> tuple[int | None, bytes, bytes]:
        return self.partition.progress(producer)


class Way(Remote):
    """Calls of one driver to one actor. before: asked what happens to each call."""

    def __init__(self, actor: Any, name: str, before: Callable[[Way, str], str]) -> None:
        super().__init__(actor, name, 5.0, Session("memory"))
        self.before = before

    def begin(self, method: str, *args: Any) -> Any:
        fate = self.before(self, method)
        if fate == "lost before":
            return Lost()
        try:
            answer = getattr(self.handle, method)(*args)
        except Exception as error:
            answer = error
        return Lost() if fate == "lost after" else answer

    def finish(self, answer: Any, patience: Patience) -> Any:
        if isinstance(answer, BaseException):
            raise answer
        return answer


class RepairMachine(RuleBasedStateMachine):
    """See the module."""

    bound = 1_000_000

    @initialize(data=st.data())
    def start(self, data: st.DataObject) -> None:
        self.config = Config(max_profiles=64, max_ahead_ms=1 << 50, max_quarantine_rows=self.bound)
        self.path = tempfile.mkdtemp(prefix="repairs")
        new = StoreSettings(partitions=PARTITIONS, clock="event", hash_seed=SEED, created=0)
        self.coordinator = CoordinatorActor(CoordinatorPlace(self.path, new, self.config))
        self.locals = [Local(index, self.config) for index in range(PARTITIONS)]
        self.plan: dict[int, Callable[[Way], str]] = {}  # call number -> what becomes of it
        self.calls = 0
        self.fields: list[str] = []
        self.apply()
        self.drivers = [self.driver(), self.driver()]
        self.sent = 0
        self.accepted = 0
        self.sure = True  # no driver has died with an answer

    # -- the world --------------------------------------------------------------------------------

    def apply(self) -> None:
        self.coordinator.apply(
            [
                Namespace("CRMID", "cross_device"),
                Schema("hit", "event", dict.fromkeys(["n", *self.fields], "integer")),
                Dataset("calls", "hit", {"who": "CRMID"}, timestamp="at", event_type="call"),
            ]
        )

    def driver(self) -> Sender:
        ways = [Way(local, f"partition {i}", self.before) for i, local in enumerate(self.locals)]
        settings, assignment = self.coordinator.hello()
        link = Connection(
            self.path, "event", self.config, settings.hash_seed, assignment,
            Way(self.coordinator, "coordinator", self.before), ways,
        )  # fmt: skip
        return Sender(link)

    def before(self, way: Way, method: str) -> str:
        self.calls += 1
        happens = self.plan.pop(self.calls, None)
        return "" if happens is None else happens(way)

    def rows(self, data: st.DataObject, first: int, through: int) -> list[dict[str, Any]]:
        """What is offered at these offsets: a row that was rejected may have been put right by
        hand, and be about another person now."""
        is_open = [local.partition.progress("p")[1] for local in self.locals]
        offsets = np.arange(first, through)
        free = np.logical_and.reduce([contains(unpacked(one), offsets) for one in is_open])
        return [
            row_of(n, data.draw(st.sampled_from(PEOPLE)) if may_change else PEOPLE[n % len(PEOPLE)])
            for n, may_change in zip(offsets.tolist(), free.tolist(), strict=True)
        ]

    def stored(self) -> Counter[int]:
        """How often each offset of the producer is in the store."""
        found: Counter[int] = Counter()
        for local in self.locals:
            for who in PEOPLE:
                page = local.partition.events(key_of(WHO, who, SEED), limit=10_000)
                found.update(event["n"] for event in page.events)
        return found

    def submit(
        self, driver: int, rows: list[dict[str, Any]], first: int, *, check: bool = True
    ) -> Receipt | None:
        """The receipt; None if the driver died."""
        sender = self.drivers[driver]
        try:
            receipt = sender.submit("calls", rows, "p", first, later=False).result()
        except Died:
            self.plan = {}
            self.drivers[driver], self.sure = self.driver(), False
            return None
        counts = (receipt.accepted, receipt.duplicate, receipt.rejected_count)
        assert sum(counts) == len(rows), counts
        assert receipt.rejected_count == len(receipt.rejected)
        self.accepted += receipt.accepted
        self.sent = max(self.sent, first + len(rows))
        found = self.stored()
        refused = {first + row for row, _, _ in receipt.rejected}
        for offset in range(first, first + len(rows)):
            if offset not in refused:
                assert found[offset] == 1, ("called stored", offset, receipt, found)
        return receipt

    # -- what happens -----------------------------------------------------------------------------

    def fates(self, data: st.DataObject, driver: int, first: int, through: int) -> None:
        """Draw what becomes of some of the next calls."""

        def crash(when: str, how: str) -> Callable[[Way], str]:
            def happens(way: Way) -> str:
                if isinstance(way.handle, Local):
                    # What ran before is in the log; what is lost after has run before the restart.
                    way.handle.restart(how)
                    return when
                return ""

            return happens

        def die(way: Way) -> str:
            raise Died

        def another(way: Way) -> str:
            # In another process: the same rows, maybe with other people, are offered meanwhile.
            if not busy:
                busy.append(1)
                self.submit(1 - driver, rows, first)
            return ""

        busy: list[int] = []
        rows = self.rows(data, first, through)
        crashes = [
            crash(when, how)
            for when in ("lost before", "lost after")
            for how in ("checkpoint", "tail")
        ]
        choices = st.sampled_from([*crashes, die, die, another, another])
        calls = st.dictionaries(st.integers(1, 30), choices, max_size=3)
        self.plan = {self.calls + n: what for n, what in data.draw(calls).items()}

    @rule(data=st.data(), driver=st.integers(0, 1), size=st.integers(1, 9), back=st.integers(0, 12))
    def offer(self, data: st.DataObject, driver: int, size: int, back: int) -> None:
        """New rows and ones that were offered before, cut anyhow."""
        first = max(0, self.sent - back)
        cursor = self.drivers[driver].cursor("p")
        first = min(first, cursor)
        rows = self.rows(data, first, first + size)
        self.fates(data, driver, first, first + size)
        self.submit(driver, rows, first)
        self.plan = {}

    @rule(driver=st.integers(0, 1))
    def grow(self, driver: int) -> None:
        """The next field is declared; one driver hears of it."""
        if len(self.fields) < len(FIELDS):
            self.fields.append(FIELDS[len(self.fields)])
            self.apply()
        link = self.drivers[driver]._connection
        link.catalogue = self.coordinator.catalogue()

    @rule()
    def coordinator_restarts(self) -> None:
        place = self.coordinator._place
        self.coordinator.stop()
        self.coordinator = CoordinatorActor(place)
        for driver in self.drivers:
            driver._connection.coordinator.handle = self.coordinator

    # -- at the end -------------------------------------------------------------------------------

    def teardown(self) -> None:
        if not hasattr(self, "drivers"):
            return
        self.check_end()
        for local in self.locals:
            assert local.partition.verify() == []
            local.partition.close()
        self.coordinator.stop()
        shutil.rmtree(self.path)

    def last_offer(self) -> Receipt:
        """Everything once more, under all definitions, by a driver that has just come."""
        self.plan = {}
        self.fields = list(FIELDS)
        self.apply()
        self.drivers[0] = self.driver()
        ends = [local.partition.cursor("p") or 0 for local in self.locals]
        total = max(self.sent, 1, *ends)
        rows = [row_of(n, PEOPLE[n % len(PEOPLE)]) for n in range(total)]
        receipt = self.submit(0, rows, 0)
        assert receipt is not None
        return receipt

    def check_end(self) -> None:
        receipt = self.last_offer()
        assert receipt.rejected_count == 0
        assert self.stored() == Counter(range(receipt.accepted + receipt.duplicate))
        if self.sure:
            assert self.accepted == receipt.accepted + receipt.duplicate
        # One that dies while another repairs the row that it has just judged leaves its record.
        assert self.coordinator.quarantine("calls", 1000) == [] or not self.sure
        for local in self.locals:
            mine = local.partition.state.rejects.get("p")
            assert mine is None or (len(mine.open), len(mine.taken)) == (0, 0)


class BoundedMachine(RepairMachine):
    """The same where the quarantine keeps no more than two records."""

    bound = 2

    def check_end(self) -> None:
        receipt = self.last_offer()
        found = self.stored()
        assert set(found.values()) <= {1}
        assert len(found) == receipt.accepted + receipt.duplicate
        for row, _, reason in receipt.rejected:
            assert "can no longer be repaired" in reason
            assert row not in found
        again = self.last_offer()
        assert (again.accepted, again.rejected_count) == (0, receipt.rejected_count)


TestRepairs = RepairMachine.TestCase
TestRepairs.settings = settings(max_examples=25, stateful_step_count=12, deadline=None)
TestBounded = BoundedMachine.TestCase
TestBounded.settings = settings(max_examples=10, stateful_step_count=12, deadline=None)
