"""Key tables against a dict, and how evenly keys of any pattern spread."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from profile_actors.columnar.hash_table import KeyTable


@given(st.lists(st.lists(st.integers(0, 40), max_size=30), max_size=8))
def test_key_table_numbers_keys_in_order_of_first_appearance(batches: list[list[int]]) -> None:
    table = KeyTable(4)
    model: dict[int, int] = {}
    for batch in batches:
        k0 = np.array([key % 7 for key in batch], np.uint64)  # many share a half and a home cell
        k1 = np.array(batch, np.uint64)
        numbers, first_rows = table.number(k0, k1)
        fresh = []
        for row, key in enumerate(batch):
            if key not in model:
                model[key] = len(model)
                fresh.append(row)
        assert numbers.tolist() == [model[key] for key in batch]
        assert first_rows.tolist() == fresh
    asked = [(key % 7, key) for key in range(41)] + [(3, 999)]
    k0, k1 = np.array(asked, np.uint64).T
    known = [model.get(key, -1) for _, key in asked]
    assert table.find(k0, k1).tolist() == known
    assert [int(table.find(k0[row : row + 1], k1[row : row + 1])[0]) for row in range(42)] == known
    assert table.keys()[1].tolist() == list(model)


def _walked(table: KeyTable) -> np.ndarray:
    """Per key, how many cells past its first one it stands: what a look-up of it walks."""
    used = np.flatnonzero(table._number >= 0)
    k0, k1 = table.keys()
    homes = table._home(k0[table._number[used]], k1[table._number[used]])
    return np.asarray((used - homes) % len(table._number))


DENSE = np.arange(20_000, dtype=np.uint64)
CONSTANT = np.full(len(DENSE), 5, np.uint64)
PATTERNS = {
    "numbers under one slot": (CONSTANT, DENSE),
    "slots with one number": (DENSE, CONSTANT),
    "slot and number alike": (DENSE, DENSE),
    "slot and number opposed": (DENSE, DENSE[::-1].copy()),
    "few numbers under many slots": (DENSE // np.uint64(20), DENSE % np.uint64(20)),
    "integers alone": (DENSE, np.zeros_like(DENSE)),
    "negative integers": ((-DENSE.astype(np.int64)).view(np.uint64), np.zeros_like(DENSE)),
    "timestamps, whole days": (DENSE * np.uint64(86_400_000), CONSTANT),
    "doubles, whole": (DENSE.astype(np.float64).view(np.uint64), np.zeros_like(DENSE)),
    "doubles, cents": ((DENSE / 100.0).view(np.uint64), np.zeros_like(DENSE)),
} | {
    f"multiples of 2**{k}, {half}": (pair if half == "first" else pair[::-1])
    for k in (12, 29, 32, 40, 49)
    for half in ("first", "second")
    for pair in [(DENSE << np.uint64(k), CONSTANT)]
}  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_keys_of_any_pattern_spread_over_the_table(pattern: str) -> None:
    """Linear probing at half load walks 0.5 cells a key where homes are as good as random."""
    k0, k1 = PATTERNS[pattern]
    table = KeyTable()
    for start in range(0, len(k0), 1000):
        table.number(k0[start : start + 1000], k1[start : start + 1000])
    walked = _walked(table)
    assert table.find(k0, k1).tolist() == list(range(len(k0)))
    for row in range(0, len(k0), 997):  # one key is looked for in a way of its own
        assert table.find(k0[row : row + 1], k1[row : row + 1]).tolist() == [row]
    assert len(walked) == len(k0)
    assert walked.mean() < 1
    assert walked.max() < 100


@given(
    st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1),
)  # fmt: skip
@example(5, 0, 0, 1)
def test_keys_in_any_steps_spread_over_the_table(k0: int, k1: int, by0: int, by1: int) -> None:
    """An arithmetic series through both halves, whatever its start and its steps."""
    serial = DENSE[:1500]
    with np.errstate(over="ignore"):
        pairs = np.unique(
            np.stack([
                np.uint64(k0) + serial * np.uint64(by0), np.uint64(k1) + serial * np.uint64(by1),
            ]), axis=1,
        )  # fmt: skip
    table = KeyTable()
    table.number(pairs[0], pairs[1])
    assert _walked(table).mean() < 1.5
