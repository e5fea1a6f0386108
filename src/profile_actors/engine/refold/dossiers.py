"""One profile's documents up to a log position, as the reference evaluator takes them.

Theory: what verification and rescans evaluate. A row belongs to a dossier as of position p if its
entry is at or below p; times are datetimes, so that a schema-less evaluation sees their type. A
few hundred dossiers are kept, since several rules ask for the same profile in turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from profile_actors.columnar.vectors import Array
from profile_actors.definitions.relationships import Join
from profile_actors.engine.fold.state import State
from profile_actors.engine.identity.listing import NEVER
from profile_actors.engine.log.ports import Log
from profile_actors.engine.log.row_locator import Locator
from profile_actors.engine.merge.documents import (
    Row,
    document,
    in_order,
    read_records,
    read_rows,
)
from profile_actors.engine.merge.kept_rows import counts
from profile_actors.engine.merge.record_union import union_of
from profile_actors.engine.refold.entity_documents import EntityDocuments
from profile_actors.engine.refold.typed_fields import timed
from profile_actors.rules.reference.joined_documents import joined_all
from profile_actors.rules.tree.sights import ALL, View

KEPT = 256


Dossier = tuple[Mapping[str, Any], list[Mapping[str, Any]]]


class Dossiers:
    """Reads dossiers of one partition. Cost: the profile's rows, once while it is kept."""

    def __init__(self, state: State, log: Log) -> None:
        self._state = state
        self._log = log
        self._entities = EntityDocuments(state, log)
        self._kept: dict[tuple[int, int, View, tuple[Join, ...]], Dossier] = {}

    def of(
        self, slot: int, position: int, view: View = ALL, joins: tuple[Join, ...] = ()
    ) -> Dossier:
        """(record, events) of a slot's profile, from the entries up to ``position``. view: by which
        data it is seen. joins: relationships whose entities stand beside their fields."""
        key = slot, position, view, joins
        known = self._kept.get(key)
        if known is None:
            if joins:
                known = joined_all(
                    *self.of(slot, position, view), joins,
                    lambda join, keys: self._entities.of(join, keys, position),
                )  # fmt: skip
            else:
                known = self._read(slot, position, view)
            if len(self._kept) >= KEPT:
                self._kept.pop(next(iter(self._kept)))
            self._kept[key] = known
        return known

    def _read(self, slot: int, position: int, view: View) -> Dossier:
        state = self._state
        ident = int(state.directory.ident_of[slot])
        events: list[Mapping[str, Any]] = [
            document(timed(state.catalogue, row.dataset, row.fields))
            for _, row in in_order(self._rows(state.locator, ident, position, view.single))
            if counts(row.dataset, row.timestamp, state.catalogue.expired)
            and (view.events is None or row.dataset in view.events)
        ]
        stated = [
            msgspec.structs.replace(row, fields=timed(state.catalogue, row.dataset, row.fields))
            for row in self._records(slot, ident, position, view.single)
        ]
        return union_of(stated, state.merging(view)), events

    def _records(self, slot: int, ident: int, position: int, single: bool) -> list[Row]:
        """The rows that say something as of a position, or all up to it, where newer ones live, or
        where those that live are in a person's book."""
        _, positions, rows = self._state.live_rows.gather(np.array([slot]))
        is_apart = single and self._state.listing.since(ident) < NEVER
        if is_apart or (positions > position).any():
            locator = self._state.record_locator
            positions, rows = self._upto(locator, ident, position, single)
        return read_records(self._log, positions, rows)

    def _rows(self, locator: Locator, ident: int, position: int, single: bool) -> list[Row]:
        return read_rows(self._log, *self._upto(locator, ident, position, single))

    def _upto(
        self, locator: Locator, ident: int, position: int, single: bool
    ) -> tuple[Array, Array]:
        """(position, row) of an ident's rows up to an entry that fold in its own slot; single: all
        of them."""
        _, positions, rows = locator.rows_of(ident)
        # Rows from there on are in a person's book.
        since = NEVER if single else self._state.listing.since(ident)
        upto = (positions <= position) & (positions < since)
        return positions[upto], rows[upto]
