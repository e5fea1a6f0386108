"""One rule text as if it stood in a catalogue: for ``explain`` and ``preview``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import msgspec

from profile_actors.definitions.declared import Catalogue, ComputedAttribute, SegmentDefinition
from profile_actors.errors import RuleError
from profile_actors.rules.catalogue.merge_views import sights_of, view_of
from profile_actors.rules.catalogue.publication import rules_of, texts_of
from profile_actors.rules.catalogue.typed_rules import check_all, entities_of
from profile_actors.rules.evaluation.trial import Trial
from profile_actors.rules.planning.catalogue_planner import CataloguePlanner
from profile_actors.rules.planning.rescan_reads import entity_reads, rescan
from profile_actors.rules.tree.faults import NotIncremental
from profile_actors.rules.tree.nodes import Node
from profile_actors.rules.tree.plan import Key, Plan, Rescan, Rule
from profile_actors.rules.tree.walks import references

SINGLE = ""
"""No definition has an empty name."""


def with_rule(text: str, catalogue: Catalogue) -> tuple[dict[Key, Node], Key]:
    """All typed trees with the text as one more rule: a segment's if it can be, else a value's.

    Raises RuleError where it does not parse or type-check.
    """
    with_segment = {**catalogue.segments, SINGLE: SegmentDefinition(SINGLE, text)}
    try:
        trees = check_all(msgspec.structs.replace(catalogue, segments=with_segment))
        return dict(trees), ("segment", SINGLE)
    except RuleError:
        with_computed = {**catalogue.computed, SINGLE: ComputedAttribute(SINGLE, text)}
        trees = check_all(msgspec.structs.replace(catalogue, computed=with_computed))
        return dict(trees), ("computed", SINGLE)


def plan_alone(text: str, catalogue: Catalogue) -> Plan:
    """The plan of that rule only, what it reads of others included; a Rescan if it must be one.

    Cost: types every rule of the catalogue once. Raises RuleError.
    """
    trees, key = with_rule(text, catalogue)
    sights, entities = sights_of(catalogue), entities_of(catalogue)
    planner = CataloguePlanner(trees, Trial().failure, sights, entities)
    try:
        return planner.plan([planner.rule(key)], catalogue.version)
    except NotIncremental as refusal:
        alone = Plan(catalogue.version, (), (), ())
        view = planner.sight(key).view
        return replace(alone, rescans=(rescan(key, trees, refusal.reason, view, entities),))


def plan_some(catalogue: Catalogue, keys: Iterable[Key]) -> Plan:
    """The plan of those of these rules that are published, what they read of others included, as
    the whole catalogue's is."""
    trees, entities = check_all(catalogue), entities_of(catalogue)
    planner = CataloguePlanner(trees, Trial().failure, sights_of(catalogue), entities)
    rules: list[Rule] = []
    rescans: list[Rescan] = []
    for key in keys:
        if key not in trees:
            continue
        try:
            rules.append(planner.rule(key))
        except NotIncremental as refusal:
            view = planner.sight(key).view
            rescans.append(rescan(key, trees, refusal.reason, view, entities))
    return replace(planner.plan(rules, catalogue.version), rescans=tuple(rescans))


def reached(old: Catalogue, new: Catalogue) -> list[Key]:
    """The rules that may say something else under new definitions than under old ones: those that
    are others, that see a profile otherwise, that read such ones, or that are drafts again."""
    were, wanted = dict(rules_of(old)), {key for key in texts_of(new)}
    trees, entities, before = check_all(new), entities_of(new), entities_of(old)
    changed: dict[Key, None] = {}
    for key, rule in rules_of(new):
        if key not in wanted:
            continue
        was = were.get(key)
        is_same = was is not None and (was.rule, was.state) == (rule.rule, rule.state)
        if is_same and was is not None:
            is_same = view_of(old, was.merge_policy) == view_of(new, rule.merge_policy)
        for _, join in entity_reads(trees[key], entities):
            is_same = is_same and before.get(join.name) == entities[join.name]
        if not is_same:
            changed[key] = None
    while more := [
        key
        for key in wanted - changed.keys()
        if not changed.keys().isdisjoint(references(trees[key]))
    ]:
        changed |= dict.fromkeys(sorted(more))
    known = texts_of(new)
    gone = [key for key, rule in rules_of(new) if rule.state == "draft" and key in texts_of(old)]
    return [*(key for key in known if key in changed), *gone]
