"""Dotted paths in a rule: the type of each step, and what is said of a step that is not there.

Theory: a path goes through arrays to the fields of their elements, and through maps by key. A name
that no schema has is most often a misspelling, a method without parentheses, or a field that stands
one level further out; the error says which, and shows the whole path mended.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from profile_actors.definitions.field_types import FieldType
from profile_actors.rules.language.functions import EACH, METHODS, spelling
from profile_actors.rules.language.types import CONFLICT, Scope, Type, array_of, described
from profile_actors.rules.tree.faults import Fault, nearest, way_out
from profile_actors.rules.tree.nodes import Element, Field, Node, Root

_CALLED = tuple(spelling(name) for name in (*METHODS, *EACH))


def field_type(scope: Scope, base: Node, path: list[Field], position: int) -> Type:
    """The type of ``path[position]`` of a typed base; None: not known.

    path: all fields in a row, outermost first, so that an error can show and mend the whole of it.
    Through arrays it is flattened, a map's is by key (RULES §1). Raises Fault: no such field, with
    the way out; or schemas that declare it with types that do not go together.
    """
    part = path[position]
    owner, through_array = base.type, False
    while owner is not None and owner.kind == "array":
        owner, through_array = owner.item, True
    found: Type = None
    if owner is not None and owner.kind == "map":
        found = owner.item
    elif owner is not None:
        known = dict(owner.fields) if owner.kind == "object" else {}
        if part.name not in known:
            raise _unknown(scope, owner, known, base, path, position)
        found = known[part.name]
        if found == CONFLICT:
            raise Fault(
                f"schemas declare field {part.name!r} with types that do not go together;"
                " rename one of them",
                part.at,
            )
    if not through_array:
        return found
    while found is not None and found.kind == "array":
        found = found.item
    return array_of(found)


def _unknown(
    scope: Scope,
    owner: FieldType,
    known: Mapping[str, Any],
    base: Node,
    path: list[Field],
    position: int,
) -> Fault:
    names = [part.name for part in path]
    name = names[position]
    whole = ".".join(names)
    at = path[position].at
    way = way_out(name, known, _CALLED)
    if owner.kind != "object":
        return Fault(f"{described(owner)} has no fields; got `{whole}`{way}", at)
    if name == "computed" and isinstance(base, Element):
        return Fault("computed attributes belong to the profile: write `^.computed.name`", at)
    if name == "computed":
        return Fault("expected computed.NAME", at)
    close = nearest(name, [*known, "xEvent"] if isinstance(base, Root) else known)
    if way:
        close = way
    elif close:
        names[position] = close.split("'")[1]
        close = f"; did you mean `{'.'.join(names)}`?"
    place = "an event" if owner == scope.event else "an object"
    place = "the profile" if isinstance(base, Root) else place
    profile = scope.profile
    if isinstance(base, Element) and profile is not None and name in dict(profile.fields):
        close = f"; the profile's is `$1.{'.'.join(names)}`"
    return Fault(f"unknown field `{whole}` of {place}{close}", at)
