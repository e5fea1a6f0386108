"""Delay lines against a plain list of what is due."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from profile_actors.columnar.vectors import FOREVER
from profile_actors.engine.operators.delay_lines import DelayLine


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5)), max_size=12), max_size=6),
    st.lists(st.integers(0, 60), max_size=6),
)
def test_delay_line_gives_each_row_once_when_due(
    pushes: list[list[tuple[int, int]]], nows: list[int]
) -> None:
    line, model, serial = DelayLine(("v",)), [], 0
    for push in pushes:
        values = np.arange(serial, serial + len(push))
        serial += len(push)
        due = np.array([d for d, _ in push], np.int64)
        slot = np.array([s for _, s in push], np.uint32)
        line.push(due, slot, {"v": values})
        model += [(d, s, int(v)) for (d, s), v in zip(push, values, strict=True)]
    for now in sorted(nows):
        due, slot, columns = line.due_rows(now)
        expected = sorted(row for row in model if row[0] <= now)
        assert (
            sorted(zip(due.tolist(), slot.tolist(), columns["v"].tolist(), strict=True)) == expected
        )
        assert due.tolist() == sorted(due.tolist())
        line.drop_due(now)
        model = [row for row in model if row[0] > now]
        assert line.first == min((row[0] for row in model), default=FOREVER)
        for wanted in range(6):
            _, _, mine = line.gather(np.array([wanted], np.uint32))
            assert sorted(mine["v"].tolist()) == sorted(v for _, s, v in model if s == wanted)
