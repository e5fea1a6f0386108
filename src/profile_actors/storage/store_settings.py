"""What a store is for ever, as the catalogue keeps it and ``store.json`` repeats it for people."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from profile_actors.errors import UNDECODED

FORMAT = 1


class StoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a store is for ever. hash_seed: of identity keys. created: ms UTC.

    id: its own, empty in one from before stores had ids. restored: drawn anew each time that it was
    restored from a backup; cursors of changes say it, since the same positions told others before.
    """

    partitions: int
    clock: Literal["wall", "event"]
    hash_seed: int
    created: int
    format: int = FORMAT
    id: str = ""
    restored: str = ""


SETTINGS = msgspec.json.Decoder(StoreSettings)


def load_settings_file(path: Path) -> StoreSettings | None:
    """What ``store.json`` says; None if it is missing or no settings (the catalogue decides)."""
    try:
        return SETTINGS.decode(path.read_bytes())
    except (OSError, *UNDECODED):
        return None
