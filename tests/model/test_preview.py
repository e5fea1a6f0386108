"""Previews: exact, as of one position, and nothing is saved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from profile_actors.definitions.declared import SegmentDefinition
from profile_actors.engine.log.in_memory import MemoryLog
from profile_actors.errors import RuleError
from tests.model.test_definition_changes import DAY, KEPT, RESCANNED, SUM, T0, Store, rich, spent

RULES = (
    f"{SUM} > 50",
    f"not ({SUM} > 50) and xEvent.count() > 1",
    "xEvent[timestamp occurs <= 2 days before now].count() > 0",
    "xEvent.max(timestamp) occurs > 3 days before now",
    'computed.spent < 100 and not inSegment("rich")',
    KEPT,
    RESCANNED,
    "xEvent.head().price > 30",
    "1 = 2",
    "1 = 1",
)
VALUES = (SUM, "xEvent[price > 40].min(price)", "xEvent.head().price", "xEvent.max(sku)")


def grown() -> Store:
    """Forty customers, every one with other purchases, in several entries."""
    store = Store(rich(), spent())
    rng = np.random.default_rng(5)
    for day in range(6):
        store.buy(
            *(
                (f"c{n:02}", float(rng.integers(1, 90)), day)
                for n in rng.integers(0, 40, 12).tolist()
            )
        )
    return store


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("ahead", [None, 3 * DAY])
def test_a_preview_counts_who_would_be_in_the_segment(rule: str, ahead: int | None) -> None:
    store = grown()
    position, blocks = store.partition.position, dict(store.feed.blocks)
    now = None if ahead is None else T0 + 5 * DAY + ahead
    found = store.partition.preview(rule, now, 1000)
    assert (store.partition.position, store.feed.blocks) == (position, blocks)
    assert (found.kind, found.position) == ("segment", position)
    assert found.profiles == len(store.profiles()) > 30
    if ahead is not None:
        store.partition.advance(T0 + 5 * DAY + ahead)
        store.drain()
    store.apply(rich(f"{SUM} > 100"), spent(), SegmentDefinition("new", rule))
    assert {identity.value for identity in found.sample} == store.members("new")
    assert found.count == len(store.members("new"))
    few = grown().partition.preview(rule, now, 3)
    assert few.count == found.count
    assert len(few.sample) == min(3, found.count)


@pytest.mark.parametrize("rule", VALUES)
def test_a_preview_of_a_value_counts_who_has_one(rule: str) -> None:
    store = grown()
    found = store.partition.preview(rule, None, 1000)
    assert found.kind == "computed"
    store.apply(spent(rule))
    values = {p.identities[0].value: p.computed["spent"] for p in store.profiles()}
    expected = {who: value for who, value in values.items() if value is not None}
    shown = dict(zip((i.value for i in found.sample), found.values, strict=True))
    assert shown == expected
    assert found.count == len(expected)


class Busy(MemoryLog):
    """A log into which somebody buys while it is read for the first time."""

    def __init__(self, store: Store) -> None:
        self.entries = store.log.entries
        self.store: Store | None = store

    def view(self, position: int) -> Any:
        store, self.store = self.store, None
        if store is not None:
            store.buy(*((f"c{n:02}", 500.0, 7 + day) for n in range(40) for day in (0, 1)))
        return super().view(position)


@pytest.mark.parametrize("rule", [f"{SUM} > 50", KEPT, RESCANNED])
def test_entries_that_come_during_a_preview_are_not_in_it(rule: str) -> None:
    store = grown()
    quiet = store.partition.preview(rule, None, 1000)
    store.partition.reader._log = Busy(store)
    found = store.partition.preview(rule, None, 1000)
    assert store.partition.position == quiet.position + 1
    assert found == quiet
    store.check()


def test_a_preview_of_a_wrong_rule_shows_where() -> None:
    store = Store(rich(state="draft"))
    with pytest.raises(RuleError, match="prise"):
        store.partition.preview("xEvent.sum(prise) > 1", None, 10)
    with pytest.raises(RuleError, match="draft"):
        store.partition.preview('inSegment("rich")', None, 10)
    empty = store.partition.preview(store.catalogue.segments["rich"].rule, None, 10)
    assert (empty.count, empty.sample, empty.profiles, empty.now) == (0, [], 0, None)
