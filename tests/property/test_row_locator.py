"""The row locator for entries of any sizes: few runs, few rows moved, and every row found (L11)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import log2

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from profile_actors.engine.log import row_locator as module
from profile_actors.engine.log.row_locator import SPARE_RUNS, Locator, pack

IDENTS = 5
SECONDS = 7


@contextmanager
def small_slices(rows: int = 64, slices: int = 8) -> Iterator[None]:
    """Merges go in slices already where there are few rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "AT_ONCE_ROWS", rows)
        patch.setattr(module, "SLICES", slices)
        yield


def check_laws(sizes: list[int]) -> Locator:
    """Add entries of these sizes; after each: the number of runs, and the rows that it moved."""
    locator, rows = Locator(), 0
    for position, size in enumerate(sizes):
        before = locator.carried
        locator.add(position, np.zeros(size, np.int64), np.full(size, 1000), np.arange(size))
        locator.publish()
        rows += size
        assert len(locator) == rows == sum(map(len, locator.runs))
        if rows:
            assert len(locator.runs) <= int(log2(rows)) + SPARE_RUNS
        # At most a handful of merges go on side by side, each in slices of this size.
        slice_rows = max(module.AT_ONCE_ROWS, 4 * size, rows // module.SLICES)
        assert locator.carried - before <= 6 * slice_rows, (position, size, rows)
    assert locator.carried <= rows * (log2(max(rows, 2)) + 2)
    return locator


PATTERNS = {
    "single rows": [1] * 3000,
    "bulk and single in turn": [100, 1] * 800,
    "one bulk, many single": [2000, *[100] * 7] * 20 + [1] * 500,
    "uniform 1 to 20": np.random.default_rng(1).integers(1, 21, 3000).tolist(),
    "growing by doubling": [2 ** (i % 12) for i in range(500)],
    "shrinking by halves": [2 ** (12 - i % 13) for i in range(500)],
    "any magnitude": (10 ** np.random.default_rng(2).uniform(0, 4, 500)).astype(int).tolist(),
    "equal bulks": [500] * 400,
    "a merge goes on while halves come": ([4096] * 16 + [32, 16, 8, 4, 2, 1] * 30) * 2,
}  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("sliced", [False, True])
def test_runs_stay_few_and_merges_cheap(pattern: str, sliced: bool) -> None:
    if not sliced:
        check_laws(PATTERNS[pattern])
        return
    with small_slices(256):
        check_laws(PATTERNS[pattern])


sizes = st.one_of(
    st.integers(0, 3), st.integers(1, 20), st.integers(0, 10).map(lambda k: 2**k), st.just(100)
)


@given(st.lists(st.lists(sizes, max_size=6), max_size=8), st.integers(1, 30))
@settings(max_examples=40)
def test_any_sizes_again_and_again(pieces: list[list[int]], times: int) -> None:
    """Patterns of entries, each repeated: what a stream beside a bulk load sends."""
    with small_slices():
        check_laws([size for piece in pieces for size in piece * times])


@given(st.lists(sizes, min_size=1, max_size=60), st.integers(0, 2**32 - 1))
@example([100] * 30, 0)
@settings(max_examples=40)
def test_every_row_is_found_in_log_order_at_every_step(entries: list[int], seed: int) -> None:
    """Few idents and seconds, so that most rows share their key with others."""
    rng = np.random.default_rng(seed)
    locator = Locator()
    model: list[tuple[int, int, int, int]] = []
    with small_slices(32, 4):
        for position, size in enumerate(entries):
            idents = rng.integers(0, IDENTS, size)
            times = rng.integers(0, SECONDS, size) * 1000 + rng.integers(0, 1000, size)
            order = np.lexsort((times, idents))
            locator.add(position, idents[order], times[order], order)
            locator.publish()
            model += [(int(idents[r]), int(times[r]) // 1000, position, int(r)) for r in order]
            ident, second = int(rng.integers(0, IDENTS + 1)), int(rng.integers(0, SECONDS))
            check_reads(locator, model, ident, second)


def check_reads(
    locator: Locator, model: list[tuple[int, int, int, int]], ident: int, second: int
) -> None:
    mine = [(s, p, r) for i, s, p, r in model if i == ident]
    keys, positions, rows = locator.rows_of(ident)
    assert sorted(zip(positions.tolist(), rows.tolist(), strict=True)) == sorted(
        (p, r) for _, p, r in mine
    )
    # By second, and within one in the order of the log.
    assert (keys[1:] >= keys[:-1]).all()
    same = keys[1:] == keys[:-1]
    assert (positions[1:] >= positions[:-1])[same].all()
    _, positions, rows = locator.rows_of(ident, second * 1000, second * 1000 + 2000)
    found = set(zip(positions.tolist(), rows.tolist(), strict=True))
    assert found == {(p, r) for s, p, r in mine if second <= s <= second + 2}
    asked = pack(np.array([ident, IDENTS + 7]), np.array([second * 1000 + 5, 0]))
    query, positions, rows = locator.matches(asked)
    assert set(query.tolist()) <= {0}
    assert sorted(zip(positions.tolist(), rows.tolist(), strict=True)) == sorted(
        (p, r) for s, p, r in mine if s == second
    )
    assert locator.counts(asked).tolist() == [len(positions), 0]
    half = len(model) and model[len(model) // 2][2]
    positions, rows = locator.rows_from(int(asked[0]), half)
    assert sorted(zip(positions.tolist(), rows.tolist(), strict=True)) == sorted(
        (p, r) for s, p, r in mine if s == second and p >= half
    )


class Sizes(module._Fusion):
    """A merge that moves nothing, but knows how far it would be: for as many rows as one likes."""

    def __init__(self, runs: list[module.Run]) -> None:
        self.runs = runs
        self.rows = sum(map(len, runs))
        self.run = sized(self.rows)
        self._done = 0

    @property
    def is_done(self) -> bool:
        return self._done == self.rows

    def work(self, rows: int) -> int:
        moved = min(rows, self.rows - self._done)
        self._done += moved
        return moved


def sized(rows: int) -> module.Run:
    """A run of so many rows that takes no memory."""
    number = np.broadcast_to(np.zeros(1, np.uint32), rows)
    return module.Run(np.broadcast_to(np.zeros(1, np.uint64), rows), number, number)


@pytest.mark.parametrize("kind", ["batches", "batches and single events", "any size"])
def test_a_hundred_million_rows_are_few_runs(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar at its size, by the arithmetic alone."""
    rng = np.random.default_rng(3)
    sizes = [50_000] * 2_000
    if kind == "batches and single events":
        sizes = [size for _ in range(500) for size in (200_000, *[1] * 20)]
    if kind == "any size":
        sizes = [int(10**power) for power in rng.uniform(0, 6, 1_500)]
        sizes *= 1 + 100_000_000 // sum(sizes)
    monkeypatch.setattr(module, "_Fusion", Sizes)
    monkeypatch.setattr(module, "pack", lambda idents, times: sized(len(idents)).keys)
    locator, most = Locator(), 0
    for position, size in enumerate(sizes):
        none = np.broadcast_to(np.zeros(1, np.uint32), size)
        locator.add(position, none, none, none)
        locator.publish()
        most = max(most, len(locator.runs))
    assert len(locator) == sum(map(len, locator.runs)) >= 100_000_000
    assert most <= 30
