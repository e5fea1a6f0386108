"""What the change feed must hold for one entry, by the reference evaluator alone (DESIGN §6, §11).

Theory: a profile with rows in the entry has one net change per rule, at the entry's now; any other
moves by the clock, each change at its own instant. Both are read off the raw documents: before, at
the entry before's now; after, at this one's; and between them by ``valid_until``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from profile_actors.engine.fold.state import State
from profile_actors.engine.log.entry import read_envelope
from profile_actors.engine.log.ports import Log
from profile_actors.engine.refold.dossiers import Dossiers
from profile_actors.rules.catalogue.merge_views import views_of
from profile_actors.rules.reference.validity import evaluate_with_validity, same
from profile_actors.rules.tree.nodes import Node
from profile_actors.rules.tree.sights import ALL

Rule = tuple[str, str]
"""(kind, name)."""
Key = tuple[str, str, str]
"""(kind, name, the identity's value)."""
Differs = Callable[[Any, Any], bool]
Difference = tuple[int, Any, Any]
"""(instant, value before, value after)."""


def now_of(log: Log, position: int) -> tuple[str, int]:
    """(kind, now) of a log entry."""
    with log.view(position) as view:
        envelope = read_envelope(view, f"position {position}")[0]
    return envelope.kind, envelope.now


def _differs(before: Any, after: Any) -> bool:
    return not same(before, after)


class FeedOracle:
    """Differences of one entry. trees: (kind, name) -> typed tree of every rule."""

    def __init__(self, state: State, log: Log, trees: dict[Rule, Node]) -> None:
        self.state = state
        self.log = log
        self.trees = trees
        self.computed = {name: tree for (kind, name), tree in trees.items() if kind == "computed"}
        self.segments = {name: tree for (kind, name), tree in trees.items() if kind == "segment"}
        self.dossiers = Dossiers(state, log)
        self.views = views_of(state.catalogue)

    def differences(self, position: int) -> Iterator[tuple[Key, list[Difference]]]:
        """(key, its differences in the entry), where there are any.

        position: of an entry of rows or of the clock.
        """
        for slot in range(self.state.directory.slots):
            first, has_rows = self.presence(slot, position)
            if first > position:
                continue
            for rule in self.trees:
                take = self.net if has_rows else self.by_clock
                found = list(take(rule, slot, position))
                if found:
                    yield (*rule, self.who(slot)), found

    def who(self, slot: int) -> str:
        """The value of a slot's identity."""
        return self.state.directory.identity(int(self.state.directory.ident_of[slot])).value

    def presence(self, slot: int, position: int) -> tuple[int, bool]:
        """(the entry in which the profile began, whether it has rows in this one)."""
        ident = int(self.state.directory.ident_of[slot])
        rows = [
            *self.state.locator.rows_of(ident)[1].tolist(),
            *self.state.record_locator.rows_of(ident)[1].tolist(),
        ]
        return min(rows), position in rows

    def value(self, rule: Rule, slot: int, position: int, at: int) -> tuple[Any, int | None]:
        """(value, valid_until) of a rule over the documents up to a position."""
        view = self.views.get(rule, ALL)
        record, events = self.dossiers.of(slot, position, view)
        value, until = evaluate_with_validity(
            self.trees[rule], record, events, at, self.computed, self.segments,
            condition=rule[0] == "segment", in_order=True, is_passing=True,
        )  # fmt: skip
        return (bool(value) if rule[0] == "segment" else value), until

    def net(
        self, rule: Rule, slot: int, position: int, differs: Differs = _differs
    ) -> Iterator[Difference]:
        """The one change of a profile with rows, if there is one."""
        began, now = now_of(self.log, position - 1)[1], now_of(self.log, position)[1]
        # Before its first row a profile was in no segment, and computed was what nothing gives.
        is_new = self.presence(slot, position)[0] == position
        before = self.value(rule, slot, position - 1, began)[0]
        before = False if is_new and rule[0] == "segment" else before
        after = self.value(rule, slot, position, now)[0]
        if differs(before, after):
            yield now, before, after

    def by_clock(self, rule: Rule, slot: int, position: int) -> Iterator[Difference]:
        """Every change of a profile without rows, at its own instant."""
        began, now = now_of(self.log, position - 1)[1], now_of(self.log, position)[1]
        return self.between(rule, slot, position, began, now)

    def between(
        self, rule: Rule, slot: int, position: int, began: int, now: int
    ) -> Iterator[Difference]:
        """Every change of one profile's documents up to a position, later than began up to now."""
        value, until = self.value(rule, slot, position, began)
        while until is not None and until <= now:
            after, following = self.value(rule, slot, position, until)
            yield until, value, after
            value, until = after, following
