"""The plan of a whole catalogue."""

from __future__ import annotations

from profile_actors.definitions.declared import Catalogue
from profile_actors.rules.catalogue.merge_views import check_references, sights_of
from profile_actors.rules.catalogue.publication import texts_of
from profile_actors.rules.catalogue.typed_rules import check_all, entities_of
from profile_actors.rules.evaluation.trial import Trial
from profile_actors.rules.planning.catalogue_planner import plan_trees
from profile_actors.rules.tree.plan import Plan


def plan(catalogue: Catalogue, *, drafts: bool = False) -> Plan:
    """Plan every published rule of the catalogue, with ``drafts`` those too.

    Order: computed attributes, then segments, each as the catalogue has them; aggregates and
    attributes by first use. Raises RuleError where a rule does not parse or type-check,
    DefinitionError where one reads another of a different merge policy.
    """
    trees = check_all(catalogue, drafts=drafts)
    check_references(catalogue, trees)
    texts = texts_of(catalogue, drafts=drafts)
    ordered = {key: trees[key] for key in texts}
    return plan_trees(
        ordered,
        texts,
        Trial().failure,
        catalogue.version,
        may_rescan=True,
        sights=sights_of(catalogue),
        entities=entities_of(catalogue),
    )
