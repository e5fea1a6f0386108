"""What one step changes, beside the state: collected by the fold, published all at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from profile_actors.columnar.instant_columns import Put, put_all
from profile_actors.columnar.runs import starts_of
from profile_actors.columnar.slot_pairs import slots_of_all
from profile_actors.columnar.vectors import Array
from profile_actors.engine.histories.kept_events import EventHistory, HistoryDelta
from profile_actors.engine.membership.gauges import Gauge
from profile_actors.engine.membership.rulebook import Part, Rulebook
from profile_actors.engine.membership.timers import Timer
from profile_actors.engine.operators.attribute_columns import Attribute, AttributeTrack
from profile_actors.engine.operators.crews import CrewDelta
from profile_actors.engine.operators.event_streams import Stream, StreamDelta
from profile_actors.rules.tree.plan import Key

MARKS, MANY = -1, -2


@dataclass(slots=True)
class RawChange:
    """Level changes of gauges, or marks of computed attributes, in slots. at None: the step's now.

    gauge: the number of one, or MANY: each row's in ``gauges``, ascending. old, new are levels,
    flips the memberships that change. Of MARKS new has marks, bool[names, n].
    """

    gauge: int
    names: tuple[str, ...]
    slots: Array
    old: Array
    new: Array
    at: Array | None
    by_clock: bool
    flips: int = 0
    gauges: Array | None = None

    def one_by_one(self) -> Iterator[RawChange]:
        """The changes of each gauge; their flips are not counted."""
        if self.gauges is None:
            yield self
            return
        bounds = [*starts_of(self.gauges).tolist(), len(self.gauges)]
        for low, high in pairwise(bounds):
            part = slice(low, high)
            yield RawChange(
                int(self.gauges[low]), (), self.slots[part], self.old[part], self.new[part],
                None if self.at is None else self.at[part], self.by_clock,
            )  # fmt: skip


@dataclass(slots=True)
class Delta:
    """Everything one step changes, beside the state. drops_due: False if it is of some slots alone,
    or the clock stands (``clock_steps``): what is due stays in its lines then."""

    now: int
    drops_due: bool = True
    streams: list[tuple[Stream, StreamDelta]] = field(default_factory=list)
    crews: list[CrewDelta] = field(default_factory=list)
    histories: list[tuple[EventHistory, HistoryDelta]] = field(default_factory=list)
    attributes: list[tuple[Attribute, AttributeTrack]] = field(default_factory=list)
    gauges: list[tuple[Gauge, Array, Array]] = field(default_factory=list)
    qualified: list[Put] = field(default_factory=list)
    timers: list[tuple[Timer, Array, Array]] = field(default_factory=list)
    changes: list[RawChange] = field(default_factory=list)
    broken: dict[Part, str] = field(default_factory=dict)
    """The parts that raised, with why: they fold no more."""
    pending: dict[Key, str] = field(default_factory=dict)
    """The rules that have no answer from this step on, with why."""

    def mark(self) -> tuple[int, ...]:
        """How much of the rules' part there is by now, for ``undo``."""
        return tuple([len(part) for part in self._of_rules()])

    def undo(self, began: tuple[int, ...]) -> None:
        """Take back what rules added since ``mark``."""
        for part, size in zip(self._of_rules(), began, strict=True):
            del part[size:]

    def _of_rules(self) -> tuple[list[Any], ...]:
        return self.gauges, self.qualified, self.timers, self.changes

    def slots(self) -> Array:
        """The slots whose rows ``publish`` writes: ascending, each once."""
        parts = [slots for _, slots, _ in (*self.gauges, *self.timers)]
        parts += [put.slots for put in self.qualified]
        parts += [kept.slots for _, kept in self.histories]
        for _, track in self.attributes:
            parts += [stated.slots for _, stated in track.stores]
        for crew in self.crews:
            parts += crew.slots()
        for _, delta in self.streams:
            for moved in filter(None, delta.tracks):
                parts += [moved.slots, moved.clock_slots]
        if self.drops_due:
            parts += [timer.line.due_rows(self.now)[1] for timer, _, _ in self.timers]
        return slots_of_all(parts)

    def publish(self, book: Rulebook) -> None:
        """Write the step into the state, which has this rulebook. The caller holds the partition's
        lock."""
        for part, reason in self.broken.items():
            book.degrade(part, reason)
        for key, reason in self.pending.items():
            book.pending.setdefault(key, reason)
        for crew in self.crews:
            crew.publish()
        for stream, delta in self.streams:
            stream.publish(delta)
        for history, kept in self.histories:
            history.publish(kept)
        for attribute, track in self.attributes:
            attribute.publish(track)
        for gauge, slots, levels in self.gauges:
            gauge.store(slots, levels)
        put_all(self.qualified)
        for timer, slots, upcoming in self.timers:
            timer.publish(self.now, slots, upcoming, self.drops_due)
