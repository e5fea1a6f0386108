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

from collections.abc import Callable, Collection

import msgspec
import numpy as np

from profile_actors.definitions import Catalogue
from profile_actors.engine import changes
from profile_actors.engine.ages import aged
from profile_actors.engine.attributes import Attribute
from profile_actors.engine.columns import FOREVER, Array
from profile_actors.engine.entry import decode
from profile_actors.engine.forgetting import of_parts, rename
from profile_actors.engine.gauges import Ladder
from profile_actors.engine.history import EventHistory
from profile_actors.engine.log import Log
from profile_actors.engine.matching import (
    BlockReader,
    arrivals_of,
    history_arrivals,
    read_block,
    stated_by,
)
from profile_actors.engine.rulebook import Rulebook, Tree, compile_plan
from profile_actors.engine.state import State
from profile_actors.engine.stream import Stream
from profile_actors.engine.succession import succeed
from profile_actors.engine.values import leaf_of
from profile_actors.rules.columns import Vector
from profile_actors.rules.plan import Plan
from profile_actors.rules.planner import plan
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
        for stream in list(self._streams):
            try:
                step = stream.step(None, now, None)
            except Exception as error:
                self._degrade(stream, error)
                continue
            if step is not None:
                stream.publish(step)
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
        sound = {id(s) for index, s in enumerate(old.streams) if index not in old.broken}
        sound |= {id(h) for events, h in old.histories.items() if events not in old.broken}
        return self.text == text and used <= sound

    def _fold(self, end: int) -> None:
        if self._streams or self._attributes or self._histories:
            positions = range(self.folded, end)
            refold(
                self._state, self._log, self.book.plan, self.now, self._streams, self._attributes,
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

    def _degrade(self, failed: Stream | EventHistory, error: Exception) -> None:
        """Fold it no more: an operator's defect takes the rules that read it down, and no other."""
        reason = f"at the back-fill of catalogue version {self.catalogue.version}: {error!r}"
        if isinstance(failed, Stream):
            self._streams.remove(failed)
            self.book.degrade(self.book.streams.index(failed), reason)
        else:
            self._histories.remove(failed)
            self.book.degrade(failed.spec.filter, reason)


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
        if same is None or old.streams.index(same) in old.broken:
            fresh.append(stream)
        else:
            new.streams[index] = same
    columns = []
    for path, attribute in new.attributes.items():
        before = old.attributes.get(path)
        if (
            before is not None
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


def refold(
    state: State,
    log: Log,
    plan: Plan,
    now: int,
    streams: list[Stream],
    attributes: list[Attribute],
    histories: list[EventHistory],
    positions: range,
    failed: Callable[[Stream | EventHistory, Exception], None] | None = None,
) -> None:
    """Fold entries of the log into the given streams, attributes and histories, as of ``now``.

    failed: told which of them raised, to take it out of its list; without, they raise.
    """
    slot_of = state.directory.slot_of
    wanted = Rulebook(plan, attributes={a.leaf.path: a for a in attributes})
    for position in positions:
        with log.view(position) as view:
            blocks = decode(view, f"position {position}").blocks
            behavior = {b.dataset: state.behavior(b.dataset) for b in blocks}
            readers = [read_block(b, slot_of) for b in blocks if behavior[b.dataset] == "event"]
            parts: list[Stream | EventHistory] = [*streams, *histories] if readers else []
            for part in parts:
                try:
                    _fold_part(part, readers, now)
                except Exception as error:
                    if failed is None:
                        raise
                    failed(part, error)
            records = [b for b in blocks if behavior[b.dataset] == "record"]
            for name, stated in stated_by(wanted, records, slot_of).items():
                track = wanted.attributes[name].fold(stated)
                if track is not None:
                    wanted.attributes[name].publish(track)
        for swap in of_parts(streams, attributes, histories, state.directory.slots):
            swap()


def _fold_part(part: Stream | EventHistory, readers: list[BlockReader], now: int) -> None:
    if isinstance(part, Stream):
        step = part.step(arrivals_of(part, readers), now, None)
        if step is not None:
            part.publish(step)
    else:
        kept = part.step(history_arrivals(part, readers), now)
        if kept is not None:
            part.publish(kept)


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
        if was is None or was.rule != tree.rule or was.rule.name in old.pending:
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
    for index in book.ladders.values():
        gauge = book.gauges[index]
        if id(gauge) in kept:
            continue
        assert isinstance(gauge, Ladder)
        values = evaluate(gauge.measure.node, leaf_of(book, slots), len(slots), now)
        if gauge.timer is None:
            gauge.store(slots, gauge.levels(values))
        else:
            levels, due = aged(gauge, values, now)
            gauge.store(slots, levels)
            gauge.timer.publish(min(now, FOREVER - 1), slots, due)
    for tree in book.trees:
        if id(tree) not in kept and tree.rule.name not in book.pending:
            try:
                _read_tree(book, tree, slots, now)
            except Exception as error:  # the entry is logged: it must not come back at every replay
                book.pending[tree.rule.name] = f"at {now} ms: {error!r}"


def _read_tree(book: Rulebook, tree: Tree, slots: Array, now: int) -> None:
    if tree.gauge >= 0:
        value = evaluate(tree.rule.root, leaf_of(book, slots), len(slots), now)
        book.gauges[tree.gauge].store(slots, truth(value).astype(np.uint8) + np.uint8(1))
    if tree.timer is not None:
        at = np.full(len(slots), now)
        due = next_boundary(tree.rule.root, leaf_of(book, slots), at)
        tree.timer.publish(min(now, FOREVER - 1), slots, due)
