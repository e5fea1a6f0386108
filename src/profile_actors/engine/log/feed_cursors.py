"""How far a reader of the change feed is, in every partition, as a text: its cursor.

Theory: per partition, how many log positions were delivered whole and how many changes of the next
one. An erasure makes logs anew, and what they tell: so a place also says which erasure had last
changed its partition's log, and means nothing once another one has.

Format: ``12.3-40.0``; ``12.3.7`` where it was the seventh erasure, which stores without one never
have; then ``@`` and the restore that the store came from, if it did. Cursors of earlier releases
are of logs that no erasure had changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class FeedPlace(NamedTuple):
    """A place in one partition's feed. position: delivered whole, -1 for none; taken: changes of
    the next one; renewed: the erasure that had last changed the log, None if nothing was read."""

    position: int = -1
    taken: int = 0
    renewed: int | None = None


def cursor_text(places: Iterable[FeedPlace], restored: str) -> str:
    """A cursor, a place for each partition. restored: see ``StoreSettings``."""
    text = "-".join(
        f"{place.position + 1}.{place.taken}" + (f".{place.renewed}" if place.renewed else "")
        for place in places
    )
    return f"{text}@{restored}" if restored else text


def cursor_places(cursor: str, partitions: int) -> tuple[list[FeedPlace], str]:
    """The places of a cursor, and the restore. Raises ValueError for a text that is none."""
    text, _, restored = cursor.partition("@")
    places = [_place(*map(int, place.split("."))) for place in text.split("-")]
    if len(places) != partitions:
        raise ValueError(cursor)
    return places, restored


def _place(position: int, taken: int, renewed: int = 0) -> FeedPlace:
    if not 0 <= min(position, taken, renewed) <= max(position, taken, renewed) < 2**63:
        raise ValueError(position, taken, renewed)
    is_begun = position or taken
    return FeedPlace(position - 1, taken, renewed if is_begun else None)
