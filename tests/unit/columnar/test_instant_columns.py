"""Instants per slot: what was put is there, to the millisecond, and a copy goes its own way."""

from __future__ import annotations

import numpy as np

from profile_actors.columnar.instant_columns import Instants
from profile_actors.columnar.state_columns import UNSET


def test_many_slots_are_read_at_once_and_none_is_below_every_instant() -> None:
    column = Instants(10)
    column.put(np.array([7, 2, 7]), np.array([1_000, -5, 1_001]))
    column.put(np.array([4]), UNSET)
    found = column.at(np.array([4, 7, 0, 2, 7], np.uint32))
    assert found.dtype == np.int64
    assert found.tolist() == [UNSET, 1_001, UNSET - 1, -5, 1_001]
    assert [column.of(slot) for slot in (4, 7, 0)] == [UNSET, 1_001, None]
