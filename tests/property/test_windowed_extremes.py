"""Extremes over windows: the best of what is in, at the same cost for any profile (L11)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profile_actors.engine.operators import delay_chunks
from profile_actors.engine.operators.delay_lines import DelayLine
from profile_actors.engine.operators.extremes import _best_of_stretches

VALUES = st.one_of(st.integers(-3, 3), st.sampled_from([-(2**62), 2**62]))
ROWS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 4), VALUES), max_size=25)


@given(st.lists(ROWS, max_size=5), st.lists(st.integers(-1, 31), max_size=4), st.booleans())
@settings(max_examples=150)
def test_a_line_knows_the_best_of_what_stays(
    pushes: list[list[tuple[int, int, int]]], nows: list[int], is_max: bool
) -> None:
    line, model = DelayLine(("v",)), []
    none = np.int64(-(2**63) if is_max else 2**63 - 1)
    for push in pushes:
        due, slot, value = (np.array([row[i] for row in push], np.int64) for i in range(3))
        line.push(due, slot.astype(np.uint32), {"v": value})
        model += push
    for now in sorted(nows):
        slots = np.arange(6, dtype=np.uint32)
        found = line.best_of(slots, now, "v", is_max, none)
        pick = max if is_max else min
        expected = [
            pick([v for d, s, v in model if s == slot and d > now], default=int(none))
            for slot in slots.tolist()
        ]
        assert found.tolist() == expected
        line.drop_due(now)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=40), st.booleans(), st.data())
@settings(max_examples=150)
def test_the_best_of_stretches(values: list[float], is_max: bool, data: st.DataObject) -> None:
    ends = st.integers(0, len(values))
    pairs = [sorted(p) for p in data.draw(st.lists(st.tuples(ends, ends), max_size=10))]
    none = -np.inf if is_max else np.inf
    found = _best_of_stretches(
        np.array(values), np.array([p[0] for p in pairs], np.int64),
        np.array([p[1] for p in pairs], np.int64), np.maximum if is_max else np.minimum, none,
    )  # fmt: skip
    pick = max if is_max else min
    assert found.tolist() == [pick(values[low:high], default=none) for low, high in pairs]


def test_what_leaves_costs_no_more_where_much_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every contribution that leaves is the greatest, and 50,000 of the profile's stay: counted are
    the values that are looked at for each."""
    line = DelayLine(("v",))
    n = 50_000
    due = np.arange(n)
    line.push(due, np.zeros(n, np.uint32), {"v": np.arange(n)[::-1].copy()})
    (chunk,) = line.chunks
    passes = 0
    plain = delay_chunks._suffix_best

    def counted(slots: np.ndarray, values: np.ndarray, is_max: bool) -> np.ndarray:
        nonlocal passes
        passes += 1
        return plain(slots, values, is_max)

    monkeypatch.setattr(delay_chunks, "_suffix_best", counted)
    monkeypatch.delattr(delay_chunks.Chunk, "rows_of")
    for now in range(200):
        best = line.best_of(np.zeros(1, np.uint32), now, "v", True, np.int64(-1))
        assert best.tolist() == [n - 2 - now]
        line.drop_due(now)
    assert passes == 1
    assert line.chunks == [chunk]
