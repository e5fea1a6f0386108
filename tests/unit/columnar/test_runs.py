"""Runs and ranges of places, by example."""

from __future__ import annotations

import numpy as np

from profile_actors.columnar.runs import order_by, ranges, running, starts_of


def test_small_array_idioms() -> None:
    assert starts_of(np.array([1, 1, 2, 5, 5])).tolist() == [0, 2, 3]
    assert order_by(np.array([2, 0, 2, 1])).tolist() == [1, 3, 0, 2]
    assert ranges(np.array([5, 0, 9]), np.array([2, 0, 1])).tolist() == [5, 6, 9]
    totals = running(np.array([1, 2, 3, 4]), np.array([0, 2]), np.array([10, 20]))
    assert totals.tolist() == [11, 13, 23, 27]
