"""Clock work in slices: the same answers, changes and replay as in one go (``engine.drains``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from profile_actors.engine.partition import clock_steps
from profile_actors.engine.partition.partition import Partition
from profile_actors.engine.reading import verification
from profile_actors.errors import Pending
from tests.differential import generate
from tests.differential.generate import DAY
from tests.differential.harness import CONFIG, Kind, World
from tests.differential.worlds import Draws, done

LIMIT = 1
"""Due rows of one step: nearly every move of the clock takes several."""
CONFIG_SLICED = msgspec.structs.replace(CONFIG, max_due_rows=LIMIT)


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock_steps, "FEWEST_SLOTS", 1)


class SlicedWorld(World):
    """A world whose clock goes in small steps. slices: looks at it while its clock was behind."""

    def __init__(self, seed: int, kind: Kind) -> None:
        super().__init__(seed, kind)
        self.slices = 0

    def opened(self) -> Partition:
        return Partition(self.log, self.feed, self.checkpoints, CONFIG_SLICED)

    def check_feed(self, since: int) -> None:
        """Compared as a whole, by the test."""

    def advance(self, now: int) -> None:
        super().advance(max(now, self.now))

    def submit_early(self, batch: list[dict[str, Any]], ahead: int) -> None:
        """Rows at a wall clock while its work goes on step by step."""
        self.now += ahead + 2 * DAY
        for part in (batch[:1], batch[1:2], batch[2:]):
            self.partition.tick(self.now)
            self.check_lookups()
            if part:
                self.commit("hits", part, None, self.now)
            self.check_lookups()
            self.partition.work(1)
            self.check_lookups()

    def check(self, lookups_at: list[int]) -> None:
        """Look-ups at once; columns when nothing is owed."""
        self.check_lookups()
        self.partition.clock.finish_slices()
        self.check_state(lookups_at)

    def check_lookups(self) -> None:
        """Every profile, now, against the reference evaluator; members only when they are right."""
        state = self.partition.state
        self.slices += (
            state.drain is not None or state.book.next_due() <= self.partition.owed.behind
        )
        slots = np.arange(state.directory.slots, dtype=np.uint32)
        if len(slots) == 0:
            return
        profiles = self.partition.reader.profiles_of(slots, max(self.now, state.now))
        found = [
            line
            for slot, profile in profiles.items()
            for line in verification.reference_differences(state, self.log, slot, profile)
        ]
        assert not found, found[:3]
        if state.drain is not None:
            for name in self.rules.segments:
                with pytest.raises(Pending, match="step by step"):
                    self.partition.members(name)

    def check_members(self, profiles: list[Any]) -> None:
        if self.partition.state.book.next_due() > self.partition.owed.behind:
            super().check_members(profiles)


def told(world: World) -> list[tuple[Any, ...]]:
    """The whole feed, without positions; memberships with what they changed."""
    changes, _ = world.partition.changes(-1, 1 << 40)
    return [(c.at, c.kind, c.name, c.identity.value, c.old, c.new, c.cause) for c in changes]


@pytest.mark.parametrize("kind", ["narrow", "history"])
@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3))]
)
def test_slices_tell_what_one_go_tells(seed: int, kind: Kind) -> None:
    draws = Draws(seed, kind)
    draws.submit_early = draws.advance  # type: ignore[method-assign]
    whole = done(draws)
    sliced = SlicedWorld(seed, kind)
    for name, *args in whole.journal:
        sliced.do(name, *args)
    whole.drain()
    sliced.drain()
    assert sliced.partition.position >= whole.partition.position
    expected, found = told(whole), told(sliced)
    assert sorted(map(repr, found)) == sorted(map(repr, expected))
    instants = [change[0] for change in found]
    assert instants == sorted(instants), "each change in the order of its own instant"
    sliced.reopen(False, False)
    assert sorted(map(repr, told(sliced))) == sorted(map(repr, expected))


def only_early(draws: Draws) -> Callable[..., None]:
    """Rows on the wall clock, whatever was drawn."""
    return lambda *_: draws.submit_early()


@pytest.mark.parametrize("kind", ["narrow", "history"])
@pytest.mark.parametrize(
    "seeds", [(102,), pytest.param((100, 101, *range(102, 106)), marks=pytest.mark.slow)]
)
def test_look_ups_are_exact_between_slices(
    seeds: tuple[int, ...], kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "drawn_policies", lambda *_: {})  # they let many rows count less
    behind = 0
    for seed in seeds:
        draws = Draws(seed, kind)
        draws.submit = only_early(draws)  # type: ignore[method-assign]
        sliced = SlicedWorld(seed, kind)
        for name, *args in done(draws, 10).journal:
            sliced.do(name, *args)
        behind += sliced.slices
    assert behind > 2, "the clock was hardly ever behind: the test shows nothing"
