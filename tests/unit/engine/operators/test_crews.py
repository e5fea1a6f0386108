"""A crew's step and its members' own steps publish the same state and the same feed."""

from __future__ import annotations

import random
from typing import Any

import pytest

from profile_actors.columnar.state_columns import Image
from profile_actors.definitions.catalogue_changes import extended
from profile_actors.definitions.declared import ComputedAttribute, Definition, SegmentDefinition
from profile_actors.engine.operators import crews
from profile_actors.engine.operators.crews import Crew
from profile_actors.engine.operators.extremes import Extreme
from profile_actors.engine.partition.checkpoint_image import savings
from tests.model.hub import BASE, CATALOGUE, HOUR, Hub, Rows

KINDS = ("buy", "look", "cart", "other")
PEOPLE = tuple("abcdefgh")
WINDOW = " and timestamp occurs <= 2 days before now"
VALUES = ("count()", "sum(x)", "max(x)", "min(n)", "sum(n)", "max(timestamp)")


def definitions() -> list[Definition]:
    """Of each event type the same attributes, over all time and over two days, and segments."""
    found: list[Definition] = []
    for kind in KINDS:
        for part, window in (("ever", ""), ("late", WINDOW)):
            events = f'xEvent[eventType = "{kind}"{window}]'
            found += [
                ComputedAttribute(f"{kind}_{part}_{number}", f"{events}.{value}")
                for number, value in enumerate(VALUES)
            ]
            found.append(SegmentDefinition(f"{kind}_{part}", f"{events}.sum(n) > 3"))
    return found


NOBODY = 1 << 30
"""As many streams of one shape there never are."""

RULES = extended(CATALOGUE, definitions())


def entry(rng: random.Random, at: int, number: int) -> Rows:
    """Rows of some of the types, some late and some of the future; sums may be wide."""
    kinds = rng.sample(KINDS, rng.randint(1, 4))
    wide = rng.random() < 0.1
    return [
        {
            "who": rng.choice(PEOPLE),
            "at": at + rng.choice([0, 0, -HOUR, -60 * HOUR, 3 * HOUR]),
            "_id": f"{number}-{row}",
            "kind": rng.choice(kinds),
            "n": rng.choice([None, -2, 1, 2, -(2**63)]),
            "x": rng.choice([0.1, -7.5, 1e300 if wide else 2.0, 5e-324 if wide else 0.0]),
            "place": "here",
        }
        for row in range(rng.choice([0, 1, 2, 9]))
    ]


def image(hub: Hub) -> dict[str, Any]:
    """All arrays of a checkpoint, and the feed."""
    partition = hub.partitions[0]
    whole = Image(list(savings(partition.state)), partition.state.directory.slots)
    out: dict[str, Any] = {name: array.tolist() for name, array in whole.arrays().items()}
    out["changes"] = partition.changes(-1, 1 << 30)
    out["broken"] = sorted(map(repr, partition.state.book.broken.values()))
    return out


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each step of a crew, whether its members could go together."""
    steps: list[bool] = []
    own = Crew.together

    def seen(self: Crew, *args: Any) -> Any:
        steps.append(False)
        found = own(self, *args)
        steps[-1] = True
        return found

    monkeypatch.setattr(Crew, "together", seen)
    return steps


def ran(seed: int, least: int, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What stands after some of the entries of one history. least: fewer go alone."""
    monkeypatch.setattr(crews, "FEW_MEMBERS", least)
    rng, hub, found, at = random.Random(seed), Hub(1, RULES), [], BASE
    for number in range(40):
        at += rng.choice([0, HOUR, 5 * HOUR, 50 * HOUR])
        rows = entry(rng, at, number)
        hub.submit([("hits", "p", rows)] if rows else [], at)
        if number % 8 == 7:
            found.append(image(hub))
        if number == 20:
            hub.reopen()
    return found


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("least", [1, 3])
def test_together_or_alone(
    seed: int, least: int, together: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = ran(seed, least, monkeypatch)
    assert sum(together) > 5, "hardly any step of a crew"
    assert least > 1 or not all(together), "no sum of this history is wide"
    count = len(together)
    alone = ran(seed, NOBODY, monkeypatch)
    assert len(together) == count
    assert mine == alone


def test_whoever_raises_takes_nobody_down(
    together: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = Extreme.fold

    def fold(self: Extreme, step: Any) -> Any:
        columns = [] if step.rows is None else step.rows.columns.values()
        if self.aggregate.function == "max" and any((column == -7.5).any() for column in columns):
            raise ZeroDivisionError("planted")
        return sound(self, step)

    monkeypatch.setattr(Extreme, "fold", fold)
    mine = ran(5, 1, monkeypatch)
    assert not all(together)
    assert mine[-1]["broken"], "nothing failed"
    assert mine == ran(5, NOBODY, monkeypatch)
