"""Random worlds: from a seed to the steps of ``harness.World``, drawn while they are done.

Theory: what is drawn depends on the world as it stands (its clock, where its answers change next),
so a world is drawn step by step; the steps themselves are plain data and stay in its journal. The
order of draws is fixed: seeds that once failed are named in the tests.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np

from profile_actors.errors import RuleError
from profile_actors.rules.catalogue.catalogue_plan import plan
from tests.differential.crowded import CrowdedMaker
from tests.differential.decimals import decimal_rows, with_decimals
from tests.differential.generate import DAY, HOUR, RuleMaker, Rules, rows
from tests.differential.harness import DECIMALS_FROM, DRAWN_FROM, STRETCHED_FROM, Kind, World
from tests.differential.history import HistoryMaker
from tests.differential.odd import OddMaker
from tests.differential.shapes import Stream, shape_of
from tests.differential.stretched import stretched
from tests.differential.wide import WideMaker, widened

CROWDED_FROM = 1_000_000
"""From this seed on narrow worlds have many rules over few aggregates; up to the next limit."""
Rows = list[dict[str, Any]]
WEIGHTS = {
    "narrow": (6, 3, 2, 4, 2, 1, 1, 1),
    "wide": (6, 3, 2, 4, 2, 1, 1, 1),
    "odd": (6, 3, 2, 4, 2, 1, 1, 1),
    "history": (6, 2, 2, 5, 2, 2, 1, 1, 4),
}

MAKERS: dict[str, type[RuleMaker]] = {"narrow": RuleMaker, "wide": WideMaker, "odd": OddMaker}


class Draws:
    """What is done to a world, drawn from one seed."""

    def __init__(self, seed: int, kind: Kind) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.kind = kind
        self.world = World(seed, kind)
        if kind == "history":
            self.shape = shape_of(seed, seed >= DRAWN_FROM)
            self.stream = Stream(self.rng, self.shape)

    def define(self) -> None:
        """Other rules."""
        if self.kind == "history":
            rules = HistoryMaker(self.rng, self.shape).rules(self.rng.randint(4, 7))
        else:
            rules = self.rules()
        if self.kind == "history" and self.world.version and self.rng.random() < 0.5:
            # New rules are folded beside the writer; rows come before he takes them.
            self.world.do("prepare", rules.segments, rules.computed, self.rng.choice((0, 1, 9)))
            self.submit("hits", self.rows("hits", 6, 3 * DAY, HOUR))
        self.world.do("define", rules.segments, rules.computed)

    def rules(self) -> Rules:
        """Rules of a narrow or wide world that pass; the present ones if none of 50 does."""
        is_crowded = self.kind == "narrow" and CROWDED_FROM <= self.seed < STRETCHED_FROM
        maker = MAKERS[self.kind](self.rng)
        for _ in range(50):
            if is_crowded:
                rules = CrowdedMaker(self.rng).rules(self.rng.choice((8, 16, 30)))
            else:
                rules = maker.rules(self.rng.randint(2, 6))
            rules.schemas = self.world.rules.schemas
            if self.seed >= DECIMALS_FROM:
                rules = with_decimals(self.rng, rules)
            try:
                plan(rules.catalogue(self.world.version + 1))
            except RuleError:
                continue
            return rules
        return self.world.rules

    def rows(self, dataset: str, most: int, before: int, after: int) -> Rows:
        """Up to ``most`` rows around the world's now."""
        low, high = self.world.now - before, self.world.now + after
        count = self.rng.randint(1, most)
        if self.kind == "history":
            return self.stream.rows(dataset, count, low, high)
        batch = rows(self.rng, dataset, count, low, high)
        if self.seed < STRETCHED_FROM:
            return batch
        rules = self.world.rules
        schema = rules.schemas[rules.datasets[dataset].schema]
        if self.seed >= DECIMALS_FROM:
            decimal_rows(self.rng, batch, schema)
            return batch
        return stretched(self.seed, batch, schema)

    def submit(self, dataset: str, batch: Rows, pieces: int = 1) -> None:
        """Rows, with lists and maps where the world is wide."""
        batch = widened(self.rng, dataset, batch) if self.kind in ("wide", "odd") else batch
        self.world.do("submit", dataset, batch, pieces)

    def submit_early(self) -> None:
        """Rows some of which are ahead of the clock."""
        batch = self.rows("hits", 8, DAY, 2 * DAY)
        batch = widened(self.rng, "hits", batch) if self.kind in ("wide", "odd") else batch
        self.world.do("submit_early", batch, self.rng.choice((0, 1, HOUR)))

    def advance(self) -> None:
        """A move of the clock; in history worlds often to a boundary or beside it."""
        after = self.rng.choice((1, HOUR, DAY - 1, DAY, DAY + 1, 8 * DAY, 45 * DAY))
        if self.kind == "history" and self.rng.random() < 0.7:
            after = max(1, self.boundary())
        self.world.do("advance", self.world.now + after)

    def boundary(self) -> int:
        """How far ahead some answer changes, or a millisecond less or more; 0: none is known."""
        state, now = self.world.partition.state, self.world.now
        slots = np.arange(state.directory.slots, dtype=np.uint32)
        found = (
            self.world.partition.reader.profiles_of(slots, state.now).values() if len(slots) else ()
        )
        until = {m.valid_until for p in found for m in p.segments.values()}
        until |= {instant for p in found for instant in p.computed_valid_until.values()}
        near = sorted(u for u in until if u is not None and u < now + 400 * DAY)
        if not near:
            return 0
        return self.rng.choice(near[:6]) + self.rng.choice((-1, 0, 0, 1)) - now

    def check(self) -> None:
        """Everything, now and at one instant ahead."""
        ahead = self.rng.choice((0, 1, HOUR, DAY, 3 * DAY, 31 * DAY))
        if self.kind == "history":
            ahead = self.rng.choice((ahead, self.boundary()))
        self.world.do("check", [self.world.now, self.world.now + ahead])

    def step(self) -> None:
        """Some rescans, one move, all checks."""
        rng = self.rng
        varies: list[Callable[[], None]] = [
            lambda: self.submit("hits", self.rows("hits", 12, 3 * DAY, DAY), rng.choice((1, 1, 3))),
            lambda: self.submit("calls", self.rows("calls", 6, 40 * DAY, 0)),
            lambda: self.submit(rng.choice(("crm", "web")), self.rows("crm", 4, DAY, 0)),
            self.advance,
            self.submit_early,
            self.define,
            lambda: self.world.do("reopen", True, rng.random() < 0.5),
            lambda: self.world.do("reopen", False, False),
            # History worlds only from here on: their second source of events.
            lambda: self.submit("taps", self.rows("taps", 8, 3 * DAY, DAY)),
        ]
        self.world.do("work", rng.choice((1, 7, 1 << 20)))
        weights = WEIGHTS[self.kind]
        rng.choices(varies[: len(weights)], weights)[0]()
        self.check()


def run(seed: int, entries: int = 8, kind: Kind = "narrow") -> int:
    """One world from one seed; returns how many (rule, profile, instant) checks were made."""
    return done(Draws(seed, kind), entries).checks


def done(draws: Draws, entries: int = 8) -> World:
    """The world after its steps."""
    draws.define()
    for _ in range(entries):
        draws.step()
    return draws.world
