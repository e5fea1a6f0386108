"""What the merge policies of a catalogue come to: a view of the data for each, and for each rule.

Theory: a rule names a policy or goes by the default one, whichever that is; without any, all data
count and the newest statement wins. A rule that reads another one must see a profile as that does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from profile_actors.definitions.declared import Catalogue, named
from profile_actors.errors import DefinitionError
from profile_actors.rules.catalogue.publication import rules_of
from profile_actors.rules.tree.nodes import Node
from profile_actors.rules.tree.plan import WORDS, Key
from profile_actors.rules.tree.sights import ALL, Sight, View
from profile_actors.rules.tree.walks import references


def default_policy(catalogue: Catalogue) -> str | None:
    """The name of the default policy, if one is."""
    policies = catalogue.merge_policies.items()
    return next((name for name, policy in policies if policy.default), None)


def view_of(catalogue: Catalogue, policy: str | None) -> View:
    """The view of a policy; None: of the default one. Raises DefinitionError."""
    name = default_policy(catalogue) if policy is None else policy
    if name is None:
        return ALL
    found = named(catalogue.merge_policies, name)
    if found is None:
        known = ", ".join(sorted(catalogue.merge_policies)) or "none yet"
        raise DefinitionError(
            f"expected the name of a merge policy, got {name!r}; defined are {known}"
        )
    order = found.order if found.attributes == "dataset_precedence" else None
    events = None if found.events is None else tuple(sorted(found.events))
    return View(order, events, found.stitching == "none")


def is_single(catalogue: Catalogue, policy: str | None) -> bool:
    """Whether profiles are single identities by a policy; None: by the default one. Raises
    DefinitionError."""
    return bool(catalogue.merge_policies) and view_of(catalogue, policy).single


def policies_of_kinds(catalogue: Catalogue) -> list[str | None]:
    """The default policy, and one of the other stitching if there is one."""
    single = is_single(catalogue, None)
    policies = sorted(catalogue.merge_policies)
    return [None, *[name for name in policies if is_single(catalogue, name) != single][:1]]


def views_of(catalogue: Catalogue) -> dict[Key, View]:
    """The view of every rule, in whatever state. Empty where all see everything."""
    if not catalogue.merge_policies:
        return {}
    return {key: view_of(catalogue, rule.merge_policy) for key, rule in rules_of(catalogue)}


def sights_of(catalogue: Catalogue) -> dict[Key, Sight]:
    """The same, as the planner takes them. The empty name's is that of the default policy."""
    views = views_of(catalogue)
    if not views and default_policy(catalogue) is None:
        return {}
    stating: dict[str, set[str]] = {}
    for dataset in catalogue.datasets.values():
        schema = catalogue.schemas[dataset.schema]
        if schema.behavior == "record":
            for path in schema.fields:
                stating.setdefault(path, set()).add(dataset.name)
    frozen = {path: frozenset(names) for path, names in stating.items()}
    known = {view: Sight(view, frozen) for view in {*views.values(), view_of(catalogue, None)}}
    out = {key: known[view] for key, view in views.items()}
    alone = known[view_of(catalogue, None)]
    return out | {("segment", ""): alone, ("computed", ""): alone}


def check_references(catalogue: Catalogue, trees: Mapping[Key, Node]) -> None:
    """Whether each rule sees a profile as those do that it reads. Raises DefinitionError."""
    views = views_of(catalogue)
    for key, tree in trees.items() if views else ():
        for other in _read(references(tree), views):
            if views[other] != views[key]:
                raise DefinitionError(
                    f"expected rules that read each other to have one merge policy, got"
                    f" {WORDS[other[0]]} {other[1]!r} of another one - at {WORDS[key[0]]}"
                    f" {key[1]!r}; give both the same, or write the other's rule out"
                )


def _read(keys: Iterable[Key], views: Mapping[Key, View]) -> Iterable[Key]:
    return (key for key in keys if key in views)
