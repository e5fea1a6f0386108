"""Opening an LMDB environment with every choice written out.

Theory: ``lib_version=0`` is the 0.9 engine (its file format differs from 1.0's). Sync flags are
given at each call, since a default that gives up durability would be invisible. No ``writemap``:
with it a full disk kills the process. The map is reserved once and never resized: resizing under a
live view kills the process too. Pages are cleared before they are filled (``meminit``), or what a
process once had in memory would stand in their gaps.

A data file cut short would make LMDB read past its end, which also kills the process: its size is
compared with what its meta page claims, before anything else is read.

Limits: damage to LMDB's own tree pages is found by LMDB or by a missing key, not by a checksum.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import lmdb

from profile_actors.errors import CorruptLog
from profile_actors.storage.files.atomic_files import (
    FILE_MODE,
    make_directory,
    make_file,
    sync_directory,
)

DATA = "data.mdb"


LOCK = "lock.mdb"


FRESH = "fresh.mdb"


FRESH_FILES = 8
"""How often new files are made whose inodes were just given back, before it is said."""


MIN_DATA_BYTES = 8_192
"""Two meta pages: what every environment has from its first moment on."""


MAX_READERS = 1_024
"""Read transactions open at once; each lives only as long as one look-up."""


def create_environment(
    path: Path, map_bytes: int, databases: int, *, sync: bool
) -> lmdb.Environment:
    """Make a new environment in a new directory, its files and names durable."""
    make_directory(path)
    for name in (DATA, LOCK):  # LMDB fills empty ones; made by it they would have the umask's mode
        make_file(path / name)
    env = _open_new(path, map_bytes, databases, sync=sync)
    env.sync(True)
    sync_directory(path)
    return env


def _open_new(path: Path, map_bytes: int, databases: int, *, sync: bool) -> lmdb.Environment:
    """Open files that were just made, whatever inodes they were given.

    py-lmdb knows environments that are open by their inodes. One that is let go of by another
    thread gives its own back before it is forgotten: a new file that has it by then is taken for
    still open. Files that are made while that one is there have others.
    """
    for _ in range(FRESH_FILES):
        try:
            return open_raw(path, map_bytes, databases, sync=sync)
        except lmdb.Error as error:
            if "already open" not in str(error):
                raise
        for name in (DATA, LOCK):
            make_file(path / FRESH)
            os.replace(path / FRESH, path / name)
    return open_raw(path, map_bytes, databases, sync=sync)


def open_environment(
    path: Path,
    map_bytes: int,
    databases: int,
    *,
    sync: bool,
    readonly: bool = False,
    may_be_short: bool = False,
) -> lmdb.Environment:
    """Open an existing environment; frees reader slots of dead processes.

    readonly is for environments that nobody writes any more: no lock file is used. may_be_short is
    for those whose values are deleted: LMDB may then not have written the last pages it counts.
    Raises CorruptLog if the data file is missing or is no LMDB file.
    """
    data = path / DATA
    size = data.stat().st_size if data.is_file() else -1
    if size < MIN_DATA_BYTES:
        got = f"{size} bytes" if size >= 0 else "no file"
        raise CorruptLog(
            f"expected an LMDB data file, got {got} - at {data}; restore it from a"
            " replica or backup"
        )
    try:
        env = open_raw(path, map_bytes, databases, sync=sync, readonly=readonly)
        info = env.info()
        claimed = (info["last_pgno"] + 1) * env.stat()["psize"]
        # Asked after it: a writer that lost its lock file may add pages, and then says so.
        size = data.stat().st_size
    except (lmdb.Error, OSError) as error:
        raise CorruptLog(
            f"expected an LMDB data file, got '{error}' - at {data}; restore it from a replica or"
            " backup, or close what still holds it open in this process"
        ) from error
    if claimed > size and not may_be_short:
        env.close()
        raise CorruptLog(
            f"expected {claimed} bytes or more, got a file cut short at {size} - at {data}; restore"
            " it from a replica or backup"
        )
    if claimed > size:
        os.truncate(data, claimed)
    if not readonly:
        env.reader_check()
    return env


def open_databases(
    env: lmdb.Environment,
    names: Sequence[str],
    *,
    added: Sequence[str] = (),
    writable: bool = True,
) -> dict[str, lmdb._Database]:
    """The named databases; those of a new environment are made, all in one transaction.

    Only one without any database is new: making one where the tree is lost to damage would begin an
    empty store in silence. Raises lmdb.NotFoundError then. added: databases that a later release
    came to keep; they are made where all the others are.
    """
    if writable and int(env.stat()["entries"]) == 0:
        with env.begin(write=True) as transaction:
            for name in (*names, *added):
                env.open_db(name.encode(), txn=transaction, create=True)
    # Opened without a transaction of ours: a handle opened in one that reads dies with it.
    opened = {name: env.open_db(name.encode(), create=False) for name in names}
    return opened | {name: env.open_db(name.encode(), create=writable) for name in added}


def open_raw(
    path: Path, map_bytes: int, databases: int, *, sync: bool, readonly: bool = False
) -> lmdb.Environment:
    return lmdb.open(
        str(path),
        map_size=map_bytes,
        subdir=True,
        mode=FILE_MODE,
        readonly=readonly,
        metasync=sync,
        sync=sync,
        map_async=False,
        writemap=False,
        meminit=True,
        create=not readonly,
        readahead=True,
        max_readers=MAX_READERS,
        max_dbs=databases,
        max_spare_txns=4,
        lock=not readonly,
        lib_version=0,
    )
