"""Rules that fail change nothing of those beside them.

Two stores do the same: one with sound rules only, one with further rules that are nasty, or in the
midst of which something raises, at a random call, once or from then on. What raises stands behind
``%``, which no sound rule has: in the values, predicates, measures and lists that the bad rules
share streams, histories, ladders and frames with the sound ones by.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from profile_actors.columnar import kernels
from profile_actors.definitions.catalogue_changes import extended
from profile_actors.definitions.declared import ComputedAttribute, Definition, SegmentDefinition
from profile_actors.rules.semantics import scalar_operators
from tests.model.hub import BASE, CATALOGUE, DAY, HOUR, Hub, Rows

PEOPLE = ("a", "b", "c")
SOUND = extended(
    CATALOGUE,
    [
        SegmentDefinition("many", 'xEvent.count() > 2 and xEvent.sum(n) > 1 or tier = "gold"'),
        SegmentDefinition("twice", "exists E from xEvent where exists F from xEvent where"
                          " F.n = E.n and F.timestamp occurs > 0 days after E.timestamp"),
        SegmentDefinition("late", "score > currentYear() - 2020 or xEvent.count() = 3"),
        SegmentDefinition("odd", "xEvent[n = ^.score].count() > 0"),
        SegmentDefinition("count", "xEvent[timestamp occurs <= 3 days before now].max(n) > 1"),
        ComputedAttribute("numbers", "xEvent[timestamp occurs <= 2 days before now].n.distinct()"),
        ComputedAttribute("lists", 'xEvent.groupBy(place).map((K, G) => mapEntry(K, G.count()))'),
    ],
)  # fmt: skip
WINDOW = "timestamp occurs <= 1 day before now"
BAD_SEGMENTS = (
    "xEvent[n % 2 = 1].count() > 0",
    f"xEvent[{WINDOW} and n % 2 = 1].sum(x) > 0.1",
    f"xEvent[{WINDOW}].min(n % 3) < 1",
    f"xEvent[{WINDOW}].sum(n % 3) > 1",
    "xEvent.max(n % 3) = 2",
    "xEvent.count() % 2 = 1",
    "xEvent.count() % 2 = 1 and xEvent.sum(n) > 1",
    "xEvent.sum(n) % 2 = 1 or xEvent.count() > 2",
    "score % 2 = 1",
    'tier = "gold" and score % 3 > 0 and xEvent.count() > 2',
    "currentYear() % 2 = score",
    "exists E from xEvent where exists F from xEvent where F.n = E.n % 2"
    " and F.timestamp occurs > 0 days after E.timestamp",
    f"xEvent[{WINDOW}].topN(n % 3, 1).sum(x) > 0",
    "xEvent[n = ^.score % 2].count() > 0",
    "CHAIN(xEvent, timestamp, [A: WHAT(n % 2 = 1), B: WHAT(n % 2 = 0) WHEN(<= 1 day after A)])",
    'inSegment("many") and xEvent.count() % 2 = 0',
)  # fmt: skip
BAD_VALUES = (
    "xEvent.sum(n % 3)",
    f"xEvent[{WINDOW}].average(n % 3)",
    f"xEvent[{WINDOW}].min(n % 3)",
    "xEvent.map(n % 3).distinct().count()",
    "xEvent.count() % 2",
    "xEvent.sum(x) % 2",
    f"xEvent[{WINDOW}].map(n % 3)",
    "xEvent.groupBy(n % 2).map((K, G) => mapEntry(K, G.count()))",
    "computed.count % 2",
    'xEvent.place.distinct().map(P => P.contains("o"))',
)
NASTY_SEGMENTS = (
    'xEvent[[place].subsetOf(["a", "b"])].count() > 0',
    "xEvent[[place]].count() > 0",
    "xEvent[isNull([place])].count() > 0",
    'xEvent[["a"].head() = place].count() > 0',
    '"oslo" in computed.lists.keys()',
    "xEvent.count() in computed.numbers",
    "[1, 2] = [1, 2]",
    "xEvent[n notIn ^.computed.numbers].count() > 0",
)
NASTY_VALUES = (
    "xEvent.sum(if([1].supersetOf([n]), n, x))",
    "xEvent.sum(if(not ([n, 2]), n, x))",
    "xEvent.sum(if([n] = [1], n, x))",
)


class Planted(Exception):
    """What raises on purpose."""


class Fault:
    """Raises at the ``at``-th use of ``%``; again and again if it is lasting."""

    def __init__(self, at: int, is_lasting: bool) -> None:
        self.left = at
        self.is_lasting = is_lasting
        self.is_on = False

    def met(self, operator: str) -> None:
        if operator == "%" and self.is_on:
            self.left -= 1
            if self.left == 0 or (self.left < 0 and self.is_lasting):
                raise Planted

    @contextmanager
    def planted(self) -> Iterator[None]:
        """While this lasts, the column kernels and the reference evaluator meet the fault."""
        columns, single = kernels.arithmetic, scalar_operators.arithmetic

        def of_columns(operator: str, *args: Any) -> Any:
            self.met(operator)
            return columns(operator, *args)

        def of_values(operator: str, *args: Any) -> Any:
            self.met(operator)
            return single(operator, *args)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kernels, "arithmetic", of_columns)
            patch.setattr(scalar_operators, "arithmetic", of_values)
            yield


def bad_rules(rng: random.Random) -> list[Definition]:
    """A few of them, also under the name of a sound rule of the other kind."""
    names = ["n0", "n1", "n2", "most", "last"]
    out: list[Definition] = []
    for name in rng.sample(names, rng.randint(1, 4)):
        out.append(SegmentDefinition(name, rng.choice(BAD_SEGMENTS + NASTY_SEGMENTS)))
    for name in rng.sample(["v0", "v1", "v2", "many"], rng.randint(1, 3)):
        out.append(ComputedAttribute(name, rng.choice(BAD_VALUES + NASTY_VALUES)))
    return out


def batch(rng: random.Random, low: int) -> list[tuple[str, str, Rows]]:
    """An entry's rows, around the instant ``low``."""
    events = [
        {
            "who": rng.choice(PEOPLE), "at": low + rng.randint(-30, 6) * HOUR,
            "_id": f"{rng.randint(0, 9)}", "kind": rng.choice(("buy", "view")),
            "n": rng.choice((None, 0, 1, 2, 5)), "x": rng.choice((None, 0.1, 0.2, -0.3)),
            "place": rng.choice(("oslo", "rome")),
        }
        for _ in range(rng.randint(0, 5))
    ]  # fmt: skip
    records = [
        {
            "who": rng.choice(PEOPLE), "at": low + rng.randint(-9, 0) * HOUR,
            "tier": rng.choice((None, "gold", "silver")), "score": rng.choice((None, 1, 2, 9)),
        }
        for _ in range(rng.randint(0, 2))
    ]  # fmt: skip
    return [("hits", "p", events), ("crm", "q", records)]


class Pair:
    """The two stores. what: a store's answers of sound rules."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.sound, self.beside = Hub(1, SOUND), Hub(1, SOUND)
        self.catalogues = [SOUND, SOUND]
        self.now = BASE

    def do(self, rng: random.Random) -> None:
        """One step of both."""
        kind = rng.choice(("rows", "rows", "rows", "advance", "define", "reopen", "save"))
        if kind == "rows":
            groups = batch(rng, self.now)
            self.now += rng.choice((0, 1, HOUR, 7 * HOUR))
            self.each(lambda hub: hub.submit(groups, self.now))
        elif kind == "advance":
            self.now += rng.choice((HOUR, DAY, 3 * DAY))
            self.each(lambda hub: hub.partitions[0].advance(self.now))
        elif kind == "define":
            rule = f"xEvent.count() > {rng.randint(0, 4)}"
            more: list[Definition] = [SegmentDefinition(f"more{rng.randint(0, 1)}", rule)]
            bad = bad_rules(rng)
            version = 1 + max(catalogue.version for catalogue in self.catalogues)
            merged = (extended(self.catalogues[0], more), extended(self.catalogues[1], more + bad))
            self.catalogues = [msgspec.structs.replace(one, version=version) for one in merged]
            for hub, catalogue in zip((self.sound, self.beside), self.catalogues, strict=True):
                with self.faulty(hub):
                    hub.partitions[0].define(catalogue, None)
        else:
            if kind == "save":
                self.each(_save)
            self.each(lambda hub: hub.reopen())

    def each(self, do: Any) -> None:
        for hub in (self.sound, self.beside):
            with self.faulty(hub):
                do(hub)

    @contextmanager
    def faulty(self, hub: Hub) -> Iterator[None]:
        self.fault.is_on = hub is self.beside
        try:
            yield
            while hub.partitions[0].work(1000):
                pass
        finally:
            self.fault.is_on = False

    def compare(self, ahead: int) -> None:
        """All answers of the sound rules, now and at an instant ahead."""
        for now in (None, self.now + ahead):
            found = []
            for hub in (self.sound, self.beside):
                with self.faulty(hub):
                    found.append(self.answers(hub, now))
            assert found[1] == found[0]
        wrong = [line for line in self.beside.partitions[0].verify() if "pending" not in line]
        assert wrong == []

    def answers(self, hub: Hub, now: int | None) -> Any:
        segments, values = self.catalogues[0].segments, self.catalogues[0].computed
        partition = hub.partitions[0]
        pure: dict[str, Any] = {}
        for who, state in hub.pure(PEOPLE, now).items():
            if state is None:
                pure[who] = None
                continue
            inside, computed, attributes, events = state
            pure[who] = (
                {name: until for name, until in inside.items() if name in segments},
                {name: value for name, value in computed.items() if name in values},
                attributes, events,
            )  # fmt: skip
        kinds: dict[str, Any] = {"membership": segments, "computed": values}
        told = [c for c in partition.changes(-1, 1 << 30)[0] if c.name in kinds[c.kind]]
        # Of changes in one entry and slot, those of one rule have an order.
        told.sort(key=lambda c: (c.position, c.kind, c.name, repr(c.identity), c.at))
        members = {name: sorted(map(repr, partition.members(name)[0])) for name in segments}
        return pure, told, members


def _save(hub: Hub) -> None:
    """A degraded store is saved as any other."""
    partition = hub.partitions[0]
    job = partition.checkpoint_job(force=True)
    assert job is not None or partition.owed.checkpointed == partition.position
    if job is not None:
        job()


def live(seed: int) -> None:
    """One world, drawn from a seed."""
    rng = random.Random(seed)
    fault = Fault(rng.choice((1, 2, 3, 5, 10, 20, 40, 80)), rng.random() < 0.5)
    with fault.planted():
        pair = Pair(fault)
        for _ in range(rng.randint(3, 9)):
            pair.do(rng)
        pair.compare(rng.choice((1, HOUR, DAY, 2 * DAY)))


@pytest.mark.parametrize("seed", range(8))
def test_sound_rules_never_change_their_answers(seed: int) -> None:
    live(seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(100, 1_100, 100))
def test_sound_rules_never_change_their_answers_in_many_worlds(first: int) -> None:
    for seed in range(first, first + 100):
        live(seed)
