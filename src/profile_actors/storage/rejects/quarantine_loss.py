"""That a store's quarantine was gone when it was opened, told until somebody has read it."""

from __future__ import annotations

from pathlib import Path

from profile_actors.storage.environment import DATA
from profile_actors.storage.files.atomic_files import failed_write, make_directory, write_whole

LOST = "begun-anew.txt"
"""Beside the data file: that an earlier quarantine was gone."""


def lost_note(directory: Path) -> str:
    """What to tell of the quarantine of a store that has had one: empty if it is there.

    One that is gone is begun anew by ``Quarantine``, since a store works without old rejects; a
    file beside it keeps saying so until an operator deletes it. Raises StorageFull.
    """
    told = directory / LOST
    data = directory / DATA
    if not data.is_file() or data.stat().st_size == 0:
        text = (
            "the quarantine was gone when the store was opened, and was begun anew: rows that were"
            " rejected before can be neither looked at nor offered again; put the directory back"
            f" from a backup, or delete {told} if they are not needed"
        )
        make_directory(directory)
        try:
            write_whole(told, (text.encode(),))
        except OSError as error:
            raise failed_write(error, str(told)) from error
    return told.read_text("utf-8") if told.is_file() else ""
