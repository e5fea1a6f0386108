"""A checkpoint that is copied in slices, with entries between any two of them, is of the moment at
which it was begun: byte for byte what a copy taken at once would have been (decision 0042)."""

from __future__ import annotations

import gc
import mmap
import pkgutil
import random
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from profile_actors.columnar import state_columns
from profile_actors.columnar.state_columns import ColumnCopy, Image, Saving, ShelvedCopy
from profile_actors.columnar.vectors import Array
from profile_actors.definitions.catalogue_changes import extended
from profile_actors.definitions.declared import ComputedAttribute, Schema, SegmentDefinition
from profile_actors.engine import operators
from profile_actors.engine.fold.state import State
from profile_actors.engine.operators.aggregates import Additive, Operator, Silent
from profile_actors.engine.operators.distinct_values import Glimpse
from profile_actors.engine.partition import checkpoint_job, clock_steps
from profile_actors.engine.partition.checkpoint_image import instants_of, savings
from profile_actors.engine.partition.checkpoint_job import Job
from tests.model import hub as hubs
from tests.model.hub import BASE, CATALOGUE, CONFIG, HOUR, Hub

PEOPLE = [f"w{i}" for i in range(8)]
KINDS = """
    attribute/score/state/crm attribute/score/times/web attribute/tier/texts
    attribute/tier/values/crm
    directory/blob directory/ends directory/ident_of directory/k* directory/namespace
    directory/newest directory/slot_of frozen/*/inside gauge/* gauge_timer/*/due_of
    gauge_timer/*/line/due history/*/leave history/*/size history/*/tie history/*/time
    history/*/value/place instants/*/rows/low instants/*/rows/pointers modified rescan/*/due_of
    rescan/*/line/due rescan/*/typed stream/*/*/bits stream/*/*/cells stream/*/*/count
    stream/*/*/has_none
    stream/*/*/lane* stream/*/*/references stream/*/*/texts stream/*/*/wide
    stream/*/enter/column/v* stream/*/leave/column/v*? texts/texts touched
    timer/*/due_of timer/*/line/due
"""
MINUTE = 60_000
# A base, and what a state never keeps: what has failed, and what a look-up takes along.
APART = (Additive, Silent, Glimpse)
HOURS = "xEvent[timestamp occurs <= 2 hours before now]"
SEGMENTS = {
    **{f"n{k}": f"{HOURS}.count() > {k}" for k in range(12)},
    **{f"s{k}": f'xEvent[eventType = "buy" and timestamp occurs <= 1 hour before now].sum(n) > {k}'
       for k in range(12)},
    "aged": "xEvent.max(timestamp) occurs > 30 minutes before now",
    "tree": f"{HOURS}.count() > score and xEvent.max(timestamp) occurs <= 1 hour before now",
    "twice": "CHAIN(xEvent, timestamp, [A: WHAT(n = 1), B: WHAT(n = 2) WHEN(<= 5 hours after A)])",
    "lately": "xEvent.topN(timestamp, 1).timestamp.max() occurs <= 20 minutes before now",
    "listed": 'tags.includes("a") and xEvent.max(timestamp) occurs <= 1 hour before now',
}  # fmt: skip
COMPUTED = {
    "numbers": f"{HOURS}.n.distinct().count()",
    "places": "xEvent.place.distinct().count()",
    "fine": "xEvent.sum(amount * rate)",
    "least": f"{HOURS}.min(n)",
    "most": "xEvent.max(x)",
    "recent": f"{HOURS}.topN(timestamp, 1).place",
    "last": "xEvent.topN(timestamp, 2).place",
    "tier": "tier",
}
RULED = extended(
    structs.replace(
        CATALOGUE,
        schemas={
            "hit": Schema(
                "hit", "event",
                {"place": "string", "n": "integer", "x": "double", "amount": "decimal(2)",
                 "rate": "decimal(9)"},
            ),
            "person": Schema(
                "person", "record",
                {"tier": "string", "score": "integer", "tags": "string[]"},
            ),
        },
    ),
    [
        *(SegmentDefinition(name, rule) for name, rule in SEGMENTS.items()),
        *(ComputedAttribute(name, rule) for name, rule in COMPUTED.items()),
    ],
)  # fmt: skip


class Story:
    """A partition's life by chance: entries of any size, late rows, and the clock."""

    def __init__(self, seed: str) -> None:
        self.random = random.Random(seed)
        self.hub = Hub(1, RULED)
        self.now = BASE
        self.sent, self.rows = 0, (0, 0)
        self.drains = 0  # entries at the end of which profiles were owed the work of an instant

    @property
    def state(self) -> State:
        return self.hub.partitions[0].state

    def go_on(self, is_early: bool = False) -> None:
        """One entry, or a move of the clock; what is owed after it may stay owed unless early."""
        chance, partition = self.random, self.hub.partitions[0]
        self.now += chance.choice((1, MINUTE, 20 * MINUTE, HOUR))
        if chance.random() < 0.3:
            partition.tick(self.now)
        else:
            is_owed = partition.state.drain is not None  # to some of them, before their rows
            some = list(PEOPLE) if is_owed else chance.sample(PEOPLE, chance.choice((1, 2, 6)))
            if chance.random() < 0.2:
                some.append(f"new {self.sent}")
            hits = [self._hit(who) for who in some for _ in range(chance.choice((1, 1, 3)))]
            crm = [self._record(who) for who in some[:3]]
            first, self.rows = self.rows, (self.rows[0] + len(hits), self.rows[1] + len(crm))
            batches = [
                self.hub.sub_batch("hits", "p", first[0], hits),
                self.hub.sub_batch("crm", "q", first[1], crm),
            ]
            assert {reply.status for reply in partition.commit(batches, self.now)} == {"ok"}
        self.drains += partition.state.drain is not None and partition.state.image is not None
        while (is_early or chance.random() < 0.6) and partition.work(3):
            pass

    def _hit(self, who: str) -> dict[str, Any]:
        chance, self.sent = self.random, self.sent + 1
        return {
            "who": who, "at": self.now - chance.choice((0, 0, MINUTE, 3 * HOUR, -HOUR)),
            "_id": f"{self.sent}", "kind": chance.choice(("buy", "view")), "n": chance.randrange(4),
            "place": chance.choice(("oslo", "rome", f"p{self.sent}")),
            "x": chance.choice((0.1, -0.1, 1e300)), "amount": "1.25", "rate": "99.000000001",
        }  # fmt: skip

    def _record(self, who: str) -> dict[str, Any]:
        chance = self.random
        return {
            "who": who, "at": self.now, "tier": chance.choice(("gold", f"t{self.sent}")),
            "score": chance.randrange(4), "tags": chance.choice((["a"], ["b"], [])),
        }  # fmt: skip


class Watched(Image):
    """Finds rows that change although nobody said so."""

    def __init__(self, savings: Sequence[tuple[str, Saving]], slots: int) -> None:
        super().__init__(savings, slots)
        copies = [copy for _, one in savings for copy in one.copies]
        for shelved in [copy for copy in copies if isinstance(copy, ShelvedCopy)]:
            copies += [one for name, one in shelved._base.items() if name != "row"]
        self.columns = [c._column[:slots] for c in copies if isinstance(c, ColumnCopy)]
        self.known = [column.copy() for column in self.columns]
        self.kept = 0

    @contextmanager
    def changing(self, slots: Array) -> Iterator[None]:
        self.look([])
        with super().changing(slots):
            yield
        self.look(slots.tolist())
        self.kept += 1

    def look(self, said: list[int]) -> None:
        for column, before in zip(self.columns, self.known, strict=True):
            changed = np.unique((column != before).nonzero()[0])
            assert set(changed.tolist()) <= set(said)
            before[changed] = column[changed]


def at_once(state: State) -> dict[str, Array]:
    """The whole state, copied in one go."""
    return plain(Image(list(savings(state)), state.directory.slots).arrays())


def plain(arrays: dict[str, Array]) -> dict[str, Array]:
    """Rows of shelves by slot: in which order they stand says nothing."""
    out = dict(arrays)
    for name in arrays:
        if name.endswith("/owner"):
            head, number, _ = name.rsplit("/", 2)
            order = np.argsort(arrays[name])
            for part in [one for one in arrays if one.startswith(f"{head}/{number}/")]:
                out[part] = arrays[part][order]
            owners = out[name]
            rows = out[f"{head}/row"] = out[f"{head}/row"].copy()
            rows[owners] = np.arange(len(owners))
    return out


def apart_from_places(state: State) -> dict[str, Array]:
    """The state, but for where kept events and instants stand (the instants by their columns), and
    for touches, whose n is another after a replay."""
    arrays, apart = at_once(state).items(), ("history/", "instants/", "touched")
    out = {name: one for name, one in arrays if not name.startswith(apart)}
    every = np.arange(state.directory.slots)
    return out | {name: one.at(every) for name, one in instants_of(state.book).items()}


def differing(a: dict[str, Array], b: dict[str, Array]) -> list[str]:
    assert not a.keys() ^ b.keys()
    return [n for n in a if a[n].tobytes() != b[n].tobytes() or a[n].shape != b[n].shape]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_columns, "SLICE_BYTES", 100)
    monkeypatch.setattr(clock_steps, "FEWEST_SLOTS", 4)
    monkeypatch.setattr(hubs, "CONFIG", structs.replace(CONFIG, max_due_rows=6))


@pytest.mark.parametrize("how", ["step by step", "in a thread"])
def test_entries_between_slices_do_not_show(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if how == "step by step":
        monkeypatch.setattr(checkpoint_job, "Image", Watched)
    story = Story(how)
    for _ in range(40):
        story.go_on(is_early=True)
    partition = story.hub.partitions[0]
    kept = SegmentDefinition("aged", SEGMENTS["aged"], state="inactive")
    partition.define(extended(RULED, [kept]), None)
    partition._drain()
    wanted, position = at_once(story.state), partition.position
    job = partition.checkpoint_job(force=True)
    assert job is not None
    if isinstance(job._image, Watched):
        for number, _ in enumerate(iter(job.step, False)):
            if number % 4 == 0:
                story.go_on()
    else:
        turns = threading.Semaphore(0)
        thread = threading.Thread(target=beside, args=(job, turns), daemon=True)
        thread.start()
        while thread.is_alive():
            turns.release()
            story.go_on()
        thread.join()
    assert how == "in a thread" or story.drains
    assert partition.position > position + 10
    assert differing(plain(job._image.arrays()), wanted) == []
    kinds = {re.sub(r"\d+", "*", name) for name, array in wanted.items() if array.size}
    assert set(KINDS.split()) - kinds == set(), "the story lacks some"
    used = {type(op) for stream in story.state.book.streams for op in stream.operators}
    assert used == {kind for kind in kinds_of_operators() if kind not in APART}
    job()
    assert story.state.image is None
    for _ in range(3):
        story.go_on()
    partition._drain()
    head, told = partition.position, story.hub.pure(PEOPLE)
    live = apart_from_places(story.state)
    partition = story.hub.reopen()
    partition._drain()
    assert partition.owed.checkpointed == position
    assert partition.position == head
    assert story.hub.pure(PEOPLE) == told
    assert partition.verify(1) == []
    assert differing(apart_from_places(story.state), live) == []


def test_an_image_has_every_column_there_is() -> None:
    """Whoever gives the state another column has to say how checkpoints take it."""
    state = Story("").state
    scratch = {id(mapped) for mapped in maps_of([state.has_rows])}
    # Entities of lookup datasets are copied at once, when the image begins.
    living = state.entities.living
    scratch |= {id(one) for one in maps_of([living._space.start, living._size])}
    # Where rows of identities go, and which slots are books, follows from residences and books.
    scratch |= {id(one) for one in maps_of([state.homes._routes, state.listing._is_book])}
    for history in state.book.histories.values():
        scratch |= {id(one) for one in maps_of([history._places, history._space.blocks.room])}
    held = {id(mapped) for mapped in maps_of(list(savings(state)))}
    lacking = [one for one in maps_of([state]) if id(one) not in held | scratch]
    assert lacking == []


def beside(job: Job, turns: threading.Semaphore) -> None:
    """The steps of a job, a few for each entry that is begun: so there are entries beside them."""
    for number, _ in enumerate(iter(job.step, False)):
        if number % 4 == 0:
            turns.acquire()


def maps_of(roots: list[Any]) -> list[mmap.mmap]:
    """The memory of all columns that are reached from some objects."""
    seen, found, todo = {id(roots)}, [], list(roots)
    while todo:
        one = todo.pop()
        if id(one) in seen or isinstance(one, type | ModuleType | str | bytes | int):
            continue
        seen.add(id(one))
        if isinstance(one, mmap.mmap):
            found += [one] if len(one) > 1 else []  # a column of no rows takes a byte
        elif isinstance(one, memoryview):
            todo.append(one.obj)
        elif isinstance(one, np.ndarray):
            todo.append(one.base)
        elif isinstance(one, FunctionType):
            todo += [cell.cell_contents for cell in one.__closure__ or ()]
        else:
            todo += gc.get_referents(one)
    return found


def kinds_of_operators() -> set[type]:
    """Every class that folds contributions and is saved."""
    found = set()
    for module in pkgutil.iter_modules(operators.__path__):
        for one in vars(import_module(f"{operators.__name__}.{module.name}")).values():
            if isinstance(one, type) and {"fold", "saving", "store"} <= set(dir(one)):
                found.add(one)
    return found - {Operator}
