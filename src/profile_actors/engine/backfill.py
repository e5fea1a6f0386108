"""A new catalogue version over a store with history: new operators are folded from the log.

Theory: the new rulebook takes over the streams and attribute columns that are the same as before
and folds the others over all entries so far, at one instant: what has left its window by then
never enters. Then every gauge is read for every profile, and the difference to the old memberships
is the change that the definition caused. The same functions rebuild everything for ``verify``.

Pure state does not depend on how rows are cut into steps, so the fold may run beside the writer, in
steps, over entries that are complete, and be behind by a few when the writer puts the new rulebook
in place: those it folds itself. Nothing of this is logged before the definition entry, so a crash
leaves the old rules in force and the back-fill begins anew.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import partial

import msgspec
import numpy as np

from profile_actors.definitions import Catalogue
from profile_actors.engine import changes
from profile_actors.engine.ages import aged
from profile_actors.engine.attributes import Attribute
from profile_actors.engine.columns import FOREVER, Array
from profile_actors.engine.entry import Block, decode
from profile_actors.engine.forgetting import of_parts, rename
from profile_actors.engine.gauges import Ladder
from profile_actors.engine.history import EventHistory
from profile_actors.engine.log import Log
from profile_actors.engine.matching import (
    BlockReader,
    arrivals_of,
    history_arrivals,
    read_block,
    stated_of,
)
from profile_actors.engine.rulebook import Part, Rulebook, Tree, compile_plan
from profile_actors.engine.state import State
from profile_actors.engine.stream import Stream
from profile_actors.engine.succession import succeed
from profile_actors.engine.values import leaf_of
from profile_actors.rules.columns import Vector
from profile_actors.rules.planner import plan
from profile_actors.rules.states import Key
from profile_actors.rules.vector import evaluate, next_boundary, truth


class Backfill:
    """A catalogue version on its way into force: a scratch rulebook, folded to a moving position.

    Made and worked by any one thread, while the writer goes on under the old rules; finished by the
    writer. Raises RuleError for rules that cannot be planned. folded: entries folded so far.
    """

    def __init__(self, state: State, log: Log, catalogue: Catalogue) -> None:
        self._state = state
        self._log = log
        # Planned from what is logged, so that a replay numbers operators and gauges alike.
        self.text = text_of(catalogue)
        self.catalogue = msgspec.json.decode(self.text, type=Catalogue)
        self.book = compile_plan(plan(self.catalogue), self.catalogue, state.capacity)
        self._streams, self._attributes, self._histories = _take_over(state.book, self.book)
        self._fresh = {id(part) for part in (*self._streams, *self._histories)}
        self.now = state.now
        self.folded = 0

    def work(self, limit: int) -> None:
        """Fold the next ``limit`` entries, fewer if the partition itself has not come so far."""
        self._fold(min(self._state.position, self.folded + limit))

    def finish(self, now: int) -> tuple[Rulebook, list[changes.Group], int]:
        """The new rulebook, complete as of ``now``, and what changed: (book, groups, memberships).

        For the writer; the old rulebook stays as it is. Cost: the entries not yet folded, plus one
        evaluation over every profile of each rule that is not the same as before.
        """
        state = self._state
        self.now = now
        # The clock first: a step with rows expects that nothing of their profiles is due as well.
        for stream in self._streams:
            fold_stream(stream, [], now, self._degrade)
        self._fold(state.position)
        self._share_texts()
        kept = _keep_gauges(state.book, self.book)
        read_gauges(self.book, np.arange(state.directory.slots, dtype=np.uint32), now, kept)
        groups, total = succeed(state, self.book, now)
        return self.book, groups, total

    def is_of(self, text: bytes) -> bool:
        """Whether it may still be finished: for these definitions, over these old operators."""
        old = self._state.book
        used = {id(part) for part in (*self.book.streams, *self.book.histories.values())}
        used -= self._fresh
        sound = {id(stream) for stream in old.streams if stream.is_sound}
        sound |= {id(h) for events, h in old.histories.items() if events not in old.broken}
        return self.text == text and used <= sound

    def _fold(self, end: int) -> None:
        if self._streams or self._attributes or self._histories:
            positions = range(self.folded, end)
            refold(
                self._state, self._log, self.now, self._streams, self._attributes,
                self._histories, positions, self._degrade,
            )  # fmt: skip
        self.folded = end

    def _share_texts(self) -> None:
        """Let the new histories name texts as those of the partition do."""
        shared, tables = self._state.book.texts, dict[int, Array]()
        self.book.texts = shared
        for history in self._histories:
            own = history.texts
            if own is not shared and id(own) not in tables:
                codes = np.arange(len(own), dtype=np.int32)
                tables[id(own)] = shared.codes(Vector(codes, None, own))
            if own is not shared:
                rename(history, shared, tables[id(own)])()

    def _degrade(self, failed: Part, error: Exception) -> None:
        """Fold it no more: an operator's defect takes the rules that read it down, and no other."""
        version = self.catalogue.version
        self.book.degrade(failed, f"at the back-fill of catalogue version {version}: {error!r}")
        self._histories = [h for h in self._histories if h.spec.filter != failed]
        self._attributes = [a for a in self._attributes if a.leaf.path != failed]


def text_of(catalogue: Catalogue) -> bytes:
    """A catalogue as a definition entry holds it."""
    return msgspec.json.encode(catalogue, order="deterministic")


def _take_over(
    old: Rulebook, new: Rulebook
) -> tuple[list[Stream], list[Attribute], list[EventHistory]]:
    """Keep what is the same; returns what must be folded from the log."""
    known = {(s.filter, tuple(o.aggregate for o in s.operators)): s for s in old.streams}
    fresh = []
    for index, stream in enumerate(new.streams):
        same = known.get((stream.filter, tuple(o.aggregate for o in stream.operators)))
        if same is None or not same.is_sound:
            fresh.append(stream)
        else:
            new.streams[index] = same
    columns = []
    for path, attribute in new.attributes.items():
        before = old.attributes.get(path)
        if (
            before is not None
            and path not in old.broken
            and before.leaf == attribute.leaf
            and (before.datasets == attribute.datasets and before.kind == attribute.kind)
        ):
            new.attributes[path] = before
        else:
            columns.append(attribute)
    histories = []
    for events, history in new.histories.items():
        kept = old.histories.get(events)
        if kept is None or kept.spec != history.spec or events in old.broken:
            histories.append(history)
        else:
            new.histories[events] = kept
    return fresh, columns, histories


Failed = Callable[[Part, Exception], None]


def stop(part: Part, error: Exception) -> None:
    """Where nothing may fail."""
    raise error


def refold(
    state: State,
    log: Log,
    now: int,
    streams: list[Stream],
    attributes: list[Attribute],
    histories: list[EventHistory],
    positions: range,
    failed: Failed = stop,
) -> None:
    """Fold entries of the log into the given streams, attributes and histories, as of ``now``.

    failed: told which part raised; it is folded no more, and what is silent already is not either.
    """
    slot_of, down = state.directory.slot_of, set[Part]()
    for position in positions:
        with log.view(position) as view:
            blocks = decode(view, f"position {position}").blocks
            behavior = {b.dataset: state.behavior(b.dataset) for b in blocks}
            readers = [read_block(b, slot_of) for b in blocks if behavior[b.dataset] == "event"]
            records = [b for b in blocks if behavior[b.dataset] == "record"]
            for stream in streams if readers else ():
                fold_stream(stream, readers, now, failed)
            parts: list[tuple[Part, Callable[[], None]]] = []
            if readers:
                parts += [(h.spec.filter, partial(_keep, h, readers, now)) for h in histories]
            if records:
                parts += [(a.leaf.path, partial(_state, a, records, slot_of)) for a in attributes]
            for part, fold in parts:
                if part not in down:
                    try:
                        fold()
                    except Exception as error:
                        down.add(part)
                        failed(part, error)
        for swap in of_parts(streams, attributes, histories, state.directory.slots):
            swap()


def _keep(history: EventHistory, readers: list[BlockReader], now: int) -> None:
    kept = history.step(history_arrivals(history, readers), now)
    if kept is not None:
        history.publish(kept)


def _state(attribute: Attribute, records: list[Block], slot_of: Array) -> None:
    track = attribute.fold(stated_of(attribute, records, slot_of))
    if track is not None:
        attribute.publish(track)


def fold_stream(stream: Stream, readers: list[BlockReader], now: int, failed: Failed) -> None:
    """Move a stream to ``now`` with the rows and publish it; what raises is silent from then on."""
    if stream.is_silent:
        return
    errors: dict[int, Exception] = {}
    try:
        step = stream.step(arrivals_of(stream, readers) if readers else None, now, None)
        if step is not None:
            errors = step.failed
            stream.publish(step)
    except Exception as error:  # the filter of all of them
        errors = dict.fromkeys(range(len(stream.operators)), error)
    for index, raised in errors.items():
        failed(stream.operators[index].aggregate, raised)
        stream.silence(index)


def _keep_gauges(old: Rulebook, new: Rulebook) -> set[int]:
    """Share the gauges and timers of rules that are the same, over inputs that are the same.

    Returns the ids of those ladders, and of the new rulebook's trees.
    """
    shared = {id(stream) for stream in old.streams} & {id(stream) for stream in new.streams}
    kept: set[int] = set()
    for measure, index in new.ladders.items():
        before = old.gauges[old.ladders[measure]] if measure in old.ladders else None
        gauge = new.gauges[index]
        if not isinstance(before, Ladder) or not isinstance(gauge, Ladder):
            continue
        same_inputs = all(id(new.streams[new.place[a][0]]) in shared for a in gauge.aggregates)
        same_inputs &= all(new.attributes[p] is old.attributes[p] for p in gauge.attributes)
        if same_inputs and before.is_like(gauge) and not old.pending.keys() & set(before.readers):
            gauge.level, gauge.timer = before.level, before.timer
            kept.add(id(gauge))
    trees = {(tree.rule.kind, tree.rule.name): tree for tree in old.trees}
    for tree in new.trees:
        was = trees.get((tree.rule.kind, tree.rule.name))
        if was is None or was.rule != tree.rule or was.rule.key in old.pending:
            continue
        same_streams = all(id(new.streams[new.place[a][0]]) in shared for a in tree.aggregates)
        same_streams &= all(new.histories[h] is old.histories.get(h) for h in tree.histories)
        if same_streams and all(new.attributes[p] is old.attributes[p] for p in tree.attributes):
            tree.timer = was.timer
            kept.add(id(tree))
            if tree.gauge >= 0:
                new.gauges[tree.gauge] = old.gauges[was.gauge]
    return kept


def read_gauges(book: Rulebook, slots: Array, now: int, kept: Collection[int] = ()) -> None:
    """Levels of the gauges, and the timers of the trees, from the aggregates as they stand.

    kept: ids of ladders and trees that are right already.
    """
    if len(slots) == 0:
        return
    parts: list[tuple[object, Iterable[Key], Callable[[], None]]] = []
    for index in book.ladders.values():
        gauge = book.gauges[index]
        assert isinstance(gauge, Ladder)
        parts.append((gauge, gauge.readers, partial(_read_ladder, book, gauge, slots, now)))
    for tree in book.trees:
        parts.append((tree, [tree.rule.key], partial(_read_tree, book, tree, slots, now)))
    for part, rules, read in parts:
        if id(part) not in kept and not all(key in book.pending for key in rules):
            try:
                read()
            except Exception as error:  # the entry is logged: it must not come back at every replay
                for key in rules:
                    book.pending.setdefault(key, f"at {now} ms: {error!r}")


def _read_ladder(book: Rulebook, gauge: Ladder, slots: Array, now: int) -> None:
    values = evaluate(gauge.measure.node, leaf_of(book, slots), len(slots), now)
    if gauge.timer is None:
        gauge.store(slots, gauge.levels(values))
    else:
        levels, due = aged(gauge, values, now)
        gauge.store(slots, levels)
        gauge.timer.publish(min(now, FOREVER - 1), slots, due)


def _read_tree(book: Rulebook, tree: Tree, slots: Array, now: int) -> None:
    if tree.gauge >= 0:
        value = evaluate(tree.rule.root, leaf_of(book, slots), len(slots), now)
        book.gauges[tree.gauge].store(slots, truth(value).astype(np.uint8) + np.uint8(1))
    if tree.timer is not None:
        at = np.full(len(slots), now)
        due = next_boundary(tree.rule.root, leaf_of(book, slots), at)
        tree.timer.publish(min(now, FOREVER - 1), slots, due)
