"""What docs/RULES.md says of the data that rules read: ties in time, and nulls in records."""

from __future__ import annotations

import itertools
from typing import Any

from tests.model.hub import BASE, Hub


def heads(dataset: str, rows: list[dict[str, Any]]) -> str:
    """The place of the person's first event, from a store that got the rows in this order."""
    hub = Hub()
    for row in rows:
        hub.submit([(dataset, "p", [row])], BASE)
    return str(hub.pure(["a"])["a"][3])


def test_events_of_one_millisecond_are_in_the_order_of_their_ids() -> None:
    rows = [
        {"who": "a", "at": BASE, "_id": id_, "kind": "v", "place": place}
        for id_, place in (("10", "x"), ("9", "y"), ("A", "z"))
    ]
    seen = {heads("hits", list(order)) for order in itertools.permutations(rows)}
    assert len(seen) == 1
    places = [seen.copy().pop().index(f"'place': '{place}'") for place in "xyz"]
    assert places == sorted(places)  # "10" < "9" < "A", as texts


def test_without_an_id_the_order_is_the_same_whatever_the_arrival() -> None:
    rows = [{"who": "a", "at": BASE, "place": place} for place in "xyz"]
    assert len({heads("calls", list(order)) for order in itertools.permutations(rows)}) == 1


def test_a_null_clears_a_field_of_a_replace_dataset_only() -> None:
    hub = Hub()
    for dataset in ("crm", "web"):
        rows: list[dict[str, Any]] = [
            {"who": dataset, "at": BASE, "tier": "gold"},
            {"who": dataset, "at": BASE + 1, "tier": None, "score": 3},
        ]
        for row in rows:
            hub.submit([(dataset, dataset, [row])], row["at"])
    found = hub.pure(["crm", "web"])
    assert found["crm"][2] == {"tier": "gold", "score": 3}
    assert found["web"][2] == {"score": 3}
