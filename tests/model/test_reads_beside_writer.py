"""Every read beside the writer is the answer of a committed state, wherever the writer is.

Theory: ``beside`` puts the reader between any two lines of the writer's steps: entries with rows,
slices of the clock's work, rescans, definitions. Every question is asked at every place, and all
answers must be those of one state. Threads do the same without a plan, as a check of the rest: that
nothing that is read changes while it is read.
"""

from __future__ import annotations

import importlib
import pkgutil
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import Any

import msgspec
import pytest

from profile_actors import engine
from profile_actors.columnar.state_columns import UNSET
from profile_actors.config import Config
from profile_actors.definitions.declared import (
    Catalogue,
    ComputedAttribute,
    Dataset,
    Schema,
    SegmentDefinition,
)
from profile_actors.engine.exchange import admission
from profile_actors.engine.fold import state
from profile_actors.engine.identity import directory
from profile_actors.engine.log.in_memory import MemoryCheckpoints, MemoryFeed, MemoryLog
from profile_actors.engine.partition import (
    clock_steps,
    entry_writer,
    feed_writer,
    partition,
    partition_clock,
)
from profile_actors.engine.partition.partition import Partition
from profile_actors.engine.reading.answers import Profile
from profile_actors.engine.refold import rescans
from profile_actors.errors import Pending
from profile_actors.ingest.identity_keys import key_of
from tests.model.beside import NO_ANSWER, Committed
from tests.model.hub import BASE, DAY, HOUR, SEED, WHO, Hub

WRITING = (
    *(admission, partition_clock, clock_steps, entry_writer, feed_writer, partition),
    *(directory, rescans, state),
)
"""Where the writer changes what readers see, or should not yet see."""
STEPS = ("rows", "rows", "rows", "time", "rescans", "rules")
"""What the writer does, how often among six steps."""
PEOPLE = ("u", "v", "w", "x")
KEYS = [key_of(WHO, who, SEED) for who in PEOPLE]
SEGMENTS = {
    "seen": "xEvent.count() > 0",
    "busy": "xEvent[timestamp occurs <= 3 hours before now].count() > 1",
    "silent": "xEvent.max(timestamp) occurs > 4 hours before now",
    "gold": 'tier = "gold" and xEvent.sum(x) > 0.3',
    "twice": "CHAIN(xEvent, timestamp, [A: WHAT(n = 1), B: WHAT(n = 2) WHEN(<= 5 hours after A)])",
    "tagged": 'tags.includes("a") and xEvent[timestamp occurs <= 2 hours before now].count() > 0',
}
COMPUTED = {
    "count": "xEvent.count()",
    "sum": "xEvent[timestamp occurs <= 6 hours before now].sum(x)",
    "numbers": "xEvent.groupBy(n).map((K, G) => mapEntry(K, G.count()))",
    "label": 'if(tags.includes("a"), score, 0)',
}
MORE = {"seen": "xEvent.count() > 1", "untagged": 'not(tags.includes("a"))'}
CONFIG = Config(max_profiles=64, max_ahead_ms=1 << 50, max_due_rows=3)


def catalogue(version: int = 1) -> Catalogue:
    """Rules of every kind that is kept differently; every second version has some others."""
    segments = {**SEGMENTS, **(MORE if version % 2 == 0 else {})}
    person = {"tags": "string[]", "tier": "string", "score": "decimal(2)"}
    return Catalogue(
        version,
        {"CRMID": WHO},
        {
            "hit": Schema("hit", "event", {"n": "integer", "x": "double"}),
            "person": Schema("person", "record", dict(person)),
        },
        {
            "hits": Dataset("hits", "hit", {"who": "CRMID"}, timestamp="at", event_type="hit"),
            "crm": Dataset("crm", "person", {"who": "CRMID"}, timestamp="at"),
        },
        {name: SegmentDefinition(name, rule) for name, rule in segments.items()},
        {name: ComputedAttribute(name, rule) for name, rule in COMPUTED.items()},
    )


def of_segment(ask: str, name: str, one: Partition) -> Any:
    """Members or their number, or that rescans are awaited. While the clock is on its way to a
    later instant there is no answer, and a partition that folds the entries does not know that."""
    try:
        return getattr(one, ask)(name)
    except Pending:
        return NO_ANSWER if one.owed.behind != UNSET else "pending"


def changes(one: Partition) -> list[Any]:
    """The feed as it can be read, but for values of computed attributes: those are the newest."""
    found, reached = one.changes(-1, 1 << 30)
    return [
        (c.position, c.at, c.name, c.identity, c.cause, c.new if c.kind == "membership" else "")
        for c in found
    ] + [reached]


def status(one: Partition) -> dict[str, Any]:
    """The status, but for sizes and timings, which are no facts of the log."""
    found: dict[str, Any] = msgspec.structs.asdict(one.status())
    for name in (
        "log_bytes",
        "feed_bytes",
        "state_bytes",
        "state_by_kind",
        "stage_s",
        "checkpoint",
        "clock_goal",
    ):
        del found[name]
    return found


QUESTIONS: dict[str, Callable[[Partition], Any]] = {
    "profiles": lambda one: [settled(one, profile) for profile in one.profiles(KEYS)],
    "status": status,
    "changes": changes,
    "later profiles": lambda one: [
        settled(one, profile) for profile in one.profiles(KEYS[:2], (one.now or BASE) + 2 * HOUR)
    ],
    "events": lambda one: [paged(one, key) for key in KEYS[:2]],
    **{
        f"{ask} of {name}": partial(of_segment, ask, name)
        for name in SEGMENTS
        for ask in ("members", "count")
    },
    "preview": lambda one: one.preview("not(xEvent.count() > 1)", None, 10),
    "asked preview": lambda one: one.preview('not(tags.includes("a"))', None, 10),
    "cursor": lambda one: (one.cursor("p"), one.cursor("q")),
    "has_rows_of": lambda one: one.has_rows_of("dataset", "crm"),
}  # fmt: skip


def settled(one: Partition, profile: Profile | None) -> Profile | None:
    """A profile; while rescans are outstanding, without the history of rescanned segments: since
    when, and whether it ever was in, are known when they are done."""
    if profile is None or not one.owed.rescans.pending:
        return profile
    again = {rule.rule.name for rule in one.state.book.rescans}
    segments = {
        name: msgspec.structs.replace(m, last_qualification_time=None) if name in again else m
        for name, m in profile.segments.items()
        if name not in again or m.status == "realized"
    }
    return replace(profile, segments=segments)


def paged(one: Partition, key: tuple[int, int]) -> list[dict[str, Any]]:
    """All events, in pages of two."""
    page = one.events(key, limit=2)
    out = page.events
    while page.next is not None:
        page = one.events(key, limit=2, cursor=page.next)
        out = [*out, *page.events]
    return out


class Writing:
    """One partition, its committed states, and a writer's steps drawn by ``rng``."""

    def __init__(self, rng: random.Random, config: Config = CONFIG) -> None:
        self.rng = rng
        self.kinds: list[str] = []
        self.hub = Hub(1, catalogue())
        self.log = MemoryLog()
        self.one = Partition(self.log, MemoryFeed(), MemoryCheckpoints(), config)
        self.one.define(catalogue(), None)
        self.hub.partitions[0] = self.one
        self.now = BASE
        self.committed = Committed(self.log, config, QUESTIONS, at_once=3)

    def step(self) -> None:
        """Rows of both datasets, some late; time; rescans; other rules: few steps have most."""
        rng, one = self.rng, self.one
        self.now += rng.choice((0, 1, HOUR, HOUR, 3 * HOUR))
        if not self.kinds:
            self.kinds = rng.sample(STEPS, len(STEPS))
        match self.kinds.pop():
            case "rows":
                rows = [("hits", "p", self.hits()), ("crm", "q", self.records())]
                self.hub.submit(rows, self.now)
            case "time":
                one.advance(max(self.now, one.now or 0))
            case "rescans":
                one.work(rng.choice((1, 3, 50)))
            case "rules":
                one.define(catalogue(one.catalogue.version + 1), None)

    def hits(self) -> list[dict[str, Any]]:
        rng = self.rng
        late = rng.choice((0, 0, 2 * HOUR, DAY))
        return [
            {
                "who": rng.choice(PEOPLE), "at": self.now - late, "n": rng.randrange(3),
                "x": rng.choice((0.1, 0.2, -0.3)),
            }
            for _ in range(rng.choice((1, 2, 6)))
        ]  # fmt: skip

    def records(self) -> list[dict[str, Any]]:
        rng = self.rng
        return [
            {
                "who": rng.choice(PEOPLE), "at": self.now, "tags": rng.choice((["a"], ["b"])),
                "tier": rng.choice(("gold", "tin")), "score": rng.choice(("1.50", "2")),
            }
            for _ in range(rng.choice((0, 1, 2)))
        ]  # fmt: skip


def watched(seed: int, steps: int, modules: Sequence[ModuleType]) -> Counter[str]:
    """Steps of the writer with a reader between its lines; the lines."""
    writing = Writing(random.Random(seed))
    seen: Counter[str] = Counter()
    for _ in range(steps):
        seen += writing.committed.watch(writing.one, writing.step, modules)
    return seen


@pytest.mark.parametrize("seed", range(2))
def test_a_reader_between_two_lines_of_the_writer_reads_a_committed_state(seed: int) -> None:
    assert len(watched(seed, 4, WRITING)) > 100


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 104))
def test_a_reader_between_any_two_lines_of_the_engine_reads_a_committed_state(seed: int) -> None:
    every = [
        importlib.import_module(module.name)
        for module in pkgutil.walk_packages(engine.__path__, "profile_actors.engine.")
    ]
    assert len(watched(seed, 4, every)) > 1000


@pytest.mark.parametrize("seed", range(2))
def test_threads_that_read_beside_the_writer_see_nothing_change_under_them(seed: int) -> None:
    writing = Writing(random.Random(seed))
    failed: list[BaseException] = []
    asked: Counter[str] = Counter()
    is_over = threading.Event()

    def reading(names: list[str]) -> None:
        try:
            while not is_over.is_set():
                for name in names:
                    QUESTIONS[name](writing.one)
                    asked[name] += 1
        except BaseException as error:
            failed.append(error)

    names = list(QUESTIONS)
    threads = [threading.Thread(target=reading, args=(names[i::2],)) for i in range(2)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        until = time.monotonic() + 1.5
        while time.monotonic() < until or not all(asked[name] for name in names):
            writing.step()
            if failed:
                break
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
    assert not failed, failed
    while writing.one.work(1000):
        pass
    version = writing.one.position, 0
    for name, question in QUESTIONS.items():
        assert question(writing.one) in (writing.committed.answer(version, name), NO_ANSWER), name
    assert writing.one.verify() == []
