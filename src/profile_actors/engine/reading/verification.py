"""Verification: fold everything again from the log, and ask the reference evaluator about profiles.

Theory: pure state is a function of the rows, the definitions and now. So a second fold of the
whole log, into empty columns and as of now, must come to the same columns; and for any profile the
slow, obvious evaluator over its documents must give the same memberships, values and
``valid_until``. Differences are returned as sentences, none when all is well.

Limits: run by the writer's thread (nothing is published meanwhile); memory for a second set of
columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

from profile_actors.columnar.vectors import differ
from profile_actors.definitions.relationships import joins_of
from profile_actors.engine.fold.state import State
from profile_actors.engine.log.ports import Feed, Log
from profile_actors.engine.membership.gauges import Ladder
from profile_actors.engine.membership.rulebook import Part
from profile_actors.engine.membership.rulebook_builder import compile_plan
from profile_actors.engine.reading.answers import Profile
from profile_actors.engine.reading.fields import Fields
from profile_actors.engine.reading.look_ups import LookUps
from profile_actors.engine.refold.dossiers import Dossiers
from profile_actors.engine.refold.refold import gather, read_gauges, refold
from profile_actors.errors import FeedDamaged
from profile_actors.rules.catalogue.merge_views import is_single, policies_of_kinds, views_of
from profile_actors.rules.catalogue.typed_rules import check_all
from profile_actors.rules.reference.validity import evaluate_with_candidate, evaluate_with_validity
from profile_actors.rules.tree.sights import ALL

MAX_DIFFERENCES = 100


SHORT_HISTORY_EVENTS = 200
"""Of profiles with more events only the values are compared, not until when they hold."""


def differences(state: State, log: Log, feed: Feed, look_ups: LookUps, sample: int) -> list[str]:
    """All that is found, at most ``MAX_DIFFERENCES``. sample: so many profiles, evenly spread, are
    compared with the reference evaluator, of people and of single identities each."""
    out = [*log.verify(), *without_answer(state)]
    try:
        out += [
            f"expected a whole block of the change feed at position {position}, got a damaged"
            " one: it is made anew when changes are read"
            for position in feed.faults()
        ]
    except FeedDamaged as error:
        out.append(str(error))
    out += islice(refold_differences(state, log), MAX_DIFFERENCES)
    for policy in policies_of_kinds(state.catalogue):
        single, fields = is_single(state.catalogue, policy), Fields(policy=policy)
        listed = state.listed(np.arange(state.directory.slots), single)
        total = len(listed)
        wanted = np.unique(np.linspace(0, total - 1, min(total, sample)))
        for slot in listed[wanted.astype(np.int64)].tolist() if total else ():
            found = look_ups.of(np.array([slot], np.uint32), state.now, fields)[slot]
            out += reference_differences(state, log, slot, found, single)
    return out[:MAX_DIFFERENCES]


def without_answer(state: State) -> Iterator[str]:
    """The rules that raised, and so answer nothing."""
    for (kind, name), reason in sorted(state.book.pending.items()):
        yield (
            f"expected an answer of every rule, got none of {kind} {name!r}, which is pending:"
            f" {reason}"
        )


def refold_differences(state: State, log: Log) -> Iterator[str]:
    """Differences between the state's columns and a second fold of the log."""
    old = state.book
    book = compile_plan(old.plan, state.catalogue, state.capacity)
    # What failed is not asked again: its rules have no answer.
    for part, reason in old.broken.items():
        book.degrade(part, reason)
    book.pending.update(old.pending)
    histories = [h for events, h in book.histories.items() if events not in old.broken]
    columns = [a for path, a in book.attributes.items() if path not in old.broken]
    positions = range(state.position)
    failed: dict[Part, Exception] = {}

    def fail(part: Part, error: Exception) -> None:
        failed[part] = error
        book.degrade(part, repr(error))

    refold(state, log, state.now, book.streams, columns, histories, positions, fail)
    for error in failed.values():
        yield f"expected a second fold from the log, got {error!r}"
    slots = np.arange(state.directory.slots, dtype=np.uint32)
    read_gauges(book, slots, state.now)
    if len(slots) == 0:
        return
    for aggregate, (stream, place) in book.place.items():
        if aggregate in book.broken:
            continue
        fresh = book.streams[stream].operators[place].current(slots)
        kept = old.streams[stream].operators[place].current(slots)
        for slot in np.flatnonzero(differ(fresh, kept)).tolist():
            yield (
                f"expected {fresh.values[slot]!r} from the log, got {kept.values[slot]!r} in"
                f" {aggregate.function} of {_who(state, slot)}"
            )
    gather(state, log, list(book.namers.values()), positions)
    for join, namers in book.namers.items():
        for _, _, slot in namers.pairs() ^ old.namers[join].pairs():
            yield f"expected other {join.target!r} entities by the log - at {_who(state, slot)}"
    for path, attribute in book.attributes.items():
        if path in book.broken:
            continue
        marks = differ(attribute.current(slots), old.attributes[path].current(slots))
        for slot in np.flatnonzero(marks).tolist():
            yield f"expected another value of {path} from the log - at {_who(state, slot)}"
    unknown = {rule.gauge for rule in book.rescans}
    unknown |= {tree.gauge for tree in book.trees if tree.rule.key in book.pending}
    for index in old.ladders.values():
        ladder = old.gauges[index]
        assert isinstance(ladder, Ladder)
        if book.is_pending(ladder):
            unknown.add(index)
    for index, gauge in enumerate(book.gauges):
        if index in unknown:
            continue  # the reference evaluator's own, nothing was folded; or without an answer
        levels, kept_levels = gauge.level[slots], old.gauges[index].level[slots]
        for slot in np.flatnonzero(levels != kept_levels).tolist():
            names = ", ".join(gauge.layout.segments)
            yield (
                f"expected level {levels[slot]} from the log, got {kept_levels[slot]} of segments"
                f" {names} - at {_who(state, slot)}"
            )


def reference_differences(
    state: State, log: Log, slot: int, profile: Profile, single: bool = False
) -> Iterator[str]:
    """Differences between a look-up and the reference evaluator over the profile's documents.
    single: of a single identity, by rules about such."""
    trees = check_all(state.catalogue)
    dossiers, views = Dossiers(state, log), views_of(state.catalogue)
    joins = joins_of(state.catalogue)
    computed = {name: tree for (kind, name), tree in trees.items() if kind == "computed"}
    segments = {name: tree for (kind, name), tree in trees.items() if kind == "segment"}
    is_short = len(dossiers.of(slot, state.position)[1]) <= SHORT_HISTORY_EVENTS
    ask = evaluate_with_validity if is_short else evaluate_with_candidate
    for (kind, name), tree in trees.items():
        if (kind, name) in state.book.pending or ((kind, name) in state.book.single) != single:
            continue
        view = views.get((kind, name), ALL)
        attributes, events = dossiers.of(slot, state.position, view, joins)
        value, until = ask(
            tree, attributes, events, profile.now, computed, segments,
            condition=kind == "segment", in_order=True,
        )  # fmt: skip
        got: Any
        if kind == "segment":
            membership = profile.segments.get(name)
            if membership is not None and membership.status == "pending":
                continue  # too much to compare for this profile
            value = bool(value)
            got = membership is not None and membership.status == "realized"
            # A segment never entered is not listed, and has no valid_until to compare.
            until_got = until if membership is None else membership.valid_until
        elif name in profile.pending:
            continue
        else:
            got, until_got = profile.computed[name], profile.computed_valid_until[name]
        if not is_short:
            until = until_got  # a candidate only: finding when it differs would take minutes
        # The sum of nothing is a plain 0 to the reference, which does not know the type.
        if value != got or isinstance(value, bool) != isinstance(got, bool) or until != until_got:
            yield (
                f"expected {value!r} until {until} from the reference evaluator, got {got!r} until"
                f" {until_got} for {kind} {name!r} - at {_who(state, slot)}, now {profile.now}"
            )


def _who(state: State, slot: int) -> str:
    identity = state.directory.identity(int(state.directory.ident_of[slot]))
    return f"{identity.namespace} {identity.value!r}"
