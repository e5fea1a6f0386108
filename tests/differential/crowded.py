"""Many rules over few aggregates: what a formula over levels has to get right.

Theory: the other makers draw an aggregate per rule, so two rules hardly ever share one. Here a
world has a handful of numbers and times, windows among them, and its rules differ in constants and
in how they combine them: ladders with many rungs, hidden and not, ages with many limits, levels
that move together, and at the instants at which windows let go.
"""

from __future__ import annotations

import random

from tests.differential.generate import TIERS, RuleMaker, Rules

AGES = ("0 hours", "6 hours", "9 hours", "1 day", "36 hours", "2 days", "1 week", "45 days")


class CrowdedMaker(RuleMaker):
    """Random rules of the incremental subset, over a few shared inputs."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self.numbers = [
            *(self.number() for _ in range(3)),
            f"xEvent[{self.window()}].count()",
            "score",
        ]
        self.averages = [f"xEvent[{self.window()}].average(n)", "(xEvent.sum(n) - score)"]
        self.times = [
            "xEvent.max(timestamp)",
            f"{self.events()}.max(timestamp)",
            f"xEvent[{self.window()}].min(timestamp)",
            "born",
        ]

    def test(self) -> str:
        """One comparison with a constant, nearly always."""
        rng = self.rng
        number, time = rng.choice(self.numbers), rng.choice(self.times)
        return rng.choice((
            f"{number} {self.comparison()} {rng.choice((0, 1, 2, 3, 4, 0.3, 1.5, -1))}",
            f"{number} {self.comparison()} {rng.choice((0, 1, 2, 3, 5))}",
            f"{rng.choice(self.averages)} {self.comparison()} {rng.choice((0, 0.5, 1, 1.5))}",
            f"{time} occurs {rng.choice(('>', '>='))} {rng.choice(AGES)} before now",
            f"{time} occurs {rng.choice(('>', '>='))} {rng.choice(AGES)} before now",
            f"{time} occurs {rng.choice(('<', '<='))} {rng.choice(AGES)} before now",
            f"{rng.choice((number, time))}.{rng.choice(('isNull', 'isNotNull'))}()",
            f"score {rng.choice(('in', 'notIn'))} [{rng.choice((0, 1))}, {rng.choice((2, 3))}]",
            f'tier {rng.choice(("=", "!=", "<", ">="))} "{rng.choice(TIERS)}"',
            f'tier in ["{rng.choice(TIERS)}", "{rng.choice(TIERS)}"]',
            f"{number} > {rng.choice(self.numbers)}" if rng.random() < 0.2 else f"{number} > 1",
        ))  # fmt: skip

    def condition(self, segments: list[str], depth: int = 2) -> str:
        rng = self.rng
        pick = rng.random()
        if depth and pick < 0.5:
            word = rng.choice((" and ", " or "))
            parts = (self.condition(segments, depth - 1) for _ in range(rng.choice((2, 2, 3))))
            return word.join(f"({part})" for part in parts)
        if depth and pick < 0.65:
            return f"not ({self.condition(segments, depth - 1)})"
        if segments and pick > 0.97:
            return f'inSegment("{rng.choice(segments)}")'
        return self.test()

    def rules(self, count: int) -> Rules:
        """``count`` segments, and every number as a computed attribute."""
        segments: dict[str, str] = {}
        for i in range(count):
            segments[f"s{i}"] = self.condition(list(segments))
        return Rules(segments, {f"c{i}": number for i, number in enumerate(self.numbers[:-1])})
