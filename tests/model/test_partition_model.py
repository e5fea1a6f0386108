"""L5, L8, exactly once: a partition against a list of rows, through repeats, gaps and reopenings.

Theory: the model is what a slow reader of the contract would write: per producer one cursor and its
receipts, per dataset the accepted rows, and a set of (identity, timestamp, ``_id``). Two of the
producers are anonymous senders, whose rows may be appended to one of the others' streams.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from profile_actors.config import Config
from profile_actors.engine.log.in_memory import MemoryCheckpoints, MemoryFeed
from profile_actors.engine.log.sub_batch import Reply
from profile_actors.engine.partition.partition import Partition
from profile_actors.ingest.identity_keys import key_of
from tests.model.hub import BASE, HOUR, SEED, WHO, Hub

CONFIG = Config(max_profiles=64, max_ahead_ms=1 << 50, max_receipts=3, max_receipt_producers=2)
PEOPLE = ("a", "b", "c")
NAMED = {"p": "hits", "q": "hits", "r": "calls"}
PRODUCERS = NAMED | {"~a": "hits", "~b": "calls"}

row = st.builds(
    lambda who, hours, name, n: {"who": who, "at": BASE + hours * HOUR, "_id": name, "n": n},
    st.sampled_from(PEOPLE), st.integers(0, 2), st.sampled_from("xy"), st.integers(0, 1),
)  # fmt: skip


@dataclass(frozen=True)
class Sent:
    """A sub-batch. to, least: the named producer that is credited, once it has reached least."""

    producer: str
    first: int
    through: int
    resend: bool = False
    to: str | None = None
    least: int = 0


@dataclass
class Known:
    """What the model knows of a producer. receipts: (first, through, accepted, duplicate, late)."""

    stream: list[dict[str, Any]] = field(default_factory=list)
    cursor: int | None = None
    receipts: list[tuple[int, int, int, int, int]] = field(default_factory=list)


class PartitionMachine(RuleBasedStateMachine):
    """The partition is its list, whatever producers and restarts do."""

    @initialize()
    def start(self) -> None:
        self.hub = Hub()
        self.log = self.hub.stores[0][0]
        self.feed, self.checkpoints = MemoryFeed(), MemoryCheckpoints()
        self.open()
        self.known = {name: Known() for name in PRODUCERS}
        self.rows: dict[str, list[dict[str, Any]]] = {"hits": [], "calls": []}
        self.ids: set[tuple[str, int, str]] = set()
        self.newest: dict[str, int] = {}
        self.duplicates = 0
        self.heard: list[str] = []  # producers, the one heard last at the end

    def open(self) -> None:
        self.partition = Partition(self.log, self.feed, self.checkpoints, CONFIG)

    # -- the model ------------------------------------------------------------------------------

    def expected(self, sent: list[Sent]) -> list[Reply]:
        """The replies to one commit."""
        out = []
        heard: list[str] = []
        newest, fresh = dict(self.newest), dict(self.newest)
        for one in sent:
            producer, first, through = one.producer, one.first, one.through
            mine = self.known[producer]
            cursor = mine.cursor or 0
            if one.resend and cursor >= through:
                # Receipts of this very entry are not yet kept.
                found = [r for r in self.kept[producer] if r[:2] == (first, through)]
                if found:
                    out.append(Reply("ok", *found[0][2:]))
                    continue
            if first > cursor:
                out.append(Reply("gap", expected=cursor))
                continue
            if one.to is not None and through > cursor:
                named = self.known[one.to]
                if (named.cursor or 0) < one.least:
                    out.append(Reply("early", expected=named.cursor or 0))
                    continue
                named.cursor = (named.cursor or 0) + through - first
            accepted = late = 0
            for row in mine.stream[max(first, cursor) : through]:
                dataset, who, at = PRODUCERS[producer], row["who"], row["at"]
                if dataset == "hits":
                    if (who, at, row["_id"]) in self.ids:
                        continue
                    self.ids.add((who, at, row["_id"]))
                accepted += 1
                late += at < newest.get(who, 0)
                fresh[who] = max(fresh.get(who, 0), at)
                self.rows[dataset].append(row)
            duplicate = through - first - accepted
            self.duplicates += duplicate
            mine.cursor = max(cursor, through)
            mine.receipts.append((first, through, accepted, duplicate, late))
            heard.append(producer)
            out.append(Reply("ok", accepted, duplicate, late))
        self.newest = fresh
        for producer in heard:
            self.heard = [p for p in self.heard if p != producer] + [producer]
            for silent in self.heard[: -CONFIG.max_receipt_producers]:
                self.known[silent].receipts.clear()
        for mine in self.known.values():
            del mine.receipts[: -CONFIG.max_receipts]
        return out

    def commit(self, sent: list[Sent]) -> None:
        """One entry of sub-batches; every answer must be the model's."""
        batches = []
        for one in sent:
            producer, first, through = one.producer, one.first, one.through
            stream = self.known[producer].stream
            rows = [dict(row) for row in stream[first:through]]
            if PRODUCERS[producer] == "calls":
                rows = [{k: v for k, v in row.items() if k != "_id"} for row in rows]
            batch = self.hub.sub_batch(
                PRODUCERS[producer], producer, first, rows, resend=one.resend, clock=BASE
            )
            if one.to is not None:
                batch = replace(batch, credit=(one.to, through - first, one.least))
            batches.append(batch)
        self.kept = {name: list(known.receipts) for name, known in self.known.items()}
        wanted = self.expected(sent)
        for reply, model, one in zip(
            self.partition.commit(batches, None), wanted, sent, strict=True
        ):
            if model.status in ("gap", "early"):
                assert (reply.status, reply.expected) == (model.status, model.expected)
                continue
            got = (reply.status, reply.accepted, reply.duplicate, reply.late)
            assert got == ("ok", model.accepted, model.duplicate, model.late), (got, model)
            assert reply.accepted + reply.duplicate == one.through - one.first

    # -- what producers do ----------------------------------------------------------------------

    def grown(self, producer: str, through: int, data: st.DataObject) -> None:
        stream = self.known[producer].stream
        missing = through - len(stream)
        if missing > 0:
            stream += data.draw(st.lists(row, min_size=missing, max_size=missing))

    @rule(data=st.data(), count=st.integers(1, 4))
    def send(self, data: st.DataObject, count: int) -> None:
        """One entry of up to four sub-batches: next ones, repeats cut anyhow, and too early
        ones."""
        sent = []
        ends = {name: known.cursor or 0 for name, known in self.known.items()}
        for _ in range(count):
            producer = data.draw(st.sampled_from(list(NAMED)))
            first = max(0, ends[producer] + data.draw(st.sampled_from((0, 0, 0, 1, 2, -1, -3))))
            through = first + data.draw(st.integers(1, 5))
            self.grown(producer, through, data)
            sent.append(Sent(producer, first, through, data.draw(st.booleans())))
            if data.draw(st.booleans()):
                ends[producer] = max(ends[producer], through)
        self.commit(sent)

    @rule(data=st.data(), count=st.integers(1, 3))
    def append(self, data: st.DataObject, count: int) -> None:
        """Two connections append to named producers in turns, sometimes again, sometimes too
        soon."""
        sent = []
        ends = {name: known.cursor or 0 for name, known in self.known.items()}
        for _ in range(count):
            sender = data.draw(st.sampled_from(("~a", "~b")))
            to = data.draw(st.sampled_from(list(NAMED)))
            first = ends[sender]
            through = ends[sender] = first + data.draw(st.integers(1, 4))
            self.grown(sender, through, data)
            least = ends[to] + data.draw(st.sampled_from((0, 0, 0, -2, 1)))
            one = Sent(sender, first, through, to=to, least=least)
            sent.append(one)
            if data.draw(st.booleans()):
                sent.append(replace(one, resend=True))
        self.commit(sent)

    @rule(data=st.data())
    def swap(self, data: st.DataObject) -> None:
        """Two sub-batches of one producer arrive in the wrong order, then both again."""
        producer = data.draw(st.sampled_from(list(NAMED)))
        begin = self.known[producer].cursor or 0
        self.grown(producer, begin + 4, data)
        first, second = Sent(producer, begin, begin + 2), Sent(producer, begin + 2, begin + 4)
        self.commit([second, first])
        self.commit([replace(second, resend=True)])
        self.commit([replace(first, resend=True)])

    @rule(data=st.data())
    def resend(self, data: st.DataObject) -> None:
        """A client that had no answer sends one of its last batches again."""
        producer = data.draw(st.sampled_from(list(PRODUCERS)))
        receipts = self.known[producer].receipts
        if receipts:
            first, through, *_ = data.draw(st.sampled_from(receipts))
            self.commit([Sent(producer, first, through, resend=True)])

    @rule(how=st.sampled_from(("checkpoint", "tail", "nothing", "no feed", "no checkpoint")))
    def reopen(self, how: str) -> None:
        """A restart, with more or less of what can be derived."""
        if how in ("checkpoint", "no feed"):
            job = self.partition.checkpoint_job(force=True)
            if job is not None:
                job()
        blocks = self.feed.blocks
        if how in ("nothing", "no feed"):
            self.feed = MemoryFeed()
        if how in ("nothing", "no checkpoint"):
            self.checkpoints = MemoryCheckpoints()
        self.partition.close()
        self.open()
        assert self.feed.blocks == blocks

    # -- always ---------------------------------------------------------------------------------

    @invariant()
    def cursors_and_counts_agree(self) -> None:
        for producer, known in self.known.items():
            assert self.partition.cursor(producer) == known.cursor, producer
        status = self.partition.status()
        assert status.events == sum(map(len, self.rows.values()))
        assert status.duplicate == self.duplicates

    @invariant()
    def every_row_is_there_once(self) -> None:
        for who in PEOPLE:
            page = self.partition.events(key_of(WHO, who, SEED), limit=10_000)
            got = Counter((e["timestamp"], e.get("_id"), e.get("n")) for e in page.events)
            wanted = Counter(
                (r["at"], r["_id"] if dataset == "hits" else None, r["n"])
                for dataset, rows in self.rows.items()
                for r in rows
                if r["who"] == who
            )
            assert got == wanted, who

    def teardown(self) -> None:
        if hasattr(self, "partition"):
            assert self.partition.verify(len(self.newest)) == []
            self.partition.close()


TestPartition = PartitionMachine.TestCase
TestPartition.settings = settings(max_examples=20, stateful_step_count=20)
