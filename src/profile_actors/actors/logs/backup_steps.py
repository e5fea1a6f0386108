"""The coordinator's part in backups: which there are, and the catalogue's and quarantine's copies.

Theory: a backup is remembered before its first file is written, since from then on an erased person
may be there (``known_backups``). Copies are made beside other calls; an erasure replaces the
quarantine's files, and waits for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import msgspec

from profile_actors.actors.hooks import Hook
from profile_actors.actors.logs.log_steps import reached
from profile_actors.actors.wall_clock import wall_ms
from profile_actors.engine.erasure.marks import mark_of
from profile_actors.engine.identity.messages import Named
from profile_actors.engine.shipping.pieces import Stored
from profile_actors.errors import Pending
from profile_actors.ingest.rejects import QuarantineRecord
from profile_actors.storage.catalogue_store import CatalogueStore
from profile_actors.storage.erasure.erasure_record import load_count
from profile_actors.storage.files.layout import LEDGER
from profile_actors.storage.rejects.quarantine import Quarantine
from profile_actors.storage.shipping.backups import backup_id, made_at
from profile_actors.storage.shipping.depot import Depot
from profile_actors.storage.shipping.environments import shipped
from profile_actors.storage.shipping.known_backups import ErasedMarks, KnownBackup, KnownBackups


class Begun(msgspec.Struct, frozen=True):
    """What a backup begins with. known: all that the store remembers, oldest first. erasures: how
    many the store has had. has_ledger: whether its log is known to be there."""

    backup: KnownBackup
    partitions: int
    known: tuple[KnownBackup, ...]
    erasures: int
    has_ledger: bool


class ShippedBeside(msgspec.Struct, frozen=True):
    """What the coordinator has copied. erasures: how many there were then."""

    catalogue: Stored
    quarantine: Stored | None
    erased: tuple[ErasedMarks, ...]
    erasures: int
    new_bytes: int


class Backups:
    """See the module. store: the catalogue; data: the store's directory; hook: called before and
    after each write of a copy."""

    def __init__(
        self, store: CatalogueStore, quarantine: Quarantine[Any], data: Path, hook: Hook
    ) -> None:
        self._store = store
        self._quarantine = quarantine
        self._data = data
        self._hook = hook
        self.copying = Lock()
        env, (backups, erased) = store.beside("backups", "erased")
        self._env = env
        self.known = KnownBackups(env, backups, erased, str(data / "catalogue"))

    def step(self, name: str, *args: Any) -> Any:
        """One of: ``begin``, ``ship``, ``note``, ``forget``, ``known``; each may be asked again."""
        steps: dict[str, Callable[..., Any]] = {
            "begin": self._begin,
            "ship": self._ship,
            "note": self.known.note,
            "forget": self.known.forget,
            "known": self.known.all,
        }
        return steps[name](*args)

    def note_erasure(self, number: int, ones: Sequence[Named]) -> None:
        """Remember whom an erasure takes out, by marks. Idempotent."""
        settings = self._store.settings()
        assert settings is not None, self._data
        marks = tuple(mark_of(one.key, settings.hash_seed) for one in ones)
        self.known.note_erased(ErasedMarks(number, wall_ms(), marks))

    def forget_rejected(self, is_gone: Callable[[str, QuarantineRecord], bool]) -> int:
        """Take rows out of the quarantine, whose files are replaced; how many those were."""
        with self.copying:
            return self._quarantine.without(is_gone)

    def _begin(self, uri: str, newest: str) -> Begun:
        """newest: the id of the newest backup of the place, which a store that was put back, or
        whose clock was, may not remember; "" if there is none."""
        settings = self._store.settings()
        assert settings is not None, self._data
        erasures, known = self._erasures(), self.known.all()
        at = max([wall_ms(), made_at(newest) + 1, *(one.at + 1 for one in known)])
        backup = KnownBackup(backup_id(at), uri, at, settings.id)
        self.known.note(backup)
        ledger = self._store.log(LEDGER)
        is_there = ledger is not None and ledger.state == "kept"
        return Begun(backup, settings.partitions, tuple(known), erasures, is_there)

    def _erasures(self) -> int:
        count, is_going_on = load_count(self._data)
        if is_going_on:
            raise Pending(
                "expected to back up, got an erasure that goes on - at backup; what is copied"
                " meanwhile would be half of each: back up when it is done"
            )
        return count

    def _ship(self, uri: str) -> ShippedBeside:
        with self.copying, reached(uri):
            depot = Depot(uri, self._hook)
            quarantine, more = shipped(self._quarantine.copy_to, self._data, depot)
            catalogue, new = shipped(
                lambda handle: self._env.copyfd(handle, compact=True), self._data, depot
            )
            erased = tuple(self.known.erased())
            return ShippedBeside(catalogue, quarantine, erased, self._erasures(), new + more)
