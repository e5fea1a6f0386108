"""Histories against a dict of lists; texts, ties and feeding against the obvious."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from profile_actors.columnar import kernels
from profile_actors.columnar.state_columns import Image
from profile_actors.columnar.vectors import (
    FOREVER,
    Array,
    Texts,
    Vector,
    column,
    compact,
    constant,
    differ,
    joined,
)
from profile_actors.definitions.field_types import FieldType
from profile_actors.engine.histories.kept_arena import MIN_ROWS
from profile_actors.engine.histories.kept_events import (
    EventHistory,
    HistoryArrivals,
    HistoryDelta,
    KeptRows,
)
from profile_actors.engine.log.entry import Block
from profile_actors.engine.merge.documents import Row, in_order, rows_of
from profile_actors.engine.merge.order_ties import fixed_width, ties_of
from profile_actors.engine.operators.block_matching import history_arrivals, read_block
from profile_actors.ingest.hidden_columns import K0, K1
from profile_actors.rules.evaluation import text_kernels
from profile_actors.rules.evaluation.planned_values import plain_values
from profile_actors.rules.tree.nodes import Call, Element, Field, Literal, Now, Occurs
from profile_actors.rules.tree.plan import EventFilter, History

TIME = Field(Element(0), "timestamp")
DAY = 86_400_000
WEEK = Occurs(TIME, "distance", Now("now"), None, "<=", 7, "day", "before")
FIELDS = (
    ("a.text", FieldType("string")),
    ("flag", FieldType("boolean")),
    ("money", FieldType("decimal", scale=2)),
    ("x", FieldType("double")),
)
SLOTS = 40

Event = tuple[int, bytes, int, int, tuple[Any, ...]]  # time, tie, enter, leave, fields


def spec_of(windowed: bool, ordered: bool) -> History:
    return History(EventFilter(None, None, (WEEK,) if windowed else ()), FIELDS, ordered)


@dataclass
class Model:
    """The events of each slot in order of arrival."""

    windowed: bool
    ordered: bool
    events: dict[int, list[Event]] = field(default_factory=dict)

    def rows(self, slots: list[int], after: int) -> list[tuple[int, Event]]:
        """(owner, event) in order: those that still count at some instant after."""
        out: list[tuple[int, Event]] = []
        for owner, slot in enumerate(slots):
            mine = [e for e in self.events.get(slot, []) if e[3] > max(e[2], after)]
            mine.sort(key=lambda e: e[:2] if self.ordered else e[:1])
            out += [(owner, event) for event in mine]
        return out

    def copy(self) -> Model:
        events = {slot: list(mine) for slot, mine in self.events.items()}
        return Model(self.windowed, self.ordered, events)


def some_events(
    rng: np.random.Generator, model: Model, count: int, now: int
) -> list[tuple[int, Event]]:
    """Events by ascending slot, some late, many of one time, with nulls now and then."""
    has_nulls = rng.random() < 0.6
    spread = int(rng.choice([3, 50, 2000]))
    out = []
    for slot in np.sort(rng.integers(0, int(rng.choice([3, SLOTS])), count)).tolist():
        time = now - int(rng.integers(0, spread))
        enter, leave = time, FOREVER
        if model.windowed:
            enter = time + int(rng.choice([0, 0, 0, 40])) * int(rng.random() < 0.3)
            leave = enter + int(rng.choice([-1, 5, 60, 500]))
            leave = leave if rng.random() < 0.9 else FOREVER
        width = int(rng.choice([1, 1, 1, 9]))
        tie = b"%0*d\0set%d" % (width, rng.integers(0, 4), rng.integers(0, 2))
        values: list[Any] = [
            f"t{rng.integers(0, 30)}",
            bool(rng.integers(0, 2)),
            int(rng.integers(-99, 99)),
            float(rng.integers(0, 9)) / 2,
        ]
        if has_nulls:
            values = [None if rng.random() < 0.2 else value for value in values]
        out.append((slot, (time, tie if model.ordered else b"", enter, leave, tuple(values))))
    return out


def vector_of(values: list[Any], kind: FieldType, texts: Texts) -> Vector:
    arrow = {"string": pa.string(), "boolean": pa.bool_(), "double": pa.float64()}
    vector = column(pa.array(values, arrow.get(kind.kind, pa.int64())))
    if kind.kind != "string":
        return vector
    return Vector(texts.codes(vector), vector.valid, texts)


def arrivals_of(
    model: Model, events: list[tuple[int, Event]], texts: Texts
) -> HistoryArrivals | None:
    if not events:
        return None
    times, ties, enters, leaves, fields = zip(*(event for _, event in events), strict=True)
    columns = {
        path: vector_of([values[i] for values in fields], kind, texts)
        for i, (path, kind) in enumerate(FIELDS)
    }
    return HistoryArrivals(
        np.array([slot for slot, _ in events], np.uint32),
        np.array(times, np.int64),
        np.array(enters, np.int64) if model.windowed else None,
        np.array(leaves, np.int64) if model.windowed else None,
        columns,
        np.array(ties) if model.ordered else None,
    )


def listed(rows: KeptRows, after: int, ordered: bool) -> list[tuple[int, Event]]:
    """What ``Model.rows`` says, read from the store. What ceased to count may be there, or not."""
    count = len(rows)
    leaves = [FOREVER] * count if rows.leave is None else rows.leave.tolist()
    fields = [plain_of(rows.column(path)) for path, _ in FIELDS]
    owners = rows.owner.tolist()
    assert owners == sorted(owners)
    assert rows.starts.tolist() == [
        int(np.searchsorted(rows.owner, i)) for i in range(len(rows.sizes))
    ]
    events = zip(
        rows.time.tolist(), rows.enter.tolist(), leaves, zip(*fields, strict=True), strict=True
    )
    return [
        (owner, (time, b"", enter, leave, values))
        for owner, (time, enter, leave, values) in zip(owners, events, strict=True)
        if leave > after
    ]


def plain_of(vector: Vector) -> list[Any]:
    return plain_values(vector, None)


def untied(rows: list[tuple[int, Event]]) -> list[tuple[int, Event]]:
    """Ties are not given out: only the order shows them."""
    return [(owner, (e[0], b"", *e[2:])) for owner, e in rows]


def agrees(kept: KeptRows, model: Model, slots: list[int], after: int) -> None:
    assert listed(kept, after, model.ordered) == untied(model.rows(slots, after))


def walk(seed: int, windowed: bool, ordered: bool, steps: int) -> tuple[int, int]:
    """Steps of all sorts, looks at them before and after. Returns (packings, longer arrays)."""
    rng = np.random.default_rng(seed)
    texts = Texts()
    history = EventHistory(spec_of(windowed, ordered), texts, SLOTS)
    model = Model(windowed, ordered)
    now, packed, longer = 10_000, 0, 0
    kept_from_before: list[tuple[KeptRows, Model, list[int], int]] = []
    for _ in range(steps):
        before_now, now = now, now + int(rng.choice([0, 1, 100, 1000]))
        events = some_events(rng, model, int(rng.choice([0, 1, 20, 150])), now)
        asked = rng.integers(0, SLOTS, 12).tolist()
        slots = np.array(asked, np.uint32)
        after = model.copy()
        for slot, event in events:
            after.events.setdefault(slot, []).append(event)
        space = history._space
        delta = history.step(arrivals_of(model, events, texts), now)
        agrees(history.gather(slots), model, asked, before_now)
        agrees(history.gather(slots, delta), after, asked, now)
        if delta is not None:
            kept_from_before.append((history.gather(slots), model, asked, before_now))
            looks_at_touched(history, delta, after, events, now)
            if rng.random() < 0.1:
                continue  # a step that is never published leaves no trace
            history.publish(delta)
            packed += space.blocks is not history._space.blocks
            longer += space.capacity < history._space.capacity
        model = after
        agrees(history.gather(slots), model, asked, now)
        enters = [e[2] for mine in model.events.values() for e in mine if e[3] > max(e[2], now)]
        assert history.max_enter >= max(enters, default=-FOREVER)
        if rng.random() < 0.15:
            history, texts = reopened(history)
    for look in kept_from_before[-5:]:
        agrees(*look)
    everyone = list(range(SLOTS))
    agrees(history.gather(np.arange(SLOTS)), model, everyone, now)
    return packed, longer


def looks_at_touched(
    history: EventHistory,
    delta: HistoryDelta,
    after: Model,
    events: list[tuple[int, Event]],
    now: int,
) -> None:
    touched = sorted({slot for slot, e in events if e[3] > max(e[2], now)})
    assert delta.slots.tolist() == touched
    assert delta.slots.dtype == np.intp
    agrees(history.gather(delta.slots, delta), after, touched, now)


def arrays_of(history: EventHistory) -> dict[str, Array]:
    return Image([("", history.saving(SLOTS))], SLOTS).arrays()


def reopened(history: EventHistory) -> tuple[EventHistory, Texts]:
    """A checkpoint's arrays (copies, of kinds that storage takes) in a new store."""
    saved = {name: array.copy() for name, array in arrays_of(history).items()}
    assert {array.dtype.kind for array in saved.values()} <= set("biuf")
    texts = Texts()
    texts.restore({name: array.copy() for name, array in history.texts.later()().items()})
    again = EventHistory(history.spec, texts, SLOTS)
    again.restore(saved)
    assert {n: a.tobytes() for n, a in arrays_of(again).items()} == {
        n: a.tobytes() for n, a in saved.items()
    }
    return again, texts


@given(st.integers(0, 2**32), st.booleans(), st.booleans())
@settings(max_examples=60)
@example(0, True, True)
def test_history_equals_a_dict_of_lists(seed: int, windowed: bool, ordered: bool) -> None:
    walk(seed, windowed, ordered, 12)


@pytest.mark.parametrize("windowed", [False, True])
@pytest.mark.parametrize("ordered", [False, True])
def test_long_histories_are_packed_and_outgrow_their_arrays(windowed: bool, ordered: bool) -> None:
    packed, longer = walk(7, windowed, ordered, 150)
    assert packed > 1
    assert longer > 0


def test_bytes_stay_bounded_when_everything_expires() -> None:
    history, model = EventHistory(spec_of(True, False), Texts(), SLOTS), Model(True, False)
    texts = history.texts
    for step in range(200):
        now = step * 1000
        values = ("t", True, 1, 1.0)
        events = [(slot % SLOTS, (now, b"", now, now + 1, values)) for slot in range(SLOTS)]
        delta = history.step(arrivals_of(model, events, texts), now)
        assert delta is not None
        history.publish(delta)
    assert history._space.capacity <= 4 * MIN_ROWS
    assert len(history.gather(np.arange(SLOTS))) <= 4 * SLOTS


def test_what_can_never_count_is_not_kept() -> None:
    history, model = EventHistory(spec_of(True, False), Texts(), SLOTS), Model(True, False)
    values = ("t", True, 1, 1.0)
    events = [(3, (5, b"", 5, 9, values)), (4, (5, b"", 20, 20, values))]
    assert history.step(arrivals_of(model, events, history.texts), 9) is None
    assert history.step(None, 10) is None
    assert history.max_enter == -FOREVER
    kept = history.gather(np.array([3, 4]))
    assert len(kept) == 0


def test_later_entries_are_known_by_their_bound() -> None:
    history, model = EventHistory(spec_of(False, False), Texts(), SLOTS), Model(False, False)
    events = [(1, (50, b"", 50, FOREVER, ("t", True, 1, 1.0)))]
    delta = history.step(arrivals_of(model, events, history.texts), 10)
    assert delta is not None
    history.publish(delta)
    assert history.max_enter == 50
    kept = history.gather(np.array([0, 1]))
    assert int(kept.enter.max()) == 50


# -- Feeding --------------------------------------------------------------------------------------

IDS = ["a", "a\0", "a\0b", "a\1", "ab", "", "é", "z" * 40, "\U0001f600", "\uffff", "a\2", None]


def block_of(rng: np.random.Generator, dataset: str, rows: int, has_id: bool) -> Block:
    """A block of events as admission makes it: rows as they came, ordered by a permutation."""
    idents = rng.integers(0, 8, rows)
    times = 100 * DAY + rng.integers(0, 4, rows) * DAY
    words = [None if rng.random() < 0.2 else f"w{rng.integers(0, 9)}" for _ in range(rows)]
    columns: dict[str, pa.Array] = {
        "@timestamp": pa.array(times, pa.timestamp("ms")),
        "@type": pa.array(rng.choice(["buy", "see"], rows).tolist()).dictionary_encode(),
        "a.text": pa.array(words, pa.string()),
    }
    if dataset != "two":  # the other's schema lacks the field
        columns["x"] = pa.array(rng.random(rows))
    if has_id:
        columns["@id"] = pa.array([IDS[i] for i in rng.integers(0, len(IDS), rows)], pa.string())
    order = np.lexsort((times, idents)).astype(np.uint32)
    return Block(dataset, pa.table(columns), idents.astype(np.uint32), order, times)


@given(st.integers(0, 2**32), st.booleans())
@settings(max_examples=60)
def test_feeding_gives_what_the_filter_lets_through_in_document_order(
    seed: int, windowed: bool
) -> None:
    rng = np.random.default_rng(seed)
    fields = (
        ("a.text", FieldType("string")),
        ("eventType", FieldType("string")),
        ("x", FieldType("double")),
    )
    is_buy = Call(
        "=",
        (Field(Element(0), "eventType", type=FieldType("string")), Literal("buy", "string")),
        type=FieldType("boolean"),
    )
    event_filter = EventFilter(frozenset(["buy"]), is_buy, (WEEK,) if windowed else ())
    history = EventHistory(History(event_filter, fields, True), Texts(), 8)
    slot_of = rng.permutation(8).astype(np.uint32)
    kept: list[tuple[int, Any]] = []
    now = 104 * DAY
    for _ in range(3):
        blocks = [
            block_of(rng, name, int(rng.integers(1, 30)), bool(rng.integers(0, 2)))
            for name in ("one", "two", "three")[: rng.integers(1, 4)]
        ]
        delta = history.step(
            history_arrivals(history, [read_block(b, slot_of) for b in blocks]), now
        )
        if delta is not None:
            history.publish(delta)
        for block in blocks:
            rows = rows_of(block, np.arange(block.rows))
            kept += list(zip(slot_of[block.idents].tolist(), rows, strict=True))
        now += 2 * DAY
    look = now - 2 * DAY
    stored = history.gather(np.arange(8))
    leave = np.full(len(stored), FOREVER) if stored.leave is None else stored.leave
    got = [
        (owner, time, *values)
        for owner, time, end, *values in zip(
            stored.owner.tolist(),
            stored.time.tolist(),
            leave.tolist(),
            *(plain_of(stored.column(path)) for path, _ in fields),
            strict=True,
        )
        if end > look
    ]
    expected = []
    for slot in range(8):
        mine = [row for owner, row in kept if owner == slot and row.fields["eventType"] == "buy"]
        for _, row in in_order(mine):
            if not windowed or row.timestamp + 7 * DAY >= look:
                values = [row.fields.get(path) for path, _ in fields]
                expected.append((slot, row.timestamp, *values))
    # Rows with one id, dataset and time are the same event: which of them is first is open.
    key = [(row[0], row[1]) for row in got]
    assert key == [(row[0], row[1]) for row in expected]
    assert sorted(map(repr, got)) == sorted(map(repr, expected))
    if not has_twins([row for _, row in kept]):
        assert got == expected


def has_twins(rows: list[Any]) -> bool:
    keys = [(row.timestamp, row.fields.get("_id"), row.dataset) for row in rows]
    known = [key for key in keys if key[1] is not None]
    return len(set(known)) < len(known)


@given(st.integers(0, 2**32), st.booleans())
def test_ties_sort_as_the_order_key_does(seed: int, of_several: bool) -> None:
    """Also in profiles of several identities, where the same row may be of any: then the order is
    total but for what is stated twice."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    ties: list[bytes] = []
    for dataset in ("b", "a", "ab"):
        block = block_of(rng, dataset, 20, dataset != "ab")
        if of_several:
            for name in (K0, K1):
                half = rng.choice(np.array([0, 1, 1 << 63], np.uint64), 20)
                block.table = block.table.append_column(name, pa.array(half))
        local = rng.permutation(20)[:15]
        rows += rows_of(block, local)
        ties += ties_of(block, local).tolist()
    mine = sorted(range(len(rows)), key=lambda i: (rows[i].timestamp, ties[i], i))
    found = [row for _, row in in_order(rows)]
    assert [rows[i] for i in mine] == found
    if of_several:
        assert {row.primary is None for row in rows} == {False}
        again = [rows[i] for i in rng.permutation(len(rows))]
        keys = [(key[:3], row.primary) for key, row in in_order(again)]
        assert keys == [(key[:3], row.primary) for key, row in in_order(rows)]
        assert [key for key, _ in keys] == [key[:3] for key, _ in in_order(rows)]
        wanted = sorted((key[:3], row.primary or ()) for key, row in in_order(rows))
        assert [(key, primary or ()) for key, primary in keys] == wanted


def test_fixed_width_pads_with_zeros_and_reads_slices() -> None:
    texts = pa.array(["skipped", "é", "", "abc"], pa.large_string())
    assert fixed_width(texts[1:]).tolist() == ["é".encode(), b"", b"abc"]
    assert fixed_width(pa.array(["ab", "cd"], pa.large_string())).tolist() == [b"ab", b"cd"]
    assert fixed_width(texts[:0]).tolist() == []


# -- Texts ----------------------------------------------------------------------------------------

words = st.lists(st.sampled_from(["", "a", "A", "ab", "é", "b"]), min_size=1, max_size=12)


def over(texts: Texts, values: list[str], valid: np.ndarray | None = None) -> Vector:
    names = tuple(dict.fromkeys(["unused", *values]))
    plainly = Vector(np.array([names.index(v) for v in values], np.int32), valid, names)
    return Vector(texts.codes(plainly), valid, texts)


def small(values: list[str], valid: np.ndarray | None = None) -> Vector:
    return Vector(np.arange(len(values), dtype=np.int32), valid, tuple(values))


def filled(extra: int) -> Texts:
    texts = Texts()
    texts.codes(small([f"other {i}" for i in range(extra)] or [""]))
    return texts


def test_texts_have_one_code_each_for_ever() -> None:
    texts = Texts()
    first = over(texts, ["a", "b", "a"])
    again = over(texts, ["c", "b"], np.array([True, False]))
    assert first.values.tolist() == [1, 2, 1]
    assert again.values.tolist() == [3, 0], "a null gives no code to its text"
    assert list(texts) == ["", "a", "b", "c"]
    assert (len(texts), texts[2], texts[1:3], texts.index("c")) == (4, "b", ["a", "b"], 3)
    assert (texts.count("b"), texts.count("unused"), "b" in texts, "unused" in texts) == (
        1,
        0,
        True,
        False,
    )
    with pytest.raises(ValueError, match="expected a text with a code"):
        texts.index("unused")
    assert texts.codes(first) is first.values
    nothing = Vector(np.zeros(2, np.int64), np.zeros(2, np.bool_))
    assert texts.codes(nothing).tolist() == [0, 0]


def test_texts_come_back_from_a_checkpoint() -> None:
    texts = Texts()
    before = over(texts, ["é", "\ud800", "", "x" * 100])
    again = Texts()
    again.restore(texts.later()())
    assert list(again) == list(texts)
    assert over(again, ["x" * 100, "é", "new"]).values.tolist() == [before.values[3], 1, 4]


def test_threads_agree_on_codes() -> None:
    texts = Texts()
    found: list[list[str]] = []

    def give(start: int) -> None:
        for i in range(200):
            names = [f"w{(start * 37 + i + j) % 300}" for j in range(40)]
            codes = texts.codes(small(names))
            found.append([n for n, c in zip(names, codes.tolist(), strict=True) if texts[c] != n])

    threads = [threading.Thread(target=give, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[]] * 800
    assert sorted(texts) == sorted(["", *(f"w{i}" for i in range(300))])


@given(words, st.sampled_from([0, 5, 3000]))
def test_compact_keeps_the_texts_and_only_those_in_use(values: list[str], extra: int) -> None:
    texts = filled(extra)
    vector = over(texts, values)
    taken = compact(vector)
    assert plain_of(taken) == values
    assert isinstance(taken.dictionary, tuple)
    assert sorted(taken.dictionary) == sorted(set(values))
    assert compact(taken) is taken
    one = compact(Vector(vector.values[0], None, texts))
    assert one.dictionary == (values[0],)
    none = compact(Vector(vector.values[:0], None, texts))
    assert (len(none.values), none.dictionary) == (0, ("",))


@given(st.data(), words, st.sampled_from([0, 3000]))
def test_kernels_do_not_mind_a_large_dictionary(data: Any, values: list[str], extra: int) -> None:
    """Every kernel that reads texts: the same answer over ``Texts`` as over a small tuple."""
    count = len(values)
    others = data.draw(st.lists(st.sampled_from([*values, "zz"]), min_size=count, max_size=count))
    masks = st.lists(st.booleans(), min_size=count, max_size=count)
    valid, condition = np.array(data.draw(masks)), np.array(data.draw(masks))
    texts = filled(extra)
    a, b = over(texts, values, valid), over(texts, others)
    x, y = small(values, valid), small(others)
    one = constant(values[0])
    for operator in kernels.COMPARISONS:
        expected = kernels.compare(operator, x, y).values.tolist()
        for left, right in ((a, b), (a, y), (x, b)):
            assert kernels.compare(operator, left, right).values.tolist() == expected
        expected = kernels.compare(operator, x, one).values.tolist()
        assert kernels.compare(operator, a, one).values.tolist() == expected
    wanted = ["a", "zz", "never seen"]
    assert (kernels.member(a, wanted) & valid).tolist() == (
        kernels.member(x, wanted) & valid
    ).tolist()
    for test, arguments, plainly in (
        ("startswith", [b], [y]),
        ("contains", [one], [one]),
        ("contains", [one, constant(False)], [one, constant(False)]),
    ):
        got = text_kernels.text_test(test, a, arguments).values.tolist()
        assert got == text_kernels.text_test(test, x, plainly).values.tolist()
    group = text_kernels.regex_group(a, constant("(a)"), constant(1))
    assert plain_of(group) == plain_of(text_kernels.regex_group(x, constant("(a)"), constant(1)))
    expected_choice = plain_of(kernels.choose(condition, x, y))
    for left, right in ((a, b), (a, y), (x, b)):
        assert plain_of(kernels.choose(condition, left, right)) == expected_choice
        assert differ(left, right).tolist() == differ(x, y).tolist()
    assert kernels.choose(condition, a, b).dictionary is texts
    assert joined(a, b)[2] is texts
