"""Up to which position to take each sequencer's log, so that the copies together are one store.

Theory. Logs are copied one after another while all are written, so their ends are of different
moments. A copy whose receiver knows a message that its sender's copy does not have is no store: the
sender would give that number to another message, which the receiver takes for a repeat. A
*frontier*, a position for each sequencer, is *consistent* if every message taken below it was sent
below it. That is all that a store after a crash has too: what was sent and not taken is sent again.

Of two consistent frontiers the larger position of each sequencer makes a consistent one as well, so
under any ends there is a largest: each end is lowered to the first entry that took what is not
there, until nothing changes. It loses nothing that was durable when the first end was read: a
message is sent once its entry is durable, so what all logs held at that moment is consistent, and
the largest is not below it. Hence entries below an end that was read *before* the first of these
ends are never given up, and only what is above it needs to be looked at.

Limits: says nothing of definitions; the catalogue is copied after the ends were read, so that no
entry is judged by definitions which it does not know.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from profile_actors.engine.log.entry import read_mail
from profile_actors.engine.log.ports import Log

NONE: Mapping[str, int] = MappingProxyType({})


class Line(NamedTuple):
    """Messages of one direction with one other sequencer: numbers, ascending without a gap, and the
    positions of the entries that hold them."""

    numbers: list[int]
    positions: list[int]


class Mails(NamedTuple):
    """The messages of a log's entries from ``low`` up to ``end``, by the other sequencer's name.

    before: the number of the last message that entries below ``low`` sent, by destination.
    """

    low: int
    end: int
    before: Mapping[str, int]
    received: dict[str, Line]
    sent: dict[str, Line]


def mails_of(
    log: Log, end: int, name: str, low: int = 0, before: Mapping[str, int] = NONE
) -> Mails:
    """Which messages the entries of positions low ... end - 1 have taken and sent.

    low: 0, or an end of this log that was read before any of these ends; before: as in ``Mails``.
    name: for errors. Cost: one look at each entry's envelope, and its checksum. Raises CorruptLog.
    """
    received: defaultdict[str, Line] = defaultdict(lambda: Line([], []))
    sent: defaultdict[str, Line] = defaultdict(lambda: Line([], []))
    for position in range(low, end):
        with log.view(position) as view:
            _, mail = read_mail(view, f"position {position} of {name}")
        for source, number, _ in mail.received:
            received[source].numbers.append(number)
            received[source].positions.append(position)
        for to, number in mail.sent:
            sent[to].numbers.append(number)
            sent[to].positions.append(position)
    return Mails(low, end, before, dict(received), dict(sent))


def largest_frontier(mails: Mapping[str, Mails]) -> dict[str, int]:
    """The largest consistent frontier under the ends; of each sequencer at least its ``low``.

    mails: of every sequencer; one that is not there, as a ledger that nobody had begun, has sent
    nothing. Cost: a few steps a message looked at.
    """
    frontier = {name: found.end for name, found in mails.items()}
    waiting = {*mails, *(source for found in mails.values() for source in found.received)}
    while waiting:
        sender = waiting.pop()
        for receiver, found in mails.items():
            taken = found.received.get(sender)
            if taken is None:
                continue
            newest = (
                _newest_sent(mails[sender], receiver, frontier[sender]) if sender in mails else 0
            )
            at = bisect_right(taken.numbers, newest)
            if at < len(taken.numbers) and taken.positions[at] < frontier[receiver]:
                frontier[receiver] = taken.positions[at]
                waiting.add(receiver)
    return frontier


def _newest_sent(sender: Mails, receiver: str, frontier: int) -> int:
    """The number of the last message to a receiver that entries below a frontier have sent."""
    sent = sender.sent.get(receiver)
    kept = 0 if sent is None else bisect_left(sent.positions, frontier)
    return sent.numbers[kept - 1] if sent is not None and kept else sender.before.get(receiver, 0)
