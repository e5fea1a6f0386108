"""Sizes at which the engine does things in another way, and how to make them so small that worlds
of a few rows go through what large stores do."""

from __future__ import annotations

from typing import Any

from profile_actors.columnar import instant_rows, slot_pairs, vectors
from profile_actors.engine.histories import kept_arena
from profile_actors.engine.log import row_locator
from profile_actors.engine.membership import gauges
from profile_actors.engine.operators import block_matching, crews, delay_lines
from profile_actors.engine.reading import look_ahead, look_ups
from profile_actors.rules.evaluation import joins

TIGHT: list[tuple[Any, str, int]] = [
    (kept_arena, "MIN_ROWS", 2),
    (joins, "PAIRS", 3),
    (delay_lines, "FUSE_ROWS", 4),
    (row_locator, "AT_ONCE_ROWS", 4),
    (row_locator, "SLICES", 4),
    (gauges, "FEW_CHANGES", 0),
    (gauges, "FEW_VALUES", 0),
    (slot_pairs, "SPARSE", 0),
    (block_matching, "FEW_ROWS", 0),
    (instant_rows, "AT_ONCE", 2),
    (look_ups, "ROWS_UNDER_LOCK", 0),
    (vectors, "FEW_NAMES", 1),
    (vectors, "CELLS_PER_NAME", 1 << 10),
]
"""Of a world of many small pieces, where streams of one shape go by themselves unless many do."""

LOOSE: list[tuple[Any, str, int]] = [(crews, "FEW_MEMBERS", 1), (look_ahead, "FEW_MEMBERS", 1)]
"""Of the other worlds: whoever can goes with a crew."""

ROWS_UNDER_LOCK = look_ups.ROWS_UNDER_LOCK


OWN = [(module, name, getattr(module, name)) for module, name, _ in (*TIGHT, *LOOSE)]


def restore() -> None:
    """Every size as the engine has it."""
    for module, name, size in OWN:
        setattr(module, name, size)


def make_tight(is_tight: bool) -> None:
    """Sizes of the one kind of world or of the other."""
    restore()
    for module, name, size in TIGHT if is_tight else LOOSE:
        setattr(module, name, size)
