"""An operator that raises takes its own rules down, names itself, and nothing else; for ever."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from profile_actors.columnar import lists
from profile_actors.columnar.vectors import Vector
from profile_actors.definitions.catalogue_changes import extended
from profile_actors.definitions.declared import (
    Catalogue,
    ComputedAttribute,
    Definition,
    Field,
    Schema,
    SegmentDefinition,
)
from profile_actors.engine.operators.extremes import Extreme
from profile_actors.engine.partition import checkpoint_image
from profile_actors.engine.partition.partition import Partition
from profile_actors.errors import Pending
from profile_actors.ingest.identity_keys import key_of
from tests.model.hub import BASE, CATALOGUE, DAY, HOUR, SEED, WHO, Hub, Rows

PEOPLE = ("a", "b", "c")
# What reads the smallest n of a day, directly or by way of another rule; not what else is folded
# over the same events ("day").
DOWN = {"least", "low", "lowly"}
DEGRADED = {"computed least", "segment low", "segment lowly"}
POISON = 13
RULES = extended(
    CATALOGUE,
    [
        SegmentDefinition("low", "xEvent[timestamp occurs <= 1 day before now].min(n) < 2"),
        SegmentDefinition("lowly", 'inSegment("low") and inSegment("day")'),
    ],
)


def hits(number: int, n: int = 1) -> Rows:
    """An entry's rows."""
    at = BASE + number * HOUR
    return [
        {"who": who, "at": at, "_id": f"{number}", "kind": "buy", "n": n, "x": 0.1, "place": who}
        for who in PEOPLE
    ]


def filled(hub: Hub, poison_at: int | None, until: int = 40) -> None:
    """The same history, with a value that the planted operator cannot bear at one entry."""
    for number in range(until):
        rows = hits(number, POISON if number == poison_at else number % 5)
        hub.submit([("hits", "p", rows)], rows[0]["at"])


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The minimum of a window raises when it meets POISON."""
    sound = Extreme.fold

    def fold(self: Extreme, step: Any) -> Any:
        met = step.rows is not None and any(
            (column == POISON).any() for column in step.rows.columns.values()
        )
        if self.aggregate.function == "min" and met:
            raise ZeroDivisionError("planted")
        return sound(self, step)

    monkeypatch.setattr(Extreme, "fold", fold)


def without_down(pure: dict[str, Any]) -> dict[str, Any]:
    """Pure state of the rules that still stand."""
    out = {}
    for who, (inside, computed, attributes, events) in pure.items():
        out[who] = (
            {name: until for name, until in inside.items() if name not in DOWN},
            {name: value for name, value in computed.items() if name not in DOWN},
            attributes,
            events,
        )
    return out


def changes(hub: Hub) -> list[Any]:
    """The feed without the rules that are down."""
    found, _ = hub.partitions[0].changes(-1, 1 << 30)
    return [c for c in found if c.name not in DOWN]


@pytest.mark.usefixtures("planted")
def test_all_else_is_exact_and_what_is_down_says_so() -> None:
    hub = Hub(1, RULES)
    filled(hub, poison_at=20)
    partition = hub.partitions[0]
    assert partition.position == 41
    degraded = partition.status().degraded
    assert set(degraded) == DEGRADED
    for reason in degraded.values():
        assert "position 21" in reason
        assert "ZeroDivisionError('planted')" in reason
    for segment in ("low", "lowly"):
        for ask in (partition.members, partition.count):
            with pytest.raises(Pending, match=segment):
                ask(segment)
    for name in PEOPLE:
        (profile,) = partition.profiles([key_of(WHO, name, SEED)])
        assert profile is not None
        assert profile.segments["low"].status == "pending"
        assert profile.segments["day"].status == "realized"
        assert profile.computed["least"] is None
        assert profile.computed_valid_until["least"] is None
        assert "planted" in profile.pending["least"]
        assert "most" not in profile.pending
        assert profile.computed["most"] == POISON
        assert profile.segments["buyers"].status == "realized"
    assert partition.count("buyers") == len(PEOPLE)
    told = partition.verify()
    assert len(told) == len(DOWN)
    for name, sentence in zip(sorted(DOWN), told, strict=True):
        assert repr(name) in sentence
        assert "planted" in sentence


@pytest.mark.usefixtures("planted")
def test_a_segment_and_an_attribute_of_one_name_are_two() -> None:
    least = "xEvent[timestamp occurs <= 1 day before now].min(n)"
    named: list[Definition] = [
        SegmentDefinition("one", f"{least} < 2"),
        ComputedAttribute("one", least),
        ComputedAttribute("low", "xEvent.count()"),
    ]
    hub = Hub(1, extended(CATALOGUE, named))
    filled(hub, poison_at=20)
    partition = hub.partitions[0]
    assert set(partition.status().degraded) == {"computed least", "computed one", "segment one"}
    told = partition.verify()
    assert sum("computed 'one'" in line for line in told) == 1
    assert sum("segment 'one'" in line for line in told) == 1


def test_a_segment_answers_while_the_attribute_of_its_name_is_evaluated_again() -> None:
    fields: dict[str, str | Field] = {"tags": "string[]", "tier": "string"}
    rules: list[Definition] = [
        SegmentDefinition("one", 'tier = "gold"'),
        SegmentDefinition("two", 'tags.includes("a")'),
        ComputedAttribute("one", 'if(tags.includes("a"), 1, 2)'),
    ]
    wanted = msgspec.structs.replace(
        CATALOGUE, schemas=CATALOGUE.schemas | {"person": Schema("person", "record", fields)},
        segments={}, computed={},
    )  # fmt: skip
    hub = Hub(1, extended(wanted, rules))
    (partition,) = hub.partitions
    rows: Rows = [{"who": "a", "at": BASE, "tier": "gold", "tags": ["a"]}]
    partition.commit([hub.sub_batch("crm", "p", 0, rows, clock=BASE)], None)
    assert partition.owed.rescans.pending
    while partition.owed.rescans.pending:
        assert partition.count("one") == 1
        with pytest.raises(Pending):
            partition.count("two")
        partition.work(1)
    assert (partition.count("one"), partition.count("two")) == (1, 1)


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize("checkpoint", [False, True])
def test_a_reopening_comes_to_the_same(checkpoint: bool) -> None:
    hub = Hub(1, RULES)
    filled(hub, poison_at=20)
    partition = hub.partitions[0]
    if checkpoint:
        saved(partition)
    before = (hub.pure(PEOPLE), partition.status().degraded, changes(hub))
    reopened = hub.reopen()
    assert reopened.owed.checkpointed == (reopened.position if checkpoint else 0)
    assert (hub.pure(PEOPLE), reopened.status().degraded, changes(hub)) == before
    assert set(reopened.status().degraded) == DEGRADED
    assert len(reopened.verify()) == len(DOWN)  # they are named, and nothing else is wrong
    # It goes on: rows are accepted, the clock moves, the others answer.
    rows = hits(41, 2)
    assert hub.submit([("hits", "p", rows)], rows[0]["at"]) == len(PEOPLE)
    reopened.advance(BASE + 20 * DAY)
    assert reopened.count("spenders") == 0
    assert set(reopened.status().degraded) == DEGRADED
    assert len(reopened.verify()) == len(DOWN)  # they are named, and nothing else is wrong


def saved(partition: Partition) -> None:
    """Take a checkpoint."""
    job = partition.checkpoint_job(force=True)
    assert job is not None
    job()


@pytest.mark.usefixtures("planted")
def test_another_version_of_the_program_asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed may be sound there: it does not go on from a degraded checkpoint."""
    hub = Hub(1, RULES)
    filled(hub, poison_at=20)
    saved(hub.partitions[0])
    monkeypatch.setattr(checkpoint_image, "PROGRAM", "the next one")
    assert hub.reopen().owed.checkpointed == 0


def test_a_sound_version_heals_it(monkeypatch: pytest.MonkeyPatch) -> None:
    sound_fold = Extreme.fold
    hub, sound = Hub(1, RULES), Hub(1, RULES)
    filled(sound, poison_at=20)
    with monkeypatch.context() as patched:

        def fold(self: Extreme, step: Any) -> Any:
            if self.aggregate.function == "min" and step.rows is not None and step.now > BASE + DAY:
                raise ZeroDivisionError("planted")
            return sound_fold(self, step)

        patched.setattr(Extreme, "fold", fold)
        filled(hub, poison_at=20)
        assert set(hub.partitions[0].status().degraded) == DEGRADED
        assert without_down(hub.pure(PEOPLE)) == without_down(sound.pure(PEOPLE))
        assert changes(hub) == changes(sound)
    partition = hub.reopen()
    assert partition.status().degraded == {}
    assert hub.pure(PEOPLE) == sound.pure(PEOPLE)
    assert partition.verify(len(PEOPLE)) == []


def test_a_definition_whose_rule_fails_over_the_history_is_pending_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is found out when the entry is in the log: no replay may be stopped by it."""
    sound = lists.best

    def best(source: lists.Many, keys: Vector, amount: int, is_top: bool) -> lists.Many:
        if (keys.values == POISON).any():
            raise ZeroDivisionError("planted")
        return sound(source, keys, amount, is_top)

    monkeypatch.setattr(lists, "best", best)
    hub = Hub()
    filled(hub, poison_at=20)
    (partition,) = hub.partitions
    wanted = extended(
        hub.catalogue,
        [
            SegmentDefinition("rich", "xEvent.topN(n, 1).sum(x) > 0"),
            ComputedAttribute("top", "xEvent.topN(n, 1).sum(x)"),
        ],
    )
    partition.define(wanted, None)
    position = partition.position
    for again in (partition, hub.reopen()):
        assert again.position == position
        assert again.catalogue.version == wanted.version
        assert set(again.status().degraded) == {"segment rich", "computed top"}
        assert "planted" in again.status().degraded["segment rich"]
        assert again.count("buyers") == len(PEOPLE)
        with pytest.raises(Pending, match="planted"):
            again.count("rich")


@pytest.mark.usefixtures("planted")
def test_an_operator_that_fails_in_a_back_fill_takes_its_own_rules_down_only() -> None:
    hub = Hub(1, without(RULES))
    filled(hub, poison_at=20)
    wanted = msgspec.structs.replace(RULES, version=3)
    (partition,) = hub.partitions
    partition.define(wanted, None, partition.backfill(wanted, lambda: True))
    for again in (partition, hub.reopen()):
        assert set(again.status().degraded) == DEGRADED
        assert again.count("buyers") == len(PEOPLE)
        assert len(again.verify()) == len(DOWN)  # they are named, and nothing else is wrong
    filled(hub, poison_at=None, until=3)
    assert set(hub.partitions[0].status().degraded) == DEGRADED


def without(catalogue: Catalogue) -> Catalogue:
    """The catalogue without the rules that the planted operator takes down."""
    return msgspec.structs.replace(
        catalogue,
        segments={k: v for k, v in catalogue.segments.items() if k not in DOWN},
        computed={k: v for k, v in catalogue.computed.items() if k not in DOWN},
    )
