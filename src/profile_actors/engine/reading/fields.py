"""Which parts of a profile are asked for: selectors, checked against the definitions.

    identities | attributes | computed | segments     the whole part
    segments.NAME, computed.NAME                      one of them, whatever characters NAME has
    attributes.a.b                                    a field; an object brings all that is in it
    a(b,c.d)                                          the same as a.b and a.c.d, at any depth

A path of attributes that passes an array applies to each of its elements.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from profile_actors.definitions.declared import Catalogue
from profile_actors.definitions.field_types import FieldType
from profile_actors.definitions.schema_paths import union_tree
from profile_actors.errors import CallerError, DefinitionError
from profile_actors.rules.catalogue.merge_views import default_policy, is_single, view_of, views_of
from profile_actors.rules.catalogue.publication import not_served, rules_of
from profile_actors.rules.tree.plan import WORDS

PARTS = ("identities", "attributes", "computed", "segments")


class Fields(msgspec.Struct, frozen=True, array_like=True):
    """segments, computed: names, None: all. attributes: dotted paths of which all below is wanted,
    None: all. identities: whether. policy: the merge policy by which attributes are read, None: the
    default one. sources: whether it is told where each attribute is from."""

    identities: bool = True
    attributes: tuple[str, ...] | None = None
    segments: tuple[str, ...] | None = None
    computed: tuple[str, ...] | None = None
    policy: str | None = None
    sources: bool = False


EVERYTHING = Fields()


def under(fields: Fields, policy: str, catalogue: Catalogue) -> Fields:
    """The same by a merge policy: its attributes and, where all segments or computed attributes are
    asked for, those of rules under it. Raises DefinitionError for an unknown policy."""
    view_of(catalogue, policy)
    default = default_policy(catalogue)
    names = {
        kind: tuple(
            sorted(
                name
                for (of, name), rule in rules_of(catalogue)
                if of == kind and (rule.merge_policy or default) == policy
                if rule.state == "published"
            )
        )
        for kind in ("segment", "computed")
    }
    return msgspec.structs.replace(
        fields,
        policy=policy,
        segments=names["segment"] if fields.segments is None else fields.segments,
        computed=names["computed"] if fields.computed is None else fields.computed,
    )


def check_kind(fields: Fields, catalogue: Catalogue) -> None:
    """Whether the rules that are asked for by name are about those who are asked: people, or single
    identities, as the policy says. Raises DefinitionError."""
    views = views_of(catalogue)
    single = is_single(catalogue, fields.policy)
    for kind, names in (("segment", fields.segments), ("computed", fields.computed)):
        for name in names or ():
            view = views.get((kind, name))
            if view is not None and view.single != single:
                wanted, got = ("none", "graph") if single else ("graph", "none")
                raise DefinitionError(
                    f"expected rules of merge policies with stitching {wanted!r}, got {WORDS[kind]}"
                    f" {name!r}, whose is {got!r} - at fields=; name its policy in merge_policy="
                )


def fields_of(selectors: Iterable[str], catalogue: Catalogue) -> Fields:
    """The fields that selectors name.

    Raises DefinitionError for an unknown segment, computed attribute or attribute, or one that is
    not published; CallerError for a text that is no selector.
    """
    if isinstance(selectors, str) or not isinstance(selectors, Iterable):
        raise CallerError(
            f"expected a list of selectors such as 'segments.vip', got {selectors!r} - at fields="
        )
    names: dict[str, set[str] | None] = {"attributes": set(), "computed": set(), "segments": set()}
    identities = False
    for selector in selectors:
        for part, name in _parsed(selector, catalogue):
            if part == "identities":
                identities = True
            elif name is None:
                names[part] = None
            else:
                known = names[part]
                if known is not None:
                    known.add(name)
    chosen = {part: None if of is None else tuple(sorted(of)) for part, of in names.items()}
    return Fields(identities, chosen["attributes"], chosen["segments"], chosen["computed"])


def _parsed(selector: Any, catalogue: Catalogue) -> Iterator[tuple[str, str | None]]:
    """(part, name or path; None: all of it) of one selector."""
    if not isinstance(selector, str):
        raise _no_selector(selector)
    part, _, rest = selector.partition(".")
    if part in ("computed", "segments") and rest in _rules(catalogue, part):
        yield part, _published(catalogue, part, rest)
        return
    for path in _spelled_out(selector, selector):
        part, dot, rest = path.partition(".")
        if part not in PARTS or (dot and not rest) or (dot and part == "identities"):
            raise _no_selector(selector)
        if not dot:
            yield part, None
        elif part == "attributes":
            yield part, _attribute(catalogue, rest)
        else:
            yield part, _published(catalogue, part, rest)


def _no_selector(selector: Any) -> CallerError:
    return CallerError(
        f"expected {', '.join(PARTS)}, one of them followed by .NAME, or by names in (…), got"
        f" {selector!r} - at fields="
    )


def _spelled_out(text: str, selector: str) -> Iterator[str]:
    """The paths that a(b,c.d) stands for."""
    head, bracket, rest = text.partition("(")
    if not bracket:
        if ")" in text or not text.strip():
            raise _no_selector(selector)
        yield text.strip()
        return
    if not rest.endswith(")"):
        raise _no_selector(selector)
    depth, begin, inner = 0, 0, rest[:-1]
    for place, char in enumerate(inner + ","):
        depth += (char == "(") - (char == ")")
        if depth < 0:
            raise _no_selector(selector)
        if char == "," and depth == 0:
            for path in _spelled_out(inner[begin:place], selector):
                yield f"{head.strip()}.{path}"
            begin = place + 1
    if depth:
        raise _no_selector(selector)


def _rules(catalogue: Catalogue, part: str) -> Iterable[str]:
    return catalogue.segments if part == "segments" else catalogue.computed


def _published(catalogue: Catalogue, part: str, name: str) -> str:
    kind = "segment" if part == "segments" else "computed"
    word = "segment" if part == "segments" else "computed attribute"
    known = _rules(catalogue, part)
    if name not in known:
        raise DefinitionError(
            f"expected the name of a {word}, got {name!r} - at fields=; known:"
            f" {', '.join(sorted(known)) or 'none yet'}"
        )
    state = not_served(catalogue, (kind, name))
    if state is not None:
        raise DefinitionError(
            f"expected a published {word}, got {name!r}, which is {state} - at fields="
        )
    return name


def _attribute(catalogue: Catalogue, path: str) -> str:
    """The path, if record schemas spell it."""
    tree: FieldType | None = union_tree(catalogue, "record")
    for step in path.split("."):
        while tree is not None and tree.kind == "array":
            tree = tree.item
        if tree is not None and tree.kind == "map":
            tree = tree.item
        else:
            tree = None if tree is None else dict(tree.fields).get(step)
    if tree is None:
        known = (name for name, _ in union_tree(catalogue, "record").fields)
        raise DefinitionError(
            f"expected the path of an attribute, got {path!r} - at fields=; profiles have:"
            f" {', '.join(sorted(known)) or 'none yet'}"
        )
    return path


def is_picked(path: str, paths: Iterable[str]) -> bool:
    """Whether a leaf is among what paths of attributes ask for."""
    return any(
        f"{path}.".startswith(f"{one}.") or f"{one}.".startswith(f"{path}.") for one in paths
    )


def picked(attributes: dict[str, Any], paths: Iterable[str]) -> dict[str, Any]:
    """Those paths of a profile's attributes, and nothing beside them; what is not there is left
    out."""
    return dict(_picked(attributes, tree_of_paths(paths)))


def tree_of_paths(paths: Iterable[str]) -> dict[str, Any]:
    """Dotted paths as nested maps; None: all that is below."""
    wanted: dict[str, Any] = {}
    for path in sorted(paths, key=len):  # an object before what is in it
        below: dict[str, Any] | None = wanted
        *parents, last = path.split(".")
        for step in parents:
            below = None if below is None else below.setdefault(step, {})
        if below is not None:
            below[last] = None
    return wanted


def _picked(value: Any, wanted: dict[str, Any] | None) -> Any:
    if wanted is None:
        return value
    if isinstance(value, list):
        return [_picked(item, wanted) for item in value]
    if not isinstance(value, dict):
        return value
    return {name: _picked(value[name], wanted[name]) for name in value if name in wanted}
