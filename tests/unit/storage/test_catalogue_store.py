"""CatalogueStore and Quarantine: versions, settings, epochs; rejected rows resent and bounded."""

from __future__ import annotations

import json
import random
from pathlib import Path

import msgspec
import numpy as np
import pytest

from profile_actors.config import Config
from profile_actors.errors import ConfigError, CorruptLog, FencedOut
from profile_actors.storage.catalogue_store import CatalogueStore
from profile_actors.storage.rejects.quarantine import Quarantine, QuarantinedRow
from profile_actors.storage.store_settings import StoreSettings

SETTINGS = StoreSettings(partitions=2, clock="event", hash_seed=99, created=1_700_000_000_000)


def reopened(store: CatalogueStore, data: Path) -> CatalogueStore:
    store.close()
    return CatalogueStore(data, lock_wait_s=0.0)


def test_versions_follow_each_other_and_stay(tmp_path: Path) -> None:
    store = CatalogueStore(tmp_path)
    assert store.newest_version() == 0
    assert store.get(1) is None
    store.put(1, b"one")
    store.put(2, b"two" * 100_000)
    store.put(2, b"two" * 100_000)
    for wrong in ((1, b"other"), (2, b"other"), (4, b"four")):
        with pytest.raises(FencedOut, match="number 3 next"):
            store.put(*wrong)
    store = reopened(store, tmp_path)
    assert store.newest_version() == 2
    assert [store.get(v) for v in (1, 2, 3)] == [b"one", b"two" * 100_000, None]
    store.close()


def test_settings_are_set_once(tmp_path: Path) -> None:
    store = CatalogueStore(tmp_path)
    assert store.settings() is None
    assert store.set_settings(SETTINGS) == SETTINGS
    store = reopened(store, tmp_path)
    same_but_later = StoreSettings(partitions=2, clock="event", hash_seed=5, created=9)
    assert store.set_settings(same_but_later) == SETTINGS
    for wrong in (
        StoreSettings(partitions=3, clock="event", hash_seed=99, created=0),
        StoreSettings(partitions=2, clock="wall", hash_seed=99, created=0),
    ):
        with pytest.raises(ConfigError, match="as the store was made with"):
            store.set_settings(wrong)
    assert store.settings() == SETTINGS
    file = tmp_path / "store.json"
    assert json.loads(file.read_text())["partitions"] == 2
    file.unlink()
    store = reopened(store, tmp_path)
    assert json.loads(file.read_text())["hash_seed"] == 99
    store.close()


def test_store_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    store = CatalogueStore(tmp_path)
    store.set_settings(StoreSettings(partitions=1, clock="wall", hash_seed=1, created=1, format=2))
    store.close()
    with pytest.raises(CorruptLog, match="store format 1, got 2"):
        CatalogueStore(tmp_path)


def test_epochs_rise_for_ever_and_apart(tmp_path: Path) -> None:
    store = CatalogueStore(tmp_path)
    assert store.epoch("0") == 0
    assert [store.next_epoch("0") for _ in range(3)] == [1, 2, 3]
    assert store.next_epoch("L") == 1
    store = reopened(store, tmp_path)
    assert (store.next_epoch("0"), store.epoch("L"), store.epoch("1")) == (4, 1, 0)
    store.close()


def test_assignment_is_versioned(tmp_path: Path) -> None:
    store = CatalogueStore(tmp_path)
    assert store.assignment() is None
    table = np.arange(4096) % 3
    store.put_assignment(1, table)
    store.put_assignment(2, table[::-1])
    with pytest.raises(FencedOut):
        store.put_assignment(2, table)
    store = reopened(store, tmp_path)
    found = store.assignment()
    assert found is not None
    assert found[0] == 2
    np.testing.assert_array_equal(found[1], table[::-1])
    store.close()


def test_second_coordinator_is_fenced_out(tmp_path: Path) -> None:
    store = CatalogueStore(tmp_path)
    with pytest.raises(FencedOut, match="held by process"):
        CatalogueStore(tmp_path, lock_wait_s=0.0)
    store.close()


def test_damaged_version_is_not_served(tmp_path: Path) -> None:
    store = CatalogueStore(tmp_path)
    store.put(1, b"x" * 9_000)
    store.put(2, b"y" * 9_000)
    store.close()
    path = tmp_path / "catalogue" / "data.mdb"
    stored = bytearray(path.read_bytes())
    stored[stored.find(b"x" * 9_000) + 1_000] ^= 1
    path.write_bytes(stored)
    store = CatalogueStore(tmp_path)
    assert store.get(2) == b"y" * 9_000
    with pytest.raises(CorruptLog, match="versions 1"):
        store.get(1)
    store.close()


def rejected(row: int, source: str = "a.csv", reason: str = "bad") -> QuarantinedRow:
    return QuarantinedRow(source, row, "$.amount", reason, f"{row},x")


def open_quarantine(directory: Path, limit: int = 100) -> Quarantine[QuarantinedRow]:
    return Quarantine(directory, Config(max_quarantine_rows=limit), QuarantinedRow)


def test_resent_rows_are_overwritten(tmp_path: Path) -> None:
    quarantine = open_quarantine(tmp_path)
    quarantine.add("orders", [rejected(5), rejected(7)])
    quarantine.add("orders", [rejected(7, reason="worse"), rejected(9), rejected(7, "b.csv")])
    quarantine.add("people", [rejected(5)])
    quarantine.add("people", [])
    quarantine.close()
    quarantine = open_quarantine(tmp_path)
    assert quarantine.read("orders", 10) == [
        rejected(5),
        rejected(7, reason="worse"),
        rejected(9),
        rejected(7, "b.csv"),
    ]
    assert quarantine.read("orders", 2) == [rejected(5), rejected(7, reason="worse")]
    assert quarantine.read("orders", 0) == []
    assert quarantine.read("people", 10) == [rejected(5)]
    assert quarantine.read("nothing", 10) == []
    assert quarantine.count("orders") == (4, 4)
    assert quarantine.count("people") == (1, 1)
    assert quarantine.count("nothing") == (0, 0)
    assert quarantine.datasets() == ["orders", "people"]
    quarantine.close()


def test_repaired_rows_leave_and_are_counted(tmp_path: Path) -> None:
    quarantine = open_quarantine(tmp_path, limit=4)
    quarantine.add("orders", [rejected(row) for row in range(6)])  # 0 and 1 are dropped
    asked = [1, 2, 4, 9]
    assert quarantine.kept("orders", "a.csv", asked) == [False, True, True, False]
    assert quarantine.kept("orders", "b.csv", asked) == [False] * 4
    assert quarantine.kept("nothing", "a.csv", asked) == [False] * 4
    for _ in range(2):
        quarantine.close_rows("orders", "a.csv", [1, 3, 4])
        assert [row.row for row in quarantine.read("orders", 10)] == [2, 5]
        assert (quarantine.count("orders"), quarantine.repaired("orders")) == ((6, 2), 2)
    quarantine.add("orders", [rejected(row) for row in range(6, 10)])  # the oldest leave, not 3
    assert [row.row for row in quarantine.read("orders", 10)] == [6, 7, 8, 9]
    assert (quarantine.count("orders"), quarantine.repaired("orders")) == ((10, 4), 2)
    quarantine.close()


def test_rows_that_were_appended_under_one_number_stand_side_by_side(tmp_path: Path) -> None:
    quarantine = open_quarantine(tmp_path, limit=3)
    for _ in range(2):  # a call that is repeated changes nothing
        quarantine.add("orders", [rejected(5, reason="bad")], appended=True)
        quarantine.add("orders", [rejected(5, reason="worse")], appended=True)
    assert [row.reason for row in quarantine.read("orders", 9)] == ["bad", "worse"]
    quarantine.add("orders", [rejected(6), rejected(7)])
    assert [row.reason for row in quarantine.read("orders", 9)] == ["worse", "bad", "bad"]
    assert quarantine.kept("orders", "a.csv", [5]) == [True]
    quarantine.close_rows("orders", "a.csv", [5])
    assert [row.row for row in quarantine.read("orders", 9)] == [6, 7]
    quarantine.close()


def test_attempts_are_numbered_upwards_for_ever(tmp_path: Path) -> None:
    quarantine = open_quarantine(tmp_path)
    assert [quarantine.next_attempt("orders", 0) for _ in range(2)] == [1, 2]
    assert quarantine.next_attempt("orders", 40) == 41
    quarantine.close()
    quarantine = open_quarantine(tmp_path)
    assert quarantine.next_attempt("orders", 7) == 42
    assert quarantine.next_attempt("people", 0) == 1
    quarantine.close()


def test_oldest_leave_first(tmp_path: Path) -> None:
    quarantine = open_quarantine(tmp_path, limit=10)
    quarantine.add("people", [rejected(1)])
    for start in range(0, 40, 4):
        quarantine.add("orders", [rejected(row) for row in range(start, start + 4)])
    assert quarantine.count("orders") == (40, 10)
    assert [row.row for row in quarantine.read("orders", 100)] == list(range(30, 40))
    quarantine.add("orders", [rejected(3)])  # it had left: it is new again
    assert [row.row for row in quarantine.read("orders", 100)] == [*range(31, 40), 3]
    assert quarantine.count("people") == (1, 1)
    quarantine.add("orders", [rejected(row) for row in range(100, 125)])
    assert [row.row for row in quarantine.read("orders", 100)] == list(range(115, 125))
    quarantine.close()


def test_what_a_log_knows_is_taken_over_by_a_catalogue_from_a_backup(tmp_path: Path) -> None:
    store = CatalogueStore(tmp_path)
    store.put(1, b"one")
    assert [store.next_epoch("0"), store.next_epoch("0", 7), store.next_epoch("0", 3)] == [1, 8, 9]
    store.adopt(4, b"four")
    store.adopt(4, b"four")
    assert [store.get(n) for n in (1, 2, 4)] == [b"one", None, b"four"]
    for version, content in ((4, b"another"), (2, b"two")):
        with pytest.raises(FencedOut):
            store.adopt(version, content)
    store.put(5, b"five")
    assert store.newest_version() == 5
    store.close()


def test_bytes_of_rejected_rows_are_bounded(tmp_path: Path) -> None:
    config = Config(max_quarantine_bytes=20_000)
    quarantine = Quarantine(tmp_path, config, QuarantinedRow)

    def size() -> int:
        rows = quarantine.read("orders", 10_000)
        return sum(16 + len(msgspec.msgpack.encode(row)) for row in rows)

    rng = random.Random(4)
    told: dict[int, str] = {}
    for _ in range(300):
        number, text = rng.randrange(120), "x" * rng.choice((1, 50, 3_000))
        quarantine.add("orders", [rejected(number, reason=text)])
        told[number] = text
        assert size() <= 20_000
        if rng.random() < 0.1:
            quarantine.close_rows("orders", "a.csv", [rng.randrange(120)])
    kept = quarantine.read("orders", 1_000)
    assert 0 < len(kept) < 120
    assert all(told[row.row] == row.reason for row in kept)
    # A store of before has no sizes: they are measured.
    with quarantine._env.begin(write=True) as transaction:
        counts = msgspec.json.decode(transaction.get(b"orders", db=quarantine._datasets) or b"")
        del counts["bytes"]
        transaction.put(b"orders", msgspec.json.encode(counts), db=quarantine._datasets)
    quarantine.close()
    quarantine = Quarantine(tmp_path, config, QuarantinedRow)
    quarantine.add("orders", [rejected(1_000, reason="y" * 19_000)])
    assert size() <= 20_000
    assert quarantine.without(lambda _, row: row.row == 1_000) == 1
    for number in range(30):
        quarantine.add("orders", [rejected(number, reason="z" * 1_000)])
        assert size() <= 20_000
    assert len(quarantine.read("orders", 1_000)) == 18
    quarantine.close()
