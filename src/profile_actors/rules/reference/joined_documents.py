"""Documents with the entities that their fields name: what rules read through relationships.

Theory: nothing is looked up while a rule is evaluated. First the keys in the documents are found,
then all their entities are read at once, then the documents are made again with the entities beside
the objects that name them (``Joined``). An object is copied where something in it has one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from profile_actors.definitions.relationships import Join
from profile_actors.rules.semantics.values import Joined, copied

Entity = Callable[[Any], Any]
"""A key's entity as a document; None while there is none."""


def keys_in(document: Mapping[str, Any], join: Join) -> Iterator[Any]:
    """The keys in one event, or in the profile, by which a relationship names entities."""
    for holder in _holders([document], join.parents):
        yield from _many(holder.get(join.key))


def _holders(found: list[Any], parents: Sequence[str]) -> list[Any]:
    for name in parents:
        found = [one for holder in found for one in _many(holder.get(name))]
        found = [one for one in found if isinstance(one, Mapping)]
    return found


def _many(value: Any) -> list[Any]:
    """A value, or the elements of an array of any depth, without nulls."""
    if isinstance(value, list | tuple):
        return [one for element in value for one in _many(element)]
    return [] if value is None else [value]


def joined(document: Mapping[str, Any], join: Join, entity: Entity) -> Mapping[str, Any]:
    """The document with entities beside the objects that have a relationship's field."""
    return _joined(document, join.parents, join, entity)


def _joined(
    document: Mapping[str, Any], parents: Sequence[str], join: Join, entity: Entity
) -> Mapping[str, Any]:
    if parents:
        inner = document.get(parents[0])
        made = _inside(inner, parents[1:], join, entity)
        if made is inner:
            return document
        out = copied(document)
        out[parents[0]] = made
        return out
    value = document.get(join.key)
    found = [one for one in map(entity, _many(value)) if one is not None]
    if not found:
        return document
    return Joined(document, {join.name: found if isinstance(value, list | tuple) else found[0]})


def _inside(value: Any, parents: Sequence[str], join: Join, entity: Entity) -> Any:
    """What stands on the way to the field: an object, or an array of some."""
    if isinstance(value, Mapping):
        return _joined(value, parents, join, entity)
    if isinstance(value, list | tuple):
        made = [_inside(one, parents, join, entity) for one in value]
        return made if any(a is not b for a, b in zip(made, value, strict=True)) else value
    return value


EntitiesOf = Callable[[Join, Iterable[Any]], Mapping[str, Any]]
"""The entities that keys of a relationship name, by the keys' texts."""


def joined_all(
    record: Mapping[str, Any],
    events: list[Mapping[str, Any]],
    joins: Iterable[Join],
    entities_of: EntitiesOf,
) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    """One profile's documents with the entities of all these relationships."""
    for join in joins:
        documents = events if join.behavior == "event" else [record]
        found = entities_of(join, {key for one in documents for key in keys_in(one, join)})

        def entity(key: Any, known: Mapping[str, Any] = found) -> Any:
            return known.get(str(key))

        made = [joined(one, join, entity) for one in documents]
        if join.behavior == "event":
            events = made
        else:
            (record,) = made
    return record, events
