"""Named readers of the change feed: how far each of them has been given it.

Theory: the feed keeps no place for anybody; a consumer has its cursor, and nobody else knows how
far it is. One that says its name is remembered by what it was given last, so that ``status`` can
tell an operator who falls behind. Nothing depends on it: it is forgotten with the process.
"""

from __future__ import annotations

import threading

import msgspec


class Consumer(msgspec.Struct, frozen=True):
    """How far a consumer is. behind: log entries whose changes it has not been given; asked: ms
    UTC, when it asked last."""

    behind: int
    asked: int


class Consumers:
    """The consumers of one partition, at most so many: who has not asked for longest leaves first.
    Any thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def note(self, name: str, reached: int, now: int) -> None:
        """A consumer has been given the changes up to a position. now: ms. One without a name is
        nobody."""
        if not name:
            return
        with self._lock:
            self._known.pop(name, None)
            self._known[name] = reached, now
            while len(self._known) > self._most:
                del self._known[next(iter(self._known))]

    def all(self, head: int) -> dict[str, Consumer]:
        """By name, who asked last first. head: the number of entries."""
        with self._lock:
            known = list(self._known.items())
        return {
            name: Consumer(max(0, head - 1 - reached), asked)
            for name, (reached, asked) in reversed(known)
        }


def of_all(partitions: list[dict[str, Consumer]]) -> dict[str, Consumer]:
    """Consumers over all partitions, the one that is farthest behind first."""
    out: dict[str, Consumer] = {}
    for part in partitions:
        for name, one in part.items():
            known = out.get(name, Consumer(0, 0))
            out[name] = Consumer(known.behind + one.behind, max(known.asked, one.asked))
    return dict(sorted(out.items(), key=lambda item: (-item[1].behind, item[0])))
