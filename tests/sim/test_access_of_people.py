"""What is held on a person, after a history with faults, shared devices and withdrawn links, is
every row of each of her identities, once, and no value of anybody else."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from profile_actors.driver.connection import Connection
from profile_actors.driver.files import access_request
from profile_actors.driver.files.access_request import accessed
from profile_actors.engine.partition.partition_trials import TRIALS
from profile_actors.errors import Pending
from profile_actors.ingest.rejects import QuarantineRecord
from profile_actors.storage.rejects.quarantine import Quarantine
from tests.sim.world import CONFIG, SEED, World, drawn, identities_of, member_of, named

FIRST = int(os.environ.get("SIM_SEED", "0"))
COUNT = int(os.environ.get("SIM_N", "2"))


class Called:
    """An actor of this process: what it is called with is called on what is behind it."""

    def __init__(self, call: Any) -> None:
        self.call = call


class Direct(Connection):
    """A connection to the partitions of a world, and a quarantine."""

    def __init__(self, world: World, quarantine: Any) -> None:
        self.world, self.path, self.config, self.seed = world, "/nowhere", CONFIG, SEED
        self.catalogue, self.assignment = world.scenario.catalogue, np.asarray(world.assignment)
        self._asked, self.restored = {}, ""
        self.coordinator: Any = Called(lambda _, *args: quarantine.page(*args))
        self.partitions: list[Any] = [
            Called(lambda _, version, name, *args, at=at: TRIALS[name](at, None, *args))
            for at in world.partitions
        ]

    def read(self, partition: int, name: str, *args: Any) -> Any:
        one = self.world.partitions[partition]
        if name == "head":
            return one.position
        if name == "feed_kept":
            return 0, 0
        if name == "profiles":
            return one.look_up(np.frombuffer(args[0], np.uint64).reshape(-1, 2), None, *args[1:])
        if name == "change_columns":
            return one.change_columns(*args[:2])
        return getattr(one, name)(*args)

    def read_each(self, questions: dict[int, tuple[Any, ...]], name: str) -> dict[int, Any]:
        return {partition: self.read(partition, name, *q) for partition, q in questions.items()}

    def ahead(self, partition: int, name: str, *args: Any) -> Any:
        return lambda: self.read(partition, name, *args)


def test_who_is_being_put_together_is_not_mixed_with_others(tmp_path: Path) -> None:
    """The profile shows one person, the links another already."""
    store = World(drawn(0), 2, random.Random(0), faults=0)
    store.run()
    her, other = sorted(set(store.truth().values()), key=sorted)[:2]
    graph: Any = Called(lambda *_: ([named(one) for one in (*her, *other)], []))
    connection = Direct(store, Quarantine(tmp_path / "q", CONFIG, QuarantineRecord))
    connection.config = structs.replace(CONFIG, pending_wait_ms=1)
    with pytest.raises(Pending, match="just being put together"):
        accessed(connection, graph, connection.catalogue, {}, min(her), tmp_path / "held")
    assert [path.name for path in tmp_path.iterdir()] == ["q"], "nothing is left"


@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
def test_all_of_hers_and_nothing_of_others(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_request, "PAGE_ROWS", 1 + seed % 3)
    store = World(drawn(seed), 1 + seed % 3, random.Random(seed), faults=seed % 2)
    store.run()
    store.settle_clocks()
    truth, rows = store.truth(), store.scenario.rows
    quarantine = Quarantine(tmp_path / "quarantine", CONFIG, QuarantineRecord)
    rejects = [
        QuarantineRecord("d", n, "at", "no time", json.dumps({**row, "at": "never"}))
        for n, (_, row) in enumerate(rows)
    ]
    quarantine.add("hits", rejects)
    graph: Any = Called(lambda _, version, named: store.ledger.identity_graph(named))
    connection, catalogue = Direct(store, quarantine), store.scenario.catalogue
    everybody = {one[1] for one in truth}
    for number, her in enumerate(sorted(set(truth.values()), key=sorted)):
        place = tmp_path / str(number)
        asked = store.rng.choice(sorted(her))
        done = accessed(connection, graph, catalogue, {}, asked, place)
        assert {(one.namespace, one.value) for one in done.identities} == her
        held = {
            name: [json.loads(line) for line in (place / name).read_text().splitlines()]
            for name in done.files
            if name.endswith("ndjson")
        }
        mine = [(kind, row) for kind, row in rows if min(identities_of(row), key=member_of) in her]
        assert Counter(one["fields"]["_id"] for one in held["events.ndjson"]) == Counter(
            {row["_id"]: 1 for kind, row in mine if kind == "hits"}
        )
        facts = Counter((one["time"], one["fields"]["tier"]) for one in held["records.ndjson"])
        assert set(facts) == {(row["at"], row["tier"]) for kind, row in mine if kind == "facts"}
        for one in held["events.ndjson"] + held["records.ndjson"]:
            assert (one["identity"]["namespace"], one["identity"]["value"]) in her
        assert {one["row"] for one in held["rejected.ndjson"]} == {
            n for n, (_, row) in enumerate(rows) if not her.isdisjoint(identities_of(row))
        }
        profile, _ = store.profile(asked)
        shown = json.loads((place / "profile.json").read_text())
        assert (shown is None) == (profile is None)
        if profile is not None:
            assert shown["computed"].keys() == profile.computed.keys()
            assert shown["segments"].keys() == profile.segments.keys()
        (place / "rejected.ndjson").unlink()  # rows as they came, whoever they name besides
        text = "".join(path.read_text() for path in place.iterdir())
        for value in everybody - {one[1] for one in her}:
            assert f'"{value}"' not in text, (her, value)
        for one in her if held["events.ndjson"] else ():
            assert f'"{one[1]}"' in text, one
