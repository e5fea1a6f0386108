"""One edge as a Ray actor: follows every partition, answers look-ups from its own files.

Theory: thin. One thread per partition asks it for what was touched since the revision that the
files have (``PartitionActor.project``, which waits until there is something), and applies page by
page. Cut off it asks again and again, and answers from what it has; what is then past its
``valid_until`` it calls stale: whatever is wrong at the hub, the copy here is good. It is named,
detached and restarts without limit; files that are damaged, or from before the machine's last
start, are made anew. Files that cannot be opened just now are tried again.

What is copied is the hub's to say: a page of another *form* than that of the files begins another
generation beside them, which takes their place when every partition has been copied.
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Lock, Thread

import msgspec
import ray

from profile_actors.actors.calls import Remote, Session
from profile_actors.actors.edges.edge_accounts import EdgePlace, EdgeStatus
from profile_actors.actors.edges.edge_misses import Misses, Profiles
from profile_actors.actors.read_line import ReadLine
from profile_actors.actors.wall_clock import wall_ms
from profile_actors.actors.wire import dumps, loads
from profile_actors.definitions.declared import Catalogue
from profile_actors.engine.edges import edge_copy
from profile_actors.engine.edges.edge_copy import PROFILES, Standing, apply_page, standing
from profile_actors.engine.edges.edge_pages import Page
from profile_actors.engine.edges.edge_rows import KEY_BYTES, body_of
from profile_actors.errors import UNDECODED, CorruptLog, ProfileActorsError, StoreUnavailable
from profile_actors.storage.edge_files import EdgeFiles, Generation
from profile_actors.storage.files.atomic_files import Room
from profile_actors.storage.files.lock import boot_id

SWITCH_INTERVAL_S = 0.0005


READ_THREADS = 8


LOOKS_AT_ONCE = 2
"""Of direct lines. More threads only take the interpreter's lock from each other at each of LMDB's
reads: eight at once looked up 0.7 times as many."""


WAIT_S = 2.0
"""How long a partition that has nothing new is waited for in one call."""


BACK_OFF_S = 0.2
"""After a call that failed, and where a partition does not know of this edge yet."""


PAUSES = 5.0
"""While rows come in, pages are followed by pauses of so many lengths of their making and taking:
ingest keeps five sixths of its speed."""


TTL_LOOK_S = 1.0


TTL_PROFILES = 2_000
"""How often profiles are looked at for whether they stay, and how many at a time."""


class HubAway(Exception):
    """The hub gave no answer, for whatever reason: that says nothing of the files here."""


@contextlib.contextmanager
def asking_the_hub() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a partition's own damage, too
        raise HubAway(f"{type(error).__name__}: {error}") from error


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
        self._troubles: dict[str, str] = {}
        self._damage = ""
        self._catalogue_version = -1
        self._session = Session(place.path, place.namespace)
        is_reactive = place.about.policy == "reactive"
        self._room = room = Room(Path(place.path), place.config.min_free_bytes)
        misses = Misses(place.name, self._remote, self._applying, room.lack)
        self._misses = misses if is_reactive else None
        at_once = READ_THREADS if is_reactive else LOOKS_AT_ONCE  # some of them wait for the store
        self._line = ReadLine(self._read, place.config.max_read_lines, at_once)
        self._opened: EdgeFiles | None = None
        self._open()
        if self._opened is None:
            self._start(self._open_later)

    def _start(self, run: Callable[..., None], *args: int) -> None:
        Thread(target=run, args=args, daemon=True).start()

    def _open_later(self) -> None:
        while self._opened is None and not self._stopped.wait(BACK_OFF_S):
            self._open()

    def _open(self) -> None:
        """Open the files, if that is possible now, and follow."""
        place = self._place
        about = msgspec.structs.replace(place.about, boot=boot_id())
        try:
            with self._applying:
                if self._stopped.is_set():
                    return
                path, size = Path(place.path), place.config.edge_map_bytes
                self._opened = EdgeFiles(path, about, size)
        except Exception as error:  # a full disk, say, or another process is just leaving them
            self._troubles["files"] = f"{type(error).__name__}: {error}"
            return
        self._troubles.pop("files", None)
        try:
            self._load()
        except (ProfileActorsError, struct.error, *UNDECODED) as error:
            self._damage = str(error) or "damaged"
        for partition in self._current_at:
            self._start(self._follow, partition)
        if about.ttl_s is not None:
            self._start(self._expire)

    @property
    def _files(self) -> EdgeFiles:
        if self._opened is None:
            raise StoreUnavailable(
                f"expected open files, got none yet ({self._trouble() or 'just begun'}) - at"
                f" {self._place.path}; ask again in a while, or ask the store"
            )
        return self._opened

    def _trouble(self) -> str:
        return next(iter(list(self._troubles.values())), "")

    def _load(self) -> None:
        with self._files.current.reading() as rows:
            for partition in self._current_at:
                self._standings[partition] = standing(rows, partition)

    def _begin_anew(self) -> None:
        with self._applying:
            if self._damage and not self._stopped.is_set():  # no other thread has meanwhile
                self._files.begin_anew()
                self._standings = {}
                self._damage = ""

    # -- following --------------------------------------------------------------------------------

    def _remote(self, name: str) -> Remote:
        actor = ray.get_actor(name, namespace=self._place.namespace)
        return Remote(actor, name, self._place.config.call_timeout_s, self._session)

    def _follow(self, partition: int) -> None:
        remote: Remote | None = None
        name = f"partition-{partition}"
        while not self._stopped.is_set():
            try:
                if self._damage:
                    self._begin_anew()
                with asking_the_hub():
                    remote = remote or self._remote(name)
                self._turn(remote, partition)
                self._troubles.pop(name, None)
                continue
            except (CorruptLog, struct.error, *UNDECODED) as error:
                self._damage = str(error) or "damaged"
                self._troubles[name] = f"the files were damaged, and are made anew: {error}"
            except HubAway as error:
                remote = None
                self._troubles[name] = str(error)
            except Exception as error:  # whatever it is, the next turn tries again
                self._troubles[name] = f"{type(error).__name__}: {error}"
            self._stopped.wait(BACK_OFF_S)

    def _turn(self, remote: Remote, partition: int) -> None:
        """One page."""
        with self._applying:
            self._files.check_place()
            self._files.let_go(time.monotonic())
        self._room.check()
        generation = self._files.coming or self._files.current
        with generation.reading() as rows:
            known = standing(rows, partition)
        with asking_the_hub():
            data = remote.call("project", self._place.name, known.place, WAIT_S)
            begun_s = time.thread_time()
            page: Page | None = None if data is None else loads(data)
        if page is None:  # not told of this edge yet, or not any more
            self._stopped.wait(BACK_OFF_S)
            return
        mine = None
        if self._misses is not None:
            with asking_the_hub():
                mine = self._misses.held_of(partition, page, generation)
        with self._applying:
            is_heard = self._stopped.is_set() or self._apply(partition, page, generation, mine)
        if not is_heard:
            self._stopped.wait(BACK_OFF_S)
            return
        self._tell_readers(page)
        if page.busy_s and not self._stopped.is_set():
            own_s = time.thread_time() - begun_s  # the same cores, where the edge is beside the hub
            self._stopped.wait(PAUSES * (page.busy_s + own_s))

    def _apply(self, partition: int, page: Page, asked: Generation, mine: Profiles | None) -> bool:
        """Whether the partition has heard of the newest definitions; else the page is of no use.
        mine: those of its profiles that are to be here, None: all."""
        files = self._files
        generation = files.coming or files.current
        if generation is not asked:  # another thread has begun a new one meanwhile
            return True
        version, form = self._newest(generation)
        if form and page.place.form != form:
            if page.version < version:
                return False
            generation = files.begin()
        is_expiring = self._place.about.ttl_s is not None
        with generation.writing() as rows:
            if self._misses and standing(rows, partition).place.form != page.place.form:
                self._misses.note(None)
            made = apply_page(rows, partition, page, wall_ms(), is_expiring, mine)
        if generation is files.coming:
            with generation.reading() as rows:
                every = [standing(rows, i) for i in self._current_at]
            if not all(one.has_all for one in every):
                return True
            files.swap()
            self._standings = dict(enumerate(every))
        self._standings[partition] = made
        if made.is_complete:
            self._current_at[partition] = time.monotonic_ns()
        return True

    def _newest(self, generation: Generation) -> tuple[int, str]:
        """The newest definitions that a copy knows, and its form."""
        with generation.reading() as rows:
            every = [standing(rows, partition) for partition in self._current_at]
        newest = max(every, key=lambda one: one.version)
        return newest.version, newest.place.form

    def _tell_readers(self, page: Page) -> None:
        """Readers of the files need the namespaces of the definitions."""
        if page.version > self._catalogue_version:
            with asking_the_hub():
                catalogue: Catalogue = self._remote("coordinator").call("catalogue")
            with self._applying:
                if not self._stopped.is_set():
                    self._files.tell(catalogue.namespaces)
                    self._catalogue_version = page.version

    def _expire(self) -> None:
        """Profiles that nobody has touched or looked up leave, a few at a time."""
        ttl_s = self._place.about.ttl_s
        assert ttl_s is not None
        after = b""
        while not self._stopped.wait(TTL_LOOK_S):
            seen, self._seen = self._seen, {}
            try:
                with self._applying, self._files.current.writing() as rows:
                    now = wall_ms()
                    edge_copy.note_seen(rows, list(seen), now)
                    before = now - 1000 * ttl_s
                    gone, after = edge_copy.expire(rows, before, after, TTL_PROFILES)
                    self._expired += gone
                self._troubles.pop("ttl_s", None)
            except Exception as error:  # the followers mend what is damaged
                self._troubles["ttl_s"] = f"{type(error).__name__}: {error}"

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
    def line(self) -> tuple[str, bytes] | None:
        """Where processes of this machine may ask what ``read`` answers, without Ray, and what they
        prove there (``read_line``)."""
        return self._line.address()

    @ray.method(concurrency_group="read")
    def renew(self, damage: str) -> None:
        """The files are damaged: make them anew."""
        self._damage = damage or "damaged"

    def _read(self, keys: bytes) -> bytes:
        asked = [keys[at : at + KEY_BYTES] for at in range(0, len(keys), KEY_BYTES)]
        sizes, bodies = [], []
        is_expiring = self._place.about.ttl_s is not None
        with self._files.current.reading() as rows:
            every = edge_copy.found_of(rows, asked)
        if self._misses is not None:
            missed = [key for key, found in zip(asked, every, strict=True) if found is None]
            brought = self._misses.bring(missed, self._files) if missed else {}
            every = [found or brought.get(key) for key, found in zip(asked, every, strict=True)]
        for found in every:
            if found is None:
                sizes.append(-1)
                continue
            if is_expiring:
                self._seen[found[0]] = None
            body = body_of(found[1])
            sizes.append(len(body))
            bodies.append(body)
        self._lookups += len(asked)
        return dumps((self.now(), sizes, b"".join(bodies)))

    @ray.method(concurrency_group="read")
    def keys(self, after: bytes, limit: int) -> list[bytes]:
        """Keys of profiles after one, in their order, to compare."""
        with self._files.current.reading() as rows:
            return [key for key, _ in rows.after(PROFILES, after, limit)]

    def now(self) -> int:
        """The edge's instant, ms: the wall clock's, or the newest that a partition has sent."""
        if self._place.about.clock == "wall":
            return wall_ms()
        return max((one.now for one in list(self._standings.values())), default=0)

    @ray.method(concurrency_group="read")
    def status(self) -> EdgeStatus:
        """The edge's account of itself."""
        profiles = size = 0
        with self._applying:  # nothing begins or ends meanwhile
            shown = every = list(self._standings.values())
            files = self._opened
            if files is not None and not self._stopped.is_set():
                with contextlib.suppress(CorruptLog, OSError, struct.error, *UNDECODED):
                    profiles, size = files.current.count(PROFILES), files.current.size_bytes()
                    if files.coming is not None:
                        with files.coming.reading() as rows:
                            shown = [standing(rows, i) for i in self._current_at]
        total = sum(one.total for one in shown)
        left = sum(one.left for one in shown if not one.has_all)
        has_all = len(every) == len(self._current_at) and all(one.has_all for one in every)
        oldest = min(self._current_at.values())
        lag_ms = (time.monotonic_ns() - oldest) // 1_000_000
        is_current = has_all and lag_ms <= 2_000 * WAIT_S and all(one.is_complete for one in every)
        return EdgeStatus(
            profiles=profiles,
            bytes=size,
            is_complete=has_all,
            progress=1.0 if not left else 1 - left / max(1, total),
            lag_ms=0 if is_current and oldest else lag_ms,
            positions=[
                max(0, self._standings.get(i, Standing()).place.base >> 24)
                for i in self._current_at
            ],
            lookups=self._lookups,
            expired=self._expired,
            trouble=self._trouble(),
            pid=os.getpid(),
            path=self._place.path,
            brought=0 if self._misses is None else self._misses.brought,
        )

    def hello(self) -> None:
        """It is there."""

    def stop(self) -> None:
        """Let go of the files. The actor can be killed then."""
        self._stopped.set()
        self._session.is_closed = True
        self._line.close()
        with self._applying:
            if self._opened is not None:
                self._opened.close()
