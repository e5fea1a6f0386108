"""A new catalogue version over a store with history: new operators are folded from the log.

Theory: the new rulebook takes over the streams and attribute columns that are the same as before
and folds the others over all entries so far, at one instant: what has left its window by then
never enters. Then every gauge is read for every profile, and the difference to the old memberships
is the change that the definition caused. The same functions rebuild everything for ``verify``.
"""

from __future__ import annotations

import numpy as np

from profile_actors.definitions import Catalogue
from profile_actors.engine import changes
from profile_actors.engine.attributes import Attribute
from profile_actors.engine.columns import FOREVER, Array
from profile_actors.engine.entry import decode
from profile_actors.engine.gauges import Ladder
from profile_actors.engine.log import Log
from profile_actors.engine.matching import arrivals_of, read_block, stated_by
from profile_actors.engine.rulebook import Rulebook, compile_plan
from profile_actors.engine.state import State
from profile_actors.engine.stream import Stream
from profile_actors.engine.succession import succeed
from profile_actors.engine.values import leaf_of
from profile_actors.rules.plan import Plan
from profile_actors.rules.planner import plan
from profile_actors.rules.vector import evaluate, next_boundary, truth


def prepare(catalogue: Catalogue) -> Plan:
    """Plan all rules of a version. Raises RuleError."""
    return plan(catalogue)


def run(
    state: State, log: Log, new_plan: Plan, catalogue: Catalogue, now: int
) -> tuple[Rulebook, list[changes.Group], int]:
    """The new rulebook, complete as of ``now``, and what changed: (book, groups, memberships).

    Reads state and log; the old rulebook stays as it is. Cost: one pass over the log if any stream
    or attribute is new, plus one evaluation of every rule over every profile.
    """
    book = compile_plan(new_plan, catalogue, state.capacity)
    streams, attributes = _take_over(state.book, book)
    if streams or attributes:
        refold(state, log, book, catalogue, now, streams, attributes, range(state.position))
    read_gauges(book, np.arange(state.directory.slots, dtype=np.uint32), now)
    groups, total = succeed(state, book, now)
    return book, groups, total


def _take_over(old: Rulebook, new: Rulebook) -> tuple[list[Stream], list[Attribute]]:
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
    return fresh, columns


def refold(
    state: State,
    log: Log,
    book: Rulebook,
    catalogue: Catalogue,
    now: int,
    streams: list[Stream],
    attributes: list[Attribute],
    positions: range,
) -> None:
    """Fold entries of the log into the given streams and attributes, as of ``now``."""
    slot_of = state.directory.slot_of
    wanted = Rulebook(book.plan, attributes={a.leaf.path: a for a in attributes})
    for position in positions:
        with log.view(position) as view:
            blocks = decode(view, f"position {position}").blocks
            behavior = {
                b.dataset: catalogue.schemas[catalogue.datasets[b.dataset].schema].behavior
                for b in blocks
            }
            readers = [read_block(b, slot_of) for b in blocks if behavior[b.dataset] == "event"]
            for stream in streams if readers else ():
                step = stream.step(arrivals_of(stream, readers), now, None)
                if step is not None:
                    stream.publish(step)
            records = [b for b in blocks if behavior[b.dataset] == "record"]
            for name, stated in stated_by(wanted, records, slot_of).items():
                track = wanted.attributes[name].fold(stated)
                if track is not None:
                    wanted.attributes[name].publish(track)


def read_gauges(book: Rulebook, slots: Array, now: int) -> None:
    """Levels of every gauge, and the timers of every tree, from the aggregates as they stand."""
    if len(slots) == 0:
        return
    for aggregate, index in book.ladders.items():
        gauge = book.gauges[index]
        assert isinstance(gauge, Ladder)
        stream, place = book.place[aggregate]
        values = book.streams[stream].operators[place].current(slots)
        gauge.store(slots, gauge.levels(values))
    for tree in book.trees:
        if tree.gauge >= 0:
            value = evaluate(tree.rule.root, leaf_of(book, slots), len(slots), now)
            book.gauges[tree.gauge].store(slots, truth(value).astype(np.uint8) + np.uint8(1))
        if tree.timer is not None:
            at = np.full(len(slots), now)
            due = next_boundary(tree.rule.root, leaf_of(book, slots), at)
            tree.timer.publish(min(now, FOREVER - 1), slots, due)
