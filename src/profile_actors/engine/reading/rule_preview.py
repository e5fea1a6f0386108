"""Previews: the profiles that a rule would hold for, over the stored log, with nothing saved.

Theory: the rule is planned alone and its operators are folded from the log into scratch columns, as
of one position and instant that are read once at the beginning; entries that come later are not
looked at. A rule that no operator holds is asked of the reference evaluator, profile by profile.
Everything read is written once and never changed (entries, idents, locator runs), so no lock is
held and the writer goes on beside.

Limits: costs what a back-fill of the rule costs, in the thread that asks; a rescanned rule costs
its evaluation for every profile. Scratch columns are as large as the partition's profiles.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from profile_actors.columnar.state_columns import UNSET
from profile_actors.columnar.vectors import Array, truth, widen
from profile_actors.engine.fold.state import State
from profile_actors.engine.identity.identity import Identity
from profile_actors.engine.log.ports import Log
from profile_actors.engine.membership.rulebook import Rulebook
from profile_actors.engine.membership.rulebook_builder import compile_plan
from profile_actors.engine.membership.stored_values import computed_values
from profile_actors.engine.refold.dossiers import Dossiers
from profile_actors.engine.refold.refold import refold
from profile_actors.rules.catalogue.one_rule import plan_alone
from profile_actors.rules.catalogue.typed_rules import check_all
from profile_actors.rules.evaluation.planned_values import plain_values
from profile_actors.rules.reference.validity import value_at
from profile_actors.rules.tree.plan import Rescan, Rule

SLOTS_PER_STEP = 1 << 16


Values = Callable[[int], Any]
"""A slot's value."""


class PartPreview(msgspec.Struct, frozen=True):
    """One partition's part of ``Preview``; position: entries below it were looked at."""

    kind: str
    count: int
    sample: list[Identity]
    values: list[Any]
    profiles: int
    position: int
    now: int | None


def preview(
    state: State, log: Log, lock: threading.RLock, text: str, now: int | None, sample: int
) -> PartPreview:
    """Count the profiles for which a rule is true (or has a value), and list a few of them.

    now: ms, the partition's if later. sample: at most so many, evenly spread over the profiles.
    Raises RuleError. Cost: one pass over the log for the event types and paths of the rule.
    """
    with lock:
        catalogue, position, profiles = state.catalogue, state.position, state.profiles
        instant = state.now if now is None else max(state.now, now)
    plan = plan_alone(text, catalogue)
    kind = plan.rescans[0].kind if plan.rescans else plan.rules[0].kind
    if plan.rescans:
        hits, values = _asked(state, log, plan.rescans[0], profiles, position, instant)
    else:
        book = compile_plan(plan, catalogue, state.capacity)
        columns = list(book.attributes.values())
        histories = list(book.histories.values())
        refold(state, log, instant, book.streams, columns, histories, range(position))
        hits, values = _folded(book, plan.rules[0], profiles, instant)
    single = any(rule.single for rule in plan.rules) or any(r.view.single for r in plan.rescans)
    hits = state.listing.listed(hits, position, single)
    picked = hits[np.unique(np.linspace(0, len(hits) - 1, min(sample, len(hits))).astype(np.int64))]
    shown = [] if kind == "segment" else [values(slot) for slot in picked.tolist()]
    with lock:
        directory = state.directory
        who = [directory.identity(int(directory.ident_of[slot])) for slot in picked.tolist()]
    known = None if instant == UNSET else instant
    total = profiles - state.listing.hidden_count(profiles, position, single)
    return PartPreview(kind, len(hits), who, shown, total, position, known)


def _folded(book: Rulebook, rule: Rule, profiles: int, now: int) -> tuple[Array, Values]:
    """Slots for which a planned rule is true or has a value, and how to read a value."""
    found = [np.zeros(0, np.uint32)]
    for first in range(0, profiles, SLOTS_PER_STEP):
        slots = np.arange(first, min(profiles, first + SLOTS_PER_STEP), dtype=np.uint32)
        value = widen(computed_values(book, rule, slots, now), len(slots))
        if rule.kind == "segment":
            found.append(slots[truth(value)])
        else:
            found.append(slots if value.valid is None else slots[value.valid])

    def read(slot: int) -> Any:
        one = np.array([slot], np.uint32)
        return plain_values(widen(computed_values(book, rule, one, now), 1), rule.root.type)[0]

    return np.concatenate(found), read


def _asked(
    state: State, log: Log, rule: Rescan, profiles: int, position: int, now: int
) -> tuple[Array, Values]:
    """The same of a rule that no operator holds: one evaluation per profile."""
    trees = check_all(state.catalogue)
    computed = {name: tree for (kind, name), tree in trees.items() if kind == "computed"}
    segments = {name: tree for (kind, name), tree in trees.items() if kind == "segment"}
    dossiers = Dossiers(state, log)
    found: dict[int, Any] = {}
    for slot in state.listing.listed(np.arange(profiles), position, rule.view.single).tolist():
        record, events = dossiers.of(slot, position - 1, rule.view, rule.joins)
        value = value_at(rule.tree, record, events, now, computed, segments, in_order=True)
        if value is not None and (rule.kind == "computed" or bool(value)):
            found[slot] = value
    return np.array(list(found), np.uint32), found.__getitem__
