"""Scans: each batch is what look-ups say at its position, whoever writes meanwhile."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from profile_actors.config import Config
from profile_actors.driver.connection import Connection
from profile_actors.driver.iterators import scanned
from profile_actors.engine.reading.answers import Profile
from profile_actors.engine.reading.fields import EVERYTHING, Fields, fields_of
from profile_actors.errors import CallerError, DefinitionError
from profile_actors.storage.lmdb_feed import LmdbFeed
from profile_actors.storage.lmdb_log import LmdbLog
from tests.unit.engine.reading.test_look_ups import DAY, NOW, RULES, VALUES, World


class Direct(Connection):
    """A connection to one partition of this process."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.config = Config()
        self.catalogue = world.catalogue
        self._asked = {}

    def read(self, partition: int, name: str, *args: Any) -> Any:
        one = self.world.partition
        if name == "scan_page":
            return one.scan_page(np.frombuffer(args[0], np.uint32), NOW, *args[1:])
        return getattr(one, name)(*args)

    def read_all(self, name: str, *args: Any) -> list[Any]:
        return [self.read(0, name, *args)]


def scan(world: World, fields: Any = None, segment: str | None = None, rows: int = 3) -> Any:
    connection = Direct(world)
    return scanned(connection, lambda: world.catalogue, fields, segment, rows)


def ms(at: datetime | None) -> int | None:
    return None if at is None else round(at.timestamp() * 1000)


def check(row: dict[str, Any], found: Profile, asked: Fields) -> None:
    """A row says what the look-up says."""
    assert ms(row["last_modified"]) == found.last_modified
    if asked.identities:
        assert (row["namespace"], row["id"]) == (
            found.identities[0].namespace, found.identities[0].value,
        )  # fmt: skip
    computed = {
        name.removeprefix("computed."): ms(value) if isinstance(value, datetime) else value
        for name, value in row.items()
        if name.startswith("computed.")
    }
    assert computed == found.computed
    assert set(map(type, computed.values())) == set(map(type, found.computed.values()))
    for column, value in row.items():
        if column.startswith("segments."):
            said = found.segments.get(column.removeprefix("segments."))
            assert (value is None) == (said is None)
            if said is not None:
                assert value["status"] == said.status
                assert ms(value["last_qualification_time"]) == said.last_qualification_time
                assert ms(value["valid_until"]) == said.valid_until


NUMBERS = VALUES | {
    "visits": "xEvent.count()", "seen": "xEvent.max(timestamp)", "dearest": "xEvent.max(price)",
    "kinds": "xEvent.eventType.distinct().count()", "mean": "xEvent.average(price)",
}  # fmt: skip


def filled() -> World:
    world = World(RULES, NUMBERS)
    pets = [{"kind": "cat", "age": 3}, {"kind": "dog"}]
    ann = {"who": "p0", "at": NOW, "name.first": "Ann", "pets": pets, "last": NOW - DAY}
    never = {"who": "p11", "at": NOW}  # without any event
    world.send("people", [ann, {"who": "p1", "at": NOW, "scores": {"x": 1}}, never])
    hits = [{"who": f"p{i}", "at": NOW - i * DAY, "price": i / 4, "kind": "buy"} for i in range(11)]
    world.send("hits", hits)
    return world


@pytest.mark.parametrize(
    "selectors",
    [
        None,
        ["identities", "computed", "segments.fresh"],
        ["segments(any,ann)", "computed(first,seen)"],
    ],
)
def test_each_batch_is_what_look_ups_say_at_its_position(selectors: list[str] | None) -> None:
    world = filled()
    asked = EVERYTHING if selectors is None else fields_of(selectors, world.catalogue)
    reader = scan(world, selectors)
    begun, seen = world.partition.position, 0
    for number, batch in enumerate(reader):
        about = {name.decode(): int(at) for name, at in batch.schema.metadata.items()}
        assert about == {"partition": 0, "position": world.partition.position, "now": NOW}
        assert about["position"] == begun + number
        slots = np.arange(seen, seen + batch.num_rows)
        found = world.partition.reader.profiles_of(slots, NOW, asked)
        for slot, row in zip(slots.tolist(), batch.to_pylist(), strict=True):
            check(row, found[slot], asked)
        seen += batch.num_rows
        # Somebody new, and something new of everybody: between this batch and the next.
        more = [{"who": f"p{i}", "at": NOW, "price": 1.0, "kind": "buy"} for i in range(11)]
        more.append({"who": f"late{number}", "at": NOW, "price": 1.0, "kind": "buy"})
        world.send("hits", more)
    assert seen == 12


def test_attributes_are_nested_as_the_schemas_spell_them() -> None:
    table = scan(filled(), ["attributes", "identities"]).read_all()
    first, second = table.to_pylist()[:2]
    assert first["attributes"]["name"] == {"first": "Ann", "last": None}
    assert first["attributes"]["pets"] == [{"kind": "cat", "age": 3}, {"kind": "dog", "age": None}]
    assert first["attributes"]["last"] == datetime.fromtimestamp((NOW - DAY) / 1000, UTC)
    assert second["attributes"]["scores"] == [("x", 1)]
    some = scan(filled(), ["attributes(name.first,pets.kind)"]).read_all()
    assert some.column("attributes").type == pa.struct([
        ("name", pa.struct([("first", pa.string())])),
        ("pets", pa.list_(pa.struct([("kind", pa.string())]))),
    ])  # fmt: skip
    assert some.to_pylist()[0]["attributes"]["pets"] == [{"kind": "cat"}, {"kind": "dog"}]


def test_a_scan_of_a_segment_has_those_who_were_in_it_at_its_begin() -> None:
    world = filled()
    reader = scan(world, ["identities", "segments.fresh"], "fresh")
    world.partition.advance(NOW + DAY)
    rows = reader.read_all().to_pylist()
    assert [row["id"] for row in rows] == [f"p{i}" for i in range(8)]
    statuses = [row["segments.fresh"]["status"] for row in rows]
    assert statuses == ["realized"] * 7 + ["exited"]


def held_by(world: World, batch_rows: int) -> int:
    """Bytes that a scan takes at most, beside what there was before: Python's, NumPy's, Arrow's."""
    list(scan(world, rows=batch_rows))  # what is kept from one scan to the next
    most = 0
    tracemalloc.start()
    try:
        reader = scan(world, rows=batch_rows)
        before = tracemalloc.get_traced_memory()[0], pa.total_allocated_bytes()
        tracemalloc.reset_peak()
        for batch in reader:
            most = max(most, pa.total_allocated_bytes() - before[1])
            assert batch.num_rows <= batch_rows
        return most + tracemalloc.get_traced_memory()[1] - before[0]
    finally:
        tracemalloc.stop()


def test_the_memory_of_a_scan_is_that_of_a_batch(tmp_path: Path) -> None:
    """With real files: eight times the profiles take no more, bigger batches do."""
    files = (LmdbLog(tmp_path, Config(), epoch=1), LmdbFeed(tmp_path, Config()))
    segments = {f"spent{n}": f"xEvent.sum(price) >= {n}" for n in range(8)}
    world = World(segments, {"paid": "xEvent.sum(price)", "last": "xEvent.max(timestamp)"}, files)
    held = []
    for first, last in ((0, 300), (300, 2_400)):
        hits = [
            {"who": f"p{i:06}", "at": NOW, "price": i % 9, "kind": "buy"}
            for i in range(first, last)
        ]
        world.send("hits", hits)
        held.append(held_by(world, 50))
    wide = held_by(world, 2_000)
    world.partition.close()
    assert held[1] < held[0] + 100_000, held
    assert wide > 4 * held[1], (wide, held)


def test_an_empty_scan_has_its_columns_and_wrong_words_are_told() -> None:
    world = World(RULES, VALUES)
    assert scan(world).read_all().num_rows == 0
    with pytest.raises(DefinitionError, match="known: ann"):
        scan(world, None, "nope")
    with pytest.raises(CallerError, match="batch_rows"):
        scan(world, rows=0)
    with pytest.raises(DefinitionError, match="nope"):
        scan(world, ["computed.nope"])
