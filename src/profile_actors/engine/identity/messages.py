"""What the sequencers of a store tell each other, so that people are made whole.

Theory: partitions ("0", "1" and so on) and the ledger ("L") are *sequencers*: each writes one log.
A message is all that one entry of a sequencer has to tell another one; of each ordered pair the
messages are numbered 1, 2, 3 and so on, and the number is recorded in the entry that sent it. An
*operation* of a message is one of:

    LINK       partition to ledger: ``one`` (the hub of a row's star, its smallest identity) and
               ``other`` stood together; version: newest such time (ms) of the entry
    CUT        partition to ledger: evidence of ``one``, or of the pair with ``other``, up to the
               time ``version`` (ms) is withdrawn
    HOME       ledger to the owner of ``one`` and to the home of ``other``: ``one`` belongs to the
               book (``other``, ``number``) from ``version`` on, a position of the ledger's log.
               NOWHERE for a number: its book went with a person who was erased, and it needs
               another one; no ledger says so, but logs that somebody was taken out of
    ROWS       owner of ``one`` to the home of ``other``: the rows of ``one`` at the owner's log
               positions (``low``, ``high``], for the book (``other``, ``number``); version: of the
               HOME it answers. The first one (low = 0) attaches ``one`` to the book.
    PUBLISHED  home of ``other`` to the owner of ``one``, and to the ledger: ``one`` is shown in
               the book (``other``, ``number``), of ``version``
    FLOW       owner to home: rows of the entry at ``high``, of identities whose earlier rows are on
               their way or there. Which ones, and into which books, the sender's log says in
               ``data`` (``pack_flow``); a message says it beside each row, and has no ``data``.
    SETTLED    ledger to partition: what the partition's message ``number`` told of links concerns
               no book any more that is not published

A *book* is the profile of a person of several identities: her smallest identity, and the position
of the ledger's entry that began it. Its key is no identity's.

Cost: msgpack, some 1 us an operation to write and 2 us to read. Format: these arrays stand in logs;
a field is added at the end with a default, a kind never changes its number.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
import xxhash

from profile_actors.columnar.vectors import Array
from profile_actors.errors import UNDECODED, CorruptLog

LEDGER = "L"
"""The ledger's name as a sequencer; a partition's is its number."""


LINK: Literal[1] = 1


CUT: Literal[2] = 2


HOME: Literal[3] = 3


ROWS: Literal[4] = 4


PUBLISHED: Literal[5] = 5


SETTLED: Literal[6] = 6


FLOW: Literal[7] = 7


Kind = Literal[1, 2, 3, 4, 5, 6, 7]


NOWHERE = -1
"""The number of no book."""


class Named(msgspec.Struct, frozen=True, array_like=True, order=True, gc=False, cache_hash=True):
    """An identity in full. k0, k1: uint64; namespace: its code; value: normalised."""

    k0: int
    k1: int
    namespace: str
    value: str

    @property
    def key(self) -> tuple[int, int]:
        """Both halves of the key."""
        return self.k0, self.k1


class Op(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One operation; which fields a kind uses, and for what, stands in the module."""

    kind: Kind
    one: Named | None = None
    other: Named | None = None
    number: int = 0
    version: int = 0
    low: int = 0
    high: int = 0
    data: bytes = b""


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """All that one entry of ``source`` tells one receiver.

    now: the sender's clock at that entry, ms. catalogue: the version of the definitions in force
    there. blocks: rows that it carries, (dataset, Arrow IPC stream) with the hidden columns @k0,
    @k1, @namespace and @value (the row's own primary identity), and @op (int32: which of ``ops``,
    of ROWS) or @b0 and @b1 (uint64: the key of the book, of FLOW).
    """

    source: str
    number: int
    now: int
    catalogue: int
    ops: tuple[Op, ...] = ()
    blocks: tuple[tuple[str, bytes], ...] = ()


PeerOps = tuple[str, tuple[Op, ...]]
"""A peer, and what was told to it or by it: how an entry keeps operations."""


# Made once, here: msgspec works out a struct's types at its first use, and two threads that do so
# at the same time can crash the process.
_ENCODER = msgspec.msgpack.Encoder()


_MESSAGES = msgspec.msgpack.Decoder(list[Message])


_PEER_OPS = msgspec.msgpack.Decoder(tuple[PeerOps, ...])


# What each peer was told, apart: whoever asks for one peer's part pays for that.
_PEER_PARTS = msgspec.msgpack.Decoder(tuple[tuple[str, msgspec.Raw], ...])


_OPS = msgspec.msgpack.Decoder(tuple[Op, ...])


_BOOK = struct.Struct("<QQq")


def book_key(k0: int, k1: int, number: int) -> tuple[int, int]:
    """The key (k0, k1) of the book of an identity's key that the ledger began at ``number``."""
    digest = xxhash.xxh3_128_digest(b"\0book" + _BOOK.pack(k0, k1, number))
    return int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big")


def pack_flow(ones: Array, books: Array) -> bytes:
    """What FLOW is about: keys of identities, and of the book of each. uint64[n, 2] both."""
    return np.hstack((ones, books)).astype("<u8").tobytes()


def unpack_flow(data: bytes) -> tuple[Array, Array]:
    """The same again."""
    keys = np.frombuffer(data, "<u8").astype(np.uint64).reshape(-1, 4)
    return keys[:, :2], keys[:, 2:]


def encode_messages(messages: Sequence[Message]) -> bytes:
    """Messages for a call to another process."""
    return _ENCODER.encode(messages)


def decode_messages(data: bytes) -> list[Message]:
    """The messages. Raises msgspec.DecodeError for other bytes, and kinds not known here."""
    return _MESSAGES.decode(data)


def encode_ops(by_peer: Sequence[PeerOps]) -> bytes:
    """What an entry was told, or told, for one of its parts."""
    return _ENCODER.encode(by_peer)


def decode_ops(data: bytes | memoryview, where: str) -> tuple[PeerOps, ...]:
    """The same again. where: named in errors. Raises CorruptLog."""
    try:
        return _PEER_OPS.decode(data)
    except UNDECODED as error:
        raise CorruptLog(f"expected operations by peer, got {error} - at {where}") from None


def decode_ops_of(peer: str, data: bytes | memoryview, where: str) -> tuple[Op, ...]:
    """One peer's alone. Raises CorruptLog, also where there are none of this peer."""
    try:
        for name, part in _PEER_PARTS.decode(data):
            if name == peer:
                return _OPS.decode(part)
    except UNDECODED as error:
        raise CorruptLog(f"expected operations by peer, got {error} - at {where}") from None
    raise CorruptLog(f"expected operations of {peer!r}, got none - at {where}")
