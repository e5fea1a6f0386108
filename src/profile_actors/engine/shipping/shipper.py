"""The primary's part in keeping a standby: what to send, what may be acknowledged.

Theory: one message is under way at a time, and each answer says how far the standby is. First they
find the longest prefix that both logs have: entries carry their epoch, so a log equals another up
to a position exactly if the entries just before it are equal, and bisection finds it. The standby
trims off what is beyond, which was never acknowledged, and is given the entries from there on.

``needs``: whether acknowledging waits for the standby. It is set before the catalogue is asked to
call the standby in sync, and unset only after the catalogue has noted that it left. So whatever the
catalogue says, and whenever it said so, a standby that is called in sync has what is acknowledged.

Rules for editors: pure, no clock: whoever drives it says when the standby was silent for too long.
Not thread-safe: its owner has a lock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from profile_actors.engine.shipping.replication import Copies, Request, Wish


class Shipment(msgspec.Struct, frozen=True, array_like=True):
    """A message to a standby. copy, opening: of the standby, as the catalogue and it said; where
    they are others, it changes nothing. probe: asks for the digest of the entry at this position,
    -1 for none. trim: entries from there on are to go, -1 for none. entries: from ``first`` on."""

    epoch: int
    copy: str
    opening: int = 0
    probe: int = -1
    trim: int = -1
    first: int = 0
    entries: tuple[bytes, ...] = ()


class Arrival(msgspec.Struct, frozen=True, array_like=True):
    """A standby's answer. copy: its id. opening: no other opening has this number. epoch: the
    highest it was given. head: how many entries it durably has. agreed: the epoch whose primary
    trim its log last, since it was opened. digest: as asked."""

    copy: str
    opening: int
    epoch: int
    head: int
    agreed: int = 0
    digest: int = 0


class Shipper:
    """See the module. copy: the standby's id. in_sync: as the catalogue said at the epoch. head:
    entries in the primary's log. digest: of the entry at a position of it."""

    def __init__(
        self,
        epoch: int,
        copy: str,
        head: int,
        digest: Callable[[int], int],
        *,
        in_sync: bool = False,
        is_async: bool = False,
    ) -> None:
        self.epoch = epoch
        self.copy = copy
        self.here = head
        self.there = 0
        self.needs = in_sync and not is_async
        self.fenced = 0
        self._is_async = is_async
        self._digest = digest
        self._wish: Wish = "enter" if in_sync else "leave"
        self._number = 0
        self._is_noted = True
        self._search: tuple[int, int] | None = None
        self._is_agreed = False
        self._opening = 0

    # -- what may be acknowledged -----------------------------------------------------------------

    @property
    def reached(self) -> int:
        """How many entries may be acknowledged."""
        if self.fenced:
            return 0
        return min(self.here, self.there) if self.needs else self.here

    @property
    def is_complete(self) -> bool:
        """Whether the standby has all entries, and so it is noted."""
        return self.needs and self._is_noted and self._wish == "enter" and self.there >= self.here

    def written(self, head: int) -> None:
        """So many entries are durable here."""
        self.here = head

    # -- the standby ------------------------------------------------------------------------------

    def message(self, entries: Callable[[int], Sequence[bytes]]) -> Shipment | None:
        """What the standby is told next; None while there is nothing. entries: those of this log
        from a position on, as many as one message takes; they may be not yet durable here."""
        if self.fenced:
            return None
        if not self._is_agreed:
            if self._search is None:
                return Shipment(self.epoch, self.copy, self._opening)
            low, high = self._search
            if low == high:
                return Shipment(self.epoch, self.copy, self._opening, trim=low)
            return Shipment(self.epoch, self.copy, self._opening, probe=(low + high) // 2)
        some = tuple(entries(self.there))
        if not some:
            return None
        return Shipment(self.epoch, self.copy, self._opening, first=self.there, entries=some)

    def greeting(self) -> Shipment:
        """A message that tells nothing new: whoever answers is there."""
        return Shipment(self.epoch, self.copy, self._opening, first=self.there)

    def heard(self, sent: Shipment, answer: Arrival) -> None:
        """The standby's answer to a message."""
        if answer.epoch > self.epoch:
            self.fenced = max(self.fenced, answer.epoch)
            return
        if answer.copy != self.copy:  # one of both does not know yet that it is another one
            if not self.needs and self._is_noted:
                self._ask("leave")  # the catalogue's refusal says which it is
            return
        if answer.opening != self._opening:
            if answer.opening < self._opening:
                return  # it was under way for long
            self._opening, self._search, self._is_agreed, self.there = (
                answer.opening,
                None,
                False,
                0,
            )
        if answer.agreed == self.epoch:
            self._is_agreed, self.there = True, answer.head
            self._enter_if_level()
        elif self._search is None:
            self._search = 0, min(answer.head, self.here)
        elif sent.probe >= 0 and sent.opening == self._opening:
            low, high = self._search
            if sent.probe == (low + high) // 2 < high:
                is_same = answer.digest == self._digest(sent.probe)
                self._search = (sent.probe + 1, high) if is_same else (low, sent.probe)

    def _begin_again(self, opening: int) -> None:
        """What is known of the standby's log is of another opening, or another copy."""
        self._opening, self._search, self._is_agreed, self.there = opening, None, False, 0

    def _enter_if_level(self) -> None:
        if self._is_agreed and not self._is_async and not self.needs and self.there >= self.here:
            self.needs = True
            self._ask("enter")

    def dismiss(self) -> None:
        """The standby is to be left behind, and not to come back."""
        self._is_async = True
        self.silent()

    def recall(self, *, is_async: bool) -> None:
        """It may come back: what it was left for did not happen."""
        self._is_async = is_async

    def silent(self) -> None:
        """The standby did not answer for too long."""
        if self.needs and self._wish == "enter":
            self._ask("leave")

    # -- the catalogue ----------------------------------------------------------------------------

    def _ask(self, wish: Wish) -> None:
        self._wish, self._is_noted = wish, False
        self._number += 1

    def request(self) -> Request | None:
        """What the catalogue is asked until it answers; None while there is nothing."""
        if self._is_noted or self.fenced:
            return None
        return Request(self.epoch, self.copy, self._number, self._wish)

    def noted(self, request: Request) -> None:
        """The catalogue has noted a request."""
        if request == self.request():
            self._is_noted = True
            if self._wish == "leave":
                # It comes back with its next word, not by what it said before.
                self.needs, self._is_agreed = False, False

    def refused(self, request: Request, copies: Copies) -> None:
        """The catalogue refused it: another epoch is in force, or the standby has other files."""
        if request != self.request():
            return
        if copies.promised or copies.epoch != self.epoch:
            self.fenced = max(copies.epoch, copies.promised, self.epoch + 1)
            return
        # It can only be another one while it is not in sync, so nothing waits for it.
        self.copy, self.needs = copies.copy, False
        self._wish, self._is_noted, self._number = "leave", True, max(self._number, copies.asked)
        self._begin_again(0)
