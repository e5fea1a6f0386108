"""Entries that a later version wrote, or nobody."""

from __future__ import annotations

import pytest

from profile_actors.engine.log.entry import decode, encode, read_envelope
from profile_actors.errors import CorruptLog


def test_an_entry_of_an_unknown_kind_or_format_is_refused() -> None:
    whole = b"".join(bytes(part) for part in encode("clock", 1, 5, 2))
    assert decode(memoryview(whole), "x").envelope.now == 5
    odd = b"".join(bytes(part) for part in encode("eclipse", 1, 5, 2))
    with pytest.raises(CorruptLog, match="newer version"):
        read_envelope(memoryview(odd), "position 7")
    with pytest.raises(CorruptLog, match="position 7"):
        read_envelope(memoryview(b"nonsense" * 4), "position 7")
