"""Relationships that are changed, and datasets that come after them: rules follow at once."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from profile_actors.definitions.catalogue_changes import extended
from profile_actors.definitions.declared import (
    Catalogue,
    ComputedAttribute,
    Dataset,
    Namespace,
    Relationship,
    Schema,
)
from profile_actors.engine.trials.rule_trials import try_rules
from profile_actors.ingest.identity_keys import key_of
from profile_actors.rules.catalogue.one_rule import reached
from tests.model.hub import BASE, SEED, WHO, Hub

GOODS = Dataset("goods", "product", {"id": "SKU"}, timestamp="at")
FIRST = extended(Catalogue(), [
    WHO, Namespace("SKU", "non_people"),
    Schema("order", "event", {"sku": "string", "gift": "string"}),
    Schema("product", "lookup", {"price": "integer"}),
    Dataset("orders", "order", {"who": "CRMID"}, timestamp="at"),
    Relationship("order", "sku", "product", "product"),
    ComputedAttribute("worth", "xEvent.sum(product.price)"),
    ComputedAttribute("double", "computed.worth * 2"),
])  # fmt: skip


def worth(hub: Hub) -> Any:
    (ann,) = hub.partitions[0].profiles([key_of(WHO, "ann", SEED)])
    assert ann is not None
    hub.partitions[0].work(100)
    assert hub.partitions[0].verify() == []
    assert ann.computed["double"] == 2 * ann.computed["worth"]
    return ann.computed["worth"]


def test_rules_follow_what_they_read() -> None:
    first = structs.replace(FIRST, version=1)
    hub = Hub(1, first)
    partition = hub.partitions[0]
    row = {"who": "ann", "at": BASE, "sku": "a", "gift": "b"}
    hub.submit([("orders", "o", [row])], BASE)
    assert worth(hub) == 0  # nobody says what a product is called by
    second = extended(first, [GOODS])
    partition.define(second, None)
    later = Hub(1, second)  # its doors know the dataset
    hub.doors, hub.catalogue = later.doors, second
    goods = [{"id": "a", "at": BASE, "price": 3}, {"id": "b", "at": BASE, "price": 5}]
    hub.submit([("goods", "g", goods)], BASE)
    assert worth(hub) == 3
    third = extended(second, [Relationship("order", "gift", "product", "product")])
    keys = reached(second, third)
    assert [name for _, name in keys] == ["worth", "double"]
    tried = try_rules(partition.state, partition.log, partition.lock, third, keys, None)
    assert tried.values == {"worth": 1, "double": 1}
    partition.define(third, None)
    assert worth(hub) == 5
    hub.submit([("goods", "g", [{"id": "a", "at": BASE + 1, "price": 9}])], BASE + 1)
    assert worth(hub) == 5
    hub.submit([("goods", "g", [{"id": "b", "at": BASE + 1, "price": 7}])], BASE + 1)
    assert worth(hub) == 7
    hub.reopen()
    assert worth(hub) == 7
