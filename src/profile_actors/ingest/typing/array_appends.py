"""Rows that add to an array instead of stating it: ``{"append": [...]}`` in the array's place.

Theory: the items take the array's place, and the row says beside it of which paths it does so. Only
rows of records are asked: an event is whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from profile_actors.ingest.typing.cells import one_chunk

WORD = "append"


def take_appends(cells: dict[str, Any], paths: Iterable[str], rows: int) -> pa.Array | None:
    """The paths of arrays that each row appends to, list<string>[rows]; None if none does.

    cells: by path, as they came; where rows append, replaced by the items. Cost: a look at each
    cell of an array that is no Arrow list.
    """
    found: dict[int, list[str]] = {}
    for path in paths:
        given = cells.get(path)
        if isinstance(given, list):
            adding = [row for row, cell in enumerate(given) if _is_append(cell)]
            if adding:
                cells[path] = [cell[WORD] if _is_append(cell) else cell for cell in given]
        elif given is not None and pa.types.is_struct(given.type):
            if [given.type.field(i).name for i in range(given.type.num_fields)] != [WORD]:
                continue
            adding = pc.indices_nonzero(given.is_valid()).to_pylist()
            cells[path] = one_chunk(pc.struct_field(given, [0]))
        else:
            continue
        for row in adding:
            found.setdefault(row, []).append(path)
    if not found:
        return None
    return pa.array([found.get(row) for row in range(rows)], pa.list_(pa.string()))


def _is_append(cell: Any) -> bool:
    return isinstance(cell, dict) and cell.keys() == {WORD}
