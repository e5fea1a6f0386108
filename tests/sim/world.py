"""A store in one thread: partitions, ledger, drivers, and a network that loses, repeats and delays.

Theory: the engine's own classes over disks that outlive crashes; everything that chooses is drawn
from one seed. A world is a list of rows and cuts, some rules, and a number of partitions; it is run
to rest, and then compared with what it must be: people as ``linking.components`` says they are,
each the profile that one partition without links has of the same rows under one identity. On the
way, after every entry: the feed of a partition folded is its listed members (L14); a canonical
identity is listed at most once; a look-up shows no event twice.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from profile_actors.config import Config
from profile_actors.definitions.declared import (
    LINKING,
    Catalogue,
    ComputedAttribute,
    Dataset,
    LinkingRules,
    Namespace,
    Schema,
    SegmentDefinition,
)
from profile_actors.engine.edges import edge_copy
from profile_actors.engine.edges.edge_rows import packed_keys, parted, profile_of
from profile_actors.engine.identity.ledger import Ledger
from profile_actors.engine.identity.linking import Cut, Fact, Limits, Member, Row, components
from profile_actors.engine.identity.mailbox import Post
from profile_actors.engine.identity.messages import CUT, LEDGER, Named, Op
from profile_actors.engine.log.in_memory import MemoryCheckpoints, MemoryFeed, MemoryLog
from profile_actors.engine.log.sub_batch import SubBatch
from profile_actors.engine.partition.partition import Partition
from profile_actors.engine.reading.fields import EVERYTHING
from profile_actors.ingest.door import Door
from profile_actors.ingest.identity_keys import key_of
from profile_actors.ingest.route import default_assignment, split
from tests.model.copies import MemoryRows
from tests.sim.faulty_log import Crashed, FaultyDisk, FaultyLog

HOUR = 3_600_000
DAY = 24 * HOUR
BASE = 1_709_100_000_000 // HOUR * HOUR
SEED = 11
CONFIG = Config(max_profiles=4096, max_ahead_ms=1 << 50)

SPACES = {
    "CRMID": Namespace("CRMID", "cross_device", unique=True, priority=1),
    "Email": Namespace("Email", "email", priority=2),
    "ECID": Namespace("ECID", "cookie", priority=3),
}
RULES = {
    "buyers": 'xEvent[eventType = "buy"].count() >= 2',
    "day": "xEvent[timestamp occurs <= 1 day before now].count() >= 2",
    "exactly": "xEvent.sum(x) = 0",
    "silent": "xEvent.max(timestamp) occurs > 36 hours before now",
    "none": "xEvent.count() = 0",
    "gold": 'tier = "gold"',
    "again": 'chain(xEvent, timestamp, [A: WHAT(eventType = "buy"), B: WHAT(eventType = "call")'
    " WHEN(<= 2 days after A)])",
}
VALUES = {
    "count": "xEvent.count()",
    "sum": "xEvent.sum(x)",
    "week": "xEvent[timestamp occurs <= 1 week before now].sum(n)",
    "most": "xEvent.max(n)",
    "places": "xEvent.place.distinct().count()",
    "tier": "tier",
}
SCHEMAS = {
    "hit": Schema("hit", "event", {"place": "string", "n": "integer", "x": "double"}),
    "person": Schema("person", "record", {"tier": "string"}),
}
WHO = {"crm": "CRMID", "mail": "Email", "device": "ECID"}
DATASETS = {
    "hits": Dataset("hits", "hit", WHO, timestamp="at", id="_id", event_type_field="kind"),
    "facts": Dataset("facts", "person", WHO, timestamp="at"),
}

Identity = tuple[str, str]


@dataclass
class Scenario:
    """What happens in a world. rows: (dataset, row); cuts: (one, other or None, time)."""

    steps: list[tuple[str, Any]]
    catalogue: Catalogue
    horizon: int

    @property
    def rows(self) -> list[tuple[str, dict[str, Any]]]:
        return [what for kind, what in self.steps if kind == "row"]


def identities_of(row: dict[str, Any]) -> list[Identity]:
    return [(space, row[column]) for column, space in WHO.items() if row.get(column)]


def named(one: Identity) -> Named:
    return Named(*key_of(SPACES[one[0]], one[1], SEED), *one)


def member_of(one: Identity) -> Member:
    space = SPACES[one[0]]
    k0, k1 = key_of(space, one[1], SEED)
    assert space.priority is not None
    return Member(space.priority, (k0 << 64) | k1, one[0])


def catalogue_of(rng: random.Random, joins_only: bool) -> Catalogue:
    spaces = dict(SPACES)
    if joins_only:
        spaces["CRMID"] = Namespace("CRMID", "cross_device", priority=1)
    segments = rng.sample(sorted(RULES), rng.randint(2, 4))
    values = rng.sample(sorted(VALUES), rng.randint(1, 3))
    linking = LinkingRules(
        max_size=50_000 if joins_only else rng.choice((50_000, 50_000, 3, 5)),
        max_people=100 if joins_only else rng.choice((100, 100, 1, 2)),
    )
    return Catalogue(
        1, spaces, SCHEMAS, DATASETS,
        {name: SegmentDefinition(name, RULES[name]) for name in segments},
        {name: ComputedAttribute(name, VALUES[name]) for name in values},
        linking_rules={LINKING: linking},
    )  # fmt: skip


def drawn(seed: int) -> Scenario:
    """A scenario of a seed: people, devices that some share, records, cuts."""
    rng = random.Random(seed)
    joins_only = rng.random() < 0.3
    people, devices = rng.randint(1, 4), rng.randint(1, 4)
    pool: dict[str, list[str]] = {
        "crm": [f"c{i}" for i in range(people)],
        "mail": [f"m{i}@x.org" for i in range(people)],
        "device": [f"d{i}" for i in range(devices)],
    }
    span = rng.choice((6, 60, 400))
    steps: list[tuple[str, Any]] = []
    for n in range(rng.randint(4, 40)):
        at = BASE + rng.randrange(span) * HOUR // 2
        row: dict[str, Any]
        if not joins_only and steps and rng.random() < 0.1:
            row = rng.choice([what for kind, what in steps if kind == "row"] or [("", {})])[1]
            if not row:
                continue
            ones = identities_of(row)
            other = ones[1] if len(ones) > 1 and rng.random() < 0.7 else None
            steps.append(("cut", (ones[0], other, at)))
            continue
        columns = rng.sample(sorted(WHO), rng.choice((1, 1, 1, 2, 2, 3)))
        row = {column: rng.choice(pool[column]) for column in columns}
        row["at"] = at
        if rng.random() < 0.2:
            steps.append(("row", ("facts", {**row, "tier": rng.choice(("gold", "tin"))})))
            continue
        row |= {
            "_id": f"e{n}",
            "kind": rng.choice(("buy", "call")),
            "place": rng.choice("ab"), "n": rng.randrange(9), "x": rng.choice((0.1, 0.2, -0.3)),
        }  # fmt: skip
        steps += [("row", ("hits", row))] * (2 if rng.random() < 0.05 else 1)
    return Scenario(steps, catalogue_of(rng, joins_only), BASE + span * HOUR)


class NoRest(AssertionError):
    """After so many steps there is still something on its way."""


class World:
    """One run. faults: how often the network and the processes fail, 0 for never."""

    def __init__(
        self,
        scenario: Scenario,
        partitions: int,
        rng: random.Random,
        faults: float = 1.0,
        plant: Callable[[World], None] = lambda _: None,
    ) -> None:
        self.scenario, self.rng, self.faults = scenario, rng, 0.0
        self.assignment = default_assignment(partitions)
        self.count = partitions
        self.disks = [FaultyDisk() for _ in range(partitions)]
        self.derived = [(MemoryFeed(), MemoryCheckpoints()) for _ in range(partitions)]
        self.ledger_disk = FaultyDisk()
        self.ledger_kept = MemoryCheckpoints()
        self.epoch = 0
        self.steps = 0
        self.net: list[Any] = []
        self.told: list[dict[tuple[str, str], set[Identity]]] = [
            defaultdict(set) for _ in range(partitions)
        ]
        self.fed = [-1] * partitions
        self.shown: dict[Identity, set[str]] = {}
        self.primary = {
            row["_id"]: min(identities_of(row), key=member_of)
            for dataset, row in scenario.rows
            if dataset == "hits"
        }
        self.edge = MemoryRows()
        self.is_linking = rng.random() < 0.8  # else there is history before there is a ledger
        plant(self)
        self.partitions = [self.opened(i) for i in range(partitions)]
        self.ledger = self.opened_ledger()
        for partition in self.partitions:
            partition.define(scenario.catalogue, None)
        self.ledger.commit([], None, scenario.catalogue)
        self.queues = self._routed()
        self.taken: Counter[int] = Counter()
        self.stats: Counter[str] = Counter()
        self.faults = faults

    # -- processes --------------------------------------------------------------------------------

    def owner_of(self, one: Named) -> str:
        return str(self.assignment[one.k0 >> 52])

    def crash_point(self, name: str) -> None:
        if self.rng.random() < 0.02 * self.faults:
            raise Crashed(name)

    def opened(self, index: int) -> Partition:
        self.epoch += 1
        log = FaultyLog(self.disks[index], epoch=self.epoch)
        partition = Partition(
            log, *self.derived[index], CONFIG, index=index, epoch=self.epoch,
            post=Post(str(index), self.owner_of if self.is_linking else None, SEED),
        )  # fmt: skip
        log._crash_point = self.crash_point
        return partition

    def opened_ledger(self) -> Ledger:
        self.epoch += 1
        log = FaultyLog(self.ledger_disk, epoch=self.epoch)
        kept = self.ledger_kept
        ledger = Ledger(log, self.assignment, epoch=self.epoch, checkpoints=kept)
        ledger.commit([], None, self.scenario.catalogue)  # as its process does when it begins
        log._crash_point = self.crash_point
        return ledger

    def node(self, name: str) -> Any:
        return self.ledger if name == LEDGER else self.partitions[int(name)]

    def crash(self, name: str) -> None:
        self.stats["crashes"] += 1
        if name == LEDGER:
            self.ledger = self.opened_ledger()
        else:
            self.partitions[int(name)] = self.opened(int(name))

    # -- drivers ----------------------------------------------------------------------------------

    def _routed(self) -> list[list[Any]]:
        """Per partition what its one producer sends, in order."""
        doors = {name: Door(self.scenario.catalogue, name, SEED, CONFIG) for name in DATASETS}
        queues: list[list[Any]] = [[] for _ in range(self.count)]
        for kind, what in self.scenario.steps:
            if kind == "cut":
                queues[int(self.owner_of(named(what[0])))].append(what)
                continue
            dataset, row = what
            prepared = doors[dataset].prepare([row], 0, self.scenario.horizon + DAY)
            assert not prepared.rejects, prepared.rejects
            for i, part in enumerate(split(prepared.table, self.assignment, self.count)):
                if part is not None and part.num_rows:
                    queues[i].append((dataset, part))
        return queues

    def submit(self, index: int) -> None:
        """The next rows of a partition's queue, in one entry; some of them once more."""
        queue, partition = self.queues[index], self.partitions[index]
        done = partition.cursor("d") or 0
        if done >= len(queue):
            return
        item = queue[done]
        if not isinstance(item[0], str):
            if not self.is_linking:
                self.link()
                partition = self.partitions[index]
            one, other, at = item
            op = Op(CUT, named(one), None if other is None else named(other), version=at)
            batch = SubBatch("hits", "d", done, done + 1, 1, BASE)
            self.commit(str(index), batches=[batch], withdrawn=[op])
            return
        batches = []
        for item in queue[done : done + self.rng.choice((1, 1, 2, 5))]:
            if not isinstance(item[0], str):
                break
            dataset, table = item
            at = table.column_names.index("@row")
            table = table.set_column(at, "@row", [np.array([done])])
            batches.append(SubBatch(dataset, "d", done, done + 1, 1, BASE, table))
            done += 1
        self.commit(str(index), batches=batches)

    # -- entries and messages ---------------------------------------------------------------------

    def commit(self, name: str, **what: Any) -> None:
        """One entry of a sequencer; a crash in its midst loses what was not durable."""
        self.stats["entries"] += 1
        try:
            if name == LEDGER:
                self.ledger.commit(what["mail"], None)
            else:
                self.partitions[int(name)].commit(
                    what.get("batches", ()),
                    None,
                    None,
                    what.get("mail", ()),
                    what.get("withdrawn", ()),
                )
        except Crashed:
            self.crash(name)
        if name != LEDGER:
            self.check_feed(int(name))

    def work(self, index: int) -> None:
        """What a partition does between entries."""
        try:
            while self.partitions[index].work(1 << 10):
                pass
        except Crashed:
            self.crash(str(index))
            self.work(index)

    def send(self, name: str) -> None:
        """What a sequencer has to tell, from the first message not known to be taken."""
        if name != LEDGER:
            self.work(int(name))
        node = self.node(name)
        for to, newest in node.mailbox.heads().items():
            after = node.mailbox.acknowledged(to)
            if newest > after:
                for message in node.outgoing(to, after, self.rng.choice((1, 2, 5))):
                    self.put((to, message))

    def put(self, packet: Any) -> None:
        if self.rng.random() < 0.12 * self.faults:
            self.stats["lost"] += 1
            return
        self.net.append(packet)
        if self.rng.random() < 0.08 * self.faults:
            self.net.append(packet)

    def deliver(self) -> None:
        """Some packets in any order."""
        if not self.net:
            return
        late = self.faults and self.rng.random() < 0.7
        packet = self.net.pop(self.rng.randrange(len(self.net)) if late else 0)
        if packet[0] == "ack":
            _, source, to, number = packet
            self.node(source).mailbox.acknowledge(to, number)
            return
        to, message = packet
        mail = [message]
        for other in list(self.net):
            if other[0] == to and self.rng.random() < 0.5:
                self.net.remove(other)
                mail.append(other[1])
        mail.sort(key=lambda m: (m.source, m.number))
        self.stats["messages"] += len(mail)
        self.commit(to, mail=mail)
        for source in sorted({m.source for m in mail}):
            self.put(("ack", source, to, self.node(to).mailbox.cursor(source)))

    # -- running ----------------------------------------------------------------------------------

    def is_sent(self) -> bool:
        """Whether all rows are stored; who they make whole may be on the way."""
        return all(
            (p.cursor("d") or 0) >= len(q)
            for p, q in zip(self.partitions, self.queues, strict=True)
        )

    def is_quiet(self) -> bool:
        if not self.is_sent():
            return False
        nodes = [*map(str, range(self.count)), LEDGER]
        if any(partition.state.homes.untold.is_some for partition in self.partitions):
            return False
        for name in nodes:
            for to, newest in self.node(name).mailbox.heads().items():
                if self.node(to).mailbox.cursor(name) < newest:
                    return False
        return True

    def run(self, most: int = 40_000, until: Callable[[], bool] | None = None) -> None:
        """Until it is at rest, or ``until`` says so."""
        names = [*map(str, range(self.count)), LEDGER]
        for step in range(most):
            if not self.is_linking and self.rng.random() < 0.02:
                self.link()
            dice = self.rng.random()
            if self.net and dice < 0.45:
                self.deliver()
            elif dice < 0.65:
                self.submit(self.rng.randrange(self.count))
            elif dice < 0.9:
                self.send(self.rng.choice(names))
            elif dice < 0.93 and self.faults:
                self.crash(self.rng.choice(names))
            elif dice < 0.94:
                self.copy(self.rng.randrange(self.count))
            elif dice < 0.95:
                self.checkpoint(self.rng.randrange(self.count))
            else:
                self.look(self.rng.choice(self.scenario.rows)[1])
            if step % 16 == 0 and (until or self.is_quiet)():
                if self.is_linking:
                    return
                self.link()
        raise NoRest("does not come to rest")

    def link(self) -> None:
        """From here on links are told of, those of the past as well."""
        self.is_linking = True
        for index in range(self.count):
            self.partitions[index] = self.opened(index)

    def copy(self, index: int) -> bool:
        """A page of a partition to the edge; whether that has all of it then."""
        place = edge_copy.standing(self.edge, index).place
        page = self.partitions[index].project(EVERYTHING, "all", place)
        edge_copy.apply_page(self.edge, index, page, page.now)
        return page.is_complete

    def check_edge(self) -> None:
        """At rest an edge answers for every identity what its person's home does."""
        for index in range(self.count):
            while not self.copy(index):
                pass
        for one in sorted({one for _, row in self.scenario.rows for one in identities_of(row)}):
            hub, _ = self.profile(one)
            key = packed_keys(np.array([named(one).key], np.uint64))[0]
            found = edge_copy.found(self.edge, key)
            assert (found is None) == (hub is None), ("edge", one, hub)
            if found is not None:
                got = profile_of(parted(found[1])[2], hub.now)
                for name in ("identities", "attributes", "computed", "last_modified"):
                    mine, theirs = getattr(got, name), getattr(hub, name)
                    assert repr(mine) == repr(theirs), ("edge", one, name, mine, theirs)
                mine, theirs = ({n: m.status for n, m in of.segments.items()} for of in (got, hub))
                assert mine == theirs, ("edge", one, mine, theirs)

    def checkpoint(self, index: int) -> None:
        job = self.partitions[index].checkpoint_job(force=True)
        if job is not None:
            job()
        if index == 0:
            self.ledger.checkpoint()

    # -- what must hold on the way ----------------------------------------------------------------

    def profile(self, one: Identity) -> Any:
        """As a reader gets it: asked where it is, by the book's key if it lives elsewhere."""
        who = named(one)
        at = self.partitions[int(self.owner_of(who))]
        answer = at.look_up(np.array([who.key], np.uint64), None)
        if answer.elsewhere:
            _, home, book = answer.elsewhere[0]
            at = self.partitions[int(self.assignment[home[0] >> 52])]
            answer = at.look_up(np.array([book], np.uint64), None)
            who = who.__class__(*book, *one)
        (profile,) = answer.profiles()
        return profile, at.events(who.key, limit=100_000).events if profile else []

    def look(self, row: dict[str, Any]) -> None:
        """A look-up shows no event twice and none of an identity that it does not list; where links
        only join, nothing that was shown goes."""
        one = self.rng.choice(identities_of(row))
        profile, events = self.profile(one)
        if not self.scenario.catalogue.namespaces["CRMID"].unique:
            assert profile is not None or one not in self.shown, ("gone", one)
            gone = self.shown.get(one, set()) - {event["_id"] for event in events}
            assert not gone, ("gone", one, gone)
            if profile is not None:
                self.shown[one] = {event["_id"] for event in events}
        seen = Counter(repr(event) for event in events)
        if profile is not None:
            listed = {(i.namespace, i.value) for i in profile.identities}
            strangers = {
                event["_id"] for event in events if self.primary[event["_id"]] not in listed
            }
            assert not strangers, ("of others", one, listed, strangers)
        self.stats["look-ups"] += 1
        assert not [event for event, count in seen.items() if count > 1], seen

    def check_feed(self, index: int) -> None:
        """L14: what the feed says, folded, is who is listed; every canonical once."""
        self.work(index)
        partition = self.partitions[index]
        changes, self.fed[index] = partition.changes(self.fed[index], 1 << 30)
        told = self.told[index]
        for change in changes:
            if change.kind != "membership":
                continue
            inside = told[change.kind, change.name]
            who = (change.identity.namespace, change.identity.value)
            (inside.add if change.new == "realized" else inside.discard)(who)
        for name in self.scenario.catalogue.segments:
            members = [(i.namespace, i.value) for i in partition.members(name)[0]]
            assert len(members) == len(set(members)), ("listed twice", name, members)
            assert set(members) == told["membership", name], (
                "feed",
                index,
                partition.position,
                name,
                set(members) ^ told["membership", name],
            )

    # -- at rest ----------------------------------------------------------------------------------

    def truth(self) -> dict[Identity, frozenset[Identity]]:
        """Who is one person, by the definition. An event that came twice is evidence once."""
        back: dict[Member, Identity] = {}
        facts: list[Fact] = []
        for kind, what in self.scenario.steps:
            if kind == "row":
                ones = identities_of(what[1])
                back |= {member_of(one): one for one in ones}
                facts.append(Row(what[1]["at"], tuple(map(member_of, ones))))
            else:
                one, other, at = what
                target = [one] if other is None else [one, other]
                facts.append(Cut(at, tuple(map(member_of, target))))
        spaces, rules = self.scenario.catalogue.namespaces, self.scenario.catalogue.linking
        unique = frozenset(code for code, space in spaces.items() if space.unique)
        found = components(facts, Limits(unique, rules.max_size, rules.max_people))
        return {
            back[m]: frozenset(back[x] for x in block) for m, block in found.items() if m in back
        }

    def settle_clocks(self) -> int:
        now = max(p.now or BASE for p in self.partitions)
        now = max(now, self.scenario.horizon)
        for index, partition in enumerate(self.partitions):
            partition.advance(now)
            self.check_feed(index)
        return now

    def check_previews(self) -> None:
        """A rule tried without being defined counts those who are listed."""
        for name, segment in self.scenario.catalogue.segments.items():
            for partition in self.partitions:
                tried = partition.preview(segment.rule, None, 1_000)
                assert tried.count == len(tried.sample) == partition.count(name), name
                assert tried.profiles == partition.status().profiles
                assert sorted(tried.sample) == sorted(partition.members(name)[0]), name

    def answers(self) -> dict[Identity, Any]:
        """Pure state by identity."""
        every = {one for _, row in self.scenario.rows for one in identities_of(row)}
        return {one: pure(*self.profile(one)) for one in sorted(every)}


def pure(profile: Any, events: list[dict[str, Any]]) -> Any:
    """What does not depend on history: who, memberships and until when, values, events."""
    if profile is None:
        return None
    return (
        [(i.namespace, i.value) for i in profile.identities],
        {n: m.valid_until for n, m in profile.segments.items() if m.status == "realized"},
        {n: (repr(v), profile.computed_valid_until[n]) for n, v in profile.computed.items()},
        profile.attributes,
        sorted(map(repr, events)),
    )


def expected(
    world: World, now: int, is_kept: Callable[[str, dict[str, Any]], bool] = lambda *_: True
) -> dict[Identity, Any]:
    """The same of one partition that knows of no links: the rows of each person that are kept, in
    it under her smallest identity alone."""
    catalogue = world.scenario.catalogue
    truth = world.truth()
    alone = Partition(MemoryLog(), MemoryFeed(), MemoryCheckpoints(), CONFIG)
    alone.define(catalogue, None)
    doors = {name: Door(catalogue, name, SEED, CONFIG) for name in DATASETS}
    low = {one: min(block, key=member_of) for one, block in truth.items()}
    seen: set[Any] = set()
    rows = Counter[Identity]()
    offset = 0
    for dataset, row in world.scenario.rows:
        if not is_kept(dataset, row):
            continue
        ones = identities_of(row)
        # Events go by their smallest identity, records by the first that is declared.
        primary = min(ones, key=member_of) if dataset == "hits" else ones[0]
        if dataset == "hits":
            name = (primary, row["at"], row["_id"])
            if name in seen:  # it repeats one of the same identity
                continue
            seen.add(name)
        rows[low[primary]] += 1
        plain = {key: value for key, value in row.items() if key not in WHO}
        column = next(c for c, space in WHO.items() if space == low[primary][0])
        plain[column] = low[primary][1]
        if dataset == "hits":  # of a person two identities may have the same id at the same time
            plain["_id"] = row["_id"]
        table = doors[dataset].prepare([plain], offset, now + DAY).table
        alone.commit([SubBatch(dataset, f"d{offset}", None, offset + 1, 1, BASE, table)], None)
        offset += 1
    alone.advance(now)
    out: dict[Identity, Any] = {}
    for one, block in truth.items():
        key = named(low[one]).key
        (profile,) = alone.profiles([key])
        if profile is None and len(block) < 2:
            out[one] = None
            continue
        others = sorted(block - {low[one]})
        events = alone.events(key, limit=100_000).events if profile else []
        got = pure(profile, events)
        out[one] = None if got is None else ([low[one], *others], *got[1:])
    return out


def check(got: dict[Identity, Any], wanted: dict[Identity, Any]) -> None:
    assert got.keys() == wanted.keys()
    for one, mine in got.items():
        assert mine == wanted[one], f"{one}: expected {wanted[one]}, got {mine}"


def run_one(
    seed: int, worlds: int = 3, faults: float | None = None, number: int | None = None
) -> Counter[str]:
    """One scenario in several worlds: orders, partition counts, faults. Raises AssertionError.

    number: of one world alone, the first being in the order that was drawn.
    """
    scenario = drawn(seed)
    rng = random.Random(seed * 7919 + 1)
    stats: Counter[str] = Counter()
    for world_number in range(worlds) if number is None else [number]:
        steps = scenario.steps[:]
        if world_number:
            rng.shuffle(steps)
        mixed = Scenario(steps, scenario.catalogue, scenario.horizon)
        bad = rng.choice((0.0, 1.0, 2.0)) if faults is None else faults
        partitions = (seed + world_number) % 5 + 1
        world = World(mixed, partitions, random.Random(rng.random()), bad)
        try:
            world.run()
            world.faults = 0
            now = world.settle_clocks()
            check(world.answers(), expected(world, now))
            world.check_previews()
            world.check_edge()
        except AssertionError as error:
            where = f"seed {seed} world {world_number}, {partitions} partitions, faults {bad}"
            raise AssertionError(f"{where}: {error}") from error
        stats += world.stats
    return stats
