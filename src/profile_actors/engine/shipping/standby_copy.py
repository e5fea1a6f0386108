"""A standby: a log that is given another's entries, and nothing else.

Theory: it promises durably to refuse whoever has a lower epoch than it was once given, and takes
entries only from a primary that has compared and trim its log since it was opened; so its log is a
prefix of that primary's at every moment.

Rules for editors: pure; the log's ``promise``, ``trim`` and ``append_at`` are durable when they
return. Not thread-safe.
"""

from __future__ import annotations

from typing import Protocol

from profile_actors.engine.log.ports import Log
from profile_actors.engine.shipping.shipper import Arrival, Shipment


class CopiedLog(Log, Protocol):
    """A log that can be a copy of another's."""

    @property
    def epoch(self) -> int:
        """The highest that was promised."""

    def promise(self, epoch: int) -> None:
        """Refuse lower epochs from now on, durably. Raises FencedOut if a higher one was."""

    def trim(self, head: int) -> None:
        """Take away, durably, the entries from a position on."""

    def digest(self, position: int) -> int:
        """Of an entry's bytes: 64 bits."""


class StandbyCopy:
    """See the module. copy: its id. opening: a number above those of all earlier openings."""

    def __init__(self, log: CopiedLog, copy: str, opening: int) -> None:
        self.log = log
        self.copy = copy
        self._opening = opening
        self._agreed = 0

    @property
    def is_agreed(self) -> bool:
        """Whether its log is a beginning of that of the primary it was opened for."""
        return self._agreed == self.log.epoch

    def take(self, shipment: Shipment) -> Arrival:
        """Do what a primary says, if it may say anything; how far this copy is then."""
        log = self.log
        if shipment.epoch < log.epoch:
            return self._answer()
        if shipment.epoch > log.epoch:
            log.promise(shipment.epoch)
            self._agreed = 0
        if shipment.copy != self.copy or shipment.opening != self._opening:
            return self._answer()
        if shipment.trim >= 0 and self._agreed != shipment.epoch:
            if shipment.trim < log.head():
                log.trim(shipment.trim)
            self._agreed = shipment.epoch
        if self._agreed == shipment.epoch:
            for position, entry in enumerate(shipment.entries, shipment.first):
                if position == log.head():
                    log.append_at(position, (entry,), shipment.epoch)
        digest = log.digest(shipment.probe) if 0 <= shipment.probe < log.head() else 0
        return self._answer(digest)

    def fence(self, epoch: int) -> Arrival:
        """Promise a new epoch, for a promotion."""
        if epoch > self.log.epoch:
            self.log.promise(epoch)
            self._agreed = 0
        return self._answer()

    def _answer(self, digest: int = 0) -> Arrival:
        return Arrival(
            self.copy, self._opening, self.log.epoch, self.log.head(), self._agreed, digest
        )
