"""Record rows read from the log: few of them in blocks that stay open, many block by block."""

from __future__ import annotations

from profile_actors.columnar.vectors import Array
from profile_actors.engine.log.ports import Log
from profile_actors.engine.merge.documents import Row, read_records
from profile_actors.engine.merge.opened_blocks import OpenedBlocks

FEW_ROWS = 32
"""So many are read one by one."""


def records_at(
    log: Log, opened: OpenedBlocks, owners: Array, positions: Array, rows: Array
) -> dict[int, list[Row]]:
    """The record rows at these places of the log, by whose they are. Raises CorruptLog."""
    out: dict[int, list[Row]] = {}
    if len(owners) > FEW_ROWS:
        found = read_records(log, positions, rows)
    else:
        blocks = opened.of(positions.tolist(), rows.tolist())
        found = [block.record(row) for block, row in blocks]
    for owner, row in zip(owners.tolist(), found, strict=True):
        out.setdefault(owner, []).append(row)
    return out
