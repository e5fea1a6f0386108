"""What is written is what is read; kinds that are not known are refused."""

from __future__ import annotations

import msgspec
import pytest

from profile_actors.engine.identity.messages import (
    CUT,
    HOME,
    LINK,
    Message,
    Named,
    Op,
    book_key,
    decode_messages,
    decode_ops,
    encode_messages,
    encode_ops,
)
from profile_actors.errors import CorruptLog

ONE = Named(2**64 - 1, 0, "Email", "é@x")
OTHER = Named(3, 4, "ECID", "5")


def test_messages_and_operations_are_read_as_written() -> None:
    ops = (
        Op(LINK, ONE, OTHER, version=-5),
        Op(CUT, ONE, version=1 << 63),
        Op(HOME, ONE, OTHER, number=9, version=2**40),
    )
    message = Message("0", 7, 1_000, 3, ops, (("web", b"stream"),))
    assert decode_messages(encode_messages([message])) == [message]
    assert decode_ops(memoryview(encode_ops([("L", ops), ("1", ())])), "x") == (
        ("L", ops),
        ("1", ()),
    )


def test_an_unknown_kind_is_refused() -> None:
    odd = msgspec.msgpack.encode([["L", [[99, None, None, 0, 0, 0, 0]]]])
    with pytest.raises(CorruptLog, match="position 3"):
        decode_ops(odd, "position 3")


def test_the_key_of_a_book_never_changes() -> None:
    """Format: books of stores that exist are found by it."""
    assert book_key(1, 2, 3) == (0x9845948A0DE5E6C, 0x74067338E79498E0)
    keys = {book_key(*halves) for halves in ((1, 2, 3), (2, 1, 3), (1, 2, 4), (1, 3, 2))}
    assert len(keys) == 4
