"""Rescans: rules that the reference evaluator runs again where something they read changed.

Theory: every entry leaves one *task*: its position, its now, and per rule the profiles with rows
that the rule reads. Tasks are worked off in log order, in bounded slices, after the entry was
acknowledged. A task evaluates each of its profiles over the documents *up to its position*, at its
now; profiles without rows are evaluated at the instants their timers hold, each change at its own.
So a rescan's changes are the same whenever the work is done, and after a replay; they join the
feed block of the entry that caused them. ``now`` within a value is kept as PASSING: it moves on
with every millisecond, which is no change.

A look-up never waits: it evaluates its own profile at the asked instant. Whether it is in is exact
then; since when, and whether it was in and left between two queued entries, is known when the tasks
are done. Members and changes wait, then say Pending.

Limits: a profile's whole documents are read and evaluated in Python, some milliseconds per thousand
events; ``explain`` says which rules pay that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from profile_actors.columnar.vectors import FOREVER, Array
from profile_actors.engine.fold.relisting import Relisted, relist_rescanned
from profile_actors.engine.fold.state import State
from profile_actors.engine.log.change_blocks import CAUSES, Group, computed_group, segment_group
from profile_actors.engine.membership.gauges import IN, OUT
from profile_actors.engine.membership.rulebook import Rescanned, Rulebook
from profile_actors.engine.refold.dossiers import Dossiers
from profile_actors.rules.reference.validity import evaluate_with_candidate, same
from profile_actors.rules.tree.nodes import Node

Changing = Callable[[Array], AbstractContextManager[None]]
"""Under which rows of some slots are changed."""


@dataclass(slots=True)
class Task:
    """One entry's rescans.

    started: the instant before the entry's. touched: per rule, the slots with rows it reads
    (ascending). rows: all slots with rows. every: rules to be evaluated for all profiles below
    ``slots`` (a definition's). cause: of changes of those touched. first_new: slots from here on
    begin in this entry. done: changes found so far; todo: what is left, None = not begun.
    """

    position: int
    started: int
    now: int
    slots: int
    first_new: int
    touched: list[Array]
    rows: Array = field(default_factory=lambda: np.zeros(0, np.intp))
    every: frozenset[int] = frozenset()
    done: list[RescanChange] = field(default_factory=list)
    todo: Iterator[None] | None = None
    relisted: Relisted | None = None
    cause: str = "event"


@dataclass(frozen=True, slots=True)
class RescanChange:
    """A rule's value changed for a slot. cause: 'event', 'clock' or 'definition'."""

    rule: int
    slot: int
    at: int
    old: bool
    new: bool
    cause: str


class Rescans:
    """The queue of tasks of one partition and the work on them. For the writer's thread."""

    def __init__(self) -> None:
        self._tasks: deque[Task] = deque()

    @property
    def pending(self) -> int:
        """Entries with rescans outstanding."""
        return len(self._tasks)

    @property
    def first_pending(self) -> int | None:
        """Position of the oldest entry with rescans outstanding."""
        tasks = self._tasks
        try:
            return tasks[0].position
        except IndexError:  # finished by the writer since
            return None

    def add(self, task: Task) -> None:
        """Queue the rescans of one entry; entries come in log order."""
        self._tasks.append(task)

    def work(
        self,
        book: Rulebook,
        dossiers: Dossiers,
        limit: int,
        finish: Callable[[Task], None],
        changing: Changing,
    ) -> None:
        """Do up to ``limit`` evaluations; ``finish`` is called with each completed task, to drop
        it."""
        count = 0
        while self._tasks and count < limit:
            task = self._tasks[0]
            if task.todo is None:
                task.todo = _steps(task, book, dossiers, changing)
            for _ in task.todo:
                count += 1
                if count >= limit:
                    return
            finish(task)

    def drop(self, task: Task) -> None:
        """The oldest task is done: its entry is complete from now on."""
        assert self._tasks[0] is task
        self._tasks.popleft()


class _Failed(Exception):
    """The evaluation of a rule raised: the cause. Not the reading of what it is evaluated over."""


def _steps(task: Task, book: Rulebook, dossiers: Dossiers, changing: Changing) -> Iterator[None]:
    """One evaluation per step. State of a rule and slot is written as soon as it is known."""
    for index, rule in enumerate(book.rescans):
        if rule.rule.key not in book.pending:
            try:
                yield from _rule_steps(task, index, rule, book, dossiers, changing)
            except _Failed as failure:  # as an operator's: this rule is evaluated no more
                reason = f"position {task.position}: {failure.__cause__!r}"
                book.pending[rule.rule.key] = reason


def _rule_steps(
    task: Task,
    index: int,
    rule: Rescanned,
    book: Rulebook,
    dossiers: Dossiers,
    changing: Changing,
) -> Iterator[None]:
    computed, segments = book.values_of("computed"), book.values_of("segment")

    def evaluated(slot: int, at: int) -> tuple[Any, int]:
        record, events = dossiers.of(slot, task.position, rule.rule.view, rule.rule.joins)
        return _evaluated(rule, record, events, at, computed, segments)

    mine = task.touched[index] if index < len(task.touched) else np.zeros(0, np.uint32)
    if index in task.every:
        mine = np.arange(task.slots, dtype=np.uint32)
    else:
        fresh = np.arange(task.first_new, task.slots, dtype=np.uint32)
        # Who has rows takes due work with them, at the entry's now (DESIGN section 6).
        waiting = rule.timer.due_rows(task.now)[1]
        parts = (mine, fresh, waiting[np.isin(waiting, task.rows)])
        mine = np.unique(np.concatenate(parts)).astype(np.uint32)
        _begin(task, rule, computed, segments)
    cause = "definition" if index in task.every else task.cause
    for slot in mine.tolist():
        value, due = evaluated(slot, task.now)
        with changing(np.array([slot])):
            _keep(task, index, rule, slot, task.now, value, cause)
            rule.timer.set_due(slot, due)
        yield
    # Then the profiles whose time has come, instant by instant, up to the task's now.
    while True:
        when, slots = rule.timer.due_rows(task.now)
        rule.timer.line.drop_due(task.now)
        if len(slots) == 0:
            break
        for at, slot in zip(when.tolist(), slots.tolist(), strict=True):
            value, due = evaluated(slot, at)
            with changing(np.array([slot])):
                _keep(task, index, rule, slot, at, value, "clock")
                rule.timer.set_due(slot, due)
            yield


def _evaluated(
    rule: Rescanned,
    record: Mapping[str, Any],
    events: Sequence[Mapping[str, Any]],
    at: int,
    computed: dict[str, Node],
    segments: dict[str, Node],
) -> tuple[Any, int]:
    """(value, when to look next: FOREVER for never). Raises _Failed."""
    try:
        value, candidate = evaluate_with_candidate(
            rule.rule.tree, record, events, at, computed, segments, rule.gauge >= 0,
            in_order=True, is_passing=True,
        )  # fmt: skip
    except Exception as error:
        raise _Failed from error
    return value, FOREVER if candidate is None else candidate


def _begin(
    task: Task, rule: Rescanned, computed: dict[str, Node], segments: dict[str, Node]
) -> None:
    """Give the profiles that begin in the entry the value that a computed attribute has of nothing:
    what differs from that is a change."""
    if rule.gauge >= 0 or task.first_new >= task.slots:
        return
    nothing, _ = _evaluated(rule, {}, [], task.started, computed, segments)
    for slot in range(task.first_new, task.slots):
        rule.values.setdefault(slot, nothing)


def _keep(
    task: Task,
    index: int,
    rule: Rescanned,
    slot: int,
    at: int,
    value: Any,
    cause: str,
) -> None:
    """Keep a value and note the change it is. The caller holds the partition's lock."""
    if rule.gauge < 0:
        old = rule.values.get(slot)
        if old is not None or value is not None:
            rule.values[slot] = value  # also an equal one: 1.50 may stand for 1.5 now
            if not same(old, value):
                task.done.append(RescanChange(index, slot, at, True, True, cause))
        return
    old_level = int(rule.level[slot])
    is_member = bool(value)
    rule.level[slot] = IN if is_member else OUT
    if is_member != (old_level == IN):
        rule.qualified.put(np.array([slot]), at)
    if is_member != (old_level == IN):
        task.done.append(RescanChange(index, slot, at, not is_member, is_member, cause))


def told(task: Task, state: State) -> list[RescanChange]:
    """A completed task's changes of profiles that were listed at its entry."""
    if not state.listing.is_used or not task.done:
        return task.done
    slots = np.array([change.slot for change in task.done])
    rescans = state.book.rescans
    single = np.array([rescans[change.rule].rule.view.single for change in task.done])
    is_listed = state.listing.is_listed(slots, task.position, single)
    return [change for change, is_told in zip(task.done, is_listed, strict=True) if is_told]


def grouped(task: Task, state: State) -> list[Group]:
    """A completed task's changes as feed groups, one per rule and cause."""
    sets: dict[tuple[int, str], list[RescanChange]] = {}
    for change in told(task, state):
        sets.setdefault((change.rule, change.cause), []).append(change)
    out = []
    for (index, cause), found in sorted(sets.items()):
        rule = state.book.rescans[index]
        idents = state.directory.ident_of[np.array([c.slot for c in found])]
        at = np.array([c.at for c in found], np.int64)
        if rule.gauge >= 0:
            old = np.array([c.old for c in found])
            new = np.array([c.new for c in found])
            group = segment_group(rule.rule.name, idents, old, new, at, CAUSES.index(cause))
        else:
            marks = np.ones((1, len(found)), np.bool_)
            group = computed_group((rule.rule.name,), idents, marks, at, CAUSES.index(cause))
        out.append(group)
    if task.relisted is not None and len(task.relisted.idents):
        for rule in state.book.rescans:
            again = relist_rescanned(state, rule, task.relisted, task.now)
            if again is not None:
                out.append(again)
    return out
