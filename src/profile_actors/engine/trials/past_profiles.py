"""A person's profile as rules and rows of some instant make it, whatever is shown of her now.

Theory: nothing that a store answered is kept, and nothing need be: the rows of each of her
identities stand in its owner's log, in the order in which they came, and so do the definitions. So
what would have been answered when the clock stood at an instant is what the reference evaluator
says of the rows that had come by then, under the definitions in force then, at that instant. Who
was one person then the ledger knows (``past_evidence``).

Limits: what depends on the way there, and not on what was known, is not said: when she last entered
a segment, and which ones she has left. An evaluation takes a millisecond a rule and tens of events;
until when a window over n events holds takes up to n evaluations: ask for the fields that you need.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from msgspec import structs

from profile_actors.definitions import catalogue_changes
from profile_actors.engine.fold.state import State
from profile_actors.engine.identity.identity import Identity
from profile_actors.engine.identity.messages import Named
from profile_actors.engine.log.ports import Log
from profile_actors.engine.merge.documents import Row, document, in_order
from profile_actors.engine.merge.record_union import Merging, document_of, stated_by
from profile_actors.engine.reading.answers import Membership, Profile
from profile_actors.engine.reading.fields import Fields, picked, under
from profile_actors.engine.reading.profile_columns import sources_of
from profile_actors.engine.refold.entity_documents import EntityDocuments
from profile_actors.engine.refold.typed_fields import timed
from profile_actors.engine.trials.past_entries import definitions_at, entries_until
from profile_actors.engine.trials.people_trials import OwnRows
from profile_actors.errors import RuleError
from profile_actors.rules.catalogue.merge_views import is_single, view_of, views_of
from profile_actors.rules.catalogue.publication import rules_of
from profile_actors.rules.catalogue.typed_rules import check_all, entities_of
from profile_actors.rules.planning.rescan_reads import rescan
from profile_actors.rules.reference.joined_documents import joined_all
from profile_actors.rules.reference.validity import evaluate_with_validity
from profile_actors.rules.tree.plan import Key, Rescan
from profile_actors.rules.tree.sights import ALL, View


def past_profile(
    state: State,
    log: Log,
    lock: threading.RLock,
    person: Sequence[tuple[Named, OwnRows]],
    at: int,
    fields: Fields,
) -> Profile | None:
    """The profile that these identities, the canonical one first, and their rows were when the
    clock stood at ``at`` (ms); None for one identity without rows. What was not defined then is
    left out. Raises DefinitionError for a merge policy that was not, RuleError."""
    with lock:
        entries = entries_until(log, state.position, at)
    rules = _rules_of(definitions_at(log, entries))
    if fields.policy is not None:
        fields = under(fields, fields.policy, rules.catalogue)
    if len(person) < 2 and not any(rows.events or rows.records for _, rows in person):
        return None
    return _Past(rules, EntityDocuments(state, log), entries - 1, at, person).profile(fields)


class _Rules:
    """The published rules of a version of the definitions."""

    def __init__(self, definitions: bytes) -> None:
        self.catalogue = catalogue = catalogue_changes.decode(definitions)
        trees, entities, views = check_all(catalogue), entities_of(catalogue), views_of(catalogue)
        self.computed = {name: tree for (kind, name), tree in trees.items() if kind == "computed"}
        self.segments = {name: tree for (kind, name), tree in trees.items() if kind == "segment"}
        self.rules = [rescan(key, trees, "", views.get(key, ALL), entities) for key in trees]
        self.versions: dict[Key, int] = {key: rule.version for key, rule in rules_of(catalogue)}

    def merging(self, view: View) -> Merging:
        """How record rows became a union view."""
        datasets = self.catalogue.datasets.items()
        return Merging({name: one.mode == "replace" for name, one in datasets}, view.order)


# Who asks of one person as of an instant asks of others as of it.
_rules_of = lru_cache(maxsize=4)(_Rules)


class _Past:
    """One person at one instant."""

    def __init__(
        self,
        rules: _Rules,
        entities: EntityDocuments,
        position: int,
        now: int,
        person: Sequence[tuple[Named, OwnRows]],
    ) -> None:
        self._rules, self._entities = rules, entities
        self._position, self._now = position, now
        canonical, *others = (Identity(named.namespace, named.value) for named, _ in person)
        self._identities = [canonical, *sorted(others)]
        came = [rows.came for _, rows in person if rows.came is not None]
        self._came = max(came, default=now)
        known = rules.catalogue.datasets
        self._records = [
            structs.replace(row, named=(named.namespace, named.value))
            for named, rows in person
            for row in rows.records
            if row.dataset in known
        ]
        events = in_order(row for _, rows in person for row in rows.events if row.dataset in known)
        self._events = [self._timed(row) for _, row in events]
        self._timed_records = [self._timed(row) for row in self._records]

    def profile(self, fields: Fields) -> Profile:
        """The asked fields; of rules that failed only that they have no answer."""
        stated = stated_by(
            self._records, self._rules.merging(view_of(self._rules.catalogue, fields.policy))
        )
        attributes, paths = document_of(stated), fields.attributes
        segments: dict[str, Membership] = {}
        computed: dict[str, Any] = {}
        until_computed: dict[str, int | None] = {}
        pending: dict[str, str] = {}
        single = is_single(self._rules.catalogue, fields.policy)
        for rule in self._rules.rules:
            if rule.view.single != single:
                continue
            asked = fields.segments if rule.kind == "segment" else fields.computed
            if asked is not None and rule.name not in asked:
                continue
            try:
                value, until = self._value(rule)
            except RuleError as error:
                value, until = None, None
                if rule.kind == "computed":
                    pending[rule.name] = str(error)
                else:
                    segments[rule.name] = self._membership(rule, "pending", None)
            if rule.kind == "computed":
                computed[rule.name], until_computed[rule.name] = value, until
            elif value:
                segments[rule.name] = self._membership(rule, "realized", until)
        return Profile(
            self._identities if fields.identities else [],
            attributes if paths is None else picked(attributes, paths),
            dict(sorted(segments.items())),
            dict(sorted(computed.items())),
            dict(sorted(until_computed.items())),
            self._came,
            self._now,
            pending,
            sources_of(stated, self._identities[0], paths) if fields.sources else {},
        )

    def _membership(self, rule: Rescan, status: str, until: int | None) -> Membership:
        return Membership(status, None, until, self._rules.versions[rule.key])

    def _value(self, rule: Rescan) -> tuple[Any, int | None]:
        mine: list[Mapping[str, Any]] = [
            document(row.fields)
            for row in self._events
            if rule.view.events is None or row.dataset in rule.view.events
        ]
        merging = self._rules.merging(rule.view)
        record: Mapping[str, Any] = document_of(stated_by(self._timed_records, merging))
        record, mine = joined_all(record, mine, rule.joins, self._entity_of)
        return evaluate_with_validity(
            rule.tree, record, mine, self._now, self._rules.computed, self._rules.segments,
            condition=rule.kind == "segment", in_order=True,
        )  # fmt: skip

    def _entity_of(self, join: Any, keys: Iterable[Any]) -> Mapping[str, Any]:
        return self._entities.of(join, keys, self._position)

    def _timed(self, row: Row) -> Row:
        fields = timed(self._rules.catalogue, row.dataset, row.fields)
        return structs.replace(row, fields=fields)
