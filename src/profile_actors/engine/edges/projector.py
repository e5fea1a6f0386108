"""The hub's side of a copy: the profiles that were touched since a revision, page by page.

Theory: one pass over the touched column finds them; their values are read as any look-up's, under
one hold of the partition's lock, by columns. A page is bounded by bytes, since a profile may have
ten attributes or ten thousand: how many profiles fit is learned from the page before, and a page
that came out too large is made again, shorter.

The page at which nothing more is left, and before which nothing was touched since the pull's first
page, makes the copy equal to the partition at that moment: it says so (``is_complete``).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import msgspec
import numpy as np

from profile_actors.columnar.vectors import Array
from profile_actors.engine.edges.edge_pages import Page, Place
from profile_actors.engine.fold.state import State
from profile_actors.engine.fold.touches import NEVER, floor, position_of
from profile_actors.engine.reading.fields import Fields
from profile_actors.engine.reading.profile_columns import Elsewhere, ProfileColumns
from profile_actors.engine.reading.reader import Copied, Reader

FIRST_PAGE = 128
"""Profiles of the first page of all, of which nobody knows how large they are."""


ROOM = 0.8
"""How much of a page is aimed at, so that few have to be made again."""


class Projector:
    """Pages of one partition. Any thread. page_profiles: how many a page has at most, which bounds
    how long it holds the lock."""

    def __init__(
        self, state: State, reader: Reader, lock: threading.RLock, epoch: int, page_profiles: int
    ) -> None:
        self._state = state
        self._reader = reader
        self._lock = lock
        self._epoch = epoch
        self._most = page_profiles
        self._fitting = min(FIRST_PAGE, page_profiles)

    def page(
        self, fields: Fields, form: str, place: Place, now: int | None, limit_bytes: int
    ) -> Page:
        """The next page of a copy that has this form and stands there. now: ms, at least the
        partition's; None: that. Cost: a pass over the touched column, and a look-up of the page's
        profiles. One profile that is larger than the limit goes alone."""
        place = self._understood(form, place)
        count = self._fitting
        while True:
            made = self._made(fields, place, now, count)
            size = sum(map(wire_bytes, made.parts))
            if size > 0:
                fit = int(ROOM * limit_bytes * len(made.ends) / size)
                self._fitting = min(self._most, max(1, fit))
            if size <= limit_bytes or len(made.ends) == 1:
                return made
            count = min(self._fitting, len(made.ends) // 2)

    def _understood(self, form: str, place: Place) -> Place:
        """A copy's place in this process's revisions. One of another form, or of more entries than
        there are, is of no use: it begins anew."""
        if place.form != form or position_of(place.base) > self._state.position:
            return Place(form, self._epoch)
        if place.epoch == self._epoch:
            return place
        return Place(form, self._epoch, floor(place.base), floor(place.target), place.slot)

    def _made(self, fields: Fields, place: Place, now: int | None, count: int) -> Page:
        state = self._state
        with self._lock:
            touches, known = state.touches, state.profiles
            reached = touches.reached
            target = place.target if place.slot else reached
            dirty = (touches.column[place.slot : known] > place.base).nonzero()[0]
            slots = dirty[:count] + place.slot
            left = len(dirty) - len(slots)
            listed = state.listed(slots)
            removed, removed_homes = self._gone(np.setdiff1d(slots, listed))
            copied = self._reader.copied(listed, now, fields)
            instant = state.now if now is None else max(state.now, now)
            version = state.catalogue.version
        return msgspec.structs.replace(
            self._page(copied, fields, self._after(place, target, slots, left), instant, version),
            is_complete=not left and target == reached,
            has_more=bool(left),
            total=known,
            left=left,
            removed=removed,
            removed_homes=removed_homes,
        )

    def of(
        self, fields: Fields, form: str, keys: Array, now: int | None
    ) -> tuple[Page, list[Elsewhere]]:
        """The profiles here that have these identity keys (uint64[n, 2]), as a page that brings a
        copy no further; and those who are shown by another partition. now: as ``page``."""
        state, reader = self._state, self._reader
        with self._lock:
            idents, elsewhere = reader.shown(keys, state.directory.find(keys[:, 0], keys[:, 1]))
            known = idents[(idents >= 0) & (idents < state.known)]
            slots = np.unique(state.directory.slot_of.take(known).astype(np.intp))
            copied = reader.copied(slots, now, fields)
            instant = state.now if now is None else max(state.now, now)
            version = state.catalogue.version
        return self._page(copied, fields, Place(form, self._epoch), instant, version), elsewhere

    def _page(self, copied: Copied, fields: Fields, place: Place, now: int, version: int) -> Page:
        """A page of what was copied under the lock. Without it."""
        found, parts = self._reader.parts(copied, fields)
        slots = np.concatenate(found) if found else copied.slots[:0]
        keys, ends, homes = self._identities(self._state.directory.ident_of[slots])
        return Page(place, False, False, now, version, 0, 0, keys, ends, parts, homes)

    def _identities(self, idents: Array) -> tuple[Array, Array, Array | None]:
        """The keys of all identities of profiles, each one's smallest first, where each one's end,
        and the versions of their homes. Under no lock: a book's members as of its last showing."""
        state = self._state
        if not state.homes.books:
            return state.directory.keys_of(idents), np.arange(1, len(idents) + 1), None
        own = state.directory.keys_of(idents).tolist()
        keys: list[Sequence[int]] = []
        ends, homes = [], []
        for ident, key in zip(idents.tolist(), own, strict=True):
            book = state.homes.book_of(ident)
            keys += [key] if book is None else [one.key for one in book.identities]
            ends.append(len(keys))
            homes.append(0 if book is None else book.version)
        return np.array(keys, np.uint64).reshape(-1, 2), np.array(ends, np.int64), np.array(homes)

    def _gone(self, slots: Array) -> tuple[Array | None, Array | None]:
        """The keys of those who are listed here no more, and the versions of where they are shown.
        The caller holds the lock."""
        state = self._state
        keys, homes = [], []
        for ident in state.directory.ident_of[slots].tolist():
            one, present, version = state.homes.present(ident, state.position)
            if one is not None and present < 0 and version:
                keys.append(one.key)
                homes.append(version)
        if not keys:
            return None, None
        return np.array(keys, np.uint64), np.array(homes)

    def _after(self, place: Place, target: int, slots: Array, left: int) -> Place:
        if left:
            return Place(place.form, self._epoch, place.base, target, int(slots[-1]) + 1)
        return Place(place.form, self._epoch, target, NEVER, 0)


def wire_bytes(columns: ProfileColumns) -> int:
    """About how many bytes some profiles are on their way."""
    arrays = [
        columns.modified, columns.ends, columns.segment, columns.status, columns.last,
        columns.until, columns.validity, *(of.values for of in columns.numbers),
    ]  # fmt: skip
    texts = sum(map(len, columns.ids)) + 4 * len(columns.ids)
    documents = msgspec.msgpack.encode((columns.attributes, columns.plain), enc_hook=str)
    return sum(array.nbytes for array in arrays) + texts + len(documents)
