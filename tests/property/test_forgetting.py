"""L11 for texts and values: what rules name by numbers is bounded by what is alive."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from profile_actors.columnar import vectors
from profile_actors.columnar.vectors import Texts
from profile_actors.definitions.declared import ComputedAttribute, SegmentDefinition
from profile_actors.engine.log.in_memory import MemoryCheckpoints, MemoryFeed
from profile_actors.engine.operators.distinct_values import Distinct
from profile_actors.engine.partition.partition import Partition
from profile_actors.ingest.identity_keys import key_of
from tests.model.hub import BASE, CATALOGUE, CONFIG, HOUR, SEED, WHO, Hub, Rows

LAST_HOUR = "xEvent[timestamp occurs <= 1 hour before now]"
RULED = structs.replace(
    CATALOGUE,
    segments={"rare": SegmentDefinition("rare", f'{LAST_HOUR}.place.includes("zz") or tier = "q"')},
    computed={
        "places": ComputedAttribute("places", f"{LAST_HOUR}.place.distinct().count()"),
        "numbers": ComputedAttribute("numbers", f"{LAST_HOUR}.n.distinct().count()"),
        "last": ComputedAttribute("last", f"{LAST_HOUR}.topN(timestamp, 1).place"),
        "tier": ComputedAttribute("tier", "tier"),
        "ever": ComputedAttribute("ever", "xEvent.place.distinct().count()"),
    },
)
PEOPLE, PER_WINDOW, WINDOWS, FEW = 10, 40, 100, 16


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "FEW_NAMES", FEW)


def window(number: int) -> tuple[Rows, Rows]:
    """The rows of two hours, each with texts and numbers that never came before; some events come
    ahead of the clock, and count an hour later."""
    at = BASE + 2 * number * HOUR
    events = [
        {
            "who": f"w{i % PEOPLE}", "at": at + (i % 7 - 3) * 60_000, "_id": f"{number}-{i}",
            "kind": "v", "place": f"place {number}-{i}", "n": number * PER_WINDOW + i,
        }
        for i in range(PER_WINDOW)
    ]  # fmt: skip
    records = [
        {"who": f"w{i % PEOPLE}", "at": at + i, "tier": f"tier {number}-{i}"} for i in range(20)
    ]
    return events, records


def named(partition: Partition) -> dict[str, int]:
    """How many texts, values and pairs of a windowed rule have numbers."""
    book = partition.state.book
    out = {"texts": len(book.texts), "tiers": len(book.attributes["tier"].texts)}
    for stream in book.streams:
        for op in stream.operators:
            if isinstance(op, Distinct) and stream.filter.window:
                kind = "texts" if op.interner.texts else "numbers"
                out[f"distinct {kind}"] = len(op.interner)
                out[f"pairs of {kind}"] = op.pairs.count
    return out


def test_texts_and_values_are_bounded_by_those_in_their_windows() -> None:
    hub = Hub(catalogue=RULED)
    partition = hub.partitions[0]
    most: dict[str, int] = {}
    for number in range(WINDOWS):
        events, records = window(number)
        hub.submit([("hits", "p", events), ("crm", "q", records)], BASE + 2 * number * HOUR)
        for what, count in named(partition).items():
            most[what] = max(most.get(what, 0), count)
    assert len(most) == 6, most
    # Alive: a window's 40, and those of the entry before them; never the 4,000 of all.
    assert max(most.values()) <= 2 * 2 * PER_WINDOW + PER_WINDOW + 2 * FEW, most
    partition.advance(BASE + 2 * (WINDOWS - 1) * HOUR + HOUR // 2)
    assert partition.verify() == []
    keys = [key_of(WHO, f"w{i}", SEED) for i in range(PEOPLE)]
    answers = partition.profiles(keys)
    shown = [profile.computed for profile in answers if profile is not None]
    assert {each["numbers"] for each in shown} == {PER_WINDOW // PEOPLE}
    assert {each["ever"] for each in shown} == {WINDOWS * PER_WINDOW // PEOPLE}
    log, checkpoints = partition.log, MemoryCheckpoints()
    saved = Partition(log, MemoryFeed(), checkpoints, CONFIG)
    job = saved.checkpoint_job(force=True)
    assert job is not None
    job()
    restored = Partition(log, saved.feed, checkpoints, CONFIG)
    assert restored.owed.checkpointed == saved.position
    assert saved.profiles(keys) == restored.profiles(keys) == answers
    assert max(named(restored).values()) == max(named(saved).values()) <= max(most.values())


def test_what_was_gathered_before_keeps_its_texts() -> None:
    """A reading thread holds rows while the writer gives other codes to the texts that are left."""
    hub = Hub(catalogue=RULED)
    book = hub.partitions[0].state.book
    held: list[tuple[list[str], Callable[[], list[str]]]] = []
    generations = set()
    for number in range(12):
        hub.submit([("hits", "p", window(number)[0])], BASE + 2 * number * HOUR)
        (history,) = (h for h in book.histories.values() if "value/place" in h.text_lanes)
        rows = history.gather(np.arange(PEOPLE))

        def places(rows: object = rows) -> list[str]:
            column = rows.column("place")  # type: ignore[attr-defined]
            return [column.dictionary[code] for code in column.values.tolist()]

        fresh = history.gather(np.arange(PEOPLE)).column("place")
        assert fresh.dictionary is not None
        held.append(([fresh.dictionary[code] for code in fresh.values.tolist()], places))
        generations.add(id(history.texts))
    assert len(generations) > 3, "codes were given anew"
    for expected, read_late in held:
        assert read_late() == expected
    # Of events that no longer count when codes are given anew, the texts are gone.
    assert {place for expected, _ in held for place in expected if place} == {
        f"place {number}-{i}" for number in range(12) for i in range(PER_WINDOW)
    }


@given(st.lists(st.text(max_size=3), max_size=30, unique=True), st.data())
@settings(max_examples=30)
def test_restricted_texts_are_the_marked_ones_in_their_order(
    words: list[str], data: st.DataObject
) -> None:
    texts = Texts()
    codes = texts.codes(vectors.Vector(np.arange(len(words), dtype=np.int32), None, (*words, "")))
    live = np.array(data.draw(st.lists(st.booleans(), min_size=len(texts), max_size=len(texts))))
    fewer, table = texts.restricted(live.copy())
    kept = [word for word, code in zip(words, codes.tolist(), strict=True) if live[code] and code]
    assert list(fewer) == ["", *kept]
    for word, code in zip(words, codes.tolist(), strict=True):
        assert fewer[table[code]] == (word if live[code] else "")
        assert (word in fewer) == (live[code] or word == "")
    assert [word in texts for word in words] == [True] * len(words)
