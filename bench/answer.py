"""What workload W1 must answer, recomputed in one shot: DuckDB for counts, ``math.fsum`` for sums.

DuckDB's own ``fsum`` is a compensated sum, not the correctly rounded one, and some of W1's sums
equal a threshold to the cent: hence the lists.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import numpy as np

from gen_w1 import TYPES
from workload import ATTRIBUTES, WINDOW_MS, segments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# Columns ordered as ATTRIBUTES: NaN and -1 stand for null in m and l.
_QUERY = """
select user_id, list_position({types}, eventType) - 1 as kind, count(*)::bigint as c,
       list(price) as prices, max(price) as m, max(timestamp)::bigint as l,
       count(*) filter (where timestamp >= {since})::bigint as d
from events group by all
"""


@dataclass(frozen=True)
class Answer:
    """users: sorted ids. columns: attribute -> array[users]; null is NaN in m and -1 in l."""

    now: int
    users: np.ndarray
    columns: dict[str, np.ndarray]

    def members(self) -> dict[str, np.ndarray]:
        """Segment name -> its members' ids, sorted."""
        out = {}
        for segment in segments():
            column = self.columns[segment.column]
            out[segment.name] = self.users[np.nan_to_num(column, nan=-1.0) >= segment.threshold]
        return out

    def computed(self, row: int) -> dict[str, int | float | None]:
        """The 20 computed attributes of ``users[row]``, as a profile shows them."""
        out: dict[str, int | float | None] = {}
        for name, column in self.columns.items():
            value = column[row].item()
            missing = (name[0] == "m" and math.isnan(value)) or (name[0] == "l" and value < 0)
            out[name] = None if missing else value
        return out


def recompute(csv: Path) -> Answer:
    """Read the whole file and compute everything once; about 2 us an event."""
    link = duckdb.connect()
    link.execute(
        f"create view events as select * from read_csv('{csv}', columns={{'_id': 'varchar',"
        " 'user_id': 'varchar', 'timestamp': 'bigint', 'eventType': 'varchar', 'price': 'double',"
        " 'url': 'varchar'})"
    )
    ((newest,),) = link.execute("select max(timestamp) from events").fetchall()
    now = int(newest)
    query = _QUERY.format(types=list(TYPES), since=now - WINDOW_MS)
    table = link.sql(query).to_arrow_table().combine_chunks()
    users, at = np.unique(
        table["user_id"].to_numpy(zero_copy_only=False).astype(str), return_inverse=True
    )
    kind = table["kind"].to_numpy()
    prices = table["prices"].combine_chunks()
    flat, ends = prices.flatten().to_pylist(), prices.offsets.to_pylist()
    sums = np.array([math.fsum(flat[a:b]) for a, b in pairwise(ends)])
    source = {"c": table["c"].to_numpy(), "s": sums, "m": table["m"].to_numpy()}
    source |= {"l": table["l"].to_numpy(), "d": table["d"].to_numpy()}
    absent = {"c": 0, "s": 0.0, "m": math.nan, "l": -1, "d": 0}
    columns = {}
    for name in ATTRIBUTES:
        column = np.full(len(users), absent[name[0]])
        mine = kind == int(name[-1])
        column[at[mine]] = source[name[0]][mine]
        columns[name] = column
    return Answer(now, users, columns)


def differences(answer: Answer, members_of: Callable[[str], Iterable[str]]) -> list[str]:
    """One sentence per segment whose members differ from the recomputation."""
    wrong = []
    for name, expected in answer.members().items():
        got = np.array(sorted(members_of(name)), dtype=expected.dtype)
        if not np.array_equal(got, expected):
            extra = np.setdiff1d(got, expected)[:3].tolist()
            missing = np.setdiff1d(expected, got)[:3].tolist()
            wrong.append(
                f"{name}: expected {len(expected)} members, got {len(got)};"
                f" extra {extra}, missing {missing}"
            )
    return wrong
