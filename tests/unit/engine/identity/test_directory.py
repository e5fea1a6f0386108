"""Identities of a partition: its capacity counts profiles, not rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from profile_actors.engine.identity.directory import Directory
from profile_actors.errors import StorageFull


def admitted(directory: Directory, keys: list[int]) -> list[int]:
    """The idents of rows with these keys."""
    k0 = np.array(keys, np.uint64)
    namespaces = pa.array(["CRMID"] * len(keys)).dictionary_encode()
    values = pa.array([f"p{key}" for key in keys], pa.large_binary())
    idents, _ = directory.admit(k0, k0, namespaces, values)
    return [int(ident) for ident in idents]


def test_many_rows_of_one_new_profile_take_one_place() -> None:
    directory = Directory(4)
    assert admitted(directory, [7] * 20_000) == [0] * 20_000
    assert directory.count == 1
    assert admitted(directory, [7, 8, 9, 8, 9, 10, 10]) == [0, 1, 2, 1, 2, 3, 3]
    assert admitted(directory, [10] * 9) == [3] * 9


def test_one_profile_too_many_changes_nothing() -> None:
    directory = Directory(2)
    admitted(directory, [1])
    with pytest.raises(StorageFull, match="got 1 and 2 more"):
        admitted(directory, [2, 3, 2, 1])
    assert directory.count == 1
    assert admitted(directory, [2, 2]) == [1, 1]


def test_identities_of_an_entry_are_restored_under_their_namespaces() -> None:
    directory = Directory(8)
    admitted(directory, [1])
    keys, values = np.array([5, 6, 7], np.uint64), pa.array(["a", "b", "c"], pa.large_binary())
    codes = pa.chunked_array([pa.array(["EMAIL", "CRMID"]), pa.array(["EMAIL"])])
    directory.restore_identities(keys, keys, codes, values)
    found = directory.identities(np.array([0, 1, 2, 3]))
    assert found == (["CRMID", "EMAIL", "CRMID", "EMAIL"], ["p1", "a", "b", "c"])
    more = np.array([8], np.uint64)
    directory.restore_identities(more, more, codes.slice(2).dictionary_encode(), values.slice(2))
    assert directory.identities(np.array([4])) == (["EMAIL"], ["c"])
