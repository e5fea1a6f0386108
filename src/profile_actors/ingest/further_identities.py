"""A row's further identities, those beside its primary one: the column ``@others``.

Theory: each is named in full, with its key, so that who folds links hashes nothing and needs no
seed. Logs that were written before keys were there have namespace and value alone; ``keyed`` gives
such a column the form of today.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from profile_actors.definitions.declared import Namespace
from profile_actors.ingest.identity_keys import keys_of

OTHERS = pa.list_(
    pa.struct([
        ("namespace", pa.string()), ("value", pa.string()), ("k0", pa.uint64()), ("k1", pa.uint64())
    ])
)  # fmt: skip


Named = tuple[str, str, int, int]
"""namespace, normalised value, k0, k1"""


def lists_of(
    rows: np.ndarray,
    which: np.ndarray,
    names: Sequence[str],
    values: Sequence[pa.Array],
    keys: Sequence[tuple[np.ndarray, np.ndarray]],
) -> pa.Array | None:
    """OTHERS[n] of (row, column) pairs, ascending by row, each once; None if there are none.

    names: the namespace of each column. values, keys: of n rows, for each column.
    """
    if len(rows) == 0:
        return None
    n = len(values[0])
    places = which * n + rows
    texts = pa.concat_arrays(list(values)).take(pa.array(places))
    codes = pa.array(names, pa.string()).take(pa.array(which))
    k0, k1 = (np.concatenate(half)[places] for half in zip(*keys, strict=True))
    return _column(codes, texts, k0, k1, np.bincount(rows, minlength=n))


def named_lists(found: Sequence[Sequence[Named]]) -> pa.Array | None:
    """OTHERS of what each row names; None if no row names any."""
    flat = [one for row in found for one in row]
    if not flat:
        return None
    codes, texts, k0, k1 = zip(*flat, strict=True)
    return _column(
        pa.array(codes, pa.string()), pa.array(texts, pa.string()),
        np.array(k0, np.uint64), np.array(k1, np.uint64), np.array([len(row) for row in found]),
    )  # fmt: skip


def keyed(column: pa.Array, namespaces: Mapping[str, Namespace], seed: int) -> pa.Array:
    """A column ``@others`` as OTHERS, whichever form it has. seed: the store's.

    Cost: nothing for the form of today; 0.3 us an identity otherwise.
    """
    if column.type == OTHERS:
        return column
    pairs = column.flatten()
    codes, texts = pairs.field("namespace"), pairs.field("value")
    keys = np.zeros((len(pairs), 2), np.uint64)
    spaces = np.array(codes.to_pylist(), object)
    for code in set(spaces.tolist()):
        rows = np.flatnonzero(spaces == code)
        named = texts.take(pa.array(rows)).to_pylist()
        keys[rows] = keys_of(namespaces[code], named, seed)
    sizes = column.value_lengths().fill_null(0).to_numpy()
    return _column(codes, texts, keys[:, 0], keys[:, 1], sizes)


def _column(
    codes: pa.Array, texts: pa.Array, k0: np.ndarray, k1: np.ndarray, sizes: np.ndarray
) -> pa.Array:
    """OTHERS of identities in a row, of which each row has so many; null where it has none."""
    halves = [pa.array(np.ascontiguousarray(half)) for half in (k0, k1)]
    named = pa.StructArray.from_arrays([codes, texts, *halves], fields=list(OTHERS.value_type))
    offsets = np.append(0, np.cumsum(sizes)).astype(np.int32)
    return pa.ListArray.from_arrays(
        pa.array(offsets), named, type=OTHERS, mask=pa.array(sizes == 0)
    )
