"""The least and the greatest integer are values like any other, for every operator."""

from __future__ import annotations

import msgspec

from profile_actors.definitions.catalogue_changes import extended
from profile_actors.definitions.declared import ComputedAttribute, Schema, SegmentDefinition
from tests.model.hub import BASE, CATALOGUE, DAY, Hub

LEAST, MOST = -(2**63), 2**63 - 1
DAY_RULE = "xEvent[timestamp occurs <= 1 day before now]"
ENDS = ("max(n)", "map(n).max()", "topN(n, 1).map(n).head()")
BEGINNINGS = ("min(n)", "map(n).min()", "bottomN(n, 1).map(n).head()")
SOURCES = ("xEvent", DAY_RULE, "xEvent[n != 0]")


def test_the_greatest_of_the_least_integer_alone_is_that() -> None:
    rules = [f"{source}.{end}" for source in SOURCES for end in (*ENDS, *BEGINNINGS)]
    catalogue = msgspec.structs.replace(
        CATALOGUE,
        schemas={**CATALOGUE.schemas, "hit": Schema("hit", "event", {"n": "integer"})},
        segments={},
        computed={},
    )
    attributes = [ComputedAttribute(f"c{i}", rule) for i, rule in enumerate(rules)]
    equal = SegmentDefinition("equal", "xEvent.max(n) = xEvent.min(n)")
    hub = Hub(1, extended(catalogue, [*attributes, equal]))
    sent = {"a": [LEAST], "b": [MOST], "c": [LEAST, MOST], "d": [LEAST + 1, LEAST]}
    at = BASE
    for who, numbers in sent.items():
        for n in numbers:
            at += 1
            hub.submit([("hits", "p", [{"who": who, "at": at, "_id": str(at), "n": n}])], at)
    job = hub.partitions[0].checkpoint_job(force=True)
    assert job is not None
    job()
    for _ in range(2):
        for who, (inside, computed, _, _) in hub.pure([*sent]).items():
            for i, rule in enumerate(rules):
                wanted = max(sent[who]) if rule.endswith(ENDS) else min(sent[who])
                assert computed[f"c{i}"][0] == repr(wanted), (who, rule)
            assert ("equal" in inside) is (len(sent[who]) == 1)
        assert hub.partitions[0].verify() == []
        hub.reopen()
    hub.partitions[0].advance(BASE + 9 * DAY)
    assert hub.partitions[0].verify() == []
