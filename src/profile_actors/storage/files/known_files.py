"""The contents of files that were read, in the catalogue's environment (``file_contents``).

Theory: two keys lead to a content. By name: what a file of this name may have grown from, one
record per producer, the longest that was read. By digest: the same bytes under any name; kept for
a producer's first content and its longest, so a file that grows every minute leaves two, and each
time it is mended in place two more: whoever mends it by hand may take an older state back.

Limits: about 700 bytes per content that is kept, for ever: they are what makes a file count
once; and twice 22 bytes for each run of its rows that are rejected. A name's contents are read at
once; many directories with one file name cost each of them.
"""

from __future__ import annotations

import lmdb
import msgspec
import xxhash

from profile_actors.errors import CorruptLog
from profile_actors.ingest.files.file_contents import FileContent
from profile_actors.storage.files.atomic_files import failed_write
from profile_actors.storage.files.framing import HEADER_BYTES, damage, frame

_CONTENT = msgspec.json.Decoder(FileContent)


class KnownFiles:
    """The contents kept in database ``db`` of ``env``; one writer, any thread reads.

    where: what errors name.
    """

    def __init__(self, env: lmdb.Environment, db: lmdb._Database, where: str) -> None:
        self._env = env
        self._db = db
        self._where = where

    def of_name(self, dataset: str, name: str) -> list[FileContent]:
        """The contents read under a base name, one per producer. Raises CorruptLog."""
        prefix = _name_key(dataset, name)
        found = []
        with self._env.begin(db=self._db) as transaction, transaction.cursor() as cursor:
            ready = cursor.set_range(prefix)
            while ready and cursor.key().startswith(prefix):
                found.append(self._content(cursor.value()))
                ready = cursor.next()
        return found

    def of_bytes(self, dataset: str, digest: str) -> FileContent | None:
        """The content with these bytes, whatever its name. Raises CorruptLog."""
        with self._env.begin(db=self._db) as transaction:
            value = transaction.get(_digest_key(dataset, digest))
        return None if value is None else self._content(value)

    def keep(self, dataset: str, content: FileContent) -> None:
        """Keep what is about to be read, or has been. One that is older than what is kept, or as
        old and shorter, changes nothing.

        Durable. Raises StorageFull, CorruptLog.
        """
        key = _name_key(dataset, content.name) + content.producer.encode()
        try:
            with self._env.begin(write=True, db=self._db) as transaction:
                value = transaction.get(key)
                kept = None if value is None else self._content(value)
                if kept == content or (kept is not None and _age(kept) > _age(content)):
                    return
                if kept is not None and _is_outgrown(kept, content):
                    transaction.delete(_digest_key(dataset, kept.digest))
                framed = frame(0, (msgspec.json.encode(content),))
                transaction.put(key, framed)
                transaction.put(_digest_key(dataset, content.digest), framed)
        except lmdb.Error as error:
            raise failed_write(error, self._where) from error

    def _content(self, value: bytes) -> FileContent:
        fault = damage(0, value)
        if fault is not None:
            raise CorruptLog(f"{fault} - at {self._where}; restore the file from a backup")
        return _CONTENT.decode(value[HEADER_BYTES:])


def _is_outgrown(kept: FileContent, content: FileContent) -> bool:
    is_longer = kept.version == content.version and kept.digest != content.digest
    return is_longer and not kept.is_first


def _age(content: FileContent) -> tuple[int, int]:
    return content.version, content.bytes


def _name_key(dataset: str, name: str) -> bytes:
    return b"n" + xxhash.xxh3_128_digest(f"{len(dataset)} {dataset} {name}".encode())


def _digest_key(dataset: str, digest: str) -> bytes:
    return b"c" + xxhash.xxh3_128_digest(dataset.encode()) + digest.encode()
