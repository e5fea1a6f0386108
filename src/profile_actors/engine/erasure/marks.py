"""Marks of erased identities: an older copy of a store can be told whom to erase, and no name.

Theory: a mark is a one-way digest of an identity's key, keyed with the store's secret number. A
copy of the store's own logs is searched for identities that have one of the marks; nobody else can
say whom it stands for, nor find two stores' people to be the same.

Cost: a digest per identity of the log that is searched, about a microsecond.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator

from profile_actors.engine.identity.messages import Named, PeerOps, decode_ops
from profile_actors.engine.log.entry import decode
from profile_actors.ingest.hidden_columns import K0, K1, NAMESPACE, VALUE

MARK_BYTES = 16


def mark_of(key: tuple[int, int], seed: int) -> str:
    """The mark of an identity, in hex. key: both halves, uint64; seed: the store's."""
    data = b"".join(half.to_bytes(8, "big") for half in key)
    secret = seed.to_bytes(8, "big")
    return hashlib.blake2b(data, digest_size=MARK_BYTES, key=secret).hexdigest()


class Marked:
    """Finds in logs the identities that have one of the marks. found: so far."""

    def __init__(self, marks: Collection[str], seed: int) -> None:
        self._marks = frozenset(marks)
        self._seed = seed
        self._seen: set[tuple[int, int]] = set()
        self.found: set[Named] = set()

    def search(self, data: bytes, where: str) -> None:
        """Look at an entry: who is named in it. Raises CorruptLog."""
        entry = decode(memoryview(data), where)
        if entry.identities is not None:
            columns = (entry.identities.table.column(n) for n in (K0, K1, NAMESPACE, VALUE))
            self._look(zip(*(column.to_pylist() for column in columns), strict=True))
        for ops in (entry.mail.received_ops, entry.mail.sent_ops):
            self._look(_told(decode_ops(ops, where)) if ops else ())

    def _look(self, ones: Iterator[tuple[int, int, str, str]] | tuple[()]) -> None:
        for k0, k1, namespace, value in ones:
            if (k0, k1) not in self._seen:
                self._seen.add((k0, k1))
                if mark_of((k0, k1), self._seed) in self._marks:
                    self.found.add(Named(k0, k1, namespace, value))


def _told(peers: tuple[PeerOps, ...]) -> Iterator[tuple[int, int, str, str]]:
    for _, ops in peers:
        for op in ops:
            for one in (op.one, op.other):
                if one is not None:
                    yield one.k0, one.k1, one.namespace, one.value
