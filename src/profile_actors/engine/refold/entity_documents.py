"""Lookup entities as of a log position, as the reference evaluator takes them.

Theory: an entity is the union of its rows up to a position: of those that still say something, or
of all where newer ones do. What was read is good for as long as it is of the same rows.

Limits: ``KEPT_ENTITIES`` are kept.
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


Kept = tuple[bytes, bytes]
"""Positions and row numbers of the rows that an entity is made of."""


class EntityDocuments:
    """Reads entities of one partition. Cost: their rows, once while they are kept."""

    def __init__(self, state: State, log: Log) -> None:
        self._state = state
        self._log = log
        self._kept: dict[tuple[str, int], tuple[Kept, dict[str, Any] | None]] = {}

    def of(self, join: Join, values: Iterable[Any], position: int) -> Entities:
        """The entities that a relationship's values name, from the entries up to ``position``."""
        texts = list(dict.fromkeys(map(str, values)))
        if join.namespace is None or not texts:
            return {}
        keys, index = keys_of(join.namespace, texts, self._state.homes.seed), self._state.entities
        numbers = index.table.glimpse().find(keys[:, 0], keys[:, 1]).astype(np.int64)
        known = np.unique(numbers[numbers >= 0])  # several texts may name one
        owners, positions, rows = index.living.gather(known)
        if (positions > position).any():  # newer ones live: then all rows of then are looked at
            owners, positions, rows = rows_of_all(index.locator.runs, known)
            upto = positions <= position
            owners, positions, rows = owners[upto], positions[upto], rows[upto]
        order = np.argsort(owners, kind="stable")
        owners, positions, rows = known[owners[order]], positions[order], rows[order]
        found: dict[int, dict[str, Any] | None] = {}
        missing: list[tuple[int, Kept]] = []
        for number in known.tolist():
            begin, end = owners.searchsorted(number), owners.searchsorted(number, side="right")
            is_of = positions[begin:end].tobytes(), rows[begin:end].tobytes()
            kept = self._kept.get((join.target, number))
            if kept is not None and kept[0] == is_of:
                found[number] = kept[1]
            elif begin < end:
                missing.append((number, is_of))
        if missing:
            wanted = np.isin(owners, [number for number, _ in missing])
            made = self._read(join, owners[wanted], positions[wanted], rows[wanted])
            for number, is_of in missing:
                found[number] = entity = made.get(number)
                while len(self._kept) >= KEPT_ENTITIES:
                    self._kept.pop(next(iter(self._kept)))
                self._kept[join.target, number] = is_of, entity
        return {text: found.get(of) for text, of in zip(texts, numbers.tolist(), strict=True)}

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
