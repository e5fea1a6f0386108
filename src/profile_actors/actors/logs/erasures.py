"""The coordinator's part in an erasure: what is asked for, who stands still, who is done.

Theory: an erasure is written down before anything else happens, and from then on it goes on by
itself: a sequencer that opens its log is told of it (``standing_still``), and those that have their
logs open are told to end. The quarantine comes last, and then what was written down loses the
person's names. One at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import ray
from msgspec import structs

from profile_actors.actors.actor_status import ErasureProgress
from profile_actors.actors.mail.peers import actor_of
from profile_actors.engine.identity.messages import LEDGER, Named
from profile_actors.errors import FencedOut
from profile_actors.storage.edge_files import LOCK
from profile_actors.storage.erasure.erasure_record import (
    Erased,
    ErasedPart,
    Erasing,
    ErasureRecord,
    load_record,
    save_record,
)
from profile_actors.storage.files.atomic_files import remove_tree
from profile_actors.storage.files.layout import StoreLayout
from profile_actors.storage.files.lock import DirectoryLock


class Erasures:
    """See the module. has_ledger: asked whether there is one; reject: takes what names a person out
    of the quarantine, and says how many rows that were."""

    def __init__(
        self,
        data: Path,
        namespace: str,
        partitions: int,
        has_ledger: Callable[[], bool],
        reject: Callable[[Sequence[Named]], int],
    ) -> None:
        self._layout = StoreLayout(data)
        self._namespace = namespace
        self._partitions = partitions
        self._has_ledger = has_ledger
        self._reject = reject
        self._record = load_record(data)
        self._finish_if_done()

    @property
    def count(self) -> int:
        """How many there were, the one under way too."""
        return self._record.count

    def of(self, name: str) -> Erasing | None:
        """What a sequencer that opens its log has to do first."""
        pending = self._record.pending
        return None if pending is None or name in pending.done else pending

    def begin(self, ones: Sequence[Named], cutoffs: dict[str, int] | None = None) -> int:
        """Write down who is to be erased; the number of this erasure, or 0 while there is another.

        cutoffs: older rows of these datasets are, of whomever. The same again while it goes on is
        the same one.
        """
        pending = self._record.pending
        wanted = tuple(sorted(ones))
        if pending is None:
            copies = sorted(self._layout.edges.glob("*/generation-*"))
            told = tuple(str(path.relative_to(self._layout.data)) for path in copies)
            number = self._record.count + 1
            erasing = Erasing(number, wanted, copies=told, cutoffs=cutoffs or {})
            self._save(number, erasing, self._record.last)
        elif (pending.ones, pending.cutoffs) != (wanted, cutoffs or {}):
            return 0
        self.urge()
        return self._record.count

    def stand(self, name: str) -> bool:
        """A sequencer stands still; whether all do."""
        pending = self._record.pending
        if pending is None:
            return True
        if name not in pending.standing:
            self._note(standing=(*pending.standing, name))
        self.urge()
        return not self._moving()

    def note(self, name: str, part: ErasedPart) -> None:
        """What a sequencer is about to take out; again, after a crash, it may be less."""
        pending = self._record.pending
        if pending is not None and name not in pending.parts:
            self._note(parts={**pending.parts, name: part})

    def done(self, name: str) -> None:
        """A sequencer has nothing of the person any more. Idempotent."""
        pending = self._record.pending
        if pending is not None and name not in pending.done:
            self._note(done=(*pending.done, name))
            self._finish_if_done()

    def result(self, number: int) -> Erased | None:
        """What an erasure did; None while it goes on. Of the newest alone more than that it is over
        is known. copies: those that are still there."""
        last = self._record.last
        if self._record.pending is not None and self._record.pending.number == number:
            self.urge()
            return None
        if last is None or last.number != number:
            return Erased(number, 0)
        there = [path for path in last.copies if (self._layout.data / path).is_dir()]
        return structs.replace(last, copies=tuple(there))

    def renewed(self, name: str) -> int:
        """The newest erasure by which a sequencer's log became another one; 0 for none."""
        pending = self._record.pending
        if pending is not None and name in pending.parts:
            return pending.number
        return self._record.renewed.get(name, 0)

    def progress(self) -> ErasureProgress | None:
        """Of the one that goes on; None if none does."""
        pending = self._record.pending
        if pending is None:
            return None
        rows = sum(part.rows for part in pending.parts.values())
        stages = len(self._holders()), len(pending.standing), len(pending.done)
        return ErasureProgress(pending.number, len(pending.ones), *stages, rows)

    def urge(self) -> None:
        """Have those end that still have their logs open."""
        pending = self._record.pending
        for name in self._moving() if pending is not None else ():
            with suppress(ValueError, ray.exceptions.RayError):  # not there, so it has none open
                actor = ray.get_actor(actor_of(name), namespace=self._namespace)
                actor.leave.remote(self.count)

    def _holders(self) -> list[str]:
        ledger = [LEDGER] if self._has_ledger() else []
        return [*map(str, range(self._partitions)), *ledger]

    def _moving(self) -> list[str]:
        pending = self._record.pending
        standing = () if pending is None else pending.standing
        return [name for name in self._holders() if name not in standing]

    def _note(self, **changes: object) -> None:
        assert self._record.pending is not None
        self._save(self.count, structs.replace(self._record.pending, **changes), self._record.last)

    def _save(self, count: int, pending: Erasing | None, last: Erased | None) -> None:
        renewed = self._record.renewed
        if last is not None and pending is None:
            renewed = {**renewed, **dict.fromkeys(last.parts, last.number)}
        record = ErasureRecord(count, pending, last, renewed)
        save_record(self._layout.data, record)
        self._record = record

    def _finish_if_done(self) -> None:
        pending = self._record.pending
        if pending is None or set(self._holders()) - set(pending.done):
            return
        rejected = self._reject(pending.ones)
        self._drop_idle_copies()
        last = Erased(pending.number, len(pending.ones), pending.parts, rejected, pending.copies)
        self._save(self.count, None, last)

    def _drop_idle_copies(self) -> None:
        """Delete copies that no edge has open; those that one has it makes anew by itself, since
        partitions give it another form."""
        for directory in sorted(self._layout.edges.glob("*")):
            with suppress(FencedOut, OSError):
                lock = DirectoryLock(directory / LOCK, 0.0)
                try:
                    for path in directory.glob("generation-*"):
                        remove_tree(path)
                finally:
                    lock.release()
