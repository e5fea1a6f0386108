"""What of people would change under other linking rules: the rows of identities, and what rules say
of any set of them taken for one person.

Theory: whose identities an identity is put together with does not change its own rows, which its
owner has in its log, whoever shows them. So people that nobody has put together yet are looked at
by the reference evaluator over the rows of their identities, and people as they are by the same.

Limits: all rows of the identities asked for are read and travel; an evaluation takes a millisecond
a rule and tens of events.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from profile_actors.columnar.state_columns import UNSET
from profile_actors.definitions.declared import Catalogue
from profile_actors.engine.fold.state import State
from profile_actors.engine.log.ports import Log
from profile_actors.engine.merge.documents import Row, document, in_order, read_records, read_rows
from profile_actors.engine.merge.kept_rows import counts
from profile_actors.engine.merge.record_union import union_of
from profile_actors.engine.refold.entity_documents import EntityDocuments
from profile_actors.engine.refold.typed_fields import timed
from profile_actors.engine.trials.past_entries import entries_until, envelope_at
from profile_actors.rules.catalogue.merge_views import views_of
from profile_actors.rules.catalogue.typed_rules import check_all, entities_of
from profile_actors.rules.planning.rescan_reads import rescan
from profile_actors.rules.reference.joined_documents import joined_all
from profile_actors.rules.reference.validity import value_at
from profile_actors.rules.tree.sights import ALL


class OwnRows(msgspec.Struct, frozen=True):
    """The rows of one identity alone, whoever shows them. came: the store's now (ms) when the
    newest did; None without rows."""

    events: list[Row] = []
    records: list[Row] = []
    came: int | None = None


def own_rows(
    state: State,
    log: Log,
    lock: threading.RLock,
    keys: Sequence[tuple[int, int]],
    at: int | None = None,
) -> list[OwnRows]:
    """The rows of identities that this partition owns, in the order asked for; with ``at`` (ms)
    those that it had when its clock stood there."""
    with lock:
        numbers = state.directory.find(*np.array(keys, np.uint64).reshape(-1, 2).T).tolist()
        known, position = state.known, state.position
    if at is not None:
        position = entries_until(log, position, at)
    out = []
    for key, ident in zip(keys, numbers, strict=True):
        if not 0 <= ident < known:
            out.append(OwnRows())
            continue
        parts, newest = [], -1
        for locator, read in ((state.locator, read_rows), (state.record_locator, read_records)):
            _, positions, rows = locator.rows_of(ident)
            upto = positions < position
            found = read(log, positions[upto], rows[upto])
            parts.append([msgspec.structs.replace(row, primary=tuple(key)) for row in found])
            newest = max([newest, *positions[upto].tolist()])
        came = None if newest < 0 else envelope_at(log, newest).now
        events, records = parts
        events = [
            row for row in events if counts(row.dataset, row.timestamp, state.catalogue.expired)
        ]
        out.append(OwnRows(events, records, came))
    return out


def memberships(
    state: State, log: Log, people: Iterable[Sequence[OwnRows]], now: int | None
) -> list[list[str] | None]:
    """The segments that each person would be in, taken for one; None for who would be no profile:
    one identity without rows. now: ms, the partition's if later. Raises RuleError."""
    catalogue, position = state.catalogue, state.position - 1
    instant = state.now if now is None else max(state.now, now)
    if instant == UNSET:
        return [None for _ in people]
    rules = _Rules(state, log, catalogue, position, instant)
    return [rules.of(person) for person in people]


class _Rules:
    """The published segments of a partition, as of an instant."""

    def __init__(
        self, state: State, log: Log, catalogue: Catalogue, position: int, now: int
    ) -> None:
        self._state, self._catalogue = state, catalogue
        self._position, self._now = position, now
        self._entities = EntityDocuments(state, log)
        trees, entities = check_all(catalogue), entities_of(catalogue)
        views = views_of(catalogue)
        self._computed = {name: tree for (kind, name), tree in trees.items() if kind == "computed"}
        self._segments = {name: tree for (kind, name), tree in trees.items() if kind == "segment"}
        self._rules = [
            rescan(key, trees, "", views.get(key, ALL), entities)
            for key in trees
            if key[0] == "segment" and not views.get(key, ALL).single
        ]

    def of(self, person: Sequence[OwnRows]) -> list[str] | None:
        events = [row for one in person for row in one.events]
        records = [self._timed(row) for one in person for row in one.records]
        if not events and not records and len(person) < 2:
            return None
        ordered = [self._timed(row) for _, row in in_order(events)]
        inside = []
        for rule in self._rules:
            mine: list[Mapping[str, Any]] = [
                document(row.fields)
                for row in ordered
                if rule.view.events is None or row.dataset in rule.view.events
            ]
            record: Mapping[str, Any] = union_of(records, self._state.merging(rule.view))
            record, mine = joined_all(record, mine, rule.joins, self._entity_of)
            value = value_at(
                rule.tree, record, mine, self._now, self._computed, self._segments, in_order=True
            )
            if value:
                inside.append(rule.name)
        return inside

    def _entity_of(self, join: Any, keys: Iterable[Any]) -> Mapping[str, Any]:
        return self._entities.of(join, keys, self._position)

    def _timed(self, row: Row) -> Row:
        return msgspec.structs.replace(row, fields=timed(self._catalogue, row.dataset, row.fields))
