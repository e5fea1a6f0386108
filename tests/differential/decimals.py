"""Decimals of every scale, and rules that multiply, add and compare those of two scales.

Theory: a decimal is units of its scale, in 64 bits where they fit; sums and products go beyond. So
two fields of a hit have scales from 0 to 15 each, values of up to 18 digits, and each world's rules
are joined by some over both.
"""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

from profile_actors.definitions.declared import Schema
from tests.differential.generate import Rules

FIELDS = ("cost.net", "cost.rate")
VALUES = (
    "xEvent{w}.sum(cost.net * cost.rate)",
    "xEvent{w}.sum(cost.net + cost.rate)",
    "xEvent{w}.sum(cost.net)",
    "xEvent{w}.sum(cost.rate - cost.net)",
    "xEvent{w}.average(cost.rate)",
    "xEvent{w}.average(cost.net * cost.rate)",
    "xEvent{w}.max(cost.net * cost.rate)",
    "xEvent{w}.min(cost.net - cost.rate)",
    "xEvent{w}.sum(cost.net * n)",
    "xEvent{w}.sum(cost.net * x)",
    "xEvent{w}.cost.rate.distinct().count()",
    "xEvent{w}.sum(cost.net * cost.rate) * 3 - xEvent{w}.sum(cost.rate)",
)
TESTS = (
    "{v} > {c}", "{v} = {c}", "{v} between {c} and {d}", "{v} <= {v2}",
    "xEvent{w}.count() > 0 and {v} != {c}",
)  # fmt: skip
WINDOWS = (
    "",
    "[timestamp occurs <= 1 day before now]",
    '[eventType = "view"]',
    "[cost.net < cost.rate]",
)
CONSTANTS = ("0", "0.01", "1.5", "-3", "999999999999999.99", "1.000000001")


def decimal_schemas(seed: int, schemas: dict[str, Schema]) -> dict[str, Schema]:
    """The schemas with two decimals of any scale in a hit."""
    rng, hit = random.Random(seed), schemas["hit"]
    fields = {name: f"decimal({rng.randint(0, 15)})" for name in FIELDS}
    return schemas | {"hit": Schema("hit", hit.behavior, {**hit.fields, **fields})}


def with_decimals(rng: random.Random, rules: Rules) -> Rules:
    """The rules, and some over decimals."""

    def value() -> str:
        return rng.choice(VALUES).format(w=rng.choice(WINDOWS))

    for i in range(rng.randint(1, 3)):
        rules.computed[f"d{i}"] = value()
    for i in range(rng.randint(1, 2)):
        rules.segments[f"ds{i}"] = rng.choice(TESTS).format(
            v=value(), v2=value(), w=rng.choice(WINDOWS), c=rng.choice(CONSTANTS),
            d=rng.choice(CONSTANTS),
        )  # fmt: skip
    return rules


def decimal_rows(rng: random.Random, rows: list[dict[str, Any]], schema: Schema) -> None:
    """Values of up to 18 digits, many of them near each other, in place."""
    for row in rows:
        row.pop("cost", None)  # of another scale
        cost = {}
        for name in FIELDS:
            declared = schema.fields.get(name)
            if not isinstance(declared, str) or rng.random() < 0.2:
                continue
            scale = int(declared.removeprefix("decimal(").removesuffix(")"))
            digits = rng.choice((1, 2, 5, 9, 15, 17, 18))
            units = rng.choice((10**digits - 1, 1, 0, 10**digits // 3, rng.randrange(10**digits)))
            number = Decimal(units * rng.choice((1, 1, -1))).scaleb(-scale)
            cost[name.removeprefix("cost.")] = format(number, "f")
        if cost:
            row["cost"] = cost
