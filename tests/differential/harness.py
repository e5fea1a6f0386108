"""The differential harness: a partition against the reference evaluator, after every entry.

Theory: a world is a partition over an in-memory log, and steps: batches (late, repeated, of equal
times), clock moves, rule changes, reopenings with and without a checkpoint. The steps are plain
data, so a world that fails can be done again with fewer of them (``shrink``). After every
entry each profile's look-up must equal the reference evaluator's answer over its raw documents
(value and valid_until), a second fold must give the same columns, and the feed must hold exactly
the differences that the reference evaluator sees (``oracle``). Look-ups are also asked at instants
ahead of the partition's clock.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from profile_actors.columnar.vectors import Array
from profile_actors.config import Config
from profile_actors.definitions.declared import Catalogue
from profile_actors.engine.log.in_memory import MemoryCheckpoints, MemoryFeed, MemoryLog
from profile_actors.engine.log.sub_batch import SubBatch
from profile_actors.engine.partition.partition import Partition
from profile_actors.engine.reading import look_ups, verification
from profile_actors.engine.reading.answers import Change, Profile
from profile_actors.engine.reading.fields import Fields
from profile_actors.engine.reading.look_ups import Found
from profile_actors.engine.reading.profile_columns import made
from profile_actors.engine.refold.backfill import Backfill
from profile_actors.ingest.door import Door
from profile_actors.rules.catalogue.typed_rules import check_all
from tests.differential.decimals import decimal_schemas
from tests.differential.feed_blocks import told
from tests.differential.generate import BASE, DAY, SCHEMAS, Rules, drawn_schemas
from tests.differential.oracle import Difference, FeedOracle, Key, now_of
from tests.differential.shapes import shape_of
from tests.differential.sizes import ROWS_UNDER_LOCK, make_tight
from tests.differential.stretched import stretched_schemas

Kind = Literal["narrow", "wide", "history", "odd"]
KINDS: tuple[Kind, ...] = ("narrow", "wide", "history", "odd")

Step = tuple[Any, ...]
"""A method of World and its arguments, plain data."""

CONFIG = Config(max_profiles=64, max_ahead_ms=1 << 50)
WALL = BASE + 400 * DAY
DRAWN_FROM = 1_000
"""From this seed on the schema is drawn too; worlds below keep the one they were found with."""
STRETCHED_FROM = 2_000_000
"""From this seed on numbers lie at the ends of their types, too."""
DECIMALS_FROM = 3_000_000
"""From this seed on there are decimals of two scales, and rules over both."""


def empty_rules(seed: int, kind: Kind) -> Rules:
    """No rules, over the schemas and datasets of a seed."""
    is_drawn = seed >= DRAWN_FROM
    if kind == "history":
        shape = shape_of(seed, is_drawn)
        return Rules({}, {}, shape.schemas, shape.datasets)
    if seed >= DECIMALS_FROM:
        return Rules({}, {}, decimal_schemas(seed, SCHEMAS))
    if seed >= STRETCHED_FROM:
        return Rules({}, {}, stretched_schemas(seed, SCHEMAS))
    is_drawn = is_drawn and kind == "narrow"
    return Rules({}, {}, drawn_schemas(random.Random(seed)) if is_drawn else SCHEMAS)


@dataclass(frozen=True)
class Begun:
    """A look-up under way, and what it must say, as text, in which a NaN is equal to itself."""

    partition: Partition
    part: Callable[[], Found]
    expected: str

    def __call__(self) -> str:
        found = self.part()
        columns = self.partition.reader.look_ups.columns(found, found.slots)
        return "\n".join(map(repr, made(columns)))


class World:
    """One partition, what was done to it (``journal``), and the checks it went through.

    kind: 'narrow' (the incremental subset of the first engine), 'wide' (the whole language),
    'history' (rules over several events, over a drawn store) or 'odd' (operands of any kind).
    """

    def __init__(self, seed: int, kind: Kind = "narrow") -> None:
        self.log, self.feed, self.checkpoints = MemoryLog(), MemoryFeed(), MemoryCheckpoints()
        self.partition = self.opened()
        self.offset = 0
        self.now = BASE
        self.version = 0
        self.rules = empty_rules(seed, kind)
        self.checks = 0
        self.marked = 0
        self.prepared: Backfill | None = None
        make_tight(seed % 2 == 1)
        self.journal: list[Step] = []

    def do(self, name: str, *args: Any) -> None:
        """One step: the method of this name, kept in the journal before it runs. A look-up that
        began before it, beside the writer, answers as if it had not been."""
        self.journal.append((name, *args))
        begun = self.begun()
        getattr(self, name)(*args)
        for answer in begun:
            self.checks += 1
            assert answer() == answer.expected

    def begun(self) -> list[Begun]:
        """A look-up of everybody that has been begun; none where all is done at once."""
        state, profiles = self.partition.state, self.partition.state.directory.slots
        if not profiles or look_ups.ROWS_UNDER_LOCK or state.book.rescans:
            return []
        slots, instant = np.arange(profiles), state.now + state.position % 3 * DAY
        look_ups.ROWS_UNDER_LOCK = ROWS_UNDER_LOCK
        at_once = self.partition.reader.look_ups.begun(slots, instant)
        look_ups.ROWS_UNDER_LOCK = 0
        later = self.partition.reader.look_ups.begun(slots, instant)
        return [
            Begun(self.partition, part, Begun(self.partition, whole, "")())
            for part, whole in zip(later, at_once, strict=True)
        ]

    def opened(self) -> Partition:
        """The partition, from its log and newest checkpoint."""
        return Partition(self.log, self.feed, self.checkpoints, CONFIG)

    def prepare(self, segments: dict[str, str], computed: dict[str, str], steps: int) -> None:
        """Begin a back-fill for these rules, beside the writer, and stop after some steps."""
        asked = iter(range(1 << 20))
        catalogue = self.catalogue_of(segments, computed)
        self.prepared = self.partition.backfill(catalogue, lambda: next(asked) < steps)

    def define(self, segments: dict[str, str], computed: dict[str, str]) -> None:
        """Apply these rules and no others, by the back-fill begun for them if one was."""
        catalogue = self.catalogue_of(segments, computed)
        self.rules = replace(self.rules, segments=segments, computed=computed)
        self.version += 1
        self.partition.define(catalogue, None, self.prepared)
        self.prepared = None

    def catalogue_of(self, segments: dict[str, str], computed: dict[str, str]) -> Catalogue:
        """The next version, of these rules."""
        rules = replace(self.rules, segments=segments, computed=computed)
        return rules.catalogue(self.version + 1)

    def submit(self, dataset: str, batch: list[dict[str, Any]], pieces: int = 1) -> None:
        """Submit rows through the real door, cut into ``pieces`` entries."""
        clock = max([self.now] + [row["at"] for row in batch])
        size = max(1, -(-len(batch) // pieces))
        for begin in range(0, len(batch), size):
            self.commit(dataset, batch[begin : begin + size], clock, None)
            # Before the next piece: a late row in it changes the past, but not the feed.
            self.check_feed(self.partition.state.position - 2)
        self.now = clock

    def commit(
        self, dataset: str, part: list[dict[str, Any]], clock: int | None, now: int | None
    ) -> None:
        """One entry of rows, by their own clock or at an instant."""
        door = Door(self.rules.catalogue(self.version), dataset, 0, CONFIG)
        prepared = door.prepare(part, self.offset, WALL)
        assert not prepared.rejects, prepared.rejects[:2]
        through = self.offset + len(part)
        sub = SubBatch(dataset, "p", self.offset, through, self.version, clock, prepared.table)
        self.offset = through
        reply = self.partition.commit([sub], now)[0]
        assert reply.status == "ok", reply
        assert reply.accepted + reply.duplicate == len(part), reply

    def submit_early(self, batch: list[dict[str, Any]], ahead: int) -> None:
        """Submit rows at a wall clock that some of them are ahead of: they wait for their time."""
        self.now += ahead
        self.commit("hits", batch, None, self.now)

    def advance(self, now: int) -> None:
        """Move the clock."""
        self.partition.advance(now)
        self.now = now

    def reopen(self, derived: bool, with_checkpoint: bool) -> None:
        """Reopen; derived False: without feed and checkpoints, which must come back the same."""
        if derived:
            job = self.partition.checkpoint_job(force=True) if with_checkpoint else None
            if job is not None:
                job()
        else:
            self.drain()
            old = self.feed.blocks
            self.feed, self.checkpoints = MemoryFeed(), MemoryCheckpoints()
        self.partition = self.opened()
        if not derived:
            self.drain()
            assert told(self.feed.blocks) == told(old), "the feed of a replay differs"

    def drain(self) -> None:
        """Do all rescans."""
        while self.partition.work(5):
            pass

    def work(self, limit: int) -> None:
        """Do rescans, for a small limit only a slice of them; what follows is one step's."""
        while self.partition.work(limit) and limit > 7:
            pass
        self.marked = self.partition.position

    def check(self, lookups_at: list[int]) -> None:
        """Compare everything with the oracles, and the feed if one entry came since ``work``."""
        self.check_state(lookups_at)
        if self.partition.position == self.marked + 1:
            self.check_feed(self.marked - 1)

    def check_state(self, lookups_at: list[int]) -> None:
        """Columns, members, and look-ups at these instants."""
        state = self.partition.state
        assert not state.book.pending, state.book.pending  # a rule that failed answers nothing
        found = list(verification.refold_differences(state, self.log))
        for instant in lookups_at:
            slots = np.arange(state.directory.slots, dtype=np.uint32)
            if len(slots) == 0:
                continue
            profiles = self.partition.reader.profiles_of(slots, max(instant, state.now))
            if instant <= state.now and not self.partition.owed.rescans.pending:
                self.check_members(list(profiles.values()))
            if (instant + state.position) % 4 == 0:
                self.check_fields(slots, max(instant, state.now), profiles)
            for slot, profile in profiles.items():
                found += verification.reference_differences(state, self.log, slot, profile)
                self.checks += len(self.rules.segments) + len(self.rules.computed)
        assert not found, found[:3]

    def check_fields(self, slots: Array, instant: int, whole: dict[int, Profile]) -> None:
        """Asked for some rules alone, look-ups say of them what they say when all are asked."""
        pick = (len(slots) + instant) % 3
        segments = tuple(sorted(self.rules.segments)[pick::3])
        computed = tuple(sorted(self.rules.computed)[pick::3])
        fields = Fields(True, (), segments, computed)
        for slot, some in self.partition.reader.profiles_of(slots, instant, fields).items():
            of = whole[slot]
            for got, all_of, names in (
                (some.segments, of.segments, segments),
                (some.computed, of.computed, computed),
                (some.computed_valid_until, of.computed_valid_until, computed),
            ):
                expected = {name: all_of[name] for name in names if name in all_of}
                # As texts, in which a NaN is equal to itself.
                assert repr(sorted(got.items())) == repr(sorted(expected.items())), fields

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
            raise AssertionError(f"expected {wanted} of {key} at {position}, got {line}")


def _are(found: list[Change], expected: list[Difference]) -> bool:
    """Whether these changes are those differences; of computed attributes only their instants,
    since the value is the one at delivery."""
    if any(c.kind == "computed" for c in found):
        return [c.at for c in found] == [at for at, _, _ in expected]
    return [(c.at, c.old == "realized", c.new == "realized") for c in found] == expected
