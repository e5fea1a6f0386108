"""Which copy of a log is in force: what the catalogue says of a primary and its standby.

Theory: a log has one *primary*, which writes it, and may have a *standby*, which is given every
entry. The catalogue keeps one ``Copies`` per log, and each step below is one durable change of it:

    opened      the primary opens its log under a new epoch; requests of older epochs are void
    entered     the standby has all that is acknowledged, and from now on nothing is without it
    left        the standby does not answer; only now may the primary go on alone
    renewed     the primary's log was made anew: the standby begins with nothing
    promised    a promotion begins: from now on the primary can neither enter nor leave, so what it
                acknowledges the standby has, until that is told the new epoch and refuses the old
    promoted    the standby knows the new epoch: it is the primary, and the old one its standby
    abandoned   a promotion that was not completed is taken back

So only a copy that has everything acknowledged is ever promoted, and of one epoch only one copy can
acknowledge. Requests are numbered within an epoch: one that was under way for long, or comes twice,
changes nothing.

Rules for editors: pure. A step returns the changed record, the same one if it was made before, and
raises ``Refused`` with the reason otherwise.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import structs

Wish = Literal["enter", "leave"]


class Refused(Exception):
    """A step that may not be made; the text says why."""


class Copies(msgspec.Struct, frozen=True, kw_only=True):
    """See the module. primary, standby: ids of disks, "" where there is none. copy: the id of the
    standby's files: a disk that lost them is another copy. epoch: the newest given to a primary.
    asked, wish: number and kind of the primary's last request in that epoch. is_async: entries are
    acknowledged before the standby has them. promised: the epoch of a promotion under way, else 0.
    is_anew: what the disk of the standby, or of the next one, has is to be deleted first. since:
    the epoch of the last promotion; what was read of another copy before it may say otherwise of
    the same log segment.
    """

    primary: str
    standby: str = ""
    copy: str = ""
    epoch: int = 0
    in_sync: bool = False
    asked: int = 0
    wish: Wish = "leave"
    is_async: bool = False
    promised: int = 0
    is_anew: bool = False
    since: int = 0


class Request(msgspec.Struct, frozen=True, array_like=True):
    """What the primary of an epoch asks to be noted of its standby, ``copy``."""

    epoch: int
    copy: str
    number: int
    wish: Wish


def opened(copies: Copies, disk: str, epoch: int) -> Copies:
    """The copy on ``disk`` opens as the primary, under an epoch above all before."""
    if copies.promised:
        raise Refused(f"its standby on disk {copies.standby} is being promoted")
    if disk != copies.primary:
        raise Refused(f"the primary is on disk {copies.primary}, this is disk {disk}")
    if epoch <= copies.epoch:
        raise Refused(f"epoch {epoch} is not above {copies.epoch}")
    return structs.replace(copies, epoch=epoch, asked=0, wish="leave")


def asked(copies: Copies, request: Request) -> Copies:
    """The primary of an epoch says that its standby entered, or that it left."""
    epoch, number, wish = request.epoch, request.number, request.wish
    if copies.promised or epoch != copies.epoch:
        raise Refused(
            f"epoch {max(copies.epoch, copies.promised)} is in force, the request is of {epoch}"
        )
    if (number, wish) == (copies.asked, copies.wish):
        return copies
    if number <= copies.asked:
        raise Refused(f"request {copies.asked} was heard already, this is {number}")
    if request.copy != copies.copy:
        raise Refused(
            f"the standby is copy {copies.copy or 'none'}, the request is of {request.copy}"
        )
    in_sync = wish == "enter" and not copies.is_async
    return structs.replace(copies, asked=number, wish=wish, in_sync=in_sync)


def placed(copies: Copies, standby: str, copy: str, *, is_async: bool = False) -> Copies:
    """The log is to have a standby on that disk, whose files have a new id, ``copy``; "" for none.
    One that is in sync may be the only copy that is left: its primary lets it go first, which shows
    that there is one. What another disk has of an earlier time may say otherwise in its midst, or
    have what was erased since: it begins with nothing."""
    if copies.promised:
        raise Refused(f"its standby on disk {copies.standby} is being promoted")
    if copies.in_sync:
        raise Refused(f"the standby on disk {copies.standby} is in sync")
    is_anew = copies.is_anew or standby != copies.standby
    return structs.replace(
        copies, standby=standby, copy=copy, in_sync=False, is_async=is_async, is_anew=is_anew
    )


def renewed(copies: Copies, copy: str) -> Copies:
    """The primary says that its log was made anew, and is another one for its standby."""
    if copies.promised:
        raise Refused(f"its standby on disk {copies.standby} is being promoted")
    return structs.replace(copies, copy=copy, in_sync=False, is_anew=True)


def begun(copies: Copies, copy: str) -> Copies:
    """The standby has this id, and nothing of before."""
    return structs.replace(copies, is_anew=copies.is_anew and copies.copy != copy)


def promised(copies: Copies, epoch: int, *, accept_loss: bool = False) -> Copies:
    """Begin to promote the standby under an epoch above all before; again, it is the same one."""
    if copies.promised:
        return copies
    if not copies.standby:
        raise Refused("it has no standby")
    if copies.is_anew:
        raise Refused(
            f"the standby on disk {copies.standby} has not begun: what that disk has is of before"
        )
    if not copies.in_sync and not accept_loss:
        raise Refused(f"the standby on disk {copies.standby} has not all that was acknowledged")
    if epoch <= copies.epoch:
        raise Refused(f"epoch {epoch} is not above {copies.epoch}")
    return structs.replace(copies, promised=epoch)


def promoted(copies: Copies, epoch: int, copy: str) -> Copies:
    """The standby has taken ``epoch``. copy: the id that the old primary's files have from now on,
    as the standby's."""
    if copies.promised != epoch:
        raise Refused(f"a promotion under epoch {copies.promised} goes on, this is {epoch}")
    return structs.replace(
        copies, primary=copies.standby, standby=copies.primary, copy=copy, epoch=epoch,
        in_sync=False, asked=0, wish="leave", promised=0, since=epoch,
    )  # fmt: skip


def abandoned(copies: Copies) -> Copies:
    """Take a promotion back that is not completed. The standby may know the new epoch already: the
    primary must be opened anew, above it."""
    return structs.replace(copies, epoch=max(copies.epoch, copies.promised), promised=0)
