"""What a change of the catalogue must not break: rules that read other rules, and deletions.

Theory: every rule in every state stays meaningful. Published rules and drafts read published ones
only, so a rule that one of them reads cannot be made inactive; an inactive rule must still be right
when it is published again, so what it reads cannot be deleted. A change is checked as a whole,
before it is committed.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import structs

from profile_actors.definitions.declared import (
    ROOMS,
    Catalogue,
    Dataset,
    Definition,
    EdgeDestination,
    LinkingRules,
    MergePolicy,
    Namespace,
    ProjectionConfiguration,
    Relationship,
    Schema,
    label_of,
    name_of,
    named,
)
from profile_actors.errors import DefinitionError, RuleError, SchemaError
from profile_actors.rules.catalogue.catalogue_plan import plan
from profile_actors.rules.catalogue.publication import revived, rules_of, withheld
from profile_actors.rules.catalogue.typed_rules import check_all
from profile_actors.rules.language.parser import parse
from profile_actors.rules.tree.nodes import Node
from profile_actors.rules.tree.plan import WORDS, Key
from profile_actors.rules.tree.walks import references


def check_change(old: Catalogue, new: Catalogue) -> None:
    """Whether a catalogue may follow another. Raises RuleError for a rule that does not parse,
    type-check or plan, in whatever state, DefinitionError for withholding one that is read."""
    hidden = withheld(new)
    for key in hidden.keys() - withheld(old).keys():
        users = [reader for reader in readers(new, key) if hidden.get(reader) != "inactive"]
        was_published = any(known == key for known, _ in rules_of(old))
        if users and was_published:
            raise DefinitionError(
                f"expected {_label(key)} to stay published, since {_listed(users)} reads it, got"
                f" state {hidden[key]!r}; edit or withhold the reader first"
            )
    plan(new)
    if "draft" in hidden.values():
        plan(new, drafts=True)
    if "inactive" in hidden.values():
        check_all(revived(new))


def readers(catalogue: Catalogue, key: Key) -> list[Key]:
    """The rules, in any state, whose text names a rule. Raises RuleError."""
    return [
        reader
        for reader, rule in rules_of(catalogue)
        if key in references(_parsed(reader, rule.rule))
    ]


def find(catalogue: Catalogue, name: str, kind: str | None = None) -> Definition:
    """The one definition of a name. kind: 'namespace', 'schema', 'dataset', 'segment' or 'computed
    attribute', when several have it. Raises DefinitionError for none or several."""
    words = {word: room for room, word in ROOMS.values()}
    if kind is not None and named(words, kind) is None:
        raise DefinitionError(f"expected a kind of {', '.join(words)}, got {kind!r} - at {name!r}")
    rooms = words if kind is None else {kind: words[kind]}
    held = {word: getattr(catalogue, room) for word, room in rooms.items()}
    found = {word: names[name] for word, names in held.items() if named(names, name) is not None}
    if len(found) > 1:
        raise DefinitionError(
            f"expected a name of one definition, got {name!r}, which {' and '.join(found)} have;"
            f" say which: kind={next(iter(found))!r}"
        )
    if not found:
        wanted = "definition" if kind is None else kind
        known = ", ".join(sorted({n for names in held.values() for n in names}))
        raise DefinitionError(
            f"expected the name of a {wanted}, got {name!r}; defined are {known or 'none'}"
        )
    item: Definition = next(iter(found.values()))
    return item


def removed(catalogue: Catalogue, item: Definition) -> Catalogue:
    """The next version of the catalogue, without an item that nothing refers to.

    Whether rows came is the caller's to ask. Raises DefinitionError naming what refers to it.
    """
    room, word = ROOMS[type(item)]
    name = name_of(item)
    users = _users(catalogue, item, (room.removesuffix("s"), name))
    if users:
        raise DefinitionError(
            f"expected a {word} that nothing reads, got {name!r}, which {' and '.join(users)} reads"
            f" - at delete; edit or delete the reader first"
        )
    kept = {n: one for n, one in getattr(catalogue, room).items() if n != name}
    without = structs.replace(catalogue, version=catalogue.version + 1, **{room: kept})
    if isinstance(item, Schema | Relationship):
        try:
            check_change(catalogue, without)
        except (RuleError, SchemaError) as error:
            what = "schema whose fields" if isinstance(item, Schema) else "relationship that"
            raise DefinitionError(
                f"expected a {what} no rule reads, got {name!r} - at delete: {error}"
            ) from None
    return without


def _users(catalogue: Catalogue, item: Definition, key: Key) -> list[str]:
    """What refers to an item, as errors call it."""
    datasets: Iterable[Dataset] = catalogue.datasets.values()
    if isinstance(item, Namespace):
        return [label_of(d) for d in datasets if item.code in d.identities.values()]
    if isinstance(item, Schema):
        paths = catalogue.relationships.values()
        named = [label_of(r) for r in paths if item.name in (r.schema, r.target)]
        return named + [label_of(d) for d in datasets if d.schema == item.name]
    policies = catalogue.merge_policies.values()
    if isinstance(item, Dataset):
        return [label_of(p) for p in policies if item.name in (*p.order, *(p.events or ()))]
    if isinstance(item, ProjectionConfiguration | LinkingRules | Relationship):
        return []
    if isinstance(item, MergePolicy):
        return [
            _label(reader) for reader, rule in rules_of(catalogue) if rule.merge_policy == item.name
        ]
    copied: Iterable[ProjectionConfiguration] = catalogue.projections.values()
    if isinstance(item, EdgeDestination):
        return [label_of(p) for p in copied if p.destination == item.name]
    of_kind = "segments" if key[0] == "segment" else "computed"
    projected = [label_of(p) for p in copied if item.name in _named(getattr(p, of_kind))]
    return [_label(reader) for reader in readers(catalogue, key) if reader != key] + projected


def _named(chosen: tuple[str, ...] | str) -> tuple[str, ...]:
    return () if isinstance(chosen, str) else chosen


def _parsed(key: Key, text: str) -> Node:
    try:
        return parse(text)
    except RuleError as error:
        message = f"in {_label(key)}: {error.message}"
        raise RuleError(message, error.line, error.column) from None


def _label(key: Key) -> str:
    return f"{WORDS[key[0]]} {key[1]!r}"


def _listed(keys: Iterable[Key]) -> str:
    return " and ".join(map(_label, keys))
