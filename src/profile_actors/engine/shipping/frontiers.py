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
the largest is not below it.

Hence only a few entries are looked at. Read the heads of all logs (``low``), then all of them again
(``end``), and then each log from its low to wherever it is by now. No entry below a low is given
up, and no message that it took is missing. Who took a message above its low, below its end, took it
before now: the sender's entry is among those that were looked at, or below the sender's low. Since
numbers follow each other, the first one that was looked at tells the last one before it.

Limits: says nothing of definitions; the catalogue is copied after the ends were read, so that no
entry is judged by definitions which it does not know.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from profile_actors.engine.log.entry import read_mail
from profile_actors.engine.log.ports import Log


class Line(NamedTuple):
    """Messages of one direction with one other sequencer: numbers, ascending without a gap, and the
    positions of the entries that hold them."""

    numbers: list[int]
    positions: list[int]


class Mails(NamedTuple):
    """The messages of a log's entries from ``low`` on, by the other sequencer's name.

    low, end: as in the module. received, sent: of the entries that were looked at, those above the
    end included.
    """

    low: int
    end: int
    received: dict[str, Line]
    sent: dict[str, Line]


def mails_of(log: Log, low: int, end: int, name: str) -> Mails:
    """Which messages a log's entries have taken and sent, from ``low`` to where the log is now.

    To be asked when the ends of all logs were read. name: for errors. Cost: one look at each
    entry's envelope, and its checksum. Raises CorruptLog.
    """
    received: defaultdict[str, Line] = defaultdict(lambda: Line([], []))
    sent: defaultdict[str, Line] = defaultdict(lambda: Line([], []))
    for position in range(low, log.head()):
        with log.view(position) as view:
            _, mail = read_mail(view, f"position {position} of {name}")
        for source, number, _ in mail.received:
            received[source].numbers.append(number)
            received[source].positions.append(position)
        for to, number in mail.sent:
            sent[to].numbers.append(number)
            sent[to].positions.append(position)
    return Mails(low, end, dict(received), dict(sent))


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
            newest = _newest_sent(mails.get(sender), receiver, frontier.get(sender, 0))
            at = len(taken.numbers) if newest is None else bisect_right(taken.numbers, newest)
            if at < len(taken.numbers) and taken.positions[at] < frontier[receiver]:
                frontier[receiver] = taken.positions[at]
                waiting.add(receiver)
    return frontier


def _newest_sent(sender: Mails | None, receiver: str, frontier: int) -> int | None:
    """The number of the last message to a receiver that entries below a frontier have sent; None:
    of all that the receiver can have taken."""
    if sender is None:
        return 0
    sent = sender.sent.get(receiver)
    if sent is None:
        return None
    kept = bisect_left(sent.positions, frontier)
    return sent.numbers[kept - 1] if kept else sent.numbers[0] - 1
