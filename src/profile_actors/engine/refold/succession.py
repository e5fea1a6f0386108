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
from functools import cached_property
from typing import Any

import numpy as np

from profile_actors.columnar.instant_columns import Instants, instant_columns
from profile_actors.columnar.state_columns import UNSET
from profile_actors.columnar.vectors import Array, Vector, differ, widen
from profile_actors.engine.fold.entry_fold import CLOCK, DEFINITION
from profile_actors.engine.fold.state import State
from profile_actors.engine.log import change_blocks
from profile_actors.engine.membership.gauges import flags
from profile_actors.engine.membership.rulebook import UNKNOWN, Frozen, Rescanned, Rulebook
from profile_actors.engine.membership.stored_values import computed_values, member_bits
from profile_actors.rules.evaluation.planned_values import plain_values
from profile_actors.rules.reference.validity import same
from profile_actors.rules.tree.plan import Key, Rule


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
    told = _Told(state, old, book, slots)
    for rule in book.rescans:
        if told.is_other(rule.rule.key):
            _begin_anew(old, book, rule, told, slots, now)
        else:
            _inherit(old, book, rule, slots, now)
    groups: list[change_blocks.Group] = []
    total = 0
    for segment in (*book.qualified, *_gone(old, book, "segment", old.qualified)):
        key = "segment", segment
        if _is_shared(old, book, segment):
            continue
        was, is_now = member_bits(old, segment, slots), member_bits(book, segment, slots)
        moved, when = np.flatnonzero(was != is_now), np.array(now)
        idents, was, is_now = told.memberships(key, was, is_now)
        if told.is_other(key) and segment in old.qualified:
            moved, when = told.since(key, old.qualified[segment], idents, now)
        if len(moved) and segment in book.qualified:
            # A copy: until the new rulebook is in force, readers read the old one's.
            book.qualified[segment] = book.qualified[segment].copy(len(slots))
            book.qualified[segment].put(slots[moved], when)
        if len(idents):
            total += len(idents)
            groups.append(change_blocks.segment_group(segment, idents, was, is_now, None, cause))
    for name, marks in _computed_marks(old, book, slots, now, bool(changed)):
        idents = told.values(("computed", name), marks)
        if len(idents):
            ones = np.ones((1, len(idents)), np.bool_)
            groups.append(change_blocks.computed_group((name,), idents, ones, None, cause))
    for rule in book.rescans:
        if rule.gauge >= 0:
            rule.qualified = book.qualified[rule.rule.name]
    book.forget_columns()
    return groups, total


class _Told:
    """Of whom the feed has told, of each rule, and of whom it tells from now on: of people, or of
    single identities. A rule that comes to see the other kind goes on with those who go by the same
    name: a person goes by her canonical identity's, which stands alone in another slot."""

    def __init__(self, state: State, old: Rulebook, new: Rulebook, slots: Array) -> None:
        self._state, self._slots = state, slots
        self._old, self._new = old.single, new.single
        of_people = state.listing.is_listed(slots, state.position)
        is_same = not (self._old or self._new)
        of_singles = of_people if is_same else state.listing.is_listed(slots, state.position, True)
        self._listed = of_people, of_singles

    def is_other(self, key: Key) -> bool:
        """Whether a rule comes to see the other kind."""
        return (key in self._old) != (key in self._new)

    @cached_property
    def _names(self) -> Array:
        """Per slot the ident of the identity that it goes by."""
        return self._state.named(self._slots)

    def _by_name(self, kind: bool, marks: Array) -> Array:
        """Which idents have a mark, by name. bool[slots]"""
        out = np.zeros(len(marks), np.bool_)
        out[self._names[marks & self._listed[kind]]] = True
        return out

    def memberships(self, key: Key, was: Array, is_now: Array) -> tuple[Array, Array, Array]:
        """(idents, was, is now) of who is told of. was, is_now: bool per slot"""
        if not self.is_other(key):
            rows = np.flatnonzero((was != is_now) & self._listed[key in self._old])
            return self._state.directory.ident_of[self._slots[rows]], was[rows], is_now[rows]
        was, is_now = self._by_name(key in self._old, was), self._by_name(key in self._new, is_now)
        idents = np.flatnonzero(was != is_now)
        return idents, was[idents], is_now[idents]

    def since(self, key: Key, known: Instants, told: Array, now: int) -> tuple[Array, Array]:
        """(slots, instants): when the memberships of those who are seen now last changed. told: the
        idents of those who change now."""
        at, kinds = self.carried(key, known.at(self._slots), UNSET - 1), self._listed
        at[np.isin(self._names, told)] = now
        rows = np.flatnonzero(kinds[key in self._new])
        return rows, at[rows]

    def carried(self, key: Key, cells: Array, nothing: Any) -> Array:
        """What was known of each slot's name in the slot that had it."""
        by_name = np.full(len(cells), nothing, cells.dtype)
        had = self._listed[key in self._old]
        by_name[self._names[had]] = cells[had]
        out = by_name[self._names]
        out[~self._listed[key in self._new]] = nothing
        return out

    def values(self, key: Key, marks: Array) -> Array:
        """The idents of those whose value may be another one. marks: bool per slot"""
        had, has = self._listed[key in self._old], self._listed[key in self._new]
        if self.is_other(key):
            return np.unique(self._names[np.where(had & has, marks, had | has)])
        return self._state.directory.ident_of[self._slots[np.flatnonzero(marks & had)]]


def _begin_anew(
    old: Rulebook, new: Rulebook, rule: Rescanned, told: _Told, slots: Array, now: int
) -> None:
    """Let a rescan that sees others than before begin with what was said of them by name."""
    key, name = rule.rule.key, rule.rule.name
    if rule.gauge >= 0:
        rule.level[slots] = flags(told.carried(key, member_bits(old, name, slots), False))
        return
    values = np.full(len(slots), None)
    for place, value in enumerate(_values(old, name, slots, now)):
        values[place] = value  # one by one: some may be lists
    named = told.carried(key, values, None)
    rule.values = {slot: value for slot, value in enumerate(named) if value is not None}


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
        is_same = was is not None and (was.root, was.single) == (rule.root, rule.single)
        if every or not is_same or rule.key in old.pending:
            try:
                marks = _differing(old, was, new, rule, slots, now)
            except Exception as error:  # the entry is logged: it must not come back at every replay
                new.pending[rule.key] = f"at {now} ms: {error!r}"
                continue
            yield rule.name, marks
    others = [
        rescan.rule.name
        for rescan in new.rescans
        if rescan.gauge < 0 and (rescan.rule.key in old.single) != rescan.rule.view.single
    ]
    for name in (*_gone(old, new, "computed", _computed_names(old)), *others):
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
