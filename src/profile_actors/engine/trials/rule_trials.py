"""What changed rules or merge policies would change: each rule before and after, over the log.

Theory: rules that a change reaches are planned under the definitions of now and under those that
are tried, as a back-fill plans them; the operators of both are folded from the log into scratch
columns, as of one position and instant that are read once at the beginning, and the two answers are
compared profile by profile. Entries that come later are not looked at; nothing that is read is
written again, so the writer goes on beside.

Limits: twice the cost of a back-fill of those rules, in the thread that asks; rescanned rules cost
two evaluations for every profile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from profile_actors.columnar.state_columns import UNSET
from profile_actors.columnar.vectors import Array, truth, widen
from profile_actors.definitions.declared import Catalogue
from profile_actors.engine.fold.state import State
from profile_actors.engine.log.ports import Log
from profile_actors.engine.membership.rulebook_builder import compile_plan
from profile_actors.engine.membership.stored_values import computed_values
from profile_actors.engine.refold.dossiers import Dossiers
from profile_actors.engine.refold.refold import refold
from profile_actors.rules.catalogue.merge_views import views_of
from profile_actors.rules.catalogue.one_rule import plan_some
from profile_actors.rules.catalogue.typed_rules import check_all
from profile_actors.rules.evaluation.planned_values import plain_values
from profile_actors.rules.reference.validity import same, value_at
from profile_actors.rules.tree.plan import Key, Rescan, Rule

SLOTS_PER_STEP = 1 << 14


class RuleTrial(msgspec.Struct, frozen=True):
    """One partition's part. entered, left: memberships, by segment; values: profiles of which a
    computed attribute would be another, by name. position: entries below it were looked at."""

    entered: dict[str, int]
    left: dict[str, int]
    values: dict[str, int]
    profiles: int
    position: int
    now: int | None


def try_rules(
    state: State,
    log: Log,
    lock: threading.RLock,
    tried: Catalogue,
    keys: Sequence[Key],
    now: int | None,
) -> RuleTrial:
    """Count the profiles of which rules would say something else under tried definitions. keys:
    the rules that may. now: ms, the partition's if later. Raises RuleError."""
    with lock:
        known, position, profiles = state.catalogue, state.position, state.profiles
        instant = state.now if now is None else max(state.now, now)
    dossiers = Dossiers(state, log)
    before = _answers(state, log, dossiers, known, keys, position, instant)
    after = _answers(state, log, dossiers, tried, keys, position, instant)
    entered, left, values = dict[str, int](), dict[str, int](), dict[str, int]()
    views = views_of(known), views_of(tried)
    single = [{key for key, view in of.items() if view.single} for of in views]
    with lock:
        names = state.named(np.arange(profiles)) if single[0] != single[1] else None
    for first in range(0, profiles, SLOTS_PER_STEP):
        every = np.arange(first, min(profiles, first + SLOTS_PER_STEP), dtype=np.uint32)
        for key in keys:
            if (key in single[0]) == (key in single[1]):
                is_listed = state.listing.is_listed(every, position, key in single[0])
                slots = every[is_listed]
                _count(key, before[key](slots), after[key](slots), entered, left, values)
    for key in keys:
        if (key in single[0]) != (key in single[1]):  # people and identities go by the same names
            assert names is not None
            said: list[dict[int, Any]] = []
            for side, of in zip((before, after), single, strict=True):
                slots = state.listing.listed(np.arange(profiles), position, key in of)
                said.append(dict(zip(names[slots].tolist(), side[key](slots), strict=True)))
            was, will = ([one.get(who) for who in said[0] | said[1]] for one in said)
            _count(key, was, will, entered, left, values)
    total = profiles - state.listing.hidden_count(profiles, position)
    return RuleTrial(entered, left, values, total, position, None if instant == UNSET else instant)


def _count(
    key: Key,
    was: Sequence[Any],
    will: Sequence[Any],
    entered: dict[str, int],
    left: dict[str, int],
    values: dict[str, int],
) -> None:
    """Count of whom a rule says something else."""
    kind, name = key
    if kind == "computed":
        differ = sum(not same(a, b) for a, b in zip(was, will, strict=True))
        values[name] = values.get(name, 0) + differ
        return
    is_in, will_be = np.array(was, np.bool_), np.array(will, np.bool_)
    entered[name] = entered.get(name, 0) + int((will_be & ~is_in).sum())
    left[name] = left.get(name, 0) + int((is_in & ~will_be).sum())


Answer = Callable[[Array], Sequence[Any]]
"""What a rule says of slots: bools of a segment, plain values of a computed attribute."""


def _answers(
    state: State,
    log: Log,
    dossiers: Dossiers,
    catalogue: Catalogue,
    keys: Sequence[Key],
    position: int,
    now: int,
) -> dict[Key, Answer]:
    """The rules under some definitions, folded up to a position; of one that they do not have or
    do not publish: nobody is in, nobody has a value."""
    plan = plan_some(catalogue, keys)
    book = compile_plan(plan, catalogue, state.capacity)
    columns, histories = list(book.attributes.values()), list(book.histories.values())
    refold(state, log, now, book.streams, columns, histories, range(position))
    trees = check_all(catalogue)
    out: dict[Key, Answer] = {key: lambda slots: [None] * len(slots) for key in keys}

    def planned(rule: Rule) -> Answer:
        def answer(slots: Array) -> Sequence[Any]:
            value = widen(computed_values(book, rule, slots, now), len(slots))
            if rule.kind == "segment":
                return list(truth(value))
            return plain_values(value, rule.root.type)

        return answer

    def asked(rule: Rescan) -> Answer:
        computed = {name: tree for (kind, name), tree in trees.items() if kind == "computed"}
        segments = {name: tree for (kind, name), tree in trees.items() if kind == "segment"}

        def answer(slots: Array) -> Sequence[Any]:
            found = []
            for slot in slots.tolist():
                record, events = dossiers.of(slot, position - 1, rule.view, rule.joins)
                value = value_at(rule.tree, record, events, now, computed, segments, in_order=True)
                found.append(bool(value) if rule.kind == "segment" else value)
            return found

        return answer

    out |= {rule.key: planned(rule) for rule in plan.rules}
    return out | {rule.key: asked(rule) for rule in plan.rescans}
