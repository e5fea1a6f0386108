"""The ends of the number types in a world's rows: what coarse grids of small values never hold.

Theory: rows are drawn as ever, then some values are replaced by others from a generator of their
own, so worlds without them stay as they were found.
"""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

from profile_actors.definitions.declared import Schema

WHOLE = (-(2**63), 2**63 - 1, 1 - 2**63, 2**63 - 2, 2**53 + 1, -1, 0)
DOUBLES = (-0.0, 0.0, 5e-324, -5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, -1.7e308,
           2.0**53 + 2, 1e16, 0.1)  # fmt: skip
SCALES = range(16)


def stretched_schemas(seed: int, schemas: dict[str, Schema]) -> dict[str, Schema]:
    """The schemas with another scale of the decimal field."""
    hit = schemas["hit"]
    scale = random.Random(seed).choice(SCALES)
    return schemas | {"hit": Schema("hit", hit.behavior, dict(hit.fields) | {
        "cost.net": f"decimal({scale})"})}  # fmt: skip


def stretched(seed: int, rows: list[dict[str, Any]], schema: Schema) -> list[dict[str, Any]]:
    """The rows with some numbers at the ends of their types, and more equal times."""
    rng = random.Random(f"{seed} {rows}")
    declared = schema.fields.get("cost.net")
    for row in rows:
        if rng.random() < 0.2:
            row["at"] = rows[0]["at"]
        if "n" in row and rng.random() < 0.6:
            row["n"] = rng.choice(WHOLE)
        if "x" in row and rng.random() < 0.6:
            row["x"] = rng.choice(DOUBLES)
        if isinstance(declared, str) and ("cost" in row or rng.random() < 0.3):
            digits = rng.choice((1, 9, 17, 18))
            units = rng.choice((10**digits - 1, 1, 0, 10**digits - 10 ** (digits // 2)))
            scale = int(declared.removeprefix("decimal(").removesuffix(")"))
            number = Decimal(units * rng.choice((1, -1))).scaleb(-scale)
            row["cost"] = {"net": format(number, "f")}
        if "score" in row and rng.random() < 0.3:
            row["score"] = rng.choice(WHOLE)
    return rows
