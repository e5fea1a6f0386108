"""Changes that come of who is shown where: an identity that is listed in another slot, or no more.

Theory: the change feed says of every listed identity in which segments it is. When one is shown in
another slot (its person's book, or a newer one), what the slot before said is compared with what
the new one says; one that is shown in somebody else's book leaves all its segments. So whoever
folds the feed comes to the listed memberships after every entry, although slots that are not listed
tell nothing (``entry_fold``). Cost: a few passes over those identities per gauge and attribute.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from profile_actors.columnar.state_columns import UNSET
from profile_actors.columnar.vectors import Array, differ, widen
from profile_actors.engine.fold.entry_fold import IDENTITY
from profile_actors.engine.fold.state import State
from profile_actors.engine.identity.books import Turned
from profile_actors.engine.log import change_blocks
from profile_actors.engine.membership.gauges import ABSENT
from profile_actors.engine.membership.rulebook import Rescanned, Rulebook
from profile_actors.engine.membership.stored_values import computed_values
from profile_actors.rules.reference.validity import same
from profile_actors.rules.tree.plan import Rule

NO_ONE = np.zeros(0, np.intp)


@dataclass(frozen=True, slots=True)
class Relisted:
    """Identities that are shown elsewhere after an entry. idents: under which each is told of. old,
    new: the slots in which each was and is listed, -1 for none. intp[n] each."""

    idents: Array = field(default_factory=lambda: NO_ONE)
    old: Array = field(default_factory=lambda: NO_ONE)
    new: Array = field(default_factory=lambda: NO_ONE)

    @staticmethod
    def of(turned: Turned) -> Relisted:
        """As columns."""
        columns = (turned.idents, turned.old, turned.new)
        return Relisted(*(np.array(column, np.intp) for column in columns))

    def slots(self) -> Array:
        """All slots, ascending, each once."""
        both = np.unique(np.concatenate([self.old, self.new]))
        return both[both >= 0]


def relist(state: State, relisted: Relisted, now: int) -> tuple[list[change_blocks.Group], int]:
    """The changes of planned rules at an entry's ``now``, and how many memberships are among them.

    Gives the new slots what the feed has told of their identities: when each membership last
    changed. The caller holds the lock; the entry's rows are published.
    """
    book = state.book
    rescanned = {rule.gauge for rule in book.rescans}
    groups: list[change_blocks.Group] = []
    total = 0
    for number, gauge in enumerate(book.gauges):
        if number in rescanned or not gauge.layout.segments or book.single_gauges[number]:
            continue
        before, after = _levels(gauge.level, relisted.old), _levels(gauge.level, relisted.new)
        for column, segment in enumerate(gauge.layout.segments):
            truth = gauge.layout.truth[:, column]
            _qualify(book, segment, relisted, truth[before], truth[after], now)
            total += int(np.count_nonzero(truth[before] != truth[after]))
        rows = (gauge.layout.truth[before] != gauge.layout.truth[after]).any(axis=1).nonzero()[0]
        if len(rows):
            idents, was, is_now = relisted.idents[rows], before[rows], after[rows]
            groups.append(change_blocks.gauge_group(number, idents, was, is_now, None, IDENTITY))
    for rule in book.plan.rules:
        is_asked = rule.kind == "computed" and not rule.single
        if is_asked and rule.key not in book.pending:
            rows = _differing(book, rule, relisted, now).nonzero()[0]
            if len(rows):
                ones = np.ones((1, len(rows)), np.bool_)
                idents = relisted.idents[rows]
                groups.append(
                    change_blocks.computed_group((rule.name,), idents, ones, None, IDENTITY)
                )
    _keep_frozen(book, relisted)
    new = relisted.new[relisted.new >= 0]
    state.modified[new] = now - UNSET
    state.touch(state.position + 1, relisted.slots())
    return groups, total


def relist_rescanned(
    state: State, rule: Rescanned, relisted: Relisted, now: int
) -> change_blocks.Group | None:
    """The changes of one rescanned rule, once the entry's rescans are done."""
    if rule.rule.view.single:
        return None
    idents = relisted.idents
    if rule.gauge < 0:
        values = rule.values
        pairs = zip(relisted.old.tolist(), relisted.new.tolist(), strict=True)
        differs = [not same(values.get(old), values.get(new)) for old, new in pairs]
        rows = np.array(differs, np.bool_).nonzero()[0]
        if not len(rows):
            return None
        ones = np.ones((1, len(rows)), np.bool_)
        return change_blocks.computed_group((rule.rule.name,), idents[rows], ones, None, IDENTITY)
    truth = state.book.gauges[rule.gauge].layout.truth[:, 0]
    was = truth[_levels(rule.level, relisted.old)]
    is_now = truth[_levels(rule.level, relisted.new)]
    _qualify(state.book, rule.rule.name, relisted, was, is_now, now)
    rows = (was != is_now).nonzero()[0]
    if not len(rows):
        return None
    at = np.full(len(rows), now)
    return change_blocks.segment_group(
        rule.rule.name, idents[rows], was[rows], is_now[rows], at, IDENTITY
    )


def _levels(level: Array, slots: Array) -> Array:
    """Levels of slots, ABSENT for those that are none."""
    found = level[np.maximum(slots, 0)]
    found[slots < 0] = ABSENT
    return found


def _qualify(
    book: Rulebook, segment: str, relisted: Relisted, was: Array, is_now: Array, now: int
) -> None:
    """When the new slots' memberships of a segment last changed, as the feed has told it."""
    some = (relisted.new >= 0).nonzero()[0]
    old, was, is_now = relisted.old[some], was[some], is_now[some]
    column = book.qualified[segment]
    known = column.at(np.maximum(old, 0))
    known[old < 0] = UNSET - 1  # never in: what it was while it was hidden is nobody's
    at = np.where(was == is_now, known, now)
    column.put(relisted.new[some], at)


def _keep_frozen(book: Rulebook, relisted: Relisted) -> None:
    """Inactive rules say of the new slots what they said of the old."""
    both = ((relisted.new >= 0) & (relisted.old >= 0)).nonzero()[0]
    old, new = relisted.old[both], relisted.new[both]
    for frozen in book.frozen.values():
        frozen.inside[new] = frozen.inside[old]
        frozen.qualified.put(new, frozen.qualified.at(old))


def _differing(book: Rulebook, rule: Rule, relisted: Relisted, now: int) -> Array:
    """Whose value of a computed attribute is another one. bool[n]"""
    slots = np.concatenate([np.maximum(relisted.old, 0), np.maximum(relisted.new, 0)])
    try:
        values = widen(computed_values(book, rule, slots, now), len(slots))
    except Exception as error:  # the entry is logged: it must not come back at every replay
        book.pending[rule.key] = f"at {now} ms: {error!r}"
        return np.zeros(len(relisted.idents), np.bool_)
    count = len(relisted.idents)
    valid = np.ones(2 * count, np.bool_) if values.valid is None else values.valid.copy()
    valid[:count] &= relisted.old >= 0
    valid[count:] &= relisted.new >= 0
    old, new = (
        type(values)(values.values[part], valid[part], values.dictionary)
        for part in (slice(0, count), slice(count, None))
    )
    return np.asarray(differ(old, new))
