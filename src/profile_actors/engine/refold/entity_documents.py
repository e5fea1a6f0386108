"""Lookup entities as of a log position, as the reference evaluator takes them.

Theory: an entity is the union of its rows up to a position. How many those are says which they are,
since rows are only added: so what was read is good for every position with as many.

Limits: an entity is read from all its rows, once while it is kept (``KEPT_ENTITIES``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from msgspec import structs

from profile_actors.columnar.vectors import Array
from profile_actors.definitions.relationships import Join
from profile_actors.engine.fold.state import State
from profile_actors.engine.log.ports import Log
from profile_actors.engine.log.row_locator import rows_of_all
from profile_actors.engine.merge.documents import read_records
from profile_actors.engine.merge.record_union import union_of
from profile_actors.engine.refold.typed_fields import timed
from profile_actors.ingest.identity_keys import keys_of

KEPT_ENTITIES = 4096


Entities = dict[str, dict[str, Any] | None]
"""Value -> document, None where nothing is said of it."""


class EntityDocuments:
    """Reads entities of one partition. Cost: their rows, once while they are kept."""

    def __init__(self, state: State, log: Log) -> None:
        self._state = state
        self._log = log
        self._kept: dict[tuple[str, str, str], tuple[int, dict[str, Any] | None]] = {}

    def of(self, join: Join, values: Iterable[Any], position: int) -> Entities:
        """The entities that a relationship's values name, from the entries up to ``position``."""
        texts = list(dict.fromkeys(map(str, values)))
        if join.namespace is None or not texts:
            return {}
        keys, index = keys_of(join.namespace, texts, self._state.homes.seed), self._state.entities
        numbers = index.table.glimpse().find(keys[:, 0], keys[:, 1]).astype(np.int64)
        known = np.flatnonzero(numbers >= 0)
        owners, positions, rows = rows_of_all(index.locator.runs, numbers[known])
        upto = positions <= position
        owners, positions, rows = known[owners[upto]], positions[upto], rows[upto]
        counts = np.bincount(owners, minlength=len(texts)).tolist()
        out: Entities = {}
        missing = []
        for place, text in enumerate(texts):
            kept = self._kept.get((join.target, join.namespace.code, text))
            if kept is not None and kept[0] == counts[place]:
                out[text] = kept[1]
            elif counts[place]:
                missing.append(place)
        if missing:
            wanted = np.isin(owners, missing)
            made = self._read(join, owners[wanted], positions[wanted], rows[wanted])
            for place in missing:
                out[texts[place]] = entity = made.get(place)
                while len(self._kept) >= KEPT_ENTITIES:
                    self._kept.pop(next(iter(self._kept)))
                self._kept[join.target, join.namespace.code, texts[place]] = counts[place], entity
        return out

    def _read(
        self, join: Join, owners: Array, positions: Array, rows: Array
    ) -> dict[int, dict[str, Any] | None]:
        """Documents by owner, of all their rows."""
        catalogue, merging = self._state.catalogue, self._state.merging()
        stated: dict[int, list[Any]] = {}
        records = read_records(self._log, positions, rows)
        for owner, row in zip(owners.tolist(), records, strict=True):
            if catalogue.datasets[row.dataset].schema == join.target:
                fields = timed(catalogue, row.dataset, row.fields)
                stated.setdefault(owner, []).append(structs.replace(row, fields=fields))
        return {owner: union_of(found, merging) or None for owner, found in stated.items()}
