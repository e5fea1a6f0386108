"""Identities: their normalised value and their 128-bit key.

Theory, and *format* (it names every profile and decides its partition, so it never changes):

    value      normalised NFC; then, as declared and in this order, ``trim``: without BLANKS around
               it; ``lower``: lower case, NFC again; ``digits``: only ASCII 0-9
    seed       XXH3-64 of the namespace code's UTF-8 bytes, seeded with the store's seed
    key        XXH3-128 of the value's UTF-8 bytes, seeded with that seed
    k0, k1     the first and last eight bytes of the key's canonical (big-endian) digest
    bucket     the highest 12 bits of k0

Seeding by namespace instead of hashing a prefix saves building a string per row (24 of 90 ns). Keys
of values that repeat a lot are made once per distinct value; whether that pays is learnt from the
batches before, and the result does not depend on it.

Source: XXH3, xxHash specification 0.8.
"""

from __future__ import annotations

import re
import struct
import unicodedata
from collections.abc import Callable, Sequence
from itertools import repeat

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from profile_actors.definitions.declared import Namespace
from profile_actors.ingest.typing.cells import is_ascii

_ASCII_BLANKS = "\t\n\v\f\r\x1c\x1d\x1e\x1f "


# Spelled out, so that no later version of Unicode moves a key.
BLANKS = _ASCII_BLANKS + (
    "\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)


BUCKETS = 4096


BUCKET_SHIFT = 52


# Dictionary-encoding costs 39 ns a row, hashing 87: it pays below this share of distinct values.
_DISTINCT_SHARE = 0.5


_DIGEST, _NATIVE = struct.Struct(">QQ"), struct.Struct("=QQ")


_LOOK_AGAIN = 16  # batches after which the share is measured again


def normalised(namespace: Namespace, value: str) -> str:
    """The value as the namespace keeps it; may be empty."""
    text = unicodedata.normalize("NFC", value)
    steps = namespace.steps
    if "trim" in steps:
        text = text.strip(BLANKS)
    if "lower" in steps:
        text = unicodedata.normalize("NFC", text.lower())
    return re.sub("[^0-9]+", "", text) if "digits" in steps else text


def namespace_seed(code: str, seed: int) -> int:
    """The 64-bit seed of a namespace's keys. seed: the store's."""
    return xxhash.xxh3_64_intdigest(code.encode(), seed)


def key_of(namespace: Namespace, value: str, seed: int) -> tuple[int, int]:
    """(k0, k1) of one value, which is normalised here. seed: the store's."""
    text = normalised(namespace, value).encode()
    digest = xxhash.xxh3_128_digest(text, namespace_seed(namespace.code, seed))
    return int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big")


def keys_of(namespace: Namespace, values: Sequence[str], seed: int) -> np.ndarray:
    """Keys of many values of one namespace, as ``key_of`` gives each. uint64[n, 2]

    Cost: 0.3 us a value that is ASCII, where the namespace changes nothing.
    """
    is_kept = not namespace.steps  # NFC leaves ASCII as it is
    if is_kept and "".join(values).isascii():
        texts = values
    else:
        texts = [v if is_kept and v.isascii() else normalised(namespace, v) for v in values]
    seeds = repeat(namespace_seed(namespace.code, seed))
    digests = b"".join(map(xxhash.xxh3_128_digest, map(str.encode, texts), seeds))
    return np.frombuffer(digests, ">u8").reshape(-1, 2).astype(np.uint64)


def key_packer(namespace: Namespace, seed: int) -> Callable[[str], bytes]:
    """A function of a value, for who looks up one at a time: the bytes of ``keys_of``'s row, 16 of
    them. Cost: 1 us."""
    is_kept, own = not namespace.steps, namespace_seed(namespace.code, seed)

    def packed(value: str) -> bytes:
        text = value if is_kept and value.isascii() else normalised(namespace, value)
        return _NATIVE.pack(*_DIGEST.unpack(xxhash.xxh3_128_digest(text.encode(), own)))

    return packed


def identity_key(
    namespace: Namespace, value: str, seed: int, assignment: np.ndarray
) -> tuple[int, tuple[int, int]]:
    """The partition that owns an identity, and its key. assignment: int[4096] by bucket."""
    key = key_of(namespace, value, seed)
    return int(assignment[key[0] >> BUCKET_SHIFT]), key


class KeyMaker:
    """Normalises and hashes columns of one namespace."""

    def __init__(self, namespace: Namespace, seed: int) -> None:
        self.namespace = namespace
        self._seed = namespace_seed(namespace.code, seed)
        self._share = 0.0
        self._batches = 0

    def normalise(self, values: pa.Array) -> pa.Array:
        """A string column normalised. Cost: 1 ns a row for ASCII text, 1 us a row otherwise."""
        steps = self.namespace.steps
        if not is_ascii(values):
            texts = [
                None if v is None else normalised(self.namespace, v) for v in values.to_pylist()
            ]
            return pa.array(texts, pa.string())
        if "trim" in steps:
            values = pc.ascii_trim(values, _ASCII_BLANKS)
        if "lower" in steps:
            values = pc.ascii_lower(values)
        if "digits" in steps:
            values = pc.replace_substring_regex(values, "[^0-9]+", "")
        return values

    def keys(self, values: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """k0, k1: uint64[n] of normalised values; a null counts as the empty text.

        Cost: 90 ns a row, less where a batch repeats its values.
        """
        self._batches += 1
        if self._share > _DISTINCT_SHARE and self._batches % _LOOK_AGAIN:
            return self._hash(values)
        coded = pc.fill_null(values, "").dictionary_encode()
        self._share = len(coded.dictionary) / max(1, len(values))
        k0, k1 = self._hash(coded.dictionary)
        rows = coded.indices.to_numpy()
        return k0[rows], k1[rows]

    def _hash(self, values: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        texts = values.view(pa.binary())
        if texts.null_count:
            texts = pc.fill_null(texts, b"")
        digests = b"".join(map(xxhash.xxh3_128_digest, texts.to_pylist(), repeat(self._seed)))
        halves = np.frombuffer(digests, ">u8").reshape(-1, 2)
        return halves[:, 0].astype(np.uint64), halves[:, 1].astype(np.uint64)
