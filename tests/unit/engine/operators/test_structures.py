"""Key tables, delay lines, gauges: each against a plain Python model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from profile_actors.columnar.hash_table import KeyTable
from profile_actors.columnar.runs import order_by, ranges, running, starts_of
from profile_actors.columnar.vectors import FOREVER, Vector
from profile_actors.definitions.field_types import FieldType
from profile_actors.engine.log.entry import decode, encode, read_envelope
from profile_actors.engine.membership.gauges import FIRST, NULL, Ladder, Rung
from profile_actors.engine.operators.delay_lines import DelayLine
from profile_actors.errors import CorruptLog
from profile_actors.rules.planning.thresholds import Measure, Threshold, condition_of
from profile_actors.rules.tree.nodes import Call, Literal
from profile_actors.rules.tree.plan import Aggregate, AggregateLeaf, EventFilter


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
    assert table.find(np.array([3], np.uint64), np.array([999], np.uint64)).tolist() == [-1]
    assert table.keys()[1].tolist() == list(model)


def _walked(table: KeyTable) -> np.ndarray:
    """Per key, how many cells past its first one it stands: what a look-up of it walks."""
    used = np.flatnonzero(table._number >= 0)
    homes = table._home(table._k0[used], table._k1[used])
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
        assert line.next_due() == min((row[0] for row in model), default=FOREVER)
        for wanted in range(6):
            _, _, mine = line.gather(np.array([wanted], np.uint32))
            assert sorted(mine["v"].tolist()) == sorted(v for _, s, v in model if s == wanted)


def ladder(kind: str, *rules: tuple[str, int | float]) -> Ladder:
    aggregate = Aggregate(EventFilter(), "sum", None, FieldType(kind))
    rungs = []
    for i, (operator, constant) in enumerate(rules):
        literal = Literal(constant, "integer" if isinstance(constant, int) else "double")
        root = Call(operator, (AggregateLeaf(aggregate), literal))
        found = condition_of(root)
        assert isinstance(found, Threshold)
        rungs.append(Rung(f"s{i}", found))
    return Ladder(Measure(AggregateLeaf(aggregate)), rungs, 8)


OPERATORS = {
    ">=": float.__ge__, ">": float.__gt__, "<": float.__lt__, "<=": float.__le__,
    "=": float.__eq__, "!=": float.__ne__,
}  # fmt: skip
constants = st.one_of(st.integers(-3, 3), st.sampled_from([0.5, -1.5, 2.0, 1e18, 0.1 + 0.2]))


@given(
    st.sampled_from(["integer", "double"]),
    st.lists(st.tuples(st.sampled_from(sorted(OPERATORS)), constants), min_size=1, max_size=6),
    st.lists(st.sampled_from([-3, -1, 0, 1, 2, 3, 0.5, 0.3, 0.1 + 0.2, 1e18]), max_size=8),
)
def test_a_ladder_says_what_each_comparison_says(
    kind: str, rules: list[tuple[str, int | float]], values: list[float]
) -> None:
    # Beyond 2**53 an integer no longer compares with a double as integers do: no rung, a tree.
    rules = [(op, c) for op, c in rules if kind == "double" or abs(c) < 2**53]
    gauge = ladder(kind, *rules)
    numbers = np.array(values, np.int64 if kind == "integer" else np.float64)
    levels = gauge.levels(Vector(numbers))
    for column, (operator, constant) in enumerate(rules):
        truth = gauge.layout.truth[levels, column].tolist()
        assert truth == [OPERATORS[operator](float(v), float(constant)) for v in numbers.tolist()]
    assert (gauge.levels(Vector(numbers, np.zeros(len(numbers), bool))) == NULL).all()
    assert not gauge.layout.truth[:FIRST].any()


def test_small_array_idioms() -> None:
    assert starts_of(np.array([1, 1, 2, 5, 5])).tolist() == [0, 2, 3]
    assert order_by(np.array([2, 0, 2, 1])).tolist() == [1, 3, 0, 2]
    assert ranges(np.array([5, 0, 9]), np.array([2, 0, 1])).tolist() == [5, 6, 9]
    totals = running(np.array([1, 2, 3, 4]), np.array([0, 2]), np.array([10, 20]))
    assert totals.tolist() == [11, 13, 23, 27]


def test_an_entry_of_an_unknown_kind_or_format_is_refused() -> None:
    whole = b"".join(bytes(part) for part in encode("clock", 1, 5, 2))
    assert decode(memoryview(whole), "x").envelope.now == 5
    odd = b"".join(bytes(part) for part in encode("eclipse", 1, 5, 2))
    with pytest.raises(CorruptLog, match="newer version"):
        read_envelope(memoryview(odd), "position 7")
    with pytest.raises(CorruptLog, match="position 7"):
        read_envelope(memoryview(b"nonsense" * 4), "position 7")
