"""Whichever file of a store is cut short, overwritten or gone: it opens the same, or says so.

All of a store as its actors open it: catalogue, quarantine, log, change feed, checkpoints. Nothing
is ever lost in silence: what is derived is made anew, what is not is refused, with what to do.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from profile_actors.config import Config
from profile_actors.engine.partition.partition import Partition
from profile_actors.errors import Halt
from profile_actors.ingest.rejects import QuarantineRecord
from profile_actors.storage.catalogue_store import CatalogueStore
from profile_actors.storage.checkpoint_files import FileCheckpoints
from profile_actors.storage.files.layout import StoreLayout
from profile_actors.storage.lmdb_feed import LmdbFeed
from profile_actors.storage.lmdb_log import LmdbLog
from profile_actors.storage.rejects.quarantine import Quarantine
from profile_actors.storage.rejects.quarantine_loss import lost_note
from profile_actors.storage.store_settings import StoreSettings
from tests.memory import scratch
from tests.model.hub import BASE, CATALOGUE, HOUR, Hub

CONFIG = Config(
    log_segment_bytes=1 << 14, log_map_bytes=1 << 20, feed_retention_bytes=1 << 20,
    max_profiles=4096, max_ahead_ms=1 << 50,
)  # fmt: skip
PEOPLE = [f"p{n}" for n in range(6)]
REJECTS = [QuarantineRecord("s", n, "n", "expected an integer", "x" * 99) for n in range(40)]


class Store(Hub):
    """A store of one partition on its files."""

    def __init__(self, data: Path) -> None:
        self.files: list[Any] = []
        try:
            self._open(data)
        except BaseException:
            self.close()
            raise

    def _open(self, data: Path) -> None:
        self.known = self._opened(CatalogueStore(data, lock_wait_s=0.0))
        new = StoreSettings(partitions=1, clock="event", hash_seed=7, created=1, id="mine")
        if self.known.settings() is None:
            self.known.set_settings(new)
        directory = StoreLayout(data).quarantine
        self.note = lost_note(directory) if self.known.newest_version() else ""
        self.quarantine = self._opened(
            Quarantine(StoreLayout(data).quarantine, CONFIG, QuarantineRecord)
        )
        directory = StoreLayout(data).partition(0).directory
        epoch, claim = self.known.next_epoch("0"), self.known.claim(0, "log")
        log = self._opened(LmdbLog(directory, CONFIG, epoch=epoch, claim=claim, lock_wait_s=0.0))
        self.known.tell(0, log.id, log.head(), 1, str(directory))
        feed = self._opened(LmdbFeed(directory, CONFIG))
        partition = Partition(log, feed, FileCheckpoints(directory), CONFIG, index=0, epoch=epoch)
        super().__init__()
        self.partitions = [partition]
        self.log, self.feed = log, feed

    def _opened(self, file: Any) -> Any:
        self.files.append(file)
        return file

    def fill(self) -> None:
        """Rows, a checkpoint in their midst, definitions, rejected rows."""
        (partition,) = self.partitions
        self.known.put(1, b"definitions")
        self.quarantine.add("hits", REJECTS)
        partition.define(CATALOGUE, None)
        for number in range(30):
            at = BASE + number * HOUR
            rows = [
                {"who": who, "at": at, "_id": f"{who}-{number}", "kind": "buy", "n": number,
                 "x": 0.5, "place": who * 40} for who in PEOPLE
            ]  # fmt: skip
            batch = self.sub_batch("hits", "p", number * len(rows), rows, clock=at)
            assert partition.commit([batch], None)[0].status == "ok"
            job = partition.checkpoint_job(force=True) if number in (10, 20) else None
            if job is not None:
                job()

    def contents(self) -> list[Any]:
        (partition,) = self.partitions
        assert list(self.log.verify()) == []
        return [
            self.known.settings(), self.known.newest_version(), self.known.get(1),
            self.quarantine.read("hits", 100), self.quarantine.count("hits"),
            self.log.head(), partition.now, self.pure(PEOPLE), partition.changes(-1, 1 << 30),
        ]  # fmt: skip

    def close(self) -> None:
        for file in reversed(self.files):
            file.close()


def cut_to(share: float, less: int = 0) -> Callable[[bytes], bytes | None]:
    return lambda content: content[: max(0, int(len(content) * share) - less)]


DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "gone": lambda content: None,
    "half": cut_to(0.5),
    "begins with zeros": lambda content: bytes(4096) + content[4096:],
    "emptied": cut_to(0),
    "one byte": lambda content: content[:1],
    "a third": cut_to(1 / 3),
    "a page less": cut_to(1, 4096),
    "a byte less": cut_to(1, 1),
    "all zeros": lambda content: bytes(len(content)),
    "ends with zeros": lambda content: content[:-4096] + bytes(min(4096, len(content))),
}


@pytest.fixture(scope="module")
def original() -> Iterator[Path]:
    with scratch() as directory:
        data = Path(directory) / "mine"
        store = Store(data)
        store.fill()
        store.close()
        yield data


@pytest.mark.parametrize(
    "damages", [[*DAMAGES][:4], pytest.param([*DAMAGES][4:], marks=pytest.mark.slow)]
)
def test_whichever_file_is_cut_short(original: Path, damages: list[str]) -> None:
    with scratch() as directory:
        whole = Store(Path(shutil.copytree(original, Path(directory) / "whole")))
        wanted = whole.contents()
        whole.close()
    assert wanted[5] == 31
    seen = {"same": 0, "refused": 0, "told": 0}
    files = [path for path in original.rglob("*") if path.is_file()]
    for number, path in enumerate(sorted(files)):
        piece = str(path.relative_to(original))
        if path.name.endswith("lock") or path.name == "lock.mdb":
            continue  # they hold nothing
        is_quick = damages[0] == "gone" and not piece.startswith("quarantine")
        for what in damages[number % 4 :][:1] if is_quick else damages:
            with scratch() as directory:
                data = Path(shutil.copytree(original, Path(directory) / "mine"))
                content = DAMAGES[what](path.read_bytes())
                if content is None:
                    (data / piece).unlink()
                else:
                    (data / piece).write_bytes(content)
                seen[outcome(data, wanted, f"{piece} {what}")] += 1
    assert seen["same"] > 3, seen
    assert seen["refused"] > 20, seen
    assert seen["told"] == (2 if "gone" in damages else 0), seen


def outcome(data: Path, wanted: list[Any], what: str) -> str:
    """'same', 'refused' or 'told'; fails where it answers otherwise, or gives no way out."""
    store = None
    try:
        store = Store(data)
        found = store.contents()
    except Halt as error:
        text = str(error)
        assert "expected" in text, (what, text)
        assert str(data) in text, (what, text)
        assert any(word in text for word in ("restore", "put ", "made anew", "restart")), (
            what,
            text,
        )
        return "refused"
    finally:
        if store is not None:
            store.close()
    if store.note:
        assert "begun anew" in store.note
        found[3:5] = wanted[3:5]
    assert found == wanted, what
    return "told" if store.note else "same"
