"""What a reactive edge does about a profile that it has not: it asks the store, and keeps it.

Theory: it follows every partition as any edge does, but is told the keys alone of what was touched,
and asks for those that it has. A look-up of one that it has not asks for it, answers with what
comes, and keeps that, so that the next look-up finds it here, and it is followed from then on.

What was asked for may come late: a follower may have been told meanwhile that the profile was
touched again, when it was not here yet. So whoever asks notes when he began, and each page of keys
notes them; what was noted since is answered, and not kept. The first page of a copy begins it, so
it counts as all keys.

While the store does not answer, only one look-up a second waits for it; the others fail at once.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from threading import Lock

import numpy as np

from profile_actors.actors.calls import Remote
from profile_actors.actors.wall_clock import wall_ms
from profile_actors.actors.wire import loads
from profile_actors.columnar.vectors import Array
from profile_actors.engine.edges import edge_copy
from profile_actors.engine.edges.edge_pages import Page, Place
from profile_actors.engine.edges.edge_rows import packed_keys, parted, rows_of
from profile_actors.engine.reading.profile_columns import Elsewhere
from profile_actors.errors import StorageFull, StoreUnavailable
from profile_actors.ingest.identity_keys import BUCKET_SHIFT
from profile_actors.storage.edge_files import EdgeFiles, Generation

TRIES = 3
"""A person may move from one partition to another while she is looked for."""


MISS_WAIT_S = 2.0
"""For an answer of the store."""


AWAY_S = 1.0
"""After a failure, before the store is asked again."""


MAX_NOTED = 100_000
"""Keys that were touched while somebody asks; with more, all count as touched."""


KEYS_PER_CALL = 1_000


Answer = tuple[Page, list[Elsewhere]]


Profiles = list[tuple[bytes, bytes]]


class Misses:
    """Any thread. name: the edge's. remote: a store's actor by its name. applying: held by who
    writes in the edge's files. lack: the error while there is too little room. brought: identities
    that were asked for."""

    def __init__(
        self,
        name: str,
        remote: Callable[[str], Remote],
        applying: Lock,
        lack: Callable[[], StorageFull | None],
    ) -> None:
        self._lack = lack
        self._name = name
        self._remote = remote
        self._applying = applying
        self._assignment: Array | None = None
        self._lock = Lock()
        self._asking = 0
        self._time = 0
        self._noted: dict[bytes, int] = {}
        self._all_noted = 0
        self._away_until = 0.0
        self.brought = 0

    def bring(self, keys: list[bytes], files: EdgeFiles) -> dict[bytes, tuple[bytes, bytes]]:
        """The profiles of identities that are not here, from the store: each one's key and bytes;
        kept for the next look-up if there is room. Raises StoreUnavailable."""
        generation = files.current
        with self._begun() as began:
            pages = self._found(keys)
            with self._applying:
                is_same = files.current is generation and files.coming is None
                if is_same and self._lack() is None:
                    with contextlib.suppress(StorageFull):  # the followers say so
                        self._keep(pages, generation, began, files.about.ttl_s is not None)
        out = {}
        for _, page in pages:
            for key, data in rows_of(page):
                for one in parted(data)[1]:
                    out[one] = key, data
        return out

    def _keep(
        self, pages: list[tuple[int, Page]], generation: Generation, began: int, is_expiring: bool
    ) -> None:
        with generation.writing() as rows:
            for partition, page in pages:
                if edge_copy.standing(rows, partition).place.form == page.place.form:
                    mine = [one for one in rows_of(page) if self._may_keep(one[0], began)]
                    edge_copy.put_profiles(rows, mine, wall_ms(), is_expiring)

    def held_of(self, partition: int, page: Page, generation: Generation) -> Profiles:
        """Of the profiles of a page of keys those that are here, as they are now. Raises
        StoreUnavailable."""
        keys = packed_keys(page.keys)
        if page.removed is not None:
            keys += packed_keys(page.removed)
        with self._applying:  # what is kept from now on is as new, and what was before is seen
            self.note(keys)
            with generation.reading() as rows:
                held = edge_copy.held(rows, page)
        out: Profiles = []
        for first in range(0, len(held), KEYS_PER_CALL):
            now, _ = self._answer(partition, held[first : first + KEYS_PER_CALL])
            if now.place.form != page.place.form:
                raise StoreUnavailable("the definitions have just changed")
            out += rows_of(now)
        return out

    @contextlib.contextmanager
    def _begun(self) -> Iterator[int]:
        """Gives when this began, for ``_may_keep``."""
        with self._lock:
            self._asking += 1
            began = self._time
        try:
            yield began
        finally:
            with self._lock:
                self._asking -= 1
                if not self._asking:
                    self._noted.clear()

    def note(self, keys: list[bytes] | None) -> None:
        """These profiles were touched; None: maybe all."""
        with self._lock:
            self._time += 1
            if keys is None or len(self._noted) + len(keys) > MAX_NOTED:
                self._noted.clear()
                self._all_noted = self._time
            elif self._asking:
                self._noted.update(dict.fromkeys(keys, self._time))

    def _may_keep(self, key: bytes, began: int) -> bool:
        """Whether what was asked for at that time is as new as what the followers have seen."""
        return max(self._all_noted, self._noted.get(key, 0)) <= began

    def _answer(self, partition: int, keys: list[bytes]) -> Answer:
        data = self._remote(f"partition-{partition}").call(
            "project", self._name, Place(), 0.0, b"".join(keys), timeout_s=MISS_WAIT_S
        )
        if data is None:
            raise StoreUnavailable(
                f"expected partition {partition} to know of the edge, got none of its name; it was"
                " deleted, or is just being made"
            )
        found: Answer = loads(data)
        return found

    def _found(self, keys: list[bytes]) -> list[tuple[int, Page]]:
        """The profiles that have these keys, wherever they are: pages, and whose. Raises
        StoreUnavailable."""
        why = "no answer lately"
        if time.monotonic() >= self._away_until:
            try:
                out = self._everywhere(keys)
                self.brought += len(keys)
                return out
            except Exception as error:  # whatever it is, the profile is not to be had now
                self._away_until = time.monotonic() + AWAY_S
                self._assignment = None
                why = f"'{error}'"
        raise StoreUnavailable(
            "expected the store to answer for a profile that the edge has not yet, got"
            f" {why} - at a reactive edge; ask again in a while: those that it has are answered"
        )

    def _everywhere(self, keys: list[bytes]) -> list[tuple[int, Page]]:
        out: list[tuple[int, Page]] = []
        left = keys
        for _ in range(TRIES):
            asked: list[bytes] = []
            homes: list[bytes] = []
            books: list[bytes] = []
            for partition, mine in self._by_owner(left, left).items():
                page, elsewhere = self._answer(partition, mine)
                out.append((partition, page))
                for row, home, book in elsewhere:
                    asked.append(mine[row])
                    homes.append(_packed(*home))
                    books.append(_packed(*book))
            come: set[bytes] = set()
            for partition, mine in self._by_owner(homes, books).items():
                page, _ = self._answer(partition, mine)
                out.append((partition, page))
                come.update(packed_keys(page.keys))
            left = [key for key in asked if key not in come]
            if not left:
                break
        return out

    def _by_owner(self, owners: list[bytes], keys: list[bytes]) -> dict[int, list[bytes]]:
        """Keys by the partition that owns each one's owner, the key of an identity."""
        if self._assignment is None:
            coordinator = self._remote("coordinator")
            self._assignment = coordinator.call("hello", timeout_s=MISS_WAIT_S)[1]
        out: dict[int, list[bytes]] = {}
        for owner, key in zip(owners, keys, strict=True):
            (first,) = np.frombuffer(owner, np.uint64, 1).tolist()
            out.setdefault(int(self._assignment[first >> BUCKET_SHIFT]), []).append(key)
        return out


def _packed(k0: int, k1: int) -> bytes:
    return np.array([k0, k1], np.uint64).tobytes()
