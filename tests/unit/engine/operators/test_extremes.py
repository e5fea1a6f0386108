"""The greatest and least int64 are values like any other to min and max."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from profile_actors.definitions.field_types import FieldType
from profile_actors.engine.operators.event_streams import Stream
from profile_actors.engine.partition.checkpoint_image import _told_apart
from profile_actors.rules.tree.plan import Aggregate, EventFilter
from tests.differential.generate import BASE, HOUR
from tests.differential.shrink import replay

LEAST, GREATEST = -(2**63), 2**63 - 1
ENDS = [("max", LEAST, LEAST + 1), ("min", GREATEST, GREATEST - 1)]


def row(name: str, at: int, n: int | None) -> dict[str, Any]:
    return {"who": "p1", "at": at, "_id": name, "kind": "view"} | ({} if n is None else {"n": n})


def rules(function: str) -> tuple[str, dict[str, str], dict[str, str]]:
    lifetime, windowed = f"xEvent.{function}(n)", (
        f"xEvent[timestamp occurs <= 2 hours before now].{function}(n)"
    )  # fmt: skip
    segments = {"s0": f"{lifetime}.isNull()", "s1": f"{windowed}.isNull()"}
    return "define", segments, {"c0": lifetime, "c1": windowed}


@pytest.mark.parametrize(("function", "end", "beside"), ENDS)
@pytest.mark.parametrize("is_tight", [0, 1])
def test_an_end_is_a_value(function: str, end: int, beside: int, is_tight: int) -> None:
    """Alone, beside nulls and others, entering, leaving, by rows and by the clock alone."""
    steps: list[tuple[Any, ...]] = [rules(function)]
    batches = [
        [row("e0", BASE, None)],
        [row("e1", BASE, end)],
        [row("e2", BASE + HOUR, None), row("e3", BASE + HOUR, beside)],
        [row("e4", BASE + 3 * HOUR, end)],
        [row("e5", BASE + 3 * HOUR, end), row("e6", BASE + 4 * HOUR, None)],
    ]
    for batch in batches:
        steps += [("work", 1 << 20), ("submit", "hits", batch, 1)]
        steps.append(("check", [batch[-1]["at"] + hours * HOUR for hours in range(5)]))
    steps += [("work", 1 << 20), ("submit_early", [row("e7", BASE + 6 * HOUR, end)], 0)]
    for hour in range(5, 10):
        steps += [
            ("work", 1 << 20),
            ("advance", BASE + hour * HOUR),
            ("check", [BASE + hour * HOUR]),
        ]
        steps += [("reopen", hour % 2 == 0, True), ("check", [BASE + hour * HOUR])]
    assert replay(is_tight, "narrow", steps) > 0


def test_a_line_kept_before_ends_were_told_apart_reads_as_it_did() -> None:
    stream = Stream(EventFilter(), [Aggregate(EventFilter(), "max", None, FieldType("integer"))], 4)
    (op,) = stream.operators
    op.name, op.presence = "v0", "v0?"
    arrays = {"column/v0": np.array([LEAST, 0, GREATEST])}
    assert _told_apart(stream, arrays)["column/v0?"].tolist() == [False, True, True]
    kept = {"column/v0": np.array([LEAST]), "column/v0?": np.array([True])}
    assert _told_apart(stream, kept)["column/v0?"].tolist() == [True]
    op.restore({"cells": np.zeros(1, np.int64)})
    assert op.current(np.array([0])).valid is not None
