"""A folder that is watched: each file is loaded when it has stopped growing.

Theory: a file is ripe when its size and time were the same at two looks, and are not those with
which it was loaded. What a ripe file is to the store (new, known, grown, altered) its content says,
as in any ``ingest``; so nothing is kept here that a restart could lose. Looking is asking the file
system for a list, since folders of a network tell nobody what happens in them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from profile_actors.driver.connection import Connection
from profile_actors.driver.files.file_load import FileLoad
from profile_actors.driver.receipts import IngestReport
from profile_actors.driver.sender import Sender
from profile_actors.errors import CallerError
from profile_actors.ingest.files.places import File, Sign, files_in, sign_of

MIN_EVERY_S = 0.05


class Ripeness:
    """Which files have stopped growing since they were loaded."""

    def __init__(self) -> None:
        self._seen: dict[File, Sign] = {}
        self._loaded: dict[File, Sign] = {}

    def ripe(self, found: dict[File, Sign]) -> list[File]:
        """What is to be loaded now, given what is there now. A file that went is forgotten."""
        before, self._seen = self._seen, found
        self._loaded = {file: sign for file, sign in self._loaded.items() if file in found}
        return [
            file
            for file, sign in found.items()
            if before.get(file) == sign and self._loaded.get(file) != sign
        ]

    def loaded(self, file: File) -> None:
        """It was loaded, or found broken, as it was when it was last seen."""
        self._loaded[file] = self._seen[file]


def followed(
    connection: Connection,
    sender: Sender,
    dataset: str,
    folder: str | Path,
    every_s: float,
    max_bad_percent: float | None,
    closed: bool,
    wait: Callable[[float], object] = time.sleep,
) -> Iterator[IngestReport]:
    """Load the files of a folder as they come, for ever; a report for each. every_s: between two
    looks. wait: for so many seconds.

    A broken file is tried again when it has changed. Raises CallerError for what is no folder at
    the beginning, DefinitionError for an unknown dataset; a folder that cannot be read meanwhile is
    looked at again.
    """
    sender.check_dataset(dataset, "follow")
    if not isinstance(every_s, int | float) or not MIN_EVERY_S <= every_s < 86_400:
        raise CallerError(f"expected every_s from {MIN_EVERY_S} to a day, got {every_s!r}")
    files_in(folder)
    return _reports(connection, sender, dataset, folder, every_s, max_bad_percent, closed, wait)


def _reports(
    connection: Connection,
    sender: Sender,
    dataset: str,
    folder: str | Path,
    every_s: float,
    max_bad_percent: float | None,
    closed: bool,
    wait: Callable[[float], object],
) -> Iterator[IngestReport]:
    known = Ripeness()
    while True:
        for file in known.ripe(_signs(folder)):
            one = FileLoad(connection, sender, dataset, file, max_bad_percent, closed)
            report = one.run(lambda size, rows: None)
            known.loaded(file)
            yield report
        wait(every_s)


def _signs(folder: str | Path) -> dict[File, Sign]:
    """The files that are there now, with what tells whether they change."""
    signs: dict[File, Sign] = {}
    try:
        files = files_in(folder).files
    except (OSError, CallerError):
        return signs
    for file in files:
        try:
            signs[file] = sign_of(file)
        except OSError:
            continue  # it went meanwhile
    return signs
