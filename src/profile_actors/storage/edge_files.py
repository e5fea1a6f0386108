"""The files of one edge: copies of profiles in LMDB, which may be thrown away at any time.

::

    <edge>/edge.json         which generation is read, and what its readers need to know
    <edge>/edge.lock         whose the directory is to write in
    <edge>/generation-<n>/   LMDB: the rooms of ``engine/edges/edge_copy.py``

Theory: a copy can be made again, so nothing is synced: the end of a process loses nothing of it,
and that of the machine is found by the boot id in ``edge.json``. Files of another boot, of another
store, or not whole are deleted; the edge begins anew. What is copied may change: then a generation
is filled beside the one that is read, takes its place when it has everything, and the old one's
directory is deleted, so that nothing is left behind, and no file is full of holes.

Limits: one process writes; others may read beside it (``EdgeReader``), each once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb
import msgspec

from profile_actors.definitions.declared import Namespace
from profile_actors.engine.edges.edge_copy import IDS, PROFILES, ROOMS, EdgeRows
from profile_actors.engine.edges.edge_rows import KEY_BYTES
from profile_actors.errors import UNDECODED, ConfigError, CorruptLog, StorageFull, StoreUnavailable
from profile_actors.storage.environment import (
    DATA,
    MAX_READERS,
    create_environment,
    open_databases,
    open_environment,
)
from profile_actors.storage.files.atomic_files import (
    failed_write,
    make_directory,
    remove_tree,
    write_whole,
)
from profile_actors.storage.files.lock import DirectoryLock

INDEX = "edge.json"


LOCK = "edge.lock"


LOCK_WAIT_S = 0.5
"""For a process that is just ending."""


KEPT_S = 5.0
"""For so long a generation that was left is kept open: look-ups may be in it."""


LOOK_S = 0.02
"""How often a reader looks whether another generation is to be read: the look costs as much as half
a look-up."""


class EdgeIndex(msgspec.Struct, frozen=True):
    """What ``edge.json`` says. store: the id of the store; boot: of the machine's run. clock, seed,
    namespaces: the store's, for readers of the files. ttl_s, policy: the destination's: whether it
    is known when profiles were seen, and whether all of them are here. form: of their bytes.
    """

    generation: int
    store: str
    boot: str
    clock: str
    seed: int
    partitions: int
    namespaces: dict[str, Namespace] = {}
    ttl_s: int | None = None
    policy: str = "proactive"
    form: int = 0


def _kind(one: EdgeIndex) -> tuple[object, ...]:
    """What must be the same, or the files are of no use."""
    return one.store, one.boot, one.partitions, one.ttl_s, one.policy, one.form


_INDEX = msgspec.json.Decoder(EdgeIndex)


class _Transaction(EdgeRows):
    """``EdgeRows`` in one LMDB transaction."""

    def __init__(self, transaction: lmdb.Transaction, rooms: dict[str, lmdb._Database]) -> None:
        self._transaction = transaction
        self._rooms = rooms

    def get(self, room: str, key: bytes) -> bytes | None:
        found = self._transaction.get(key, db=self._rooms[room])
        return None if found is None else bytes(found)

    def many(self, room: str, keys: list[bytes]) -> dict[bytes, bytes]:
        with self._transaction.cursor(db=self._rooms[room]) as cursor:
            return {bytes(key): bytes(value) for key, value in cursor.getmulti(keys)}

    def put(self, room: str, key: bytes, value: bytes) -> None:
        self._transaction.put(key, value, db=self._rooms[room])

    def delete(self, room: str, key: bytes) -> None:
        self._transaction.delete(key, db=self._rooms[room])

    def after(self, room: str, key: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        out: list[tuple[bytes, bytes]] = []
        with self._transaction.cursor(db=self._rooms[room]) as cursor:
            ready = cursor.set_range(key + b"\0") if key else cursor.first()
            while ready and len(out) < limit:
                out.append((bytes(cursor.key()), bytes(cursor.value())))
                ready = cursor.next()
        return out


class Generation:
    """One copy. Any thread reads; writers take turns."""

    def __init__(self, path: Path, number: int, env: lmdb.Environment) -> None:
        self.path = path
        self.number = number
        self._env = env
        self._rooms = open_databases(env, ROOMS)
        self._ids, self._profiles = self._rooms[IDS], self._rooms[PROFILES]

    @contextmanager
    def writing(self) -> Iterator[EdgeRows]:
        """One transaction. Raises StorageFull, CorruptLog."""
        try:
            with self._env.begin(write=True) as transaction:
                yield _Transaction(transaction, self._rooms)
        except lmdb.Error as error:
            failed = failed_write(error, str(self.path))  # if it is full, what is there is good
            raise (failed if isinstance(failed, StorageFull) else self._damaged(error)) from error

    def _damaged(self, error: Exception) -> CorruptLog:
        return CorruptLog(f"expected an edge's whole files, got '{error}' - at {self.path}")

    def reading(self) -> _Look:
        """A look as of one moment. Raises CorruptLog."""
        return _Look(self)

    def found(self, identity: bytes) -> bytes | None:
        """The bytes of the profile of an identity (``edge_copy.found``). Raises CorruptLog."""
        try:
            transaction = self._env.begin()
            try:
                owner = transaction.get(identity, None, self._ids)
                return owner and transaction.get(owner[-KEY_BYTES:], None, self._profiles)
            finally:
                transaction.abort()
        except lmdb.Error as error:
            raise self._damaged(error) from error

    def count(self, room: str) -> int:
        """How many keys a room has. Raises CorruptLog."""
        try:
            with self._env.begin() as transaction:
                return int(transaction.stat(db=self._rooms[room])["entries"])
        except lmdb.Error as error:
            raise self._damaged(error) from error

    def size_bytes(self) -> int:
        """Bytes on disk."""
        return (self.path / DATA).stat().st_size

    def close(self) -> None:
        self._env.close()


class _Look:
    """One read transaction. Not by ``contextmanager``, which costs as much as a look-up."""

    def __init__(self, of: Generation) -> None:
        self._of = of
        self._transaction: lmdb.Transaction | None = None

    def __enter__(self) -> EdgeRows:
        try:
            self._transaction = self._of._env.begin()
        except lmdb.Error as error:
            raise self._of._damaged(error) from error
        return _Transaction(self._transaction, self._of._rooms)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        assert self._transaction is not None
        self._transaction.abort()
        if isinstance(error, lmdb.Error):
            raise self._of._damaged(error) from error


class EdgeFiles:
    """The files of an edge, for its actor. about: what the store is; generation is not looked at.

    current: what is read; coming: what is being filled to take its place, if anything. A new edge
    fills the current one. Raises StorageFull, and FencedOut while another process has them.
    """

    def __init__(self, directory: Path, about: EdgeIndex, map_bytes: int) -> None:
        self.directory = directory
        self._map_bytes = map_bytes
        self.about = about
        self.coming: Generation | None = None
        self._left: list[tuple[float | None, Generation]] = []
        make_directory(directory)
        self._lock = DirectoryLock(directory / LOCK, LOCK_WAIT_S)
        try:
            self.current = self._opened() or self._anew(1)
            self._delete_others()
        except BaseException:
            self._lock.release()
            raise

    def _opened(self) -> Generation | None:
        """The generation that was read last, if it may still be."""
        try:
            index = _INDEX.decode((self.directory / INDEX).read_bytes())
        except (OSError, *UNDECODED):
            return None
        about = self.about
        if not about.boot or _kind(index) != _kind(about):
            return None
        path = self._path(index.generation)
        try:
            env = open_environment(path, self._map_bytes, len(ROOMS), sync=False)
            found = Generation(path, index.generation, env)
        except (CorruptLog, lmdb.Error, OSError):
            return None
        self.about = msgspec.structs.replace(index, clock=about.clock, seed=about.seed)
        if self.about != index:  # on a full disk it is opened all the same
            self._note(found)
        return found

    def _anew(self, number: int) -> Generation:
        made = self._made(number)
        self._note(made)
        return made

    def _made(self, number: int) -> Generation:
        path = self._path(number)
        remove_tree(path)
        try:
            env = create_environment(path, self._map_bytes, len(ROOMS), sync=False)
        except (OSError, lmdb.Error) as error:
            raise failed_write(error, str(path)) from error
        return Generation(path, number, env)

    def _path(self, number: int) -> Path:
        return self.directory / f"generation-{number}"

    def _note(self, current: Generation) -> None:
        """Have readers read this one."""
        self._say(msgspec.structs.replace(self.about, generation=current.number))

    def _say(self, about: EdgeIndex) -> None:
        try:
            write_whole(self.directory / INDEX, (msgspec.json.encode(about),))
        except OSError as error:
            raise failed_write(error, str(self.directory)) from error
        self.about = about

    def _delete_others(self) -> None:
        kept = {self.current.path, self.coming.path if self.coming else None}
        for path in self.directory.glob("generation-*"):
            if path not in kept:
                remove_tree(path)

    def tell(self, namespaces: dict[str, Namespace]) -> None:
        """Let readers know of these namespaces."""
        if namespaces != self.about.namespaces:
            self._say(msgspec.structs.replace(self.about, namespaces=namespaces))

    def begin(self) -> Generation:
        """A new, empty generation beside the current one, in place of any other that was coming."""
        old, number = self.coming, self.current.number + 1
        if old is not None:
            number = old.number + 1
            self._leave(old)
        self.coming = self._made(number)
        self._delete_others()
        return self.coming

    def swap(self) -> None:
        """What was coming is read from now on."""
        assert self.coming is not None
        self._note(self.coming)
        self._leave(self.current)
        self.current, self.coming = self.coming, None
        self._delete_others()

    def check_place(self) -> None:
        """Raises CorruptLog if somebody has deleted the files: what is open would go on, seen by no
        reader, and be lost with this process. Cost: one look at a file."""
        if not (self.current.path / DATA).exists():
            raise CorruptLog(f"expected an edge's files, got none any more - at {self.directory}")

    def begin_anew(self) -> None:
        """Throw everything away: it is damaged."""
        make_directory(self.directory)
        old, coming = self.current, self.coming
        self.current = self._anew(1 + (coming or old).number)
        self.coming = None
        for one in (old, coming):
            if one is not None:
                self._leave(one)
        self._delete_others()

    def _leave(self, old: Generation) -> None:
        self._left.append((None, old))

    def let_go(self, now: float) -> None:
        """Close the generations that were left a while ago: their bytes are free then. now: seconds
        of a clock that only goes on; to be called often."""
        # Closed when the last look-up in it ends.
        self._left = [
            (now if since is None else since, one)
            for since, one in self._left
            if since is None or now - since < KEPT_S
        ]

    def close(self) -> None:
        for one in (self.current, self.coming):
            if one is not None:
                one.close()
        self._lock.release()


class EdgeReader:
    """Reads an edge's files from another process of its machine, beside the actor that writes them.

    Raises StoreUnavailable where there is no edge, ConfigError if this process reads it already.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._index_path = str(directory / INDEX)
        self._stamp = (0, 0)
        self._generation: Generation | None = None
        self._inode = -1
        self._look_at = 0.0
        self.index: EdgeIndex
        self.current()

    def current(self, now: float | None = None) -> Generation:
        """The generation that is to be read, as of at most ``LOOK_S`` ago. now: seconds of a clock
        that only goes on, None: look in any case. Cost: one look at a file each so often."""
        if now is not None and self._generation is not None and now < self._look_at:
            return self._generation
        try:
            found = os.stat(self._index_path)
            stamp = (found.st_mtime_ns, found.st_ino)
            if self._generation is None or stamp != self._stamp:
                self._open()
                self._stamp = stamp
            self._look_at = 0.0 if now is None else now + LOOK_S
        except (OSError, *UNDECODED) as error:
            raise StoreUnavailable(
                f"expected the files of an edge, got '{error}' - at {self._directory}; name what"
                " store.edge(name).path says, on the edge's machine"
            ) from None
        assert self._generation is not None
        return self._generation

    def _open(self) -> None:
        index = _INDEX.decode((self._directory / INDEX).read_bytes())
        path = self._directory / f"generation-{index.generation}"
        # By the file, not the number: a directory that was deleted counts from 1 again. The inode
        # of the file that is open here is given to no other.
        inode = (path / DATA).stat().st_ino
        if self._generation is None or self._inode != inode:
            self.close()
            try:
                env = lmdb.open(
                    str(path), readonly=True, lock=True, create=False, max_dbs=len(ROOMS),
                    max_readers=MAX_READERS, readahead=False, lib_version=0,
                )  # fmt: skip
            except lmdb.Error as error:
                if "already open" in str(error):
                    raise ConfigError(
                        f"expected an edge that this process does not read yet - at {path}; use"
                        " what open_edge returned, or close it first"
                    ) from None
                raise OSError(str(error)) from None
            self._generation = Generation(path, index.generation, env)
            self._inode = inode
        self.index = index

    def close(self) -> None:
        """Let go of the files."""
        if self._generation is not None:
            self._generation.close()
            self._generation = None
