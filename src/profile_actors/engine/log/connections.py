"""Anonymous connections: which of them a partition knows, and which it has let go of.

Theory: a connection without a producer's name numbers its rows in a stream of its own, whose cursor
nobody needs once it has ended. The cursor goes by a logged entry: when the connection says that it
closes, or when it was silent for ``KEPT_MS`` of the wall time that entries carry. A sub-batch to a
name that is no longer known must not pass for the first of a new one (it may be there already), so
the name says when it was born, by the partitions' clocks. The law: a name that was let go of is
either still in ``heard`` (closed a short while ago) or was born more than ``KEPT_MS`` before the
newest logged wall time. A driver uses a name for half as long; what it is refused at the first
sending all the same (a wall clock jumped, a machine slept) is not there, and goes under a new name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from profile_actors.engine.log.entry import Hearing
from profile_actors.engine.log.sub_batch import ANONYMOUS

KEPT_MS = 3_600_000
"""Wall time after which a silent connection is forgotten."""


FORGOTTEN_AT_ONCE = 64
"""Names that one entry forgets besides two for each that it hears: old ones go bit by bit."""


def is_anonymous(producer: str) -> bool:
    return producer.startswith(ANONYMOUS)


def name_of(born: int, unique: str) -> str:
    """The name of a new connection's stream. born: ms of the wall clock."""
    return f"{ANONYMOUS}{born}-{unique}"


def born_of(name: str) -> int:
    """Wall ms; 0 for names from before they said it."""
    born, dash, _ = name[len(ANONYMOUS) :].partition("-")
    return int(born) if dash and born.isdecimal() else 0


@dataclass(slots=True)
class Connections:
    """A fold of the log. wall: the newest wall ms that was logged. heard: name -> wall ms at which
    it was heard last, in that order; one without a cursor has closed."""

    wall: int = 0
    heard: dict[str, int] = field(default_factory=dict)

    def is_forgotten(self, name: str) -> bool:
        """Whether an anonymous name without a cursor is not a new one."""
        return name in self.heard or born_of(name) < self.wall - KEPT_MS

    def hearing(
        self, wall: int | None, producers: Iterable[str], closed: tuple[str, ...]
    ) -> Hearing | None:
        """What the next entry is to say of connections, None for nothing. wall: ms now, if known.

        Cost: what it forgets and hears, not what is known.
        """
        heard = {name for name in producers if is_anonymous(name)}
        if wall is None:
            return Hearing(self.wall, closed) if closed else None
        wall = max(wall, self.wall)
        forgotten = self._silent(wall - KEPT_MS, heard)
        return Hearing(wall, closed, forgotten) if heard or closed or forgotten else None

    def _silent(self, least: int, heard: set[str]) -> tuple[str, ...]:
        """The first names not heard since ``least``; never one that could pass for a new one."""
        out: list[str] = []
        most = FORGOTTEN_AT_ONCE + 2 * len(heard)
        for seen, (name, at) in enumerate(self.heard.items()):
            if at >= least or seen == most:
                break
            if name not in heard and born_of(name) < least:
                out.append(name)
        return tuple(out)

    def fold(self, producers: Iterable[str], hearing: Hearing | None) -> tuple[str, ...]:
        """Keep what an entry says; the names whose cursors go with it."""
        if hearing is not None:
            self.wall = max(self.wall, hearing.wall)
        for name in producers:
            if is_anonymous(name):
                self.heard.pop(name, None)
                self.heard[name] = self.wall
        if hearing is None:
            return ()
        for name in hearing.forgotten:
            self.heard.pop(name, None)
        return hearing.closed + hearing.forgotten
