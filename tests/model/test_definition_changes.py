"""Definition changes on a partition with history: edited, withheld, deleted, and after a replay.

Every step is compared with the reference evaluator, and the feed with what it should come to: who
follows the changes must know what who asks for members is told.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from profile_actors.config import Config
from profile_actors.definitions.catalogue_changes import extended
from profile_actors.definitions.declared import (
    Catalogue,
    ComputedAttribute,
    Dataset,
    Definition,
    Namespace,
    Schema,
    SegmentDefinition,
)
from profile_actors.engine.log.in_memory import MemoryCheckpoints, MemoryFeed, MemoryLog
from profile_actors.engine.log.sub_batch import Reply, SubBatch
from profile_actors.engine.partition.partition import Partition
from profile_actors.engine.reading import verification
from profile_actors.engine.reading.answers import Profile
from profile_actors.errors import DefinitionError
from profile_actors.ingest.door import Door
from profile_actors.rules.catalogue.change_check import check_change, find, removed
from tests.differential.feed_blocks import told

T0 = 1_760_000_000_000
DAY = 86_400_000
CONFIG = Config(max_profiles=64, max_ahead_ms=1 << 50)
SHOP: tuple[Definition, ...] = (
    Namespace("CRMID", kind="cross_device"),
    Schema("order", behavior="event", fields={"price": "double", "sku": "string"}),
    Dataset("orders", "order", {"who": "CRMID"}, timestamp="at", event_type="purchase"),
)
SUM = "xEvent.sum(price)"
# The same question in a form that no operator holds.
KEPT = "chain(xEvent, timestamp, [A: WHAT(price >= 50), B: WHAT(price >= 50)])"
# A step that reads an earlier one and now: no operator keeps it. It says the same.
RESCANNED = KEPT.replace("WHAT(price >= 50)])", "WHAT(price >= 50) WHEN(between A and now)])")


class Store:
    """One partition over memory, its catalogue, and what a follower of its feed knows."""

    def __init__(self, *definitions: Definition) -> None:
        self.log, self.feed, self.checkpoints = MemoryLog(), MemoryFeed(), MemoryCheckpoints()
        self.partition = Partition(self.log, self.feed, self.checkpoints, CONFIG)
        self.catalogue = Catalogue()
        self.offset = 0
        self.read = -1
        self.inside: dict[str, set[str]] = {}
        self.apply(*SHOP, *definitions)

    def apply(self, *definitions: Definition) -> None:
        wanted = extended(self.catalogue, definitions)
        check_change(self.catalogue, wanted)
        self._take(wanted)

    def delete(self, name: str) -> None:
        self._take(removed(self.catalogue, find(self.catalogue, name)))

    def _take(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.partition.define(catalogue, None)
        self.drain()

    def drain(self) -> None:
        while self.partition.work(3):
            pass

    def batch(self, *rows: tuple[str, float, int]) -> Reply:
        """(customer, price, days after T0) as one entry."""
        dicts: list[dict[str, Any]] = [
            {"who": who, "price": price, "at": T0 + day * DAY} for who, price, day in rows
        ]
        table = Door(self.catalogue, "orders", 0, CONFIG).prepare(dicts, self.offset, T0).table
        through = self.offset + len(rows)
        clock = max(row["at"] for row in dicts)
        sub = SubBatch("orders", "p", self.offset, through, self.catalogue.version, clock, table)
        reply = self.partition.commit([sub], None)[0]
        if reply.status == "ok":
            self.offset = through
        return reply

    def buy(self, *rows: tuple[str, float, int]) -> None:
        assert self.batch(*rows).accepted == len(rows)
        self.drain()

    def profile(self, who: str) -> Profile:
        found = {p.identities[0].value: p for p in self.profiles()}
        return found[who]

    def profiles(self) -> list[Profile]:
        state = self.partition.state
        slots = np.arange(state.directory.slots, dtype=np.uint32)
        return list(self.partition.reader.profiles_of(slots, state.now).values())

    def members(self, segment: str) -> set[str]:
        page, following = self.partition.members(segment)
        assert following is None
        assert self.partition.count(segment) == len(page)
        return {identity.value for identity in page}

    def changes(self) -> list[Any]:
        """New changes; memberships are kept up with in ``inside``."""
        found, self.read = self.partition.changes(self.read, 1 << 40)
        for change in found:
            if change.kind == "membership":
                known = self.inside.setdefault(change.name, set())
                who = change.identity.value
                assert (who in known) == (change.new == "exited"), change
                (known.remove if change.new == "exited" else known.add)(who)
        return found

    def check(self) -> None:
        """Against the reference evaluator, a second fold, and the follower of the feed."""
        state = self.partition.state
        found = list(verification.refold_differences(state, self.log))
        for slot in range(state.directory.slots):
            profile = self.partition.reader.profiles_of(np.array([slot], np.uint32), state.now)[
                slot
            ]
            found += verification.reference_differences(state, self.log, slot, profile)
            for name, membership in profile.segments.items():
                assert membership.version == self.catalogue.segments[name].version
        assert found == []
        self.changes()
        for name, rule in self.catalogue.segments.items():
            if rule.state == "published":
                assert self.inside.get(name, set()) == self.members(name), name

    def replayed(self) -> Store:
        """The same log opened without any derived file; the feed must come back the same."""
        other = Store.__new__(Store)
        other.log, other.feed, other.checkpoints = self.log, MemoryFeed(), MemoryCheckpoints()
        other.partition = Partition(other.log, other.feed, other.checkpoints, CONFIG)
        other.catalogue, other.offset = self.catalogue, self.offset
        other.read, other.inside = -1, {}
        other.drain()
        assert told(other.feed.blocks) == told(self.feed.blocks)
        return other

    def reopened(self) -> Store:
        """From a checkpoint of now."""
        job = self.partition.checkpoint_job(force=True)
        if job is not None:
            job()
        self.partition = Partition(self.log, self.feed, self.checkpoints, CONFIG)
        assert self.partition.position == self.log.head()
        return self


def rich(rule: str = f"{SUM} > 100", state: str = "published") -> SegmentDefinition:
    return SegmentDefinition("rich", rule, state=state)  # type: ignore[arg-type]


def spent(rule: str = SUM, state: str = "published") -> ComputedAttribute:
    return ComputedAttribute("spent", rule, state=state)  # type: ignore[arg-type]


def causes(changes: list[Any], kind: str = "membership") -> set[tuple[str, str, Any, str]]:
    return {(c.identity.value, c.name, c.new, c.cause) for c in changes if c.kind == kind}


def test_an_edited_rule_answers_from_the_whole_history() -> None:
    store = Store(rich())
    store.buy(("ann", 60.0, 0), ("ann", 60.0, 0), ("bob", 70.0, 1), ("cid", 5.0, 1))
    store.check()
    entered = store.profile("ann").segments["rich"]
    assert (entered.status, entered.version) == ("realized", 1)
    store.buy(("dan", 1.0, 3))
    store.changes()
    store.apply(rich(f"{SUM} >= 60"))
    assert causes(store.changes()) == {("bob", "rich", "realized", "definition")}
    after = store.profile("ann").segments["rich"]
    assert after.last_qualification_time == entered.last_qualification_time
    assert after.version == 2
    assert store.profile("bob").segments["rich"].last_qualification_time == T0 + 3 * DAY
    store.check()
    store.apply(rich(f"{SUM} < 60"))
    assert causes(store.changes()) == {
        *((who, "rich", "exited", "definition") for who in ("ann", "bob")),
        *((who, "rich", "realized", "definition") for who in ("cid", "dan")),
    }
    store.check()
    store.replayed().check()
    store.reopened().check()


@pytest.mark.parametrize(
    ("first", "other"),
    [
        (SUM + " > 100", RESCANNED),
        (RESCANNED, SUM + " > 100"),
        (KEPT, SUM + " > 100"),
        (SUM + " > 100", KEPT),
    ],
)
def test_a_rule_goes_from_incremental_to_rescanned_and_back(first: str, other: str) -> None:
    store = Store(rich(first))
    store.buy(("ann", 60.0, 0), ("ann", 60.0, 1), ("bob", 99.0, 1), ("eve", 300.0, 1))
    store.check()
    before = store.profile("ann").segments["rich"]
    for number, rule in enumerate((other, first, other), 2):
        store.buy(("cid", 1.0, number))
        store.changes()
        store.apply(rich(rule))
        new = "exited" if rule in (KEPT, RESCANNED) else "realized"
        assert causes(store.changes()) == {("eve", "rich", new, "definition")}
        after = store.profile("ann").segments["rich"]
        assert after.last_qualification_time == before.last_qualification_time
        assert (after.status, after.version) == ("realized", number)
        store.check()
    assert (len(store.partition.state.book.rescans) == 1) == (other == RESCANNED)
    store.replayed().check()
    store.reopened().check()


def test_a_computed_attribute_marks_what_differs_however_it_is_kept() -> None:
    kept = "xEvent.head().price"
    store = Store(spent())
    store.buy(("ann", 60.0, 0), ("bob", 20.0, 0), ("bob", 30.0, 1))
    store.changes()
    for rule, marked in (
        (kept, {"bob": 20.0}),
        ("xEvent[price < 25].head().price", {"ann": None}),
        (SUM, {"ann": 60.0, "bob": 50.0}),
        (SUM + " + 0.0", {}),
    ):
        store.apply(spent(rule))
        got = causes(store.changes(), "computed")
        assert got == {(who, "spent", value, "definition") for who, value in marked.items()}, rule
        store.check()
    store.replayed().check()


def test_a_rescan_that_reads_an_edited_rule_is_evaluated_again() -> None:
    reader = SegmentDefinition("reader", f'inSegment("rich") and not {RESCANNED}')
    store = Store(rich(), reader)
    store.buy(("ann", 70.0, 0), ("bob", 200.0, 0))
    assert store.members("reader") == {"bob"}
    store.apply(rich(f"{SUM} < 100"))
    assert store.members("reader") == {"ann"}
    store.check()
    store.replayed().check()


def test_a_draft_is_neither_evaluated_nor_served_until_it_is_published() -> None:
    store = Store(rich(state="draft"), spent(state="draft"))
    store.buy(("ann", 200.0, 0), ("bob", 10.0, 0))
    assert store.changes() == []
    assert store.partition.state.book.streams == []
    with pytest.raises(DefinitionError, match="'rich', which is a draft"):
        store.members("rich")
    with pytest.raises(DefinitionError, match="draft"):
        store.partition.count("rich")
    assert (store.profile("ann").segments, store.profile("ann").computed) == ({}, {})
    store.apply(rich(), spent())
    assert store.members("rich") == {"ann"}
    assert store.profile("bob").computed == {"spent": 10.0}
    assert causes(store.changes()) == {("ann", "rich", "realized", "definition")}
    store.check()
    store.apply(rich(state="draft"))
    assert causes(store.changes()) == {("ann", "rich", "exited", "definition")}
    store.check()
    store.replayed().check()


@pytest.mark.parametrize("rule", [f"{SUM} > 100", KEPT, RESCANNED, f"{SUM} > 100 or {SUM} < 0"])
@pytest.mark.parametrize("between", ["go on", "reopen", "replay"])
def test_an_inactive_segment_is_frozen_and_comes_back_from_the_whole_history(
    rule: str, between: str
) -> None:
    store = Store(rich(rule))
    store.buy(("ann", 60.0, -1), ("ann", 60.0, 0), ("bob", 60.0, 0))
    entered = store.profile("ann").segments["rich"]
    store.changes()
    store.apply(rich(rule, "inactive"))
    assert store.changes() == []
    store.buy(("bob", 60.0, 1), ("cid", 5.0, 2))
    assert store.changes() == []
    if between == "reopen":
        store.reopened()
    elif between == "replay":
        store = store.replayed()
        store.changes()
    for ask in (store.members, store.partition.count):
        with pytest.raises(DefinitionError, match="inactive"):
            ask("rich")
    assert store.profile("ann").segments == {}
    assert store.inside == {"rich": {"ann"}}, "what a follower knows is frozen too"
    store.check()
    store.apply(rich(rule))
    assert causes(store.changes()) == {("bob", "rich", "realized", "definition")}
    assert store.profile("ann").segments["rich"] == entered
    store.check()
    store.replayed().check()


@pytest.mark.parametrize("rule", [SUM, "xEvent.head().price"])
def test_an_inactive_attribute_marks_whoever_had_or_has_a_value(rule: str) -> None:
    store = Store(spent(rule))
    store.buy(("ann", 1.0, 0))
    store.changes()
    store.apply(spent(rule, "inactive"))
    store.buy(("bob", 2.0, 1))
    assert store.changes() == []
    assert store.profile("ann").computed == {}
    store.reopened().check()
    store.apply(spent(rule))
    values: dict[str, float | None] = {"ann": 1.0, "bob": 2.0}
    expected = {(who, "spent", value, "definition") for who, value in values.items()}
    assert causes(store.changes(), "computed") == expected
    store.apply(spent(rule, "inactive"))
    store.apply(spent("xEvent[price > 1.5].max(price)"))
    values = {"ann": None, "bob": 2.0}
    expected = {(who, "spent", value, "definition") for who, value in values.items()}
    assert causes(store.changes(), "computed") == expected
    store.check()
    store.replayed().check()


def test_a_deleted_rule_leaves_its_members_and_nothing_else() -> None:
    store = Store(rich("computed.spent > 100"), spent())
    store.buy(("ann", 200.0, 0), ("bob", 10.0, 0))
    store.changes()
    with pytest.raises(DefinitionError, match="'rich'"):
        store.delete("spent")
    store.delete("rich")
    assert causes(store.changes()) == {("ann", "rich", "exited", "definition")}
    with pytest.raises(DefinitionError, match="'rich'"):
        store.members("rich")
    store.delete("spent")
    assert causes(store.changes(), "computed") == {
        ("ann", "spent", None, "definition"),
        ("bob", "spent", None, "definition"),
    }
    assert (store.profile("ann").segments, store.profile("ann").computed) == ({}, {})
    store.apply(rich(f"{SUM} > 5"))
    assert store.members("rich") == {"ann", "bob"}
    assert store.profile("ann").segments["rich"].version == 1
    store.check()
    store.replayed().check()


def test_an_inactive_rule_is_deleted_with_its_frozen_members() -> None:
    store = Store(rich())
    store.buy(("ann", 200.0, 0))
    store.apply(rich(state="inactive"))
    store.delete("rich")
    store.check()
    assert store.inside == {"rich": set()}
    store.replayed().check()


def test_a_look_up_before_an_entry_does_not_hide_its_rows_from_the_rescan() -> None:
    store = Store(rich(RESCANNED))
    store.buy(("ann", 60.0, 0))
    assert store.profile("ann").segments == {}
    store.buy(("ann", 60.0, 1))
    assert store.members("rich") == {"ann"}
    store.check()


def test_what_is_due_when_rules_change_happens_under_the_old_rules() -> None:
    recent = "xEvent[timestamp occurs <= 7 days before now].head().price > 1"
    store = Store(rich(recent), SegmentDefinition("other", RESCANNED))
    store.buy(("ann", 60.0, 0))
    wanted = extended(store.catalogue, [rich(RESCANNED)])
    store.catalogue = wanted
    store.partition.define(wanted, T0 + 30 * DAY)
    store.drain()
    leaves = [(c.new, c.cause, c.at) for c in store.changes() if c.new == "exited"]
    assert leaves == [("exited", "clock", T0 + 7 * DAY + 1)]
    store.check()
    store.replayed().check()


def test_time_alone_is_due_for_a_rescan() -> None:
    store = Store(rich("xEvent[timestamp occurs <= 7 days before now].head().price > 1"))
    store.buy(("ann", 60.0, 0))
    due = store.partition.next_due()
    assert due == T0 + 7 * DAY + 1
    store.partition.tick(due - 1)
    assert store.partition.now == T0
    store.partition.tick(due)
    store.drain()
    assert store.members("rich") == set()
    assert store.partition.next_due() > due
    store.check()


def test_rows_that_cross_a_deletion_of_their_dataset_are_refused_or_kept_readable() -> None:
    store = Store(spent())
    late = Dataset("late", "order", {"who": "CRMID"}, timestamp="at")
    store.apply(late)
    store.delete("late")
    dicts = [{"who": "ann", "price": 1.0, "at": T0}]
    table = Door(extended(store.catalogue, [late]), "late", 0, CONFIG).prepare(dicts, 0, T0).table
    sub = SubBatch("late", "q", 0, 1, store.catalogue.version, T0, table)
    assert store.partition.commit([sub], None)[0].status == "unknown"
    assert not store.partition.has_rows_of("dataset", "late")
    store.buy(("ann", 2.0, 1))
    store.apply(late)
    sub = SubBatch("late", "q", 0, 1, store.catalogue.version, T0, table)
    assert store.partition.commit([sub], None)[0].accepted == 1
    assert store.partition.has_rows_of("dataset", "late")
    assert store.partition.has_rows_of("namespace", "CRMID")
    assert not store.partition.has_rows_of("namespace", "ECID")
    store.delete("late")  # as if the rows had come after the store was asked
    assert "late" in store.partition.catalogue.datasets
    assert store.profile("ann").computed == {"spent": 3.0}
    store.apply(rich(RESCANNED), spent(f"{SUM} + 1"))
    store.check()
    store.replayed().check()


@pytest.mark.parametrize("steps", [0, 1, 3, 100])
@pytest.mark.parametrize(
    "rule",
    [f"{SUM} > 100", "xEvent[timestamp occurs <= 2 days before now].count() > 1", KEPT, RESCANNED],
)
def test_a_back_fill_beside_ingest_comes_to_the_same(rule: str, steps: int) -> None:
    store = Store(rich(f"{SUM} > 50"), spent("xEvent.count()"))
    for day in range(5):
        store.buy(("ann", 20.0, day), ("bob", 60.0, day - 3))
    wanted = extended(store.catalogue, [rich(rule), spent(), SegmentDefinition("n", f"{SUM} > 1")])
    asked = iter(range(10_000))
    job = store.partition.backfill(wanted, lambda: next(asked) < steps)
    assert job.folded == min(steps * 8, store.partition.position)
    assert store.partition.status().backfill is None
    store.buy(("cid", 200.0, 5), ("ann", 1.0, -9))
    store.partition.advance(T0 + 7 * DAY)
    assert store.profile("ann").segments["rich"].version == 1, "the old rules are still in force"
    store.check()
    store.catalogue = wanted
    store.partition.define(wanted, None, job)
    store.drain()
    assert store.partition.state.book is job.book, "what was folded is what is used"
    store.check()
    store.buy(("bob", 3.0, 8))
    store.check()
    store.replayed().check()
    store.reopened().check()


def test_a_back_fill_follows_a_writer_that_goes_on_and_says_how_far_it_is() -> None:
    store = Store()
    for day in range(30):
        store.buy(("ann", 1.0, day))
    seen: list[tuple[int, int] | None] = []

    def busy() -> bool:
        seen.append(store.partition.status().backfill)
        if len(seen) <= 12:
            store.buy((f"c{len(seen)}", 1.0, 30 + len(seen)))
        return True

    wanted = extended(store.catalogue, [rich(f"{SUM} > 20"), spent()])
    job = store.partition.backfill(wanted, busy)
    assert seen[:3] == [(0, 31), (8, 32), (16, 33)]
    assert store.partition.position - job.folded <= 8
    store.catalogue = wanted
    store.partition.define(wanted, None, job)
    assert store.members("rich") == {"ann"}
    store.check()


def test_a_back_fill_for_other_definitions_is_not_used() -> None:
    store = Store()
    store.buy(("ann", 200.0, 0))
    job = store.partition.backfill(extended(store.catalogue, [rich()]), lambda: True)
    store.catalogue = extended(store.catalogue, [rich(f"{SUM} > 500")])
    store.partition.define(store.catalogue, None, job)
    assert store.members("rich") == set()
    store.check()


def test_rules_that_stay_the_same_keep_their_columns_and_changed_neighbours_do_not() -> None:
    recent = "xEvent.max(timestamp) occurs > 3 days before now"
    store = Store(
        rich(),
        SegmentDefinition("poor", f"{SUM} < 10"),
        SegmentDefinition("away", recent),
        SegmentDefinition("away-poor", f"{recent} and {SUM} < 10"),
        spent(f"{SUM} + xEvent.count()"),
    )
    store.buy(("ann", 200.0, 0), ("bob", 5.0, 1))

    def columns() -> dict[str, object]:
        book = store.partition.state.book
        return {name: book.gauges[place].level for name, (place, _) in book.gauge_of.items()}

    before = columns()
    store.apply(SegmentDefinition("many", "xEvent.count() > 1"))
    after = columns()
    assert all(after[name] is before[name] for name in before)
    store.check()
    store.apply(rich(f"{SUM} > 4"))
    assert columns()["poor"] is not before["poor"], "a rung of their ladder moved"
    assert columns()["away"] is before["away"]
    store.check()
    store.partition.advance(T0 + 9 * DAY)
    store.check()
    assert store.members("away-poor") == {"bob"}
    store.replayed().check()
    store.reopened().check()
