"""More kinds of ids than a byte has numbers: from the door to the checkpoint and back."""

from __future__ import annotations

import pytest

from profile_actors.config import Config
from profile_actors.definitions.catalogue_changes import extended
from profile_actors.definitions.declared import Catalogue, Dataset, Definition, Namespace, Schema
from profile_actors.engine.identity.identity import Identity
from profile_actors.engine.log.in_memory import MemoryCheckpoints, MemoryFeed, MemoryLog
from profile_actors.engine.log.sub_batch import SubBatch
from profile_actors.engine.partition.partition import Partition
from profile_actors.ingest.door import Door
from profile_actors.ingest.identity_keys import key_of

NOW = 1_760_000_000_000
CONFIG = Config(max_profiles=2_000)


def catalogue(count: int) -> Catalogue:
    spaces: list[Definition] = [Namespace(f"N{n}", kind="cross_device") for n in range(count)]
    return extended(
        Catalogue(),
        [
            *spaces,
            Schema("visit", "event", {"x": "integer"}),
            Dataset("mapped", "visit", {}, identity_map="ids", timestamp="at"),
            Dataset("both", "visit", {"last": f"N{count - 1}"}, identity_map="ids", timestamp="at"),
        ],
    )


@pytest.mark.parametrize("count", [127, 128, 129, 255, 256, 257, 300])
def test_any_number_of_namespaces(count: int) -> None:
    known = catalogue(count)
    log, checkpoints = MemoryLog(), MemoryCheckpoints()

    def opened() -> Partition:
        return Partition(log, MemoryFeed(), checkpoints, CONFIG, index=0, epoch=1)

    partition = opened()
    partition.define(known, NOW)
    rows = [{"at": NOW, "ids": {f"N{n}": [{"id": f"v{n}"}]}} for n in range(count)]
    mixed = [
        {"at": NOW, "last": "a"}, {"at": NOW, "ids": {f"N{count - 1}": [{"id": "b"}]}},
        {"at": NOW, "last": "c", "ids": {"N0": [{"id": "v0"}], f"N{count - 2}": [{"id": "d"}]}},
    ]  # fmt: skip
    for dataset, documents in (("mapped", rows), ("both", mixed)):
        prepared = Door(known, dataset, 0, CONFIG).prepare(documents, 0, NOW)
        assert not prepared.rejects
        (reply,) = partition.commit(
            [SubBatch(dataset, dataset, None, len(documents), 1, table=prepared.table)], NOW
        )
        assert (reply.status, reply.accepted) == ("ok", len(documents))

    def identities(of: Partition) -> list[list[Identity]]:
        keys = [key_of(known.namespaces[f"N{n}"], f"v{n}", 0) for n in range(count)]
        last = known.namespaces[f"N{count - 1}"]
        keys += [key_of(last, value, 0) for value in ("a", "b")]
        return [[] if found is None else found.identities for found in of.profiles(keys, NOW)]

    wanted = [[Identity(f"N{n}", f"v{n}")] for n in range(count)]
    wanted += [[Identity(f"N{count - 1}", value)] for value in ("a", "b")]
    assert identities(partition) == wanted
    assert identities(opened()) == wanted  # replayed
    job = partition.checkpoint_job(force=True)
    assert job is not None
    job()
    assert identities(opened()) == wanted  # from the checkpoint
