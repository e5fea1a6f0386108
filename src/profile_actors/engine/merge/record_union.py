"""What the record rows of one profile come to: the newest value of each leaf."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

from profile_actors.columnar.vectors import Array
from profile_actors.engine.log.ports import Log
from profile_actors.engine.log.row_locator import Run, rows_of_all
from profile_actors.engine.merge.documents import Row, document, read_rows


def union_of(rows: Iterable[Row], replaces: dict[str, bool]) -> dict[str, Any]:
    """The union view of record rows: per leaf the newest source time, ties by dataset name.

    Within a dataset at equal times the larger value wins, as in ``attribute_columns``. replaces:
    datasets whose newest row stands alone.
    """
    stated: dict[str, dict[str, tuple[int, Any]]] = {}
    newest: dict[str, int] = {}
    for row in rows:
        newest[row.dataset] = max(newest.get(row.dataset, row.timestamp), row.timestamp)
        leaves = stated.setdefault(row.dataset, {})
        for name, value in row.fields.items():
            if name in ("timestamp", "_id"):
                continue
            known = leaves.get(name)
            if known is None or (row.timestamp, _sortable(value)) > (known[0], _sortable(known[1])):
                leaves[name] = (row.timestamp, value)
    union: dict[str, tuple[int, Any]] = {}
    for dataset in sorted(stated):
        for name, (time, value) in stated[dataset].items():
            if replaces.get(dataset) and time < newest[dataset]:
                continue
            if name not in union or time > union[name][0]:
                union[name] = (time, value)
    return document({name: value for name, (_, value) in sorted(union.items())})


def union_views(
    log: Log, runs: Sequence[Run], idents: Array, replaces: dict[str, bool]
) -> list[dict[str, Any]]:
    """The union view of each ident's record rows, {} where it has none. runs: the record locator's.

    Cost: each log block once, and their rows as documents.
    """
    owners, positions, rows = rows_of_all(runs, idents)
    mine: list[list[Row]] = [[] for _ in range(len(idents))]
    for owner, row in zip(owners.tolist(), read_rows(log, positions, rows), strict=True):
        mine[owner].append(row)
    return [union_of(stated, replaces) if stated else {} for stated in mine]


def _sortable(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str | Decimal | date) else repr(value)
