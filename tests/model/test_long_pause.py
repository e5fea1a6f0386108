"""A store that was closed for 40 days: right from the first look-up, and every change in its place.

Theory: forty days pass between two openings, during which windows, months and patience run out.
Before any of that work is done, between its steps, and when it is all done, each look-up must be
the reference evaluator's; and the feed must then hold exactly the differences that this evaluator
sees between the two instants, each at its own, in order.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from profile_actors.actors.writer import Writer
from profile_actors.config import Config
from profile_actors.definitions.catalogue_changes import extended
from profile_actors.definitions.declared import (
    Catalogue,
    ComputedAttribute,
    Dataset,
    Definition,
    Namespace,
    Schema,
    SegmentDefinition,
)
from profile_actors.engine.log.ports import Checkpoints, Feed, Log
from profile_actors.engine.log.sub_batch import SubBatch
from profile_actors.engine.partition.partition import Partition
from profile_actors.engine.reading import verification
from profile_actors.engine.reading.answers import Change
from profile_actors.ingest.door import Door
from profile_actors.ingest.identity_keys import key_of
from profile_actors.rules.catalogue.typed_rules import check_all
from profile_actors.rules.reference.validity import evaluate_with_candidate
from profile_actors.storage.checkpoint_files import FileCheckpoints
from profile_actors.storage.lmdb_feed import LmdbFeed
from profile_actors.storage.lmdb_log import LmdbLog
from tests.differential.oracle import Difference, FeedOracle, Key
from tests.waiting import PATIENCE_S

HOUR = 3_600_000
DAY = 24 * HOUR
T0 = 1_709_100_000_000 // DAY * DAY  # 2024-02-28: a leap day and a month's end are passed
PAUSE = 40 * DAY
PEOPLE = [f"p{number:02}" for number in range(40)]
SEED = 5
CONFIG = Config(max_profiles=128, max_ahead_ms=1 << 50, max_tick_ms=5)
WHO = Namespace("CRMID", kind="cross_device")
BUYS = 'eventType = "buy" and'
RULES = {
    "week": "xEvent[timestamp occurs <= 7 days before now].count() >= 2",
    "calm": "not (xEvent[timestamp occurs <= 36 hours before now].count() >= 1)",
    "month": "xEvent[timestamp occurs on this month].count() >= 3",
    "yesterday": "xEvent[timestamp occurs yesterday].sum(x) > 1",
    "lapsed": f"xEvent[{BUYS} x > 0].max(timestamp) occurs >= 14 days before now",
    "grown": "born occurs >= 1 month before now",
    "birthday": "born.getMonth() = currentMonth()",
    "pair": 'CHAIN(xEvent, timestamp, [A: WHAT(eventType = "view") WHEN(<= 20 days before now),'
    ' B: WHAT(eventType = "buy") WHEN(<= 2 days after A)])',
    "no pair": 'not CHAIN(xEvent, timestamp, [A: WHAT(eventType = "view"),'
    ' B: WHAT(eventType = "buy" and ref = A.ref) WHEN(<= 30 days before now) COUNT(2)])',
    "joined": f"exists A from xEvent where A.{BUYS} A.timestamp occurs <= 3 weeks before now and"
    ' exists B from xEvent where B.eventType = "view" and B.ref = A.ref and B.timestamp occurs'
    " <= 1 day before A.timestamp",
    # An array inside events: no operator keeps it, so it is rescanned.
    "rescanned": "forall E from xEvent where E.timestamp occurs <= 30 days before now, I from"
    " E.items where I.qty >= 1",
    "of others": 'inSegment("week") or (inSegment("lapsed") and not inSegment("month"))',
    "quiet": "computed.last occurs >= 21 days before now",
    "spends": "computed.spent > 2 and not inSegment(\"calm\")",
    "counted": 'computed.counts.get("buy") >= 2',
}  # fmt: skip
COMPUTED = {
    "last": "xEvent.max(timestamp)",
    "spent": "xEvent[timestamp occurs <= 1 month before now].sum(x)",
    "counts": "xEvent[timestamp occurs <= 2 weeks before now].groupBy(eventType)"
    ".map((K, G) => mapEntry(K, G.count()))",
    "days": "xEvent[timestamp occurs today].count()",
}
DEFINITIONS: list[Definition] = [
    WHO,
    Schema(
        "hit",
        "event",
        {"x": "double", "ref": "string", "items[].qty": "integer"},
    ),
    Schema("person", "record", {"born": "date"}),
    Dataset("hits", "hit", {"who": "CRMID"}, timestamp="at", id="_id", event_type_field="kind"),
    Dataset("crm", "person", {"who": "CRMID"}, timestamp="at"),
    *[ComputedAttribute(name, rule) for name, rule in COMPUTED.items()],
    *[SegmentDefinition(name, rule) for name, rule in RULES.items()],
]
CATALOGUE = extended(Catalogue(), DEFINITIONS)


def history(rng: random.Random) -> dict[str, list[dict[str, Any]]]:
    """Rows up to T0, and some that are known before their time: those count during the pause."""
    hits = []
    for number in range(6 * len(PEOPLE)):
        ahead = 10 if rng.random() < 0.15 else 0
        at = T0 - rng.randint(0, 30 * 24) * HOUR + ahead * DAY + rng.choice((0, 0, -1, 1))
        row: dict[str, Any] = {
            "who": rng.choice(PEOPLE), "at": at, "_id": f"e{number}",
            "kind": rng.choice(("view", "buy")), "x": rng.choice((0.1, 0.5, 1.5)),
            "ref": rng.choice("ab"),
        }  # fmt: skip
        if rng.random() < 0.4:
            row["items"] = [{"qty": rng.choice((0, 1, 2))}]
        hits.append(row)
    born = [
        {"who": who, "at": T0 - DAY, "born": rng.choice(("2024-02-01", "1990-03-31"))}
        for who in PEOPLE[::2]
    ]
    return {"hits": hits, "crm": born}


class Shop:
    """A partition in files, with a history; closed and opened again."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.directory = directory
        self.opened()
        self.partition.define(CATALOGUE, T0)
        for dataset, rows in history(random.Random(seed)).items():
            door = Door(CATALOGUE, dataset, SEED, CONFIG)
            for first in range(0, len(rows), 60):
                part = rows[first : first + 60]
                prepared = door.prepare(part, first, T0)
                assert not prepared.rejects, prepared.rejects[:2]
                through = first + len(part)
                table = prepared.table
                sub = SubBatch(dataset, dataset, first or None, through, 1, None, table)
                assert self.partition.commit([sub], T0)[0].accepted == len(part)
        while self.partition.work(1 << 20):
            pass
        self.closed_at = self.partition.position - 1

    def opened(self) -> None:
        self.log: Log = LmdbLog(self.directory, CONFIG, epoch=1)
        self.feed: Feed = LmdbFeed(self.directory, CONFIG)
        self.checkpoints: Checkpoints = FileCheckpoints(self.directory)
        self.partition = Partition(self.log, self.feed, self.checkpoints, CONFIG, epoch=1)

    def reopen(self, *, with_checkpoint: bool) -> None:
        if with_checkpoint:
            job = self.partition.checkpoint_job(force=True)
            assert job is not None
            job()
        self.partition.close()
        self.opened()

    def check_look_ups(self, now: int, people: list[str]) -> None:
        """Every answer about these people at an instant is the reference evaluator's."""
        state = self.partition.state
        profiles = self.partition.profiles([key_of(WHO, who, SEED) for who in people], now)
        for who, profile in zip(people, profiles, strict=True):
            assert profile is not None, who
            k0, k1 = key_of(WHO, who, SEED)
            keys = np.array([k0], np.uint64), np.array([k1], np.uint64)
            slot = int(state.directory.slot_of[state.directory.find(*keys)[0]])
            assert profile.now == now
            assert list(verification.reference_differences(state, self.log, slot, profile)) == [], (
                who
            )

    def check_feed(self, began: int, now: int) -> set[str]:
        """The feed since the pause began is what the reference evaluator sees; names that moved."""
        changes, reached = self.partition.changes(self.closed_at, 1 << 40)
        assert reached == self.partition.position - 1
        found: dict[Key, list[Change]] = {}
        newest: dict[str, int] = {}
        for change in changes:
            who = change.identity.value
            assert began < change.at <= now
            assert change.cause == "clock"
            assert change.at >= newest.get(who, began), "a profile's changes are out of order"
            newest[who] = change.at
            kind = "segment" if change.kind == "membership" else "computed"
            found.setdefault((kind, change.name, who), []).append(change)
        state = self.partition.state
        oracle = FeedOracle(state, self.log, check_all(CATALOGUE))
        for rule in oracle.trees:
            for slot in range(state.directory.slots):
                wanted = list(oracle.between(rule, slot, self.closed_at, began, now))
                line = found.pop((*rule, oracle.who(slot)), [])
                assert _told(line) == _expected(rule[0], wanted), (rule, oracle.who(slot))
        assert not found, "changes of unknown rules"
        return {change.name for change in changes}


def _told(line: list[Change]) -> list[Any]:
    """Changes as they are compared: a computed attribute's value is the one at delivery."""
    return [c.at if c.kind == "computed" else (c.at, c.old, c.new) for c in line]


def _expected(kind: str, line: list[Difference]) -> list[Any]:
    words = {False: "exited", True: "realized"}
    if kind == "computed":
        return [at for at, _, _ in line]
    return [(at, words[before], words[after]) for at, before, after in line]


def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many evaluations rescans have made since it was last asked."""
    made = [0]

    def spy(*args: Any, **options: Any) -> Any:
        made[0] += 1
        return evaluate_with_candidate(*args, **options)

    monkeypatch.setattr("profile_actors.rules.reference.validity.evaluate_with_candidate", spy)

    def since() -> int:
        count, made[0] = made[0], 0
        return count

    return since


@pytest.mark.parametrize("with_checkpoint", [True, False])
def test_forty_days_later_everything_is_right_at_once_and_told_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_checkpoint: bool
) -> None:
    shop = Shop(tmp_path / "p", seed=1)
    shop.reopen(with_checkpoint=with_checkpoint)
    began, now = T0, T0 + PAUSE
    assert shop.partition.now == began
    assert shop.partition.next_due() < now, "the test needs due work"
    assert shop.partition.state.book.rescans, "the test needs a rescanned rule"
    shop.check_look_ups(now, PEOPLE)
    evaluations = counted(monkeypatch)
    steps, some = 0, PEOPLE[::8]
    shop.partition.tick(now)
    while shop.partition.work(16):
        steps += 1
        assert evaluations() <= 16
        if steps % 8 == 0:
            shop.check_look_ups(now + steps, some)
    assert steps > 3
    assert shop.partition.next_due() > now
    shop.check_look_ups(now, PEOPLE)
    moved = shop.check_feed(began, now)
    assert moved == {*RULES, *COMPUTED}, "time moves every rule"
    assert list(verification.refold_differences(shop.partition.state, shop.log)) == []
    shop.partition.close()


def test_the_writer_drains_forty_days_while_look_ups_go_on(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "p", seed=2)
    shop.reopen(with_checkpoint=True)
    now = T0 + PAUSE
    writer = Writer(shop.partition, CONFIG, clock="wall", wall=lambda: now)
    shop.check_look_ups(now, PEOPLE[:8])
    writer.start()
    end = time.monotonic() + PATIENCE_S
    try:
        while shop.partition.next_due() <= now or shop.partition.owed.rescans.pending:
            (profile,) = shop.partition.profiles([key_of(WHO, PEOPLE[0], SEED)], writer.now())
            assert profile is not None
            assert profile.now == now
            assert time.monotonic() < end
    finally:
        writer.stop()
    assert writer.halted is None
    shop.check_look_ups(now, PEOPLE)
    shop.check_feed(T0, now)
    shop.partition.close()
