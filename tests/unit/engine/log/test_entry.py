"""Entries that a later version wrote, or nobody."""

from __future__ import annotations

import pytest

from profile_actors.engine.log.entry import (
    Mail,
    decode,
    encode,
    read_envelope,
    read_mail,
)
from profile_actors.errors import CorruptLog


def test_an_entry_of_an_unknown_kind_or_format_is_refused() -> None:
    whole = b"".join(bytes(part) for part in encode("clock", 1, 5, 2))
    assert decode(memoryview(whole), "x").envelope.now == 5
    odd = b"".join(bytes(part) for part in encode("eclipse", 1, 5, 2))
    with pytest.raises(CorruptLog, match="newer version"):
        read_envelope(memoryview(odd), "position 7")
    with pytest.raises(CorruptLog, match="position 7"):
        read_envelope(memoryview(b"nonsense" * 4), "position 7")


def test_messages_are_read_as_written_and_ask_for_a_newer_reader() -> None:
    mail = Mail((("0", 3, 17), ("L", 1, 18)), (("1", 9),), b"what came", b"what goes out")
    whole = b"".join(bytes(part) for part in encode("ledger", 1, 5, 2, mail=mail))
    envelope, read = read_mail(memoryview(whole), "x")
    assert (envelope.kind, envelope.format, read) == ("ledger", 4, mail)
    assert decode(memoryview(whole), "x").mail == mail
    half = mail._replace(received=(), received_ops=b"")
    whole = b"".join(bytes(part) for part in encode("rows", 1, 5, 2, mail=half))
    envelope, read = read_mail(memoryview(whole), "x")
    assert (envelope.format, read) == (4, half)
    whole = b"".join(bytes(part) for part in encode("rows", 1, 5, 2))
    assert read_mail(memoryview(whole), "x")[0].format == 1
