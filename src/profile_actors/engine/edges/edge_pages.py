"""What travels from a partition to a copy of its profiles elsewhere: where it stands, and pages.

Theory: a copy says where it stands, and is given what was touched since, profiles whole, as of the
moment of each page. While the pages of one pull go on by slot, what was touched meanwhile is not
looked for: the pull ends at the revision of its *first* page, and the next one brings it.
"""

from __future__ import annotations

import msgspec

from profile_actors.columnar.vectors import Array
from profile_actors.engine.fold.touches import NEVER
from profile_actors.engine.reading.profile_columns import ProfileColumns

NO_POSITION = -1


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Where a copy of one partition stands.

    form: of what is copied (``projections``); another form is another copy. epoch: of the process
    that told the revisions. base: everybody touched up to this revision is there. target, slot: of
    the pull under way, the revision at its first page, and the slot before which all is done; slot
    0: none is under way. position: of the partition's log after the last page.
    """

    form: str = ""
    epoch: int = -1
    base: int = NEVER
    target: int = NEVER
    slot: int = 0
    position: int = NO_POSITION


class Page(msgspec.Struct, array_like=True, gc=False):
    """Profiles of one partition as of one moment.

    place: where the copy stands once this is applied. is_complete: it is then equal to the
    partition as it was at that moment. has_more: the next page follows at once. now: the
    partition's, ms. version: of the definitions. total, left: profiles there are, and of them those
    that this pull still has to bring. busy_s: seconds that making this page took, for who does not
    want to be in the way.
    keys: uint64[m, 2], the identity keys of the n profiles of all parts, in their order, the
    profile's own first; ends: int64[n], where each one's keys end. homes: int64[n], the versions of
    their homes, none: 0 each. removed: uint64[r, 2], the profiles that have left; removed_homes:
    likewise.
    """

    place: Place
    is_complete: bool
    has_more: bool
    now: int
    version: int
    total: int
    left: int
    keys: Array
    ends: Array
    parts: list[ProfileColumns]
    homes: Array | None = None
    removed: Array | None = None
    removed_homes: Array | None = None
    busy_s: float = 0.0
