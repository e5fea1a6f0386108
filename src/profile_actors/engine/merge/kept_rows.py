"""Which rows of the log still count: those of a dataset with a retention leave at its cutoff.

Theory: a dataset's cutoff (``Catalogue.expired``) is a definition like others, so the log says from
which entry on it holds. Whatever reads rows asks here, and by the cutoffs that hold for it: rows
older than that are as if they had never come, though they stand in the log until it is made anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from profile_actors.columnar.vectors import Array
from profile_actors.definitions.declared import Catalogue
from profile_actors.engine.identity.listing import part_of
from profile_actors.engine.log.entry import Block

Cutoffs = Mapping[str, int]
"""Dataset -> the instant (ms) whose rows are the oldest that count; what is not in it keeps all."""


NONE_OLDER = -(1 << 63)


def kept_blocks(blocks: Sequence[Block], cutoffs: Cutoffs) -> list[Block]:
    """The rows of blocks that count. Cost: a comparison per row of a dataset that has a cutoff, and
    a copy of the blocks that are cut."""
    if not cutoffs:
        return list(blocks)
    out = []
    for block in blocks:
        cutoff = cutoffs.get(block.dataset)
        is_kept = None if cutoff is None else block.timestamps >= cutoff
        if is_kept is None or is_kept.all():
            out.append(block)
        elif is_kept.any():
            out.append(part_of(block, is_kept))
    return out


def counts(dataset: str, timestamp: int, cutoffs: Cutoffs) -> bool:
    """Whether one row does."""
    return timestamp >= cutoffs.get(dataset, NONE_OLDER)


def later(start: int | None, catalogue: Catalogue) -> int | None:
    """The start of a span of events, or the oldest instant whose events count, if that is later:
    so that nobody looks at what has left."""
    if not catalogue.expired:
        return start
    cutoffs = [
        catalogue.expired.get(name)
        for name, dataset in catalogue.datasets.items()
        if catalogue.schemas[dataset.schema].behavior == "event"
    ]
    known = [cutoff for cutoff in cutoffs if cutoff is not None]
    if not known or len(known) < len(cutoffs):
        return start
    return min(known) if start is None else max(start, min(known))


def between(block: Block, before: Cutoffs, after: Cutoffs) -> Array:
    """Which rows counted by some cutoffs and count no more by later ones. bool[n]"""
    low, high = (one.get(block.dataset, NONE_OLDER) for one in (before, after))
    return np.asarray((block.timestamps >= low) & (block.timestamps < high))
