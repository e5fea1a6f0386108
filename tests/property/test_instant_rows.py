"""Columns of instants are what a dict of (column, slot) is, whatever is put, copied and restored.

Drawn: how many columns there are, how few slots share the puts (so that pools fill, are cleared
out, and rows move from shelf to shelf), equal slots in one put, many columns at one instant or at
several, tables that come back from a checkpoint of today's or yesterday's form.
"""

from __future__ import annotations

import numpy as np
import pytest

from profile_actors.columnar import instant_rows, state_columns
from profile_actors.columnar.instant_columns import (
    Columns,
    ColumnSet,
    Instants,
    Put,
    instant_columns,
    put_all,
    restore_tables,
    table_savings,
)
from profile_actors.columnar.state_columns import UNSET, Image

SLOTS = 40
Model = dict[tuple[int, int], int]


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_columns, "SLICE_BYTES", 500)


def check(rng: np.random.Generator, columns: list[Instants], model: Model) -> None:
    every = np.arange(SLOTS)
    wanted = np.full((SLOTS, len(columns)), UNSET - 1)
    for (number, slot), at in model.items():
        wanted[slot, number] = at
    for number in rng.integers(0, len(columns), 5).tolist():
        assert columns[number].at(every[::-1]).tolist() == wanted[::-1, number].tolist()
        assert columns[number].of(7) == model.get((number, 7))
    some = rng.permutation(len(columns))[: rng.integers(1, 1 + len(columns))].tolist()
    slots = rng.integers(0, SLOTS, 6)
    found = ColumnSet([columns[number] for number in some]).at(slots)
    assert found.tolist() == wanted[np.ix_(slots, some)].tolist()
    for rows in {id(one.rows): one.rows for one in columns}.values():
        mine = [number for number, one in enumerate(columns) if one.rows is rows]
        found = rows.all_of(every) + (UNSET - 1)
        assert (found[:, [columns[number].column for number in mine]] == wanted[:, mine]).all()
        assert rows.size_bytes(SLOTS) <= SLOTS * (6 * rows.columns + rows.columns // 2 + 104)


def step(rng: np.random.Generator, columns: list[Instants], model: Model, now: int) -> None:
    """What an entry does: some slots at its now, others at instants of their own."""
    mine = rng.random(SLOTS) < rng.choice([0.1, 0.5, 0.9])
    parts: list[Put] = []
    for number in rng.permutation(len(columns))[: rng.integers(1, len(columns) + 1)].tolist():
        slots = np.flatnonzero(mine & (rng.random(SLOTS) < 0.4)).astype(np.uint32)
        parts.append(Put(columns[number], None, slots, now))  # nobody moved: that is drawn too
        model |= {(number, slot): now for slot in slots.tolist()}
        slots = (
            np.sort(rng.choice(np.flatnonzero(~mine), rng.integers(0, 20)))
            if not mine.all()
            else slots[:0]
        )
        at = now - rng.integers(0, 6, len(slots))
        order = np.lexsort((at, slots))
        slots, at = slots[order], at[order]
        parts.append(Put(columns[number], None, slots, at))
        model |= {(number, s): t for s, t in zip(slots.tolist(), at.tolist(), strict=True)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(instant_rows, "AT_ONCE", rng.choice([1, 20, 4_096]))
        put_all(gathered(rng, parts))


def gathered(rng: np.random.Generator, parts: list[Put]) -> list[Put]:
    """The same, some of them as one part of several columns: so a gauge of many segments puts."""
    out = [part for part in parts if rng.random() < 0.5]
    rest = [part for part in parts if not any(part is one for one in out)]
    for is_timed in (False, True):
        mine = [part for part in rest if isinstance(part.at, np.ndarray) == is_timed]
        if mine:
            which = np.repeat(np.arange(len(mine)), [len(part.slots) for part in mine])
            at = np.concatenate([part.at for part in mine]) if is_timed else mine[0].at
            slots = np.concatenate([part.slots for part in mine])
            some = [part.of for part in mine if isinstance(part.of, Instants)]
            out.append(Put(Columns(some), which, slots, at))
    return out


@pytest.mark.parametrize("count", [1, 9, 33, 100, 261])
@pytest.mark.parametrize("seed", range(2))
def test_columns_are_what_a_dict_is(count: int, seed: int) -> None:
    rng = np.random.default_rng([seed, count])
    columns, model = instant_columns(64, count), Model()
    now = int(rng.integers(-(10**12), 10**12))
    for _ in range(25):
        now += int(rng.integers(1, 10**9))
        if rng.random() < 0.7:
            step(rng, columns, model, now)
        else:
            number = int(rng.integers(count))
            slots = rng.integers(0, SLOTS, rng.integers(1, 12))
            at = rng.integers(UNSET, now, len(slots))
            columns[number].put(slots, at)
            model |= {(number, s): t for s, t in zip(slots.tolist(), at.tolist(), strict=True)}
        if rng.random() < 0.1:
            number = int(rng.integers(count))
            columns[number] = columns[number].copy(SLOTS)
        if rng.random() < 0.1:
            columns = restored(rng, columns, model)
        check(rng, columns, model)


def restored(rng: np.random.Generator, columns: list[Instants], model: Model) -> list[Instants]:
    """From a checkpoint: of tables, or of one array of codes a column, as they used to be."""
    named = {f"qualified/{number}": one for number, one in enumerate(columns)}
    if rng.random() < 0.5:
        image = Image(list(table_savings(named, SLOTS)), SLOTS)
        while rng.random() < 0.9 and image.step():  # what changes meanwhile does not show
            some = np.flatnonzero(rng.random(SLOTS) < 0.3)
            with image.changing(some):
                columns[rng.integers(len(columns))].put(some, int(rng.integers(1 << 40)))
        arrays = image.arrays()
    else:
        arrays = {
            f"qualified/{number}": np.array(
                [model.get((number, slot), UNSET - 1) + 1 - UNSET for slot in range(SLOTS)]
            )
            for number in range(len(columns))
        }
    fresh = instant_columns(64, len(columns))
    restore_tables({f"qualified/{number}": one for number, one in enumerate(fresh)}, arrays, SLOTS)
    return fresh


def test_instants_beyond_48_bits_read_as_the_last_of_them() -> None:
    column = Instants(4)
    column.put(np.array([1, 2]), np.array([2**60, UNSET]))
    column.put(np.array([3]), 2**60)
    assert column.at(np.arange(4)).tolist() == [
        UNSET - 1,
        2**48 - 2 + UNSET,
        UNSET,
        2**48 - 2 + UNSET,
    ]
