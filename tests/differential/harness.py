"""The differential harness: a partition against the reference evaluator, after every entry.

Theory: a world is a partition over an in-memory log, driven by one seed: batches (late, repeated,
of equal times), clock moves, rule changes, reopenings with and without a checkpoint. After every
entry each profile's look-up must equal the reference evaluator's answer over its raw documents
(value and valid_until), a second fold must give the same columns, and the feed must hold exactly
the differences that the reference evaluator sees (``oracle``). Look-ups are also asked at instants
ahead of the partition's clock.

Limits: rescanned rules keep three habits that operators do not have, and the harness takes either.
Of a profile that begins in the entry, a computed attribute is marked even if it is what it would be
of nothing; so is one that goes from 0 to 0.0; and a profile with rows that the rule does not read
moves by the clock, not at the entry's now.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from profile_actors.config import Config
from profile_actors.engine import verify
from profile_actors.engine.batch import SubBatch
from profile_actors.engine.log import MemoryCheckpoints, MemoryFeed, MemoryLog
from profile_actors.engine.partition import Partition
from profile_actors.engine.profile import Change, Profile
from profile_actors.errors import RuleError
from profile_actors.ingest.door import Door
from profile_actors.rules.check import check_all
from profile_actors.rules.planner import plan
from tests.differential.generate import (
    BASE,
    DAY,
    HOUR,
    SCHEMAS,
    RuleMaker,
    Rules,
    drawn_schemas,
    rows,
)
from tests.differential.history import HistoryMaker
from tests.differential.oracle import Difference, FeedOracle, Key, now_of
from tests.differential.shapes import Stream, shape_of
from tests.differential.wide import WideMaker, widened

Kind = Literal["narrow", "wide", "history"]
KINDS: tuple[Kind, ...] = ("narrow", "wide", "history")

CONFIG = Config(max_profiles=64, max_ahead_ms=1 << 50)
WALL = BASE + 400 * DAY


DRAWN_FROM = 1_000


class World:
    """One partition and what was submitted to it.

    kind: 'narrow' (the incremental subset of the first engine), 'wide' (the whole language) or
    'history' (rules over several events, over a drawn store).
    """

    def __init__(self, seed: int, kind: Kind = "narrow") -> None:
        self.rng = random.Random(seed)
        self.kind = kind
        self.log, self.feed, self.checkpoints = MemoryLog(), MemoryFeed(), MemoryCheckpoints()
        self.partition = self.opened()
        self.offset = 0
        self.now = BASE
        self.version = 0
        # From here on the schema is drawn too; the worlds below keep the one they were found with.
        drawn = seed >= DRAWN_FROM and kind == "narrow"
        self.schemas = drawn_schemas(random.Random(seed)) if drawn else SCHEMAS
        self.rules = Rules({}, {}, self.schemas)
        if kind == "history":
            self.shape = shape_of(seed, seed >= DRAWN_FROM)
            self.stream = Stream(self.rng, self.shape)
            self.rules = Rules({}, {}, self.shape.schemas, self.shape.datasets)
        self.checks = 0
        self.submitted: list[tuple[str, list[dict[str, Any]]]] = []

    def opened(self) -> Partition:
        """The partition, from its log and newest checkpoint."""
        return Partition(self.log, self.feed, self.checkpoints, CONFIG)

    def define(self) -> None:
        """Apply a random set of rules."""
        if self.kind == "history":
            self.rules = HistoryMaker(self.rng, self.shape).rules(self.rng.randint(4, 7))
        else:
            self.rules = self.drawn_rules()
        self.version += 1
        self.partition.define(self.rules.catalogue(self.version), None)

    def drawn_rules(self) -> Rules:
        """Rules of a narrow or wide world that pass; the present ones if none of 50 does."""
        maker = WideMaker(self.rng) if self.kind == "wide" else RuleMaker(self.rng)
        for _ in range(50):
            rules = maker.rules(self.rng.randint(2, 6))
            rules.schemas = self.schemas
            try:
                plan(rules.catalogue(self.version + 1))
            except RuleError:
                continue
            return rules
        return self.rules

    def rows(self, dataset: str, count: int, low: int, high: int) -> list[dict[str, Any]]:
        """Rows of a dataset with instants between two."""
        if self.kind == "history":
            return self.stream.rows(dataset, count, low, high)
        return rows(self.rng, dataset, count, low, high)

    def submit(self, dataset: str, batch: list[dict[str, Any]], pieces: int = 1) -> None:
        """Submit rows through the real door, cut into ``pieces`` entries."""
        batch = widened(self.rng, dataset, batch) if self.kind == "wide" else batch
        catalogue = self.rules.catalogue(self.version)
        door = Door(catalogue, dataset, 0, CONFIG)
        clock = max([self.now] + [row["at"] for row in batch])
        size = max(1, -(-len(batch) // pieces))
        for begin in range(0, len(batch), size):
            part = batch[begin : begin + size]
            prepared = door.prepare(part, self.offset, WALL)
            assert not prepared.rejects, prepared.rejects[:2]
            through = self.offset + len(part)
            sub = SubBatch(dataset, "p", self.offset, through, self.version, clock, prepared.table)
            self.offset = through
            reply = self.partition.commit([sub], None)[0]
            assert reply.status == "ok", reply
            assert reply.accepted + reply.duplicate == len(part), reply
            # Before the next piece: a late row in it changes the past, but not the feed.
            self.check_feed(self.partition.state.position - 2)
        self.submitted.append((dataset, batch))
        self.now = clock

    def submit_early(self, batch: list[dict[str, Any]]) -> None:
        """Submit rows at a wall clock that some of them are ahead of: they wait for their time."""
        batch = widened(self.rng, "hits", batch) if self.kind == "wide" else batch
        door = Door(self.rules.catalogue(self.version), "hits", 0, CONFIG)
        prepared = door.prepare(batch, self.offset, WALL)
        through = self.offset + len(batch)
        sub = SubBatch("hits", "p", self.offset, through, self.version, None, prepared.table)
        self.offset = through
        self.now += self.rng.choice((0, 1, HOUR))
        assert self.partition.commit([sub], self.now)[0].status == "ok"
        self.submitted.append(("hits", batch))

    def advance(self, now: int) -> None:
        """Move the clock."""
        self.partition.advance(now)
        self.now = now

    def later(self) -> int:
        """An instant to move the clock to; in history worlds often at or beside a boundary."""
        rng = self.rng
        after = rng.choice((1, HOUR, DAY - 1, DAY, DAY + 1, 8 * DAY, 45 * DAY))
        if self.kind == "history" and rng.random() < 0.7:
            after = max(1, self.boundary())
        return self.now + after

    def boundary(self) -> int:
        """How far ahead some answer changes, or a millisecond less or more; 0: none is known."""
        state = self.partition.state
        slots = np.arange(state.directory.slots, dtype=np.uint32)
        profiles = self.partition._profiles(slots, state.now).values() if len(slots) else ()
        until = {m.valid_until for p in profiles for m in p.segments.values()}
        until |= {instant for p in profiles for instant in p.computed_valid_until.values()}
        near = sorted(u for u in until if u is not None and u < self.now + 400 * DAY)
        if not near:
            return 0
        return self.rng.choice(near[:6]) + self.rng.choice((-1, 0, 0, 1)) - self.now

    def reopen(self, *, derived: bool) -> None:
        """Reopen; derived False: without feed and checkpoints, which must come back the same."""
        if derived:
            if self.rng.random() < 0.5:
                job = self.partition.checkpoint_job(force=True)
                if job is not None:
                    job()
        else:
            self.drain()
            old = self.feed.blocks
            self.feed, self.checkpoints = MemoryFeed(), MemoryCheckpoints()
        self.partition = self.opened()
        if not derived:
            self.drain()
            assert self.feed.blocks == old, "the feed of a replay differs"

    def drain(self) -> None:
        """Do all rescans."""
        while self.partition.work(5):
            pass

    def work(self) -> None:
        """Do rescans, sometimes only a slice of them."""
        limit = self.rng.choice((1, 7, 1 << 20))
        while self.partition.work(limit) and limit > 7:
            pass

    def check(self, lookups_at: list[int]) -> None:
        """Compare everything with the oracles."""
        state = self.partition.state
        found = list(verify.refold_differences(state, self.log))
        for instant in lookups_at:
            slots = np.arange(state.directory.slots, dtype=np.uint32)
            if len(slots) == 0:
                continue
            profiles = self.partition._profiles(slots, max(instant, state.now))
            if instant <= state.now and not self.partition.rescans.pending:
                self.check_members(list(profiles.values()))
            for slot, profile in profiles.items():
                found += verify.reference_differences(state, self.log, slot, profile)
                self.checks += len(self.rules.segments) + len(self.rules.computed)
        assert not found, found[:3]

    def check_members(self, profiles: list[Profile]) -> None:
        """A segment's members are the profiles whose own look-up says so."""
        for name in self.rules.segments:
            members, _ = self.partition.members(name)
            said = [p for p in profiles if name in p.segments]
            inside = {p.identities[0] for p in said if p.segments[name].status == "realized"}
            assert set(members) == inside, (name, members, inside)
            assert self.partition.count(name) == len(inside)

    def check_feed(self, since: int) -> None:
        """The one entry after a position left the changes in the feed that the oracle expects."""
        state = self.partition.state
        position = since + 1
        self.drain()
        changes, reached = self.partition.changes(since, 1 << 40)
        assert reached == state.position - 1 == position
        if now_of(self.log, position)[0] == "definition" or position == 0:
            return
        found: dict[Key, list[Change]] = {}
        for change in changes:
            kind = "segment" if change.kind == "membership" else "computed"
            found.setdefault((kind, change.name, change.identity.value), []).append(change)
        for line in found.values():
            assert [c.at for c in line] == sorted(c.at for c in line), line
        oracle = FeedOracle(state, self.log, check_all(state.catalogue))
        expected = dict(oracle.differences(position))
        for key in expected.keys() | found.keys():
            wanted, line = expected.get(key, []), found.get(key, [])
            self.checks += len(wanted)
            if _are(line, wanted):
                continue
            is_rescanned = any(r.rule.name == key[1] for r in state.book.rescans)
            others = oracle.others(key, position, line) if is_rescanned else ()
            if any(_are(line, other) for other in others):
                continue
            raise AssertionError(f"expected {wanted} of {key} at {position}, got {line}")


def _are(found: list[Change], expected: list[Difference]) -> bool:
    """Whether these changes are those differences; of computed attributes only their instants,
    since the value is the one at delivery."""
    if any(c.kind == "computed" for c in found):
        return [c.at for c in found] == [at for at, _, _ in expected]
    return [(c.at, c.old == "realized", c.new == "realized") for c in found] == expected


def run(seed: int, entries: int = 8, kind: Kind = "narrow") -> int:
    """One world from one seed; returns how many (rule, profile, instant) checks were made."""
    world = World(seed, kind)
    rng = world.rng
    weights = (6, 3, 2, 4, 2, 1, 1, 1) if kind != "history" else (6, 2, 2, 5, 2, 1, 1, 1, 4)
    world.define()
    last_define = -1

    def spread(dataset: str, most: int) -> list[dict[str, Any]]:
        count = rng.randint(1, most)
        return world.rows(dataset, count, world.now - 3 * DAY, world.now + DAY)

    for _ in range(entries):
        since = world.partition.state.position - 1
        moves: list[Callable[[], None]] = [
            lambda: world.submit("hits", spread("hits", 12), rng.choice((1, 1, 3))),
            lambda: world.submit(
                "calls", world.rows("calls", rng.randint(1, 6), world.now - 40 * DAY, world.now)
            ),
            lambda: world.submit(
                rng.choice(("crm", "web")),
                world.rows("crm", rng.randint(1, 4), world.now - DAY, world.now),
            ),
            lambda: world.advance(world.later()),
            lambda: world.submit_early(
                world.rows("hits", rng.randint(1, 8), world.now - DAY, world.now + 2 * DAY)
            ),
            world.define,
            lambda: world.reopen(derived=True),
            lambda: world.reopen(derived=False),
            # History worlds only from here on: their second source of events.
            lambda: world.submit("taps", spread("taps", 8)),
        ]  # fmt: skip
        world.work()
        rng.choices(moves[: len(weights)], weights)[0]()
        ahead = rng.choice((0, 1, HOUR, DAY, 3 * DAY, 31 * DAY))
        ahead = rng.choice((ahead, world.boundary())) if kind == "history" else ahead
        world.check([world.now, world.now + ahead])
        if world.version != last_define:
            last_define = world.version
        elif world.partition.state.position - 1 == since + 1:
            world.check_feed(since)
    return world.checks
