"""The one repair tool: a part of the state folded afresh from the rows of the log."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial

import numpy as np

from profile_actors.columnar.vectors import FOREVER, Array, truth
from profile_actors.engine.fold.state import State
from profile_actors.engine.histories.kept_events import EventHistory
from profile_actors.engine.log.entry import Block, decode
from profile_actors.engine.log.ports import Log
from profile_actors.engine.membership.ages import aged
from profile_actors.engine.membership.forgetting import of_parts
from profile_actors.engine.membership.gauges import Ladder, flags
from profile_actors.engine.membership.rulebook import Part, Rulebook, Tree
from profile_actors.engine.membership.stored_values import leaf_of
from profile_actors.engine.merge.entity_namers import EntityNamers
from profile_actors.engine.merge.kept_rows import Cutoffs, kept_blocks
from profile_actors.engine.operators.attribute_columns import Attribute, stated_of
from profile_actors.engine.operators.block_matching import (
    BlockReader,
    arrivals_of,
    history_arrivals,
    read_block,
)
from profile_actors.engine.operators.contributions import StepScope
from profile_actors.engine.operators.event_streams import Stream
from profile_actors.rules.evaluation.horizons import next_boundary
from profile_actors.rules.evaluation.planned_values import vector_of
from profile_actors.rules.tree.plan import Key

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
    cutoffs: Cutoffs | None = None,
) -> None:
    """Fold entries of the log into the given streams, attributes and histories, as of ``now``.

    failed: told which part raised; it is folded no more, and what is silent already is not either.
    cutoffs: rows older than these do not count; by default those in force.
    """
    slot_of, down = state.directory.slot_of, set[Part]()
    cutoffs = state.catalogue.expired if cutoffs is None else cutoffs
    filters = [*(s.filter for s in streams), *(h.spec.filter for h in histories)]
    has_single = any(one.single for one in filters) or any(a.leaf.single for a in attributes)
    for position in positions:
        with log.view(position) as view:
            blocks = decode(view, f"position {position}").blocks
            people = _rows_of(state, state.listing.folded(blocks, position), cutoffs)
            sides = people, people
            if has_single and state.listing.is_used:
                own = state.listing.folded(blocks, position, single=True)
                sides = people, _rows_of(state, own, cutoffs)
            for stream in streams:
                readers, _ = sides[stream.filter.single]
                if readers:
                    fold_stream(stream, readers, now, failed)
            parts: list[tuple[Part, Callable[[], None]]] = []
            for history in histories:
                readers, _ = sides[history.spec.filter.single]
                if readers:
                    parts.append((history.spec.filter, partial(_keep, history, readers, now)))
            for attribute in attributes:
                _, records = sides[attribute.leaf.single]
                if records:
                    folding = partial(_state, attribute, records, slot_of)
                    parts.append((attribute.leaf.key, folding))
            for part, fold in parts:
                if part not in down:
                    try:
                        fold()
                    except Exception as error:
                        down.add(part)
                        failed(part, error)
        for swap in of_parts(streams, attributes, histories, state.directory.slots):
            swap()


def _rows_of(
    state: State, blocks: list[Block], cutoffs: Cutoffs
) -> tuple[list[BlockReader], list[Block]]:
    """Rows of events that count, prepared, and of records."""
    blocks = kept_blocks(blocks, cutoffs)
    behavior = {b.dataset: state.behavior(b.dataset) for b in blocks}
    slot_of = state.directory.slot_of
    readers = [read_block(b, slot_of) for b in blocks if behavior[b.dataset] == "event"]
    return readers, [b for b in blocks if behavior[b.dataset] == "record"]


def gather(state: State, log: Log, namers: Sequence[EntityNamers], positions: range) -> None:
    """Find in entries of the log which profiles name which entities, or did before rows of theirs
    left: who named one once is looked at in vain, and that is all."""
    slot_of, seed = state.directory.slot_of, state.homes.seed
    for position in positions if namers else ():
        with log.view(position) as view:
            blocks = decode(view, f"position {position}").blocks
            for one in namers:
                seen = state.listing.folded(blocks, position, one.join.single)
                mine = [b for b in seen if state.behavior(b.dataset) == one.join.behavior]
                one.add(one.find(mine, slot_of, seed))


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
        step = stream.step(arrivals_of(stream, readers) if readers else None, StepScope(now))
        if step is not None:
            errors = step.failed
            stream.publish(step)
    except Exception as error:  # the filter of all of them
        errors = dict.fromkeys(range(len(stream.operators)), error)
    for index, raised in errors.items():
        failed(stream.operators[index].aggregate, raised)
        stream.silence(index)


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
    values = vector_of(gauge.measure.node, leaf_of(book, slots), len(slots), now)
    if gauge.timer is None:
        gauge.store(slots, gauge.levels(values))
    else:
        levels, due = aged(gauge, values, now)
        gauge.store(slots, levels)
        gauge.timer.publish(min(now, FOREVER - 1), slots, due)


def _read_tree(book: Rulebook, tree: Tree, slots: Array, now: int) -> None:
    if tree.gauge >= 0:
        value = vector_of(tree.rule.root, leaf_of(book, slots), len(slots), now)
        book.gauges[tree.gauge].store(slots, flags(truth(value)))
    if tree.timer is not None:
        at = np.full(len(slots), now)
        due = next_boundary(tree.rule.root, leaf_of(book, slots), at)
        tree.timer.publish(min(now, FOREVER - 1), slots, due)
