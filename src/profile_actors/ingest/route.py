"""Which partition owns a row: 12 bits of its key, through the assignment table, nothing else.

Theory: partitions can be added or moved by changing the table (a version of the catalogue); no
other code may derive a partition from a hash.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from profile_actors.ingest.hidden_columns import K0
from profile_actors.ingest.identity_keys import BUCKET_SHIFT, BUCKETS


def default_assignment(partitions: int) -> np.ndarray:
    """A new store's table, int32[4096]: buckets dealt out in turn."""
    return np.arange(BUCKETS, dtype=np.int32) % np.int32(partitions)


def split(
    table: pa.Table, assignment: np.ndarray, partitions: int, is_shared: bool = False
) -> list[pa.Table | None]:
    """Each partition's rows in their order, None where it gets none; dictionaries stay shared.

    table: with the column ``@k0``. assignment: int[4096]. is_shared: all rows are for everybody.
    Cost: about 30 ns a row of six columns.
    """
    if not table.num_rows:
        return [None] * partitions
    if is_shared or partitions == 1:
        return [table] * partitions
    buckets = table[K0].to_numpy() >> np.uint64(BUCKET_SHIFT)
    owners = np.asarray(assignment)[buckets.astype(np.int64)]
    parts: list[pa.Table | None] = []
    for partition in range(partitions):
        rows = np.flatnonzero(owners == partition)
        if len(rows) == table.num_rows:
            parts.append(table)
        else:
            parts.append(table.take(pa.array(rows)) if len(rows) else None)
    return parts
