"""Frontiers under ends of different moments, against every frontier there is."""

from __future__ import annotations

import itertools
import random
from typing import NamedTuple

from profile_actors.engine.shipping.frontiers import Line, Mails, largest_frontier

Entry = tuple[list[tuple[str, int]], list[tuple[str, int]]]


def mails(entries: list[Entry], low: int = 0, end: int | None = None) -> Mails:
    """Of a log's entries, each what it took and what it sent."""
    received: dict[str, Line] = {}
    sent: dict[str, Line] = {}
    for position, (took, told) in list(enumerate(entries))[low:]:
        for lines, several in ((received, took), (sent, told)):
            for other, number in several:
                line = lines.setdefault(other, Line([], []))
                line.numbers.append(number)
                line.positions.append(position)
    return Mails(low, len(entries) if end is None else end, received, sent)


def is_consistent(logs: dict[str, list[Entry]], frontier: dict[str, int]) -> bool:
    sent = {
        (name, to, number)
        for name, end in frontier.items()
        for _, told in logs[name][:end]
        for to, number in told
    }
    return all(
        (source, name, number) in sent
        for name, end in frontier.items()
        for took, _ in logs[name][:end]
        for source, number in took
    )


class Run(NamedTuple):
    """Logs as they are by now; per log, heads that were read at several moments, then ends that
    were; and what all of them held when the first end was read."""

    logs: dict[str, list[Entry]]
    lows: dict[str, int]
    ends: dict[str, int]
    floor: dict[str, int]


def run(rng: random.Random, names: str) -> Run:
    logs: dict[str, list[Entry]] = {name: [] for name in names}
    numbers = {(a, b): 0 for a in names for b in names}
    taken = dict(numbers)
    lows: dict[str, int] = {}
    ends: dict[str, int] = {}
    floor: dict[str, int] = {}
    for step in range(20):
        name = rng.choice(names)
        took = []
        for source in names:
            if source != name and rng.random() < 0.7:
                for number in range(taken[source, name] + 1, numbers[source, name] + 1):
                    took.append((source, number))
                    taken[source, name] = number
        told = []
        for to in names:
            if to != name and rng.random() < 0.5:
                numbers[name, to] += 1
                told.append((to, numbers[name, to]))
        logs[name].append((took, told))
        one = rng.choice(names)
        if step < 5:
            lows.setdefault(one, len(logs[one]))
        if step == 5:
            floor = {other: len(log) for other, log in logs.items()}
            lows = floor | lows
        if 5 < step < 16 and rng.random() < 0.4:
            ends.setdefault(one, len(logs[one]))
        if step == 16:
            ends = {other: ends.get(other, len(log)) for other, log in logs.items()}
    return Run(logs, lows, ends, floor)


def test_it_is_the_largest_of_all_and_loses_nothing_from_before_the_first_end() -> None:
    rng = random.Random(4)
    lowered = 0
    for _ in range(150):
        logs, lows, ends, floor = run(rng, "01L")
        got = largest_frontier(
            {name: mails(log, lows[name], ends[name]) for name, log in logs.items()}
        )
        every = [
            frontier
            for some in itertools.product(*(range(end + 1) for end in ends.values()))
            if is_consistent(logs, frontier := dict(zip(ends, some, strict=True)))
        ]
        assert got in every
        assert all(frontier[name] <= got[name] for frontier in every for name in frontier)
        assert all(floor[name] <= got[name] for name in got)
        lowered += got != ends
    assert lowered > 50


def test_a_sequencer_that_is_not_there_has_sent_nothing() -> None:
    told: list[Entry] = [([], [("L", 1)]), ([("L", 1)], []), ([], [])]
    assert largest_frontier({"0": mails(told)}) == {"0": 1}


def test_logs_without_mail_are_taken_whole() -> None:
    assert largest_frontier({"0": mails([([], [])] * 3), "1": mails([])}) == {"0": 3, "1": 0}
