"""What the blocks of a feed say, however their changes are grouped.

Theory: which streams lie in one crew depends on whether their rules came with one definition or
with several, and a checkpoint puts all of one shape together. So the groups of a block are no
property of the log; the changes that readers are given of it are, and their order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from profile_actors.engine.log import change_blocks


def told(blocks: Mapping[int, bytes]) -> dict[int, tuple[Any, ...]]:
    """Of each block its instant, its layouts, and its changes as they are delivered, in order."""
    packed = {position: change_blocks.decode(block) for position, block in blocks.items()}
    out: dict[int, tuple[Any, ...]] = {}
    for position, one in packed.items():
        stated = packed[one.layouts_at].layouts if one.layouts_at >= 0 else None
        found = change_blocks.expand(one, change_blocks.unpack_layouts(stated or []))
        names = [found.names[number] for number in found.name.tolist()]
        columns = (found.idents, found.at, found.new, found.had, found.cause)
        changes = list(zip(names, *(column.tolist() for column in columns), strict=True))
        out[position] = (one.now, one.layouts_at, one.layouts, changes)
    return out
