"""One rule text as if it stood in a catalogue: for ``explain`` and ``preview``."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from profile_actors.definitions.declared import Catalogue, ComputedAttribute, SegmentDefinition
from profile_actors.errors import RuleError
from profile_actors.rules.catalogue.merge_views import sights_of
from profile_actors.rules.catalogue.typed_rules import check_all, entities_of
from profile_actors.rules.evaluation.trial import Trial
from profile_actors.rules.planning.catalogue_planner import CataloguePlanner
from profile_actors.rules.planning.rescan_reads import rescan
from profile_actors.rules.tree.faults import NotIncremental
from profile_actors.rules.tree.nodes import Node
from profile_actors.rules.tree.plan import Key, Plan

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
