"""A deletion becomes a row of the identity that it names, or is refused where it is asked for."""

from __future__ import annotations

import pytest

from profile_actors.config import Config
from profile_actors.errors import CallerError, DefinitionError
from profile_actors.ingest.hidden_columns import DELETED, K0, K1, NAMESPACE, ROW, TIMESTAMP, VALUE
from profile_actors.ingest.record_deletions import Deletion, DeletionDoor
from tests.model.hub import BASE, CATALOGUE, SEED, Hub

WALL = BASE + 1


def test_it_has_the_key_that_a_row_of_the_identity_has() -> None:
    door = DeletionDoor(CATALOGUE, "crm", SEED, Config())
    prepared = door.prepare([Deletion("CRMID", "a", BASE), Deletion("CRMID", "b")], 7, WALL)
    row = Hub().table("crm", [{"who": "a", "at": BASE}], 7)
    for name in (K0, K1, VALUE, NAMESPACE, TIMESTAMP, ROW):
        assert prepared.table.slice(0, 1)[name].to_pylist() == row[name].to_pylist()
        # They may stand in one entry, whose rows are put together.
        assert prepared.table.schema.field(name).type == row.schema.field(name).type
    assert prepared.table[TIMESTAMP].to_pylist() == [BASE, WALL]
    assert prepared.table[DELETED].to_pylist() == [True, True]
    assert (prepared.rows, prepared.clock) == (2, WALL)


def test_what_cannot_be_deleted() -> None:
    with pytest.raises(DefinitionError, match="of records, got 'hits', which is of events"):
        DeletionDoor(CATALOGUE, "hits", SEED, Config())
    door = DeletionDoor(CATALOGUE, "crm", SEED, Config())
    with pytest.raises(DefinitionError, match="expected a namespace of dataset 'crm', got 'Email'"):
        door.prepare([Deletion("Email", "a")], 0, WALL)
    with pytest.raises(CallerError, match="expected at as an instant"):
        door.prepare([Deletion("CRMID", "a", WALL + 10**12)], 0, WALL)
    with pytest.raises(CallerError, match="expected an identity of 1 to"):
        door.prepare([Deletion("CRMID", "x" * 5_000)], 0, WALL)
    for value in ("", "null", "000"):
        with pytest.raises(CallerError, match="expected an identity that names somebody"):
            door.prepare([Deletion("CRMID", value)], 0, WALL)
