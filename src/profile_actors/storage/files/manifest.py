"""The list of a log's segments, in a file that is replaced whole.

Theory: line 1 is the xxh3-64 of the rest, in hex; the rest is JSON. The directory of a log
segment that the manifest does not name is what a crash left of a rotation: it never held an
acknowledged entry, and is deleted. A log segment's name is listed apart from its first position, so
that a rewritten (compacted) one can take another's place by replacing the manifest.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import xxhash

from profile_actors.errors import UNDECODED, CorruptLog
from profile_actors.storage.files.atomic_files import CrashPoint, no_crash, write_whole

FORMAT = 1


PLAIN, GROUPED = 1, 2
"""Formats of a log segment: of single entries, and one that has groups of them; releases that do
not know groups refuse to open the log."""


class LogSegmentEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """name: its directory. first: its first position. entries: how many, once sealed. format: PLAIN
    or GROUPED."""

    name: str
    first: int
    sealed: bool = False
    entries: int | None = None
    format: int = PLAIN


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """segments: in order of first position; all but the last are sealed."""

    segments: tuple[LogSegmentEntry, ...]
    format: int = FORMAT


_MANIFEST = msgspec.json.Decoder(Manifest)


def save_manifest(path: Path, manifest: Manifest, crash_point: CrashPoint = no_crash) -> None:
    """Replace the manifest durably. Raises OSError."""
    body = msgspec.json.format(msgspec.json.encode(manifest))
    line = f"{xxhash.xxh3_64_hexdigest(body)}\n".encode()
    write_whole(path, (line, body), crash_point, "log.rotate.manifest_")


def load_manifest(path: Path) -> Manifest | None:
    """The manifest, None if there is no file. Raises CorruptLog."""
    if not path.is_file():
        return None
    line, _, body = path.read_bytes().partition(b"\n")
    digest = xxhash.xxh3_64_hexdigest(body).encode()
    if digest != line:
        raise _corrupt(path, f"expected checksum {line[:16]!r}, got {digest!r}")
    try:
        manifest = _MANIFEST.decode(body)
    except UNDECODED as error:
        raise _corrupt(path, f"expected a list of log segments, got '{error}'") from error
    newest = (manifest.format, FORMAT), *((one.format, GROUPED) for one in manifest.segments)
    for form, known in newest:
        if form not in range(1, known + 1):
            raise _corrupt(path, f"expected log format {known}, got {form} (a newer release)")
    if not manifest.segments or [entry.sealed for entry in manifest.segments] != [
        True for _ in manifest.segments[1:]
    ] + [False]:
        raise _corrupt(path, "expected sealed log segments and one open one, got another order")
    return manifest


def _corrupt(path: Path, fault: str) -> CorruptLog:
    return CorruptLog(f"{fault} - at {path}; restore the file from a replica or backup")
