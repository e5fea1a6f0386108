"""The 16-byte header that makes one stored value self-checking.

Theory: LMDB 0.9 has no checksums; a flipped byte inside a value is returned without an error. So
each value is framed (little-endian)::

    bytes 0-3    magic "PAFV"
    bytes 4-5    format, 1
    bytes 6-7    reserved, 0
    bytes 8-15   xxh3-64 of the rest, seeded with the value's position

The position is the seed, not a field: a good value found under a wrong position is damaged too.
The header is 16 bytes long because LMDB puts large values at 16 bytes past a page's start; the
content is then 16-byte aligned in the map, as Arrow wants it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import xxhash

from profile_actors.engine.log.ports import Buffer

MAGIC = b"PAFV"


FORMAT = 1


HEADER = struct.Struct("<4sHHQ")


HEADER_BYTES = HEADER.size


assert HEADER_BYTES == 16


def frame(position: int, parts: Sequence[Buffer]) -> bytes:
    """The header and the parts, joined once. Cost: one hash pass and one copy."""
    digest = xxhash.xxh3_64(seed=position)
    for part in parts:
        digest.update(part)
    return b"".join((HEADER.pack(MAGIC, FORMAT, 0, digest.intdigest()), *parts))


def damage(position: int, value: Buffer) -> str | None:
    """None if the framed value is whole, else 'expected X, got Y' (the caller adds where)."""
    if len(value) < HEADER_BYTES:
        return f"expected at least {HEADER_BYTES} bytes, got {len(value)}"
    magic, form, reserved, stored = HEADER.unpack_from(value)
    if magic != MAGIC or reserved != 0:
        return f"expected a value that starts with {MAGIC!r}, got {bytes(value[:8])!r}"
    if form != FORMAT:
        return f"expected value format {FORMAT}, got {form} (a newer release, or a damaged byte)"
    found = xxhash.xxh3_64_intdigest(memoryview(value)[HEADER_BYTES:], seed=position)
    if found != stored:
        return f"expected checksum {stored:016x}, got {found:016x}"
    return None
