"""Numbers with holes: the range, its pieces, and what is told by row."""

from __future__ import annotations

import pytest

from profile_actors.driver.receipts import Receipt
from profile_actors.driver.sender import _in_pieces
from profile_actors.driver.streams.numbered_rows import by_row, numbered
from profile_actors.errors import CallerError


def test_pieces_have_so_many_rows_whatever_is_between_them() -> None:
    offsets = [10, 11, 10**15, 10**15 + 7, 2**62]
    block = numbered([{"n": n} for n in offsets], 3, offsets, 2**62 + 5)
    parts = _in_pieces(block, 2)
    assert [[row["n"] for row in part.rows] for part in parts] == [
        offsets[:2], offsets[2:4], offsets[4:],
    ]  # fmt: skip
    assert [[part.first_row + n for n in part.numbers.tolist()] for part in parts] == [
        offsets[:2], offsets[2:4], offsets[4:],
    ]  # fmt: skip
    assert [part.first_row for part in parts] == [3, 10**15, 2**62]
    assert sum(len(part) for part in parts) == 2**62 + 2
    assert len(_in_pieces(numbered([], 3, [], 9), 2)) == 1
    assert _in_pieces(numbered([], 3, [], 3), 2) == []


def test_rejects_are_told_by_row() -> None:
    block = numbered([{}, {}, {}], None, [5, 8, 20], None)
    receipt = Receipt(rejected_count=2, rejected=[(0, "a", "x"), (15, "b", "y")])
    assert by_row(receipt, block).rejected == [(0, "a", "x"), (2, "b", "y")]


@pytest.mark.parametrize(
    ("offset", "offsets", "through"),
    [
        (None, [], 5), (3, [], None), (9, [], 5), (0, [1, 1], None), (2, [1, 5], None),
        (0, [1, 5], 5), (0, [1], None), (None, [1, 2.5], None), (0, [1, 2], 2**63),
    ],
)  # fmt: skip
def test_what_is_no_range_is_refused(
    offset: int | None, offsets: list[int], through: int | None
) -> None:
    rows: list[dict[str, int]] = [{}, {}] if offsets else []
    with pytest.raises(CallerError):
        numbered(rows, offset, offsets, through)
