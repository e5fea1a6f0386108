"""Rows of lookup datasets: durable, counted, found by their id, and nobody's profile."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import structs

from profile_actors.config import Config
from profile_actors.definitions.catalogue_changes import decode, encode, extended
from profile_actors.definitions.declared import (
    Catalogue,
    Dataset,
    Namespace,
    Schema,
    SegmentDefinition,
)
from profile_actors.engine.log import entry
from profile_actors.engine.partition import checkpoint_image
from profile_actors.engine.partition.partition import Partition
from profile_actors.errors import StorageFull
from profile_actors.ingest.identity_keys import key_of
from tests.model.hub import BASE, CONFIG, DAY, SEED, WHO, Hub

SKU = Namespace("SKU", "non_people")
FIELDS: Any = {"label": "string", "price": "double", "tags": "string[]"}


def catalogue(behavior: Any = "lookup") -> Catalogue:
    return extended(Catalogue(), [
        WHO, SKU,
        Schema("hit", "event", {"n": "integer"}),
        Schema("product", behavior, FIELDS),
        Schema("shop", "lookup", {"city": "string"}),
        Schema("person", "record", {"tier": "string"}),
        Dataset("hits", "hit", {"who": "CRMID"}, timestamp="at", event_type="hit"),
        Dataset("goods", "product", {"sku": "SKU"}, timestamp="at"),
        Dataset("prices", "product", {"sku": "SKU"}, timestamp="at"),
        Dataset("shops", "shop", {"sku": "SKU"}, timestamp="at"),
        Dataset("crm", "person", {"who": "CRMID"}, timestamp="at"),
        SegmentDefinition("everybody", "xEvent.count() >= 0"),
        SegmentDefinition("silent", "xEvent.count() = 0"),
    ])  # fmt: skip


def entity(partition: Partition, schema: str, value: str) -> Any:
    return partition.reader.entity(schema, key_of(SKU, value, SEED))


def filled(hub: Hub) -> Partition:
    """Entries with entities between rows of people."""
    rows: list[dict[str, Any]] = [{"sku": "a", "at": BASE + 5, "label": "lamp", "tags": ["x"]}]
    hub.submit([("goods", "g", rows), ("hits", "h", [{"who": "ann", "at": BASE, "n": 1}])], BASE)
    late = [{"sku": "a", "at": BASE, "label": "old", "price": 2.0}]
    hub.submit([
        ("prices", "p", [{"sku": "a", "at": BASE + 7, "price": 9.5}, {"sku": "b", "at": BASE}]),
        ("crm", "c", [{"who": "ben", "at": BASE, "tier": "gold"}]),
        ("goods", "g", late),
        ("shops", "s", [{"sku": "a", "at": BASE, "city": "Oslo"}]),
    ], BASE + DAY)  # fmt: skip
    hub.submit([("hits", "h", [{"who": "a", "at": BASE, "n": 2}])], BASE + DAY)
    return hub.partitions[0]


def check(partition: Partition, more: int = 0) -> None:
    assert entity(partition, "product", "a") == {"label": "lamp", "price": 9.5, "tags": ["x"]}
    assert entity(partition, "shop", "a") == {"city": "Oslo"}
    assert entity(partition, "product", "b") == {}
    assert entity(partition, "product", "c") is None
    assert entity(partition, "shop", "b") is None
    # A person of the same value is another one.
    assert [p is not None for p in partition.profiles([key_of(WHO, "a", SEED)])] == [True]
    assert partition.status().profiles == 3 + more
    assert partition.count("everybody") == 3 + more
    assert partition.count("silent") == 1 + more
    people, _ = partition.members("everybody")
    assert {one.value for one in people if one.namespace == "CRMID"} == {"ann", "ben", "a"}
    (ben,) = partition.profiles([key_of(WHO, "ben", SEED)])
    assert ben is not None
    assert ben.attributes == {"tier": "gold"}
    assert [e["n"] for e in partition.events(key_of(WHO, "a", SEED)).events] == [2]
    assert partition.status().records == 6
    assert partition.verify() == []
    assert partition.has_rows_of("namespace", "SKU")
    assert partition.has_rows_of("dataset", "shops")


def test_entities_are_nobodys_profile_and_are_found_by_their_id() -> None:
    hub = Hub(1, catalogue())
    partition = filled(hub)
    check(partition)
    assert partition.profiles([key_of(SKU, "a", SEED)]) == [None]
    assert partition.changes()[0] != []
    assert {c.identity.namespace for c in partition.changes()[0]} == {"CRMID"}
    check(hub.reopen())  # from nothing
    job = hub.partitions[0].checkpoint_job(force=True)
    assert job is not None
    job()
    loaded = checkpoint_image.load(hub.stores[0][2], CONFIG, hub.partitions[0].log.head())
    assert loaded is not None
    check(hub.reopen())
    hub.submit([("goods", "g", [{"sku": "b", "at": BASE + 9, "label": "cup"}])], BASE + DAY)
    assert entity(hub.partitions[0], "product", "b") == {"label": "cup"}
    assert entity(hub.reopen(), "product", "b") == {"label": "cup"}


def test_large_runs_are_files_of_a_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("profile_actors.engine.partition.checkpoint_job.SEALED_ROWS", 1)
    hub = Hub(1, catalogue())
    job = filled(hub).checkpoint_job(force=True)
    assert job is not None
    job()
    kinds = {name.split("-")[0] for name in hub.stores[0][2].runs}
    assert kinds == {"event", "record", "entity"}
    check(hub.reopen())


def test_a_log_from_before_keeps_its_profiles_and_its_rows_are_found() -> None:
    """Its entities had idents; the rows had no names of their own."""
    old = catalogue("record")
    hub = Hub(1, old)
    filled(hub)
    hub.partitions[0].close()
    log = hub.stores[0][0]
    view = memoryview(log.entries[0])
    envelope, _ = entry.read_envelope(view, "0")
    product = structs.replace(old.schemas["product"], behavior="lookup")
    text = encode(structs.replace(old, schemas={**old.schemas, "product": product}))
    assert decode(text).schemas["product"].behavior == "lookup"
    parts = entry.encode("definition", 0, envelope.now, 1, definition=text)
    log.entries[0] = b"".join(map(bytes, parts))
    hub.stores[0][1].reset()
    partition = hub.reopen()
    check(partition, more=2)  # a and b, which became profiles then
    # A checkpoint that took them for records is not used.
    job = partition.checkpoint_job(force=True)
    assert job is not None
    job()
    checkpoints, head = hub.stores[0][2], partition.log.head()
    assert checkpoint_image.load(checkpoints, CONFIG, head) is not None
    position, meta, arrays = checkpoints.saved[-1]
    said = msgspec.msgpack.decode(meta, type=checkpoint_image.Meta)
    said.record_runs = None
    checkpoints.saved[-1] = position, msgspec.msgpack.encode(said), arrays
    assert checkpoint_image.load(checkpoints, CONFIG, head) is None
    check(hub.reopen(), more=2)


def test_there_is_room_for_so_many_rows() -> None:
    hub = Hub(1, catalogue())
    hub.partitions[0].close()
    config = Config(max_profiles=3, max_lookup_rows=9, max_ahead_ms=1 << 50)
    hub.partitions = [Partition(*hub.stores[0], config)]
    rows = [{"sku": str(n % 6), "at": BASE} for n in range(9)]
    hub.submit([("goods", "g", rows)], BASE)
    with pytest.raises(StorageFull, match="at most 9 rows of lookup datasets, got 9 and 1 more"):
        hub.submit([("goods", "g", [{"sku": "3", "at": BASE}])], BASE)


def test_an_entry_with_entities_says_that_older_programs_misread_it() -> None:
    hub = Hub(1, catalogue())
    hub.submit([("hits", "h", [{"who": "ann", "at": BASE, "n": 1}])], BASE)
    hub.submit([("goods", "g", [{"sku": "a", "at": BASE}])], BASE)
    formats = [entry.read_envelope(memoryview(e), "")[0].format for e in hub.stores[0][0].entries]
    assert formats[-1] == 4
    assert formats[-2] < 4


def test_an_entity_that_is_stated_again_and_again_is_read_from_what_lives() -> None:
    hub = Hub(1, catalogue())
    key = key_of(SKU, "a", SEED)
    for n in range(30):
        rows = [
            {"sku": "a", "at": BASE + 2 * n + k, "price": float(n), "label": "x"} for k in (0, 1)
        ]
        hub.submit([("goods", "g", rows), ("prices", "p", [{"sku": "b", "at": BASE + n}])], BASE)
    partition = hub.partitions[0]

    def living() -> list[list[int]]:
        return [part.tolist() for part in partition.state.entities.living_of(key)]

    wanted = living()
    assert len(wanted[0]) == 1
    assert entity(partition, "product", "a") == {"price": 29.0, "label": "x"}
    job = partition.checkpoint_job(force=True)
    assert job is not None
    job()
    partition = hub.reopen()
    assert partition.owed.checkpointed == partition.position
    assert living() == wanted
    # A checkpoint from before that was kept: found again from the log, once.
    position, meta, arrays = hub.stores[0][2].saved[-1]
    old = {name: of for name, of in arrays.items() if not name.startswith("entities/living/")}
    assert len(old) < len(arrays)
    hub.stores[0][2].saved[-1] = position, meta, old
    partition = hub.reopen()
    assert partition.owed.checkpointed == partition.position
    assert living() == wanted
