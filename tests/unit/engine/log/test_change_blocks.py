"""Blocks of the feed: groups of many gauges say what a group for each says, old blocks are read."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from profile_actors.columnar.vectors import Array
from profile_actors.engine.log.change_blocks import (
    Group,
    Layout,
    Packed,
    decode,
    encode,
    expand,
    gauge_group,
    gauges_group,
)

LAYOUTS = [
    Layout((f"a{n}", f"b{n}"), np.array([[0, 0], [0, 0], [1, 0], [1, 1]], np.bool_))
    for n in range(3)
]


def expanded(groups: list[Group]) -> list[tuple[object, ...]]:
    found = expand(decode(encode(Packed(90, 0, groups))), LAYOUTS)
    columns = (found.idents, found.name, found.at, found.new, found.had, found.cause)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [(found.names[row[1]], *row) for row in rows]


@pytest.mark.parametrize("at", [None, np.array([70, 80, 80, 60, 90])])
@pytest.mark.parametrize("cause", [2, np.array([0, 1, 0, 1, 2])])
def test_a_group_of_many_is_a_group_of_each(at: Array | None, cause: int | Array) -> None:
    gauges = np.array([0, 0, 2, 2, 2])
    idents = np.array([4, 9, 4, 5, 7])
    old, new = np.array([0, 2, 1, 3, 1], np.uint8), np.array([3, 1, 2, 1, 3], np.uint8)
    single = []
    for number in (0, 2):
        mine = gauges == number
        single.append(
            gauge_group(
                number, idents[mine], old[mine], new[mine],
                None if at is None else at[mine], cause if isinstance(cause, int) else cause[mine],
            )
        )  # fmt: skip
    rows = expanded([gauges_group(gauges, idents, old, new, at, cause)])
    assert len(rows) == 8
    assert rows == expanded(single)


def test_a_block_from_before_there_were_groups_of_many() -> None:
    group = gauge_group(1, np.array([3]), np.zeros(1, np.uint8), np.full(1, 3, np.uint8), None, 0)
    whole = msgspec.msgpack.decode(encode(Packed(90, 0, [group])))
    whole[2][0].pop()  # the field that is new
    assert decode(msgspec.msgpack.encode(whole)).groups == [group]
