"""Planning of maps: groups of kept events by a key, maps made of maps, and a value by its key.

Theory: a map exists only while it is evaluated; what is kept are the events that it groups. So a
map is planned like a list, with a key beside each element.
"""

from __future__ import annotations

from dataclasses import replace

from profile_actors.definitions.field_types import COMPOSITE
from profile_actors.rules.planning.planned_lists import (
    Bindings,
    Lists,
    Planned,
    kind_word,
    origin,
)
from profile_actors.rules.tree.faults import NotIncremental
from profile_actors.rules.tree.nodes import Call, Computed, Each, Let, Node, Variable


def planned_map(node: Node, scope: Bindings, lists: Lists) -> Planned:
    """A map; of: the events in the lists that are its values. Raises NotIncremental."""
    match node:
        case Each(function="groupby"):
            source = lists.array(node.source, scope)
            inner = scope.inside(node.variables, source.of)
            key = lists.value(node.body, inner)
            made = replace(node, source=source.node, body=key, variables=(inner.last,))
            return Planned(made, source.of, None)
        case Each(function="mapentries"):
            return _entries(node, scope, lists)
        case Let():
            bound, inner = lists.let(node, scope)
            body = lists.map(node.body, inner)
            return Planned(replace(bound, body=body.node), body.of, None)
        case Variable():
            variable, of = scope.bound(node)
            return Planned(variable, of, None)
        case Computed():
            return Planned(lists.scalars.reference(node), None, None)
    raise NotIncremental(node, origin(node))


def _entries(node: Each, scope: Bindings, lists: Lists) -> Planned:
    source = lists.map(node.source, scope)
    key_name, value_name = node.variables
    first = scope.bind(key_name, None)
    inner = first.bind(value_name, source.of)
    key, of = lists.value(node.body, inner), None
    kind = kind_word(node.extra[0])
    if kind == "array":
        many = lists.array(node.extra[0], inner)
        value, of = many.node, many.of
    elif kind in ("map", "object"):
        raise NotIncremental(node.extra[0], "a map of maps or objects")
    else:
        value = lists.value(node.extra[0], inner)
    names = (first.last, inner.last)
    made = replace(node, source=source.node, body=key, extra=(value,), variables=names)
    return Planned(made, of, None)


def looked_up(node: Node, base: Node, key: Node, scope: Bindings, lists: Lists) -> Node:
    """A map's value for a key, which is a scalar. Raises NotIncremental."""
    mapped = lists.map(base, scope)
    if kind_word(node) in (*COMPOSITE, ""):
        raise NotIncremental(node, "a list of a map as a value")
    args = (mapped.node, lists.value(key, scope))
    return Call("get", args, at=node.at, type=node.type)
