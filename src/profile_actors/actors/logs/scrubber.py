"""A sequencer's disk is read through now and then, and what is damaged mended or named.

Theory: the reading is ``storage/scrub``; here are its clock, its rate, and where a whole copy of a
damaged entry comes from. In the background a slice is followed by as much rest as keeps the bytes
per second within ``Config.scrub_bytes_per_s``; where it has got to is kept beside the files, so
that a restart does not begin anew. By hand, slices follow each other (``step``).

A damaged entry is fetched from the other copy of the log, where there is one that is known to have
it; what cannot be mended is named in ``status`` until a later pass finds it whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Lock, Thread

import msgspec

from profile_actors.actors.actor_status import ScrubStatus
from profile_actors.actors.wall_clock import wall_ms
from profile_actors.config import Config
from profile_actors.errors import UNDECODED, FencedOut, Pending, ProfileActorsError
from profile_actors.storage.files.atomic_files import write_whole
from profile_actors.storage.scrub.log_mending import mend_segment
from profile_actors.storage.scrub.mendable_log import MendableLog
from profile_actors.storage.scrub.scrubbing import Blocks, Fault, Mark, scrub_slice

STATE = "scrub.json"


FIRST_S = 60.0
"""A process that has just begun has other things to read."""


SLICE_S = 1.0
"""The background reads what the rate allows for so long, and rests for what is left of it."""


LEAST_REST_S = 0.01
"""Between two files or few blocks."""


CALL_S = 5.0
"""After so long a call by hand answers with what it has, to be asked again from there."""


CALL_BYTES = 256 << 20


SAVE_S = 60.0
"""How often is noted where the background has got to."""


MAX_DAMAGE = 100
"""Sentences that are told; ``damaged`` counts all."""


class ScrubPart(msgspec.Struct, frozen=True):
    """A part of a pass by hand. mark: where the next part goes on, None at the end."""

    mark: Mark | None
    read: int
    bytes: int
    faults: tuple[str, ...]
    mended: int


class _Kept(msgspec.Struct, frozen=True):
    """What is beside the files. mark: of the pass under way. finished: of the last, ms UTC."""

    mark: Mark | None
    finished: int | None = None


_KEPT = msgspec.json.Decoder(_Kept)


class Scrubber:
    """Of one log and what is derived from it. fetch: an entry of another copy that is known to have
    the same log up to there; raises ProfileActorsError."""

    def __init__(
        self,
        log: MendableLog,
        directory: Path,
        config: Config,
        fetch: Callable[[int], bytes],
        blocks: Blocks | None = None,
    ) -> None:
        self._log = log
        self._directory = directory
        self._config = config
        self._fetch = fetch
        self._blocks = blocks
        self._mending = Lock()
        self._faults: dict[Mark, str] = {}
        self._kept = self._load()
        self._bytes = self._mended = 0

    def start(self) -> None:
        """Read in the background, until the log is closed."""
        rate = self._config.scrub_bytes_per_s
        if rate is not None:
            Thread(target=self._run, args=(rate,), name="scrub", daemon=True).start()

    def status(self) -> ScrubStatus:
        """See there."""
        faults = list(dict(self._faults).values())
        return ScrubStatus(
            self._kept.finished, self._bytes, len(faults), tuple(faults[:MAX_DAMAGE]), self._mended
        )

    def step(self, mark: Mark | None, pause: Callable[[], object] = lambda: None) -> ScrubPart:
        """A part of a pass by hand, from a mark on, None for its beginning. pause: called between
        reads. Raises FencedOut once the log is closed."""
        end = time.monotonic() + CALL_S

        def go_on() -> bool:
            pause()
            return time.monotonic() < end

        found = self._slice(Mark() if mark is None else mark, CALL_BYTES, go_on)
        if found.mark is None:
            self._kept = _Kept(self._kept.mark, wall_ms())
        return found

    def _slice(self, mark: Mark, limit_bytes: int, go_on: Callable[[], bool]) -> ScrubPart:
        try:
            found = scrub_slice(self._log, self._directory, self._blocks, mark, limit_bytes, go_on)
        except Pending:  # damaged blocks are just being made anew
            return ScrubPart(mark, 0, 0, (), 0)
        self._bytes += found.bytes
        mended = self._mended
        self._forget(mark, found.mark)
        for fault in found.faults:
            text = self._mend(fault) if fault.at.stage == "log" else fault.text
            if text:
                self._faults[fault.at] = text
        told = (self._faults.get(fault.at) for fault in found.faults)
        left = tuple(text for text in told if text)
        return ScrubPart(found.mark, found.read, found.bytes, left, self._mended - mended)

    def _forget(self, mark: Mark, following: Mark | None) -> None:
        """What was damaged of what was read just now is said anew, or is whole."""
        for at in list(self._faults):
            if at.stage != mark.stage:
                continue
            if at.stage == "log":
                is_on = following is not None and following.stage == "log"
                end = following.next if is_on and following is not None else at.next + 1
                is_read = mark.next <= at.next < end
            else:
                is_read = mark == Mark(mark.stage)  # each pass finds all of them
            if is_read:
                self._faults.pop(at, None)

    def _mend(self, fault: Fault) -> str:
        """Fetch the damaged entries of a log segment, if that can be done; "" then, or what is said
        of the one that was found. Raises FencedOut once the log is closed."""
        position = fault.at.next
        with self._mending:
            if position >= self._log.head() or self._log.checked(position)[1] is None:
                return ""  # taken away, or mended with another one
            map_bytes = self._config.log_map_bytes
            try:
                mended = mend_segment(self._log, position, self._fetch, map_bytes)
            except FencedOut:
                raise
            except ProfileActorsError as error:
                return f"{fault.text} (not mended: {error})"
            self._mended += len(mended)
            return ""

    # -- in the background ------------------------------------------------------------------------

    def _run(self, rate: int) -> None:
        time.sleep(FIRST_S)
        saved_s = time.monotonic()
        with suppress(FencedOut):
            while self._log.is_open():
                kept, began_s = self._kept, time.monotonic()
                if kept.mark is None and self._left_s() > 0:
                    time.sleep(min(self._left_s(), FIRST_S))
                    continue
                found = self._slice(kept.mark or Mark(), int(rate * SLICE_S), lambda: True)
                if not self._log.is_open():  # the feed may have been closed meanwhile
                    return
                finished = kept.finished if found.mark is not None else wall_ms()
                self._kept = _Kept(found.mark, finished)
                if found.mark is None or began_s - saved_s > SAVE_S:
                    self._save()
                    saved_s = began_s
                took_s = time.monotonic() - began_s
                time.sleep(max(LEAST_REST_S, found.bytes / rate - took_s))

    def _left_s(self) -> float:
        """Until the next pass is due."""
        if self._kept.finished is None:
            return 0.0
        return self._kept.finished / 1000 + self._config.scrub_pause_s - wall_ms() / 1000

    def _load(self) -> _Kept:
        try:
            return _KEPT.decode((self._directory / STATE).read_bytes())
        except (OSError, *UNDECODED):
            return _Kept(None)

    def _save(self) -> None:
        with suppress(OSError):  # a full disk: the next process reads some of it again
            write_whole(self._directory / STATE, (msgspec.json.encode(self._kept), b"\n"))
