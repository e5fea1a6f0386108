"""A new catalogue version over a store with history: new operators are folded from the log.

Theory: the new rulebook takes over the streams and attribute columns that are the same as before
and folds the others over all entries so far, at one instant: what has left its window by then
never enters. Then every gauge is read for every profile, and the difference to the old memberships
is the change that the definition caused. The same functions rebuild everything for ``verify``.

Pure state does not depend on how rows are cut into steps, so the fold may run beside the writer, in
steps, over entries that are complete, and be behind by a few when the writer puts the new rulebook
in place: those it folds itself. Nothing of this is logged before the definition entry, so a crash
leaves the old rules in force and the back-fill begins anew.

A version may have later cutoffs instead, or besides (``expiry``): operators that hold rows which
leave are folded anew like new ones, all others are kept.
"""

from __future__ import annotations

from collections.abc import Set

import msgspec
import numpy as np

from profile_actors.columnar.vectors import Array, Vector
from profile_actors.definitions import catalogue_changes
from profile_actors.definitions.declared import Catalogue
from profile_actors.engine.fold.state import State
from profile_actors.engine.histories.kept_events import EventHistory
from profile_actors.engine.log import change_blocks
from profile_actors.engine.log.ports import Log
from profile_actors.engine.membership.forgetting import rename
from profile_actors.engine.membership.gauges import Ladder
from profile_actors.engine.membership.rulebook import Part, Rulebook
from profile_actors.engine.membership.rulebook_builder import compile_plan
from profile_actors.engine.merge.entity_namers import EntityNamers
from profile_actors.engine.operators.attribute_columns import Attribute
from profile_actors.engine.operators.event_streams import Stream
from profile_actors.engine.refold.expiry import Expiry
from profile_actors.engine.refold.refold import fold_stream, gather, read_gauges, refold
from profile_actors.engine.refold.succession import succeed
from profile_actors.rules.catalogue.catalogue_plan import plan


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
        self.catalogue = catalogue_changes.decode(self.text)
        self.book = compile_plan(plan(self.catalogue), self.catalogue, state.capacity)
        self.expiry = Expiry(state, log, self.catalogue.expired)
        self._streams, self._attributes, self._histories = _take_over(
            state.book, self.book, self.expiry.refolded
        )
        self._namers = _keep_namers(state.book, self.book)
        self._fresh = {id(part) for part in (*self._streams, *self._histories, *self._namers)}
        self.now = state.now
        self.folded = 0

    def work(self, limit: int) -> None:
        """Fold the next ``limit`` entries, fewer if the partition itself has not come so far."""
        self._fold(min(self._state.position, self.folded + limit))

    def finish(self, now: int) -> tuple[Rulebook, list[change_blocks.Group], int]:
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
        groups, total = succeed(state, self.book, now, self.expiry.refolded, self.is_of_time)
        return self.book, groups, total

    @property
    def is_of_time(self) -> bool:
        """Whether nothing but cutoffs is new: time alone has done it."""
        known = self._state.catalogue
        same = msgspec.structs.replace(self.catalogue, version=known.version, expired=known.expired)
        return same == known

    def is_of(self, text: bytes) -> bool:
        """Whether it may still be finished: for these definitions, over these old operators."""
        old = self._state.book
        book = self.book
        parts = (*book.streams, *book.histories.values(), *book.namers.values())
        used = {id(part) for part in parts} - self._fresh
        sound = {id(stream) for stream in old.streams if stream.is_sound}
        sound |= {id(h) for events, h in old.histories.items() if events not in old.broken}
        sound |= set(map(id, old.namers.values()))
        return self.text == text and used <= sound and not self.expiry.has_grown()

    def _fold(self, end: int) -> None:
        if self._streams or self._attributes or self._histories:
            positions = range(self.folded, end)
            refold(
                self._state, self._log, self.now, self._streams, self._attributes,
                self._histories, positions, self._degrade, self.catalogue.expired,
            )  # fmt: skip
        gather(self._state, self._log, self._namers, range(self.folded, end))
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
        self._attributes = [a for a in self._attributes if a.leaf.key != failed]


def text_of(catalogue: Catalogue) -> bytes:
    """A catalogue as a definition entry holds it."""
    return msgspec.json.encode(catalogue, order="deterministic")


def _take_over(
    old: Rulebook, new: Rulebook, changed: Set[int]
) -> tuple[list[Stream], list[Attribute], list[EventHistory]]:
    """Keep what is the same; returns what must be folded from the log. changed: ids of streams and
    histories that hold rows which leave."""
    known = {(s.filter, tuple(o.aggregate for o in s.operators)): s for s in old.streams}
    fresh = []
    for index, stream in enumerate(new.streams):
        same = known.get((stream.filter, tuple(o.aggregate for o in stream.operators)))
        if same is None or not same.is_sound or id(same) in changed:
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
        is_same = kept is not None and kept.spec == history.spec and id(kept) not in changed
        if kept is None or not is_same or events in old.broken:
            histories.append(history)
        else:
            new.histories[events] = kept
    return fresh, columns, histories


def _keep_namers(old: Rulebook, new: Rulebook) -> list[EntityNamers]:
    """Keep who names entities by the same relationships; returns those to be gathered."""
    new.namers |= {join: one for join, one in old.namers.items() if join in new.namers}
    return [one for join, one in new.namers.items() if join not in old.namers]


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
