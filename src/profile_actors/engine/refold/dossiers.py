"""One profile's documents up to a log position, as the reference evaluator takes them.

Theory: what verification and rescans evaluate. A row belongs to a dossier as of position p if its
entry is at or below p; times are datetimes, so that a schema-less evaluation sees their type. A
few hundred dossiers are kept, since several rules ask for the same profile in turn.
"""

from __future__ import annotations

import datetime
from typing import Any

import msgspec
import numpy as np

from profile_actors.columnar.vectors import Array
from profile_actors.definitions.declared import Catalogue
from profile_actors.definitions.field_types import parse_type
from profile_actors.engine.fold.state import State
from profile_actors.engine.log.ports import Log
from profile_actors.engine.log.row_locator import Locator
from profile_actors.engine.merge.documents import (
    Row,
    document,
    in_order,
    read_records,
    read_rows,
)
from profile_actors.engine.merge.record_union import union_of
from profile_actors.rules.tree.sights import ALL, View

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


KEPT = 256


Dossier = tuple[dict[str, Any], list[dict[str, Any]]]


class Dossiers:
    """Reads dossiers of one partition. Cost: the profile's rows, once while it is kept."""

    def __init__(self, state: State, log: Log) -> None:
        self._state = state
        self._log = log
        self._kept: dict[tuple[int, int, View], Dossier] = {}

    def of(self, slot: int, position: int, view: View = ALL) -> Dossier:
        """(record, events) of a slot's profile, from the entries up to ``position``. view: by which
        data it is seen."""
        known = self._kept.get((slot, position, view))
        if known is not None:
            return known
        state = self._state
        ident = int(state.directory.ident_of[slot])
        events = [
            document(timed(state.catalogue, row.dataset, row.fields))
            for _, row in in_order(self._rows(state.locator, ident, position))
            if view.events is None or row.dataset in view.events
        ]
        stated = [
            msgspec.structs.replace(row, fields=timed(state.catalogue, row.dataset, row.fields))
            for row in self._records(slot, ident, position)
        ]
        if len(self._kept) >= KEPT:
            self._kept.pop(next(iter(self._kept)))
        made = union_of(stated, state.merging(view)), events
        self._kept[slot, position, view] = made
        return made

    def _records(self, slot: int, ident: int, position: int) -> list[Row]:
        """The rows that say something as of a position, or all up to it, where newer ones live."""
        _, positions, rows = self._state.live_rows.gather(np.array([slot]))
        if (positions > position).any():
            positions, rows = self._upto(self._state.record_locator, ident, position)
        return read_records(self._log, positions, rows)

    def _rows(self, locator: Locator, ident: int, position: int) -> list[Row]:
        return read_rows(self._log, *self._upto(locator, ident, position))

    def _upto(self, locator: Locator, ident: int, position: int) -> tuple[Array, Array]:
        """(position, row) of an ident's rows up to an entry that fold in its own slot."""
        _, positions, rows = locator.rows_of(ident)
        since = self._state.listing.since(ident)  # rows from there on are in a person's book
        upto = (positions <= position) & (positions < since)
        return positions[upto], rows[upto]


def timed(catalogue: Catalogue, dataset: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Flat fields with their timestamps and dates as datetimes and dates."""
    schema = catalogue.schemas[catalogue.datasets[dataset].schema].fields
    out = dict(fields)
    for name, value in fields.items():
        field = schema.get(name)
        if field is None or not isinstance(value, int) or isinstance(value, bool):
            continue
        kind = parse_type(field if isinstance(field, str) else field.type).kind
        if kind in ("timestamp", "date"):
            moment = EPOCH + datetime.timedelta(milliseconds=value)
            out[name] = moment.date() if kind == "date" else moment
    return out
