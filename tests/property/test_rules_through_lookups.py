"""Rules through relationships: after every step a store says what ``pf.evaluate`` says over
documents joined with what a model here has of lookup datasets by then, whatever came first."""

from __future__ import annotations

import random
from typing import Any

import pytest
from msgspec import structs

from profile_actors.definitions.catalogue_changes import extended
from profile_actors.definitions.declared import (
    Catalogue,
    ComputedAttribute,
    Dataset,
    Namespace,
    Relationship,
    Schema,
    SegmentDefinition,
)
from profile_actors.engine.log.sub_batch import SubBatch
from profile_actors.ingest.door import Door
from profile_actors.ingest.identity_keys import key_of
from profile_actors.ingest.record_deletions import Deletion, DeletionDoor
from profile_actors.ingest.route import split
from profile_actors.rules.catalogue.on_documents import evaluate
from tests.model.hub import BASE, CONFIG, DAY, HOUR, SEED, WHO, Hub

SKU = Namespace("SKU", "non_people", normalize="lower")
SHOP = Namespace("SHOP", "non_people")
SCHEMAS = [
    Schema("order", "event", {
        "items[].sku": "string", "items[].n": "integer", "spot.shop": "integer",
        "gifts": "string[]",
    }),
    Schema("person", "record", {"home.shop": "integer", "tier": "string"}),
    Schema("product", "lookup", {"category": "string", "price": "decimal(2)", "since": "timestamp",
                                 "tags": "string[]"}),
    Schema("shop", "lookup", {"city": "string"}),
]  # fmt: skip
RELATIONSHIPS = [
    Relationship("order", "items[].sku", "product", "product"),
    Relationship("order", "gifts", "product", "gifted"),
    Relationship("order", "spot.shop", "shop", "place"),
    Relationship("person", "home.shop", "shop", "local"),
]
SEGMENTS = {
    "tea": 'xEvent[items[product.category = "tea"]]',
    "lately": 'xEvent[timestamp occurs <= 2 days before now and items[product.category = "tea"]]'
    ".count() >= 2",
    "oslo": 'xEvent[spot.place.city = "Oslo"]',
    "local": 'home.local.city = "Oslo" and tier = "gold"',
    "at home": "xEvent[spot.place.city = ^.home.local.city].count() > 0",
    "new": "xEvent[exists I from items where I.product.since occurs <= 3 days before now]",
    "via": 'inSegment("tea") and computed.spent > 5',
    "plain": "xEvent.count() >= 2",
}
COMPUTED = {
    "spent": "xEvent.items.sum(product.price)",
    "kinds": "xEvent.items.product.category.distinct()",
    "gifts": "xEvent.gifted.tags.distinct().count()",
    "items": "xEvent.items.head()",
    "unknown": "xEvent.items[isNull(product)].count()",
}
PEOPLE = ["ann", "ben", "eve"]
SKUS = ["a", "b", "c"]


def catalogue(late: bool) -> Catalogue:
    """late: without the rules that read entities, which come after some rows."""
    rules: list[Any] = [SegmentDefinition(name, rule) for name, rule in SEGMENTS.items()]
    rules += [ComputedAttribute(name, rule) for name, rule in COMPUTED.items()]
    first = extended(Catalogue(), [
        WHO, SKU, SHOP, *SCHEMAS,
        Dataset("orders", "order", {"who": "CRMID"}, timestamp="at"),
        Dataset("crm", "person", {"who": "CRMID"}, timestamp="at"),
        Dataset("goods", "product", {"id": "SKU"}, timestamp="at"),
        Dataset("prices", "product", {"id": "SKU"}, timestamp="at"),
        Dataset("shops", "shop", {"id": "SHOP"}, timestamp="at"),
    ])  # fmt: skip
    some = [rule for rule in rules if rule.name == "plain"] if late else [*RELATIONSHIPS, *rules]
    return structs.replace(extended(first, some), version=1)


class Lookups:
    """What lookup datasets say, kept the obvious way: all statements, the newest first to speak."""

    def __init__(self) -> None:
        self.said: dict[tuple[str, str], list[tuple[int, str, dict[str, Any] | None]]] = {}

    def say(self, schema: str, key: str, at: int, dataset: str, row: dict[str, Any] | None) -> None:
        self.said.setdefault((schema, key), []).append((at, dataset, row))

    def now(self) -> dict[str, dict[str, Any]]:
        out: dict[str, dict[str, Any]] = {"product": {}, "shop": {}}
        for (schema, key), statements in self.said.items():
            gone: dict[str, int] = {}
            for at, dataset, row in statements:
                if row is None:
                    gone[dataset] = max(at, gone.get(dataset, 0))
            entity: dict[str, Any] = {}
            for at, dataset, row in sorted(statements, key=lambda one: one[0]):
                if row is not None and at > gone.get(dataset, 0):
                    entity |= row
            if entity:
                out[schema][key] = entity
        return out


class Store(Hub):
    """A hub that gives lookup rows to everybody, as drivers do."""

    def rows(self, dataset: str, rows: list[dict[str, Any]], clock: int) -> None:
        self.put(dataset, Door(self.catalogue, dataset, SEED, CONFIG), rows, clock)

    def put(self, dataset: str, door: Any, rows: list[Any], clock: int) -> None:
        first = self.sent.get(("d", -1), 0)
        through = self.sent["d", -1] = first + len(rows)
        prepared = door.prepare(rows, first, BASE + 400 * DAY)
        assert not prepared.rejects, prepared.rejects
        is_shared = self.catalogue.schemas[self.catalogue.datasets[dataset].schema].behavior
        count = len(self.partitions)
        parts = split(prepared.table, self.assignment, count, is_shared == "lookup")
        for partition, part in zip(self.partitions, parts, strict=True):
            batch = SubBatch(dataset, "d", first, through, 1, clock, part)
            (reply,) = partition.commit([batch], None)
            assert reply.status == "ok", reply


def drawn_row(rng: random.Random, at: int) -> tuple[str, dict[str, Any]]:
    """A row of a random dataset at a time of its own."""
    kind = rng.choice(("orders", "orders", "crm", "goods", "goods", "prices", "shops"))
    row: dict[str, Any] = {"at": at}
    if kind == "orders":
        skus = rng.sample([*SKUS, "A", "never"], rng.randint(0, 3))
        row |= {
            "who": rng.choice(PEOPLE), "spot": {"shop": rng.choice((1, 2, None))},
            "items": [{"sku": sku, "n": 1} for sku in skus] or None,
            "gifts": rng.choice((None, [], ["b"], ["c", "a"])),
        }  # fmt: skip
    elif kind == "crm":
        row |= {"who": rng.choice(PEOPLE), "home": {"shop": rng.choice((1, 2, None))}}
        row["tier"] = rng.choice((None, "gold", "tin"))
    elif kind == "shops":
        row |= {"id": rng.choice((1, 2)), "city": rng.choice(("Oslo", "Rome"))}
    else:
        row["id"] = rng.choice(SKUS)
        if kind == "prices":
            row["price"] = rng.choice(("2.50", "7.00"))
        else:
            row |= {"category": rng.choice(("tea", "rum", None))}
            row |= {"since": rng.choice((None, BASE + DAY)), "tags": rng.choice((None, ["x", "y"]))}
    return kind, row


def nested(row: dict[str, Any]) -> dict[str, Any]:
    """A row as a document, without what is null or no field."""
    made = {k: v for k, v in row.items() if v is not None and k not in ("who", "id", "at")}
    return {k: v for k, v in made.items() if v not in ({"shop": None},)}


class World:
    """One run: a store, and a model of all that was said."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.is_late = seed % 3 == 0
        self.store = Store(1 + seed % 2, catalogue(self.is_late))
        self.events: dict[str, list[dict[str, Any]]] = {}
        self.records: dict[str, list[tuple[int, dict[str, Any]]]] = {}
        self.lookups, self.now, self.used = Lookups(), BASE, {0}

    def step(self) -> None:
        rng, store = self.rng, self.store
        what = rng.random()
        if what < 0.1:
            self.now += rng.choice((HOUR, DAY, 2 * DAY))
            for partition in store.partitions:
                partition.advance(self.now)
        elif what < 0.2:
            index = rng.randrange(len(store.partitions))
            if rng.random() < 0.7 and (job := store.partitions[index].checkpoint_job(force=True)):
                job()
            store.reopen(index)
        elif what < 0.3:
            at = self.time()
            dataset = rng.choice(("goods", "prices", "shops"))
            space, schema = ("SHOP", "shop") if dataset == "shops" else ("SKU", "product")
            key = rng.choice(("1", "2") if dataset == "shops" else tuple(SKUS))
            door = DeletionDoor(store.catalogue, dataset, SEED, CONFIG)
            store.put(dataset, door, [Deletion(space, key, at)], self.now)
            self.lookups.say(schema, key, at, dataset, None)
        else:
            rows: dict[str, list[dict[str, Any]]] = {}
            for _ in range(rng.choice((1, 1, 4))):
                dataset, row = drawn_row(rng, self.time())
                rows.setdefault(dataset, []).append(row)
            for dataset, mine in rows.items():
                store.rows(dataset, mine, self.now)
                for row in mine:
                    self.note(dataset, row)

    def time(self) -> int:
        """An instant of its own in the last days, so that no tie is to be broken."""
        at = 0
        while at in self.used:
            at = self.now - self.rng.randrange(3 * DAY)
        self.used.add(at)
        return at

    def note(self, dataset: str, row: dict[str, Any]) -> None:
        said = nested(row)
        if dataset == "orders":
            self.events.setdefault(row["who"], []).append({"timestamp": row["at"], **said})
        elif dataset == "crm":
            self.records.setdefault(row["who"], []).append((row["at"], said))
        else:
            schema = "shop" if dataset == "shops" else "product"
            self.lookups.say(schema, str(row["id"]), row["at"], dataset, said)

    def define(self) -> None:
        """The rules that came late."""
        whole = catalogue(False)
        self.store.catalogue = structs.replace(whole, version=2)
        for partition in self.store.partitions:
            partition.define(self.store.catalogue, None)
        self.is_late = False

    def check(self, ahead: int) -> None:
        entities = self.lookups.now()
        lookups = {
            "product": entities["product"] | {k.upper(): v for k, v in entities["product"].items()},
            "shop": entities["shop"],
        }
        inside: dict[str, set[str]] = {name: set() for name in SEGMENTS}
        for partition in self.store.partitions:
            while partition.work(3):
                pass
        for who in PEOPLE:
            key = key_of(WHO, who, SEED)
            partition = self.store.partitions[self.store.assignment[key[0] >> 52]]
            now = (partition.now or 0) + ahead
            (profile,) = partition.profiles([key], now)
            if profile is None:
                assert not {who} & {*self.events, *self.records}
                continue
            record: dict[str, Any] = {}
            for _, said in sorted(self.records.get(who, []), key=lambda one: one[0]):
                record |= said
            say: Any = {"schema": SCHEMAS, "relationships": RELATIONSHIPS, "lookups": lookups}
            documents = record, self.events.get(who, [])
            known = {n: evaluate(r, *documents, now=now, **say) for n, r in COMPUTED.items()}
            values = {name: value for name, (value, _) in known.items()}
            assert profile.computed == values, who
            assert profile.computed_valid_until == {n: until for n, (_, until) in known.items()}
            realized = {n for n, of in profile.segments.items() if of.status == "realized"}
            held = [n for n in SEGMENTS if n != "via"]
            answers = {n: evaluate(SEGMENTS[n], *documents, now=now, **say) for n in held}
            answers["via"] = answers["tea"][0] and (values["spent"] or 0) > 5, None
            wanted = {name for name, (value, _) in answers.items() if value}
            assert realized == wanted, (who, realized ^ wanted, now)
            for name in wanted - {"via"}:
                assert profile.segments[name].valid_until == answers[name][1], (who, name)
            for name in wanted if not ahead else ():
                inside[name].add(who)
        if ahead:
            return
        for name, people in inside.items():
            members = [p.members(name)[0] for p in self.store.partitions]
            assert {one.value for some in members for one in some} == people, name
        name = self.rng.choice(sorted(SEGMENTS))
        tried = [p.preview(SEGMENTS[name], None, 9) for p in self.store.partitions]
        assert sum(part.count for part in tried) == len(inside[name]), name


@pytest.mark.parametrize("seed", range(4))
def test_rules_say_what_they_say_over_joined_documents(seed: int) -> None:
    world = World(seed)
    for number in range(12):
        world.step()
        if world.is_late and number >= 6:
            world.define()
        if not world.is_late:
            world.check(0 if number % 3 else world.rng.choice((0, HOUR, 2 * DAY)))
    for partition in world.store.partitions:
        assert partition.verify(9) == []


def test_two_spellings_name_one_entity() -> None:
    store = Store(1, catalogue(False))
    store.rows("goods", [{"id": "a", "at": BASE, "category": "tea"}], BASE)
    store.rows("prices", [{"id": "A", "at": BASE, "price": "2.50"}], BASE)
    store.rows("orders", [{"who": "ann", "at": BASE, "items": [{"sku": "a"}, {"sku": "A"}]}], BASE)
    (ann,) = store.partitions[0].profiles([key_of(WHO, "ann", SEED)])
    assert ann is not None
    assert str(ann.computed["spent"]) == "5.00"
    assert ann.computed["kinds"] == ["tea"]
