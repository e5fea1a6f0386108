"""What becomes of a row that is not accepted: a record with the place, the reason and the row."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import msgspec

MAX_RAW_CHARS = 1_000  # of a rejected row's own text that the quarantine keeps


class Reject(msgspec.Struct, frozen=True):
    """A rejected row. row: its offset in the producer's stream. path: the dotted field path, ``""``
    for the whole row. raw: the row's text, cut after MAX_RAW_CHARS."""

    row: int
    path: str
    reason: str
    raw: str


class QuarantineRecord(msgspec.Struct, frozen=True):
    """A reject as the quarantine keeps it. source: the producer or the file's base name."""

    source: str
    row: int
    path: str
    reason: str
    raw: str


def quarantined(source: str, rejects: list[Reject]) -> list[QuarantineRecord]:
    """The rejects of one source as the quarantine keeps them: UTF-8, whatever a field is called."""
    return [
        QuarantineRecord(source, r.row, _utf8(r.path), _utf8(r.reason), _utf8(r.raw))
        for r in rejects
    ]


def _utf8(text: str) -> str:
    """The text, with lone surrogates written out."""
    return text.encode("utf-8", "backslashreplace").decode()


def raw_text(row: Any) -> str:
    """A row as bounded text: JSON where it can be, its Python form otherwise."""
    if isinstance(row, str):
        return row[:MAX_RAW_CHARS]
    try:
        text = full_json(row)
    except (TypeError, ValueError, OverflowError, RecursionError):
        try:
            text = repr(row)
        except ValueError:
            text = "a row with an integer of thousands of digits"
        except RecursionError:
            text = "a row that is nested too deeply"
    return _utf8(text)[:MAX_RAW_CHARS]


def full_json(value: Any) -> str:
    """A value as JSON text. Raises TypeError, ValueError, OverflowError, RecursionError."""
    return msgspec.json.encode(value, enc_hook=_as_text).decode()


def _as_text(value: Any) -> Any:
    if isinstance(value, dt.datetime | dt.date | Decimal):
        return str(value)
    raise TypeError
