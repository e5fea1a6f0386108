"""From one rulebook to the next: what is kept, what is frozen, and what changed by definition.

Theory: a reader of the change feed must come to the same answers as a reader of profiles. So the
memberships and values that the new rulebook gives are compared with those that the old one gave,
rule by rule and by name, however each of the two is kept: by operators, by rescans, or frozen. A
rule that is gone (deleted, or a draft again) leaves its members; one that becomes inactive changes
nothing, and is compared when it comes back. A rescan begins with what its rule said before and
finds its differences itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import Any

import numpy as np

from profile_actors.columnar.instant_columns import instant_columns
from profile_actors.columnar.vectors import Array, Vector, differ, widen
from profile_actors.engine.fold.entry_fold import CLOCK, DEFINITION
from profile_actors.engine.fold.state import State
from profile_actors.engine.log import change_blocks
from profile_actors.engine.membership.gauges import flags
from profile_actors.engine.membership.rulebook import UNKNOWN, Frozen, Rescanned, Rulebook
from profile_actors.engine.membership.stored_values import computed_values, member_bits
from profile_actors.rules.evaluation.planned_values import plain_values
from profile_actors.rules.reference.validity import same
from profile_actors.rules.tree.plan import Rule


def succeed(
    state: State, book: Rulebook, now: int, changed: Set[int] = frozenset(), by_time: bool = False
) -> tuple[list[change_blocks.Group], int]:
    """Give a folded new rulebook the history of the state's, as of ``now`` ms.

    changed: ids of old streams and histories that hold rows which leave. by_time: nothing else is
    new, so that changes have the cause 'clock'.

    Returns the changes that the definition caused, and how many memberships are among them. The old
    rulebook is left alone but for columns that both share. Cost: one pass over the profiles per
    rule that is not the same as before.
    """
    old, slots = state.book, np.arange(state.directory.slots, dtype=np.uint32)
    cause = CLOCK if by_time else DEFINITION
    for key, frozen in book.frozen.items():
        book.frozen[key] = _frozen(old, key, frozen, slots, now)
    fresh = []
    for segment in book.qualified:
        before = old.frozen.get(("segment", segment))
        if segment in old.qualified:
            book.qualified[segment] = old.qualified[segment]
        elif before is not None:
            book.qualified[segment] = before.qualified
        else:
            fresh.append(segment)
    # A table of those alone: the columns that others had in theirs would lie waste.
    columns = instant_columns(state.capacity, len(fresh))
    book.qualified |= zip(fresh, columns, strict=True)
    for rule in book.rescans:
        _inherit(old, book, rule, slots, now)
    groups: list[change_blocks.Group] = []
    total = 0
    is_told = state.listing.is_listed(slots, state.position)
    for segment in (*book.qualified, *_gone(old, book, "segment", old.qualified)):
        if _is_shared(old, book, segment):
            continue
        was, is_now = member_bits(old, segment, slots), member_bits(book, segment, slots)
        rows = np.flatnonzero(was != is_now)
        if len(rows) == 0:
            continue
        if segment in book.qualified:
            # A copy: until the new rulebook is in force, readers read the old one's.
            book.qualified[segment] = book.qualified[segment].copy(len(slots))
            book.qualified[segment].put(slots[rows], now)
        rows = rows[is_told[rows]]
        if len(rows) == 0:
            continue
        total += len(rows)
        idents = state.directory.ident_of[slots[rows]]
        groups.append(
            change_blocks.segment_group(segment, idents, was[rows], is_now[rows], None, cause)
        )
    for name, marks in _computed_marks(old, book, slots, now, bool(changed)):
        rows = np.flatnonzero(marks & is_told)
        if len(rows):
            idents = state.directory.ident_of[slots[rows]]
            ones = np.ones((1, len(rows)), np.bool_)
            groups.append(change_blocks.computed_group((name,), idents, ones, None, cause))
    book.forget_columns()
    return groups, total


def _is_shared(old: Rulebook, new: Rulebook, segment: str) -> bool:
    """Whether both rulebooks read a segment from the same column."""
    if segment not in old.gauge_of or segment not in new.gauge_of:
        return False
    (was, _), (now, _) = old.gauge_of[segment], new.gauge_of[segment]
    return old.gauges[was].level is new.gauges[now].level


def _frozen(old: Rulebook, key: tuple[str, str], empty: Frozen, slots: Array, now: int) -> Frozen:
    """An inactive rule's last answers: those frozen before, or as of now."""
    if key in old.frozen:
        return old.frozen[key]
    kind, name = key
    if kind == "segment":
        empty.inside[slots] = member_bits(old, name, slots)
        return Frozen(empty.inside, old.qualified.get(name, empty.qualified))
    empty.inside[slots] = [value is not None for value in _values(old, name, slots, now)]
    return empty


def _inherit(old: Rulebook, new: Rulebook, rule: Rescanned, slots: Array, now: int) -> None:
    """Keep the state of a rescan that is the same; any other begins with the old answers."""
    name = rule.rule.name
    same = next(
        (r for r in old.rescans if (r.rule.kind, r.rule.name) == (rule.rule.kind, name)), None
    )
    if rule.gauge >= 0:
        rule.level[slots] = flags(member_bits(old, name, slots))
        rule.qualified = new.qualified[name]
    if same is not None and same.rule == rule.rule and _reads_the_same(old, new, rule):
        rule.values, rule.timer, rule.is_new = same.values, same.timer, False
    elif rule.gauge < 0:
        values = zip(slots.tolist(), _values(old, name, slots, now), strict=True)
        rule.values = {slot: value for slot, value in values if value is not None}


def _reads_the_same(old: Rulebook, new: Rulebook, rule: Rescanned) -> bool:
    """Whether the rules that a rescan names, directly or not, are those of before."""
    before, after = old.trees_of_rules, new.trees_of_rules
    return all(before.get(key) == after.get(key) for key in rule.rule.references)


def _gone(old: Rulebook, new: Rulebook, kind: str, known: Any) -> list[str]:
    """Names of a kind that the old rulebook answered for, or had frozen, and the new has not."""
    held = {**dict.fromkeys(known), **{name: None for of, name in old.frozen if of == kind}}
    kept = new.qualified if kind == "segment" else _computed_names(new)
    return [name for name in held if name not in kept and (kind, name) not in new.frozen]


def _computed_names(book: Rulebook) -> dict[str, None]:
    names = [rule.name for rule in book.plan.rules if rule.kind == "computed"]
    return dict.fromkeys(names + [r.rule.name for r in book.rescans if r.gauge < 0])


def _computed_marks(
    old: Rulebook, new: Rulebook, slots: Array, now: int, every: bool
) -> Iterator[tuple[str, Array]]:
    """Per computed attribute that operators keep or that is gone: whose value differs. bool[n].
    every: also of rules that are the same, over operators that may not be."""
    if len(slots) == 0:
        return
    before = {rule.name: rule for rule in old.plan.rules if rule.kind == "computed"}
    for rule in new.plan.rules:
        if rule.kind != "computed":
            continue
        was = before.get(rule.name)
        if every or was is None or was.root != rule.root or rule.key in old.pending:
            try:
                marks = _differing(old, was, new, rule, slots, now)
            except Exception as error:  # the entry is logged: it must not come back at every replay
                new.pending[rule.key] = f"at {now} ms: {error!r}"
                continue
            yield rule.name, marks
    for name in _gone(old, new, "computed", _computed_names(old)):
        yield name, np.array([value is not None for value in _values(old, name, slots, now)])


def _differing(
    old: Rulebook, was: Rule | None, new: Rulebook, rule: Rule, slots: Array, now: int
) -> Array:
    values = computed_values(new, rule, slots, now)
    had_none = rule.key in old.pending or rule.name not in _computed_names(old)
    if had_none and ("computed", rule.name) not in old.frozen:
        valid = widen(values, len(slots)).valid
        return np.ones(len(slots), np.bool_) if valid is None else valid
    if was is not None:
        known: Vector = computed_values(old, was, slots, now)
        if known.values.dtype == values.values.dtype:
            return np.asarray(differ(known, values))
    pairs = zip(
        _values(old, rule.name, slots, now), plain_values(values, rule.root.type), strict=True
    )
    return np.array([not same(a, b) for a, b in pairs])


def _values(book: Rulebook, name: str, slots: Array, now: int) -> list[Any]:
    """A computed attribute's plain values; UNKNOWN where an inactive one had some. None of one
    that failed."""
    if ("computed", name) in book.pending:
        return [None] * len(slots)
    for rule in book.plan.rules:
        if rule.kind == "computed" and rule.name == name:
            try:
                return plain_values(computed_values(book, rule, slots, now), rule.root.type)
            except Exception:  # it has no answer any more, and the entry is logged
                return [None] * len(slots)
    for rescan in book.rescans:
        if rescan.gauge < 0 and rescan.rule.name == name:
            return [rescan.values.get(slot) for slot in slots.tolist()]
    frozen = book.frozen.get(("computed", name))
    if frozen is None:
        return [None] * len(slots)
    return [UNKNOWN if inside else None for inside in frozen.inside[slots].tolist()]
