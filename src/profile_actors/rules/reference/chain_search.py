"""CHAIN: whether some choice of events forms the sequence (RULES §5).

Theory: a depth-first search over the last event of each step. For a choice of last event, the other
events of its step may be any n - 1 candidates before it in order. What later steps can tell of the
choices so far is the last event's timestamp and the events they read by name; a failure is
remembered under exactly these, which bounds the search by their combinations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from profile_actors.rules.reference.world import Around
from profile_actors.rules.semantics.values import Instant, Value
from profile_actors.rules.tree.nodes import Chain, Node, Step, Variable
from profile_actors.rules.tree.walks import descendants

Condition = Callable[[Node, Around], bool]


def exists(condition: Condition, node: Chain, events: list[Value], around: Around) -> bool:
    """Whether events for all steps exist among ``events`` (in order). condition: evaluates one."""
    return _Search(condition, node.steps, events).found(0, None, around, {})


def _reads(step: Step) -> set[str]:
    """The names a step's WHAT and WHEN read."""
    parts: list[Node] = [step.what] if step.when is None else [step.what, step.when]
    return {
        inner.name for part in parts for inner in descendants(part) if isinstance(inner, Variable)
    }


class _Search:
    def __init__(self, condition: Condition, steps: tuple[Step, ...], events: list[Value]) -> None:
        self.condition = condition
        self.steps = steps
        self.events = events
        self.times = [_time(event) for event in events]
        names = [step.name for step in steps]
        self.own = [sorted(_reads(step) & set(names)) for step in steps]
        later: set[str] = set()
        self.ahead: list[list[str]] = []
        for own in reversed(self.own):
            later |= set(own)
            self.ahead.insert(0, sorted(later))
        self.failed: set[Any] = set()
        self.fits: dict[Any, list[int]] = {}

    def found(self, index: int, after: int | None, around: Around, last: dict[str, int]) -> bool:
        """Whether steps ``index``… can follow, all later than ``after``. last: name -> event."""
        if index == len(self.steps):
            return True
        key = (index, after, *(last.get(name) for name in self.ahead[index]))
        if key in self.failed:
            return False
        step = self.steps[index]
        usable = [
            number
            for number in self._fitting(index, around, last)
            if after is None or self.times[number] > after
        ]
        for number in usable[step.count - 1 :]:
            inner = around.bind(step.name, self.events[number])
            if self.found(index + 1, self.times[number], inner, {**last, step.name: number}):
                return True
        self.failed.add(key)
        return False

    def _fitting(self, index: int, around: Around, last: dict[str, int]) -> list[int]:
        """The events that meet a step's WHAT and WHEN, given the last events of earlier steps."""
        key = (index, *(last.get(name) for name in self.own[index]))
        if key not in self.fits:
            step = self.steps[index]
            self.fits[key] = [
                number
                for number, event in enumerate(self.events)
                if self._meets(step, around.within(event))
            ]
        return self.fits[key]

    def _meets(self, step: Step, around: Around) -> bool:
        if not self.condition(step.what, around):
            return False
        return step.when is None or self.condition(step.when, around)


def _time(event: Any) -> int:
    moment = event["timestamp"]
    assert isinstance(moment, Instant)
    return moment.ms
