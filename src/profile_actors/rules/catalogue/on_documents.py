"""``pf.evaluate``: one rule over plain documents, without a store; for testing rules (RULES §6).

Theory: parse, type-check when a schema is given and type the documents by it, then the reference
evaluator. Without a schema every type is found out while evaluating, and unknown paths are null.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import Any

from profile_actors.definitions.declared import Behavior, Catalogue, Namespace, Relationship, Schema
from profile_actors.definitions.field_types import FieldType
from profile_actors.definitions.relationships import check_relationships, join_of
from profile_actors.definitions.schema_paths import tree_of
from profile_actors.errors import RuleError
from profile_actors.rules.language.checker import check
from profile_actors.rules.language.parser import parse
from profile_actors.rules.language.types import Scope, union_scope
from profile_actors.rules.reference.event_order import order_events
from profile_actors.rules.reference.joined_documents import joined
from profile_actors.rules.reference.validity import evaluate_with_validity
from profile_actors.rules.semantics.values import instant_of, lift, parse_instant
from profile_actors.rules.tree.constants import BOOLEAN
from profile_actors.rules.tree.faults import Fault

Moment = datetime.datetime | int | str


def evaluate(
    pql: str,
    profile: Mapping[str, Any] | None = None,
    events: Sequence[Mapping[str, Any]] = (),
    *,
    now: Moment,
    schema: Schema | Iterable[Schema] | None = None,
    computed: Mapping[str, Any] | None = None,
    segments: Collection[str] = (),
    relationships: Relationship | Iterable[Relationship] = (),
    lookups: Mapping[str, Mapping[Any, Mapping[str, Any]]] | None = None,
    namespaces: Mapping[str, Namespace] | None = None,
) -> tuple[Any, int | None]:
    """The rule's value for these documents at ``now``, and its ``valid_until`` in ms or None.

    profile, events: plain documents; datetimes are timestamps, and so is an event's ``timestamp``
    as ms or ISO-8601 text. now: a datetime (without a zone: UTC), ms since 1970 or ISO-8601 text.
    schema: schemas to type-check against, as a store would. computed: name -> value, the computed
    attributes the profile has. segments: the segments it is in. Values come back as plain Python;
    timestamps and dates as ms (UTC). relationships: fields of these documents that name entities.
    lookups: the entities, as target schema -> value -> document. namespaces: by target schema, that
    of its entities, by which values that name them are normalised, as a store does; without one
    they are compared as they are. Raises RuleError, DefinitionError for a relationship that does
    not fit ``schema``.
    """
    tree, in_order = parse(pql), False
    named_fields = (
        [relationships] if isinstance(relationships, Relationship) else list(relationships)
    )
    behaviors: dict[str, Behavior] = {}
    if schema is not None:
        schemas = [schema] if isinstance(schema, Schema) else list(schema)
        types = {name: type_of(value) for name, value in (computed or {}).items()}
        known = {name: type_ for name, type_ in types.items() if type_ is not None}
        named = {one.name: one for one in schemas}
        check_relationships(
            Catalogue(schemas=named, relationships={one.name: one for one in named_fields})
        )
        behaviors = {one.name: one.behavior for one in schemas}
        scope = union_scope(schemas, known, segments, relationships=named_fields)
        tree = check(tree, scope, None, pql)
        profile, events, in_order = *typed_documents(scope, profile, events), True
        targets = {one.target: tree_of(named[one.target]) for one in named_fields}
        lookups = {
            name: {key: _fields(entity, targets[name]) for key, entity in of.items()}
            for name, of in (lookups or {}).items()
            if name in targets
        }
    profile, events = _joined_documents(
        profile or {}, events, named_fields, lookups or {}, behaviors, namespaces or {}
    )
    return evaluate_with_validity(
        tree, profile, events, moment_ms(now), computed=computed, segments=segments, text=pql,
        in_order=in_order,
    )  # fmt: skip


def _joined_documents(
    profile: Mapping[str, Any],
    events: Sequence[Mapping[str, Any]],
    relationships: Iterable[Relationship],
    lookups: Mapping[str, Mapping[Any, Mapping[str, Any]]],
    behaviors: Mapping[str, Behavior],
    namespaces: Mapping[str, Namespace],
) -> tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]:
    """The documents with the entities that they name. behaviors: of schemas; of one that is not
    known both the profile and the events are looked at."""
    for one in relationships:
        space = namespaces.get(one.target)
        spelled = str if space is None else partial(_spelled, space)
        entities = {spelled(key): entity for key, entity in lookups.get(one.target, {}).items()}
        behavior = behaviors.get(one.schema)
        join = join_of(one, behavior or "event", None)
        entity = partial(_entity_of, entities, spelled)

        if behavior != "event":
            profile = joined(profile, join, entity)
        if behavior != "record":
            events = [joined(event, join, entity) for event in events]
    return profile, events


def _spelled(space: Namespace, key: Any) -> str:
    """A value that names an entity, as its namespace keeps it."""
    # Here, since it brings NumPy: `eval` names no entities, and is to begin at once.
    from profile_actors.ingest.identity_keys import normalised

    return normalised(space, str(key))


def _entity_of(entities: Mapping[str, Any], spelled: Callable[[Any], str], key: Any) -> Any:
    return entities.get(spelled(key)) or None


def typed_documents(
    scope: Scope, profile: Mapping[str, Any] | None, events: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The documents with values as a store reads them, to every leaf of an object; events in order.

    What does not fit its type stays as it is: a rule that reads it says so. Of an object only the
    fields that a schema knows are there. Cost: Python per value. Raises RuleError for an event
    without a timestamp.
    """
    try:
        ordered = order_events(events)
    except Fault as fault:
        raise RuleError(fault.message) from None
    return _fields(profile or {}, scope.profile), [_fields(e, scope.event) for e in ordered]


def _fields(document: Mapping[str, Any], type_: FieldType | None) -> dict[str, Any]:
    """The fields of a whole document; those that no schema knows stay."""
    known = {} if type_ is None else dict(type_.fields)
    return {name: _typed(raw, known.get(name)) for name, raw in document.items()}


def _typed(raw: Any, type_: FieldType | None) -> Any:
    """A value, typed to its leaves."""
    if type_ is None or raw is None:
        return raw
    if type_.kind == "object" and isinstance(raw, Mapping):
        return {name: _typed(raw[name], of) for name, of in type_.fields if name in raw}
    if type_.kind == "array" and isinstance(raw, list | tuple):
        return [_typed(item, type_.item) for item in raw if item is not None]
    if type_.kind == "map" and isinstance(raw, Mapping):
        return {key: _typed(item, type_.item) for key, item in raw.items()}
    try:
        return lift(raw, type_)
    except Fault:
        return raw


def moment_ms(moment: Moment) -> int:
    """UTC ms of a datetime, ms or ISO-8601 text. Raises RuleError."""
    ms: int | None = None
    if isinstance(moment, datetime.datetime):
        ms = instant_of(moment)
    elif isinstance(moment, str):
        ms = parse_instant(moment)
    elif isinstance(moment, int) and not isinstance(moment, bool):
        ms = moment
    if ms is None:
        raise RuleError(
            f"expected now as a datetime, ms since 1970 or ISO-8601 text, got {str(moment)[:60]!r}"
        )
    return ms


def type_of(value: object) -> FieldType | None:
    """The type of a plain value, or None where it does not say (null, mixed arrays, objects)."""
    if isinstance(value, bool):
        return BOOLEAN
    if isinstance(value, Decimal):
        return FieldType("decimal", scale=max(0, -int(value.as_tuple().exponent)))
    for class_, kind in (
        (int, "integer"),
        (float, "double"),
        (str, "string"),
        (datetime.datetime, "timestamp"),
        (datetime.date, "date"),
    ):
        if isinstance(value, class_):
            return FieldType(kind)
    if isinstance(value, list | tuple):
        items = {type_of(item) for item in value if item is not None}
        if len(items) == 1:
            return FieldType("array", item=items.pop())
    if isinstance(value, Mapping):
        items = {type_of(item) for item in value.values() if item is not None}
        if len(items) == 1 and None not in items:
            return FieldType("map", item=items.pop())
    return None
