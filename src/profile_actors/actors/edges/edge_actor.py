"""One edge as a Ray actor: follows every partition, answers look-ups from its own files.

Theory: thin. One thread per partition asks it for what was touched since the revision that the
files have (``PartitionActor.project``, which waits until there is something), and applies page by
page. Cut off it asks again and again, and answers from what it has; what is then past its
``valid_until`` it calls stale. It is named, detached and restarts without limit; files that are
damaged, or from before the machine's last start, are made anew.

What is copied is the hub's to say: a page of another *form* than that of the files begins another
generation beside them, which takes their place when every partition has been copied.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from pathlib import Path
from threading import Event, Lock, Thread

import msgspec
import ray

from profile_actors.actors.calls import Remote, Session
from profile_actors.actors.wall_clock import wall_ms
from profile_actors.actors.wire import dumps, loads
from profile_actors.config import Config
from profile_actors.definitions.declared import Catalogue
from profile_actors.engine.edges import edge_copy
from profile_actors.engine.edges.edge_copy import PROFILES, Standing, apply_page, standing
from profile_actors.engine.edges.edge_pages import Page
from profile_actors.engine.edges.edge_rows import KEY_BYTES, parted
from profile_actors.errors import CorruptLog, ProfileActorsError, StoreUnavailable
from profile_actors.storage.edge_files import EdgeFiles, EdgeIndex, Generation

SWITCH_INTERVAL_S = 0.0005


WAIT_S = 2.0
"""How long a partition that has nothing new is waited for in one call."""


BACK_OFF_S = 0.2
"""After a call that failed, and where a partition does not know of this edge yet."""


PAUSES = 3.0
"""While rows come in, pages are followed by pauses of so many lengths of their making at the hub:
ingest keeps most of its speed."""


TTL_LOOK_S = 1.0


TTL_PROFILES = 2_000
"""How often profiles are looked at for whether they stay, and how many at a time."""


class EdgePlace(msgspec.Struct, frozen=True):
    """What an edge actor is started with. namespace: Ray's; about: the store, for its files."""

    namespace: str
    name: str
    path: str
    about: EdgeIndex
    ttl_s: int | None
    config: Config


class EdgeStatus(msgspec.Struct, frozen=True):
    """An edge's account of itself.

    profiles, bytes: what it has. is_complete: it has been equal to every partition since it began.
    progress: of a copy under way, the share of profiles that it has, 0 to 1; else 1. lag_ms: how
    long ago it last knew that it had everything. positions: per partition, the log entries that it
    has; lag_entries: how many more there were, over all partitions. expired: profiles that left
    since it was started because nobody asked (``ttl_s``). trouble: why it does not get on, or
    empty.
    """

    profiles: int
    bytes: int
    is_complete: bool
    progress: float
    lag_ms: int
    positions: list[int]
    lookups: int
    expired: int
    trouble: str
    pid: int
    path: str
    lag_entries: int = 0


class EdgeActor:
    """The shell; see the module."""

    def __init__(self, place: EdgePlace) -> None:
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._place = place
        self._applying = Lock()
        self._stopped = Event()
        self._standings: dict[int, Standing] = {}
        self._current_at = dict.fromkeys(range(place.about.partitions), 0)
        self._lookups = self._expired = 0
        self._seen: dict[bytes, None] = {}
        self._trouble = ""
        self._damage = ""
        self._catalogue_version = -1
        config = place.config
        self._session = Session(place.path, place.namespace)
        self._files = EdgeFiles(Path(place.path), place.about, config.edge_map_bytes)
        try:
            self._load()
        except (ProfileActorsError, msgspec.MsgspecError):
            self._begin_anew()
        threads = [Thread(target=self._follow, args=(i,)) for i in self._current_at]
        if place.ttl_s is not None:
            threads.append(Thread(target=self._expire))
        for thread in threads:
            thread.daemon = True
            thread.start()

    def _load(self) -> None:
        with self._files.current.reading() as rows:
            for partition in self._current_at:
                self._standings[partition] = standing(rows, partition)

    def _begin_anew(self) -> None:
        self._files.begin_anew()
        self._standings = {}
        self._damage = ""

    # -- following --------------------------------------------------------------------------------

    def _remote(self, name: str) -> Remote:
        actor = ray.get_actor(name, namespace=self._place.namespace)
        return Remote(actor, name, self._place.config.call_timeout_s, self._session)

    def _follow(self, partition: int) -> None:
        remote: Remote | None = None
        while not self._stopped.is_set():
            try:
                remote = remote or self._remote(f"partition-{partition}")
                self._turn(remote, partition)
                self._trouble = ""
            except (CorruptLog, struct.error, msgspec.MsgspecError) as error:
                self._trouble = f"the files were damaged, and are made anew: {error}"
                with self._applying:
                    self._begin_anew()
            except Exception as error:  # whatever it is, the next turn tries again
                remote = None
                self._trouble = f"{type(error).__name__}: {error}"
                self._stopped.wait(BACK_OFF_S)

    def _turn(self, remote: Remote, partition: int) -> None:
        """One page."""
        if self._damage:
            raise CorruptLog(self._damage)
        generation = self._files.coming or self._files.current
        with generation.reading() as rows:
            known = standing(rows, partition)
        if known.is_complete and generation is self._files.current:
            self._current_at[partition] = time.monotonic_ns()
        data = remote.call("project", self._place.name, known.place, WAIT_S)
        if data is None:  # not told of this edge yet, or not any more
            self._stopped.wait(BACK_OFF_S)
            return
        page: Page = loads(data)
        with self._applying:
            self._apply(partition, page, generation)
        self._tell_readers(page)
        if page.busy_s and not self._stopped.is_set():
            self._stopped.wait(PAUSES * page.busy_s)

    def _apply(self, partition: int, page: Page, asked: Generation) -> None:
        files = self._files
        generation = files.coming or files.current
        if generation is not asked:  # another thread has begun a new one meanwhile
            return
        version, form = self._newest(generation)
        if form and page.place.form != form:
            if page.version < version:  # a partition that has not heard of it yet
                self._stopped.wait(BACK_OFF_S)
                return
            generation = files.begin()
        with generation.writing() as rows:
            made = apply_page(rows, partition, page, wall_ms(), self._place.ttl_s is not None)
        if generation is files.coming:
            with generation.reading() as rows:
                every = [standing(rows, i) for i in self._current_at]
            if not all(one.has_all for one in every):
                return
            files.swap()
            self._standings = dict(enumerate(every))
        self._standings[partition] = made
        if made.is_complete:
            self._current_at[partition] = time.monotonic_ns()

    def _newest(self, generation: Generation) -> tuple[int, str]:
        """The newest definitions that a copy knows, and its form."""
        with generation.reading() as rows:
            every = [standing(rows, partition) for partition in self._current_at]
        newest = max(every, key=lambda one: one.version)
        return newest.version, newest.place.form

    def _tell_readers(self, page: Page) -> None:
        """Readers of the files need the namespaces of the definitions."""
        if page.version > self._catalogue_version:
            catalogue: Catalogue = self._remote("coordinator").call("catalogue")
            with self._applying:
                self._files.tell(catalogue.namespaces)
                self._catalogue_version = page.version

    def _expire(self) -> None:
        """Profiles that nobody has touched or looked up leave, a few at a time."""
        assert self._place.ttl_s is not None
        after = b""
        while not self._stopped.wait(TTL_LOOK_S):
            seen, self._seen = self._seen, {}
            try:
                with self._applying, self._files.current.writing() as rows:
                    now = wall_ms()
                    edge_copy.note_seen(rows, list(seen), now)
                    before = now - 1000 * self._place.ttl_s
                    gone, after = edge_copy.expire(rows, before, after, TTL_PROFILES)
                    self._expired += gone
            except ProfileActorsError as error:
                self._trouble = str(error)

    # -- answers ----------------------------------------------------------------------------------

    @ray.method(concurrency_group="read")
    def read(self, keys: bytes) -> bytes:
        """Profiles by identity keys, 16 bytes each: (now, sizes, their bodies in one), of size -1
        where nobody has one."""
        try:
            return self._read(keys)
        except (CorruptLog, struct.error) as error:
            self._damage = str(error) or "damaged"
            raise StoreUnavailable(
                f"expected whole files, got '{error}' - at {self._place.path}; they are made anew:"
                " ask again in a while, or ask the store"
            ) from None

    @ray.method(concurrency_group="read")
    def renew(self, damage: str) -> None:
        """The files are damaged: make them anew."""
        self._damage = damage or "damaged"

    def _read(self, keys: bytes) -> bytes:
        asked = [keys[at : at + KEY_BYTES] for at in range(0, len(keys), KEY_BYTES)]
        sizes, bodies = [], []
        is_expiring = self._place.ttl_s is not None
        with self._files.current.reading() as rows:
            for key in asked:
                found = edge_copy.found(rows, key)
                if found is None:
                    sizes.append(-1)
                    continue
                if is_expiring:
                    self._seen[found[0]] = None
                body = parted(found[1])[2]
                sizes.append(len(body))
                bodies.append(body)
            data = b"".join(bodies)
        self._lookups += len(asked)
        return dumps((self.now(), sizes, data))

    @ray.method(concurrency_group="read")
    def keys(self, after: bytes, limit: int) -> list[bytes]:
        """Keys of profiles after one, in their order, to compare."""
        with self._files.current.reading() as rows:
            return [key for key, _ in rows.after(PROFILES, after, limit)]

    def now(self) -> int:
        """The edge's instant, ms: the wall clock's, or the newest that a partition has sent."""
        if self._place.about.clock == "wall":
            return wall_ms()
        return max((one.now for one in self._standings.values()), default=0)

    @ray.method(concurrency_group="read")
    def status(self) -> EdgeStatus:
        """The edge's account of itself."""
        files, every = self._files, list(self._standings.values())
        shown = every
        if files.coming is not None:
            with files.coming.reading() as rows:
                shown = [standing(rows, i) for i in self._current_at]
        total = sum(one.total for one in shown)
        left = sum(one.left for one in shown if not one.has_all)
        has_all = len(every) == len(self._current_at) and all(one.has_all for one in every)
        oldest = min(self._current_at.values())
        lag_ms = (time.monotonic_ns() - oldest) // 1_000_000
        is_current = lag_ms <= 2_000 * WAIT_S and all(one.is_complete for one in every)
        return EdgeStatus(
            profiles=files.current.count(PROFILES),
            bytes=files.current.size_bytes(),
            is_complete=has_all,
            progress=1.0 if not left else 1 - left / max(1, total),
            lag_ms=0 if is_current and oldest else lag_ms,
            positions=[
                max(0, self._standings.get(i, Standing()).place.base >> 24)
                for i in self._current_at
            ],
            lookups=self._lookups,
            expired=self._expired,
            trouble=self._trouble,
            pid=os.getpid(),
            path=self._place.path,
        )

    def hello(self) -> None:
        """It is there."""

    def stop(self) -> None:
        """Let go of the files. The actor can be killed then."""
        self._stopped.set()
        self._session.is_closed = True
        with self._applying:
            self._files.close()
