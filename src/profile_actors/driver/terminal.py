"""Texts of any origin as a terminal may show them: every control is written out, a row stays a row.

Theory: identity values, field names and file names are what strangers sent. Shown as they are, they
could move the cursor, set the title, hide what follows, or look like rows of ours. What is shown is
therefore printable throughout (``str.isprintable``: no controls, no bidirectional overrides, no
invisible format characters, no lone surrogates, no blank but the space); the rest is written as in
a Python literal. Only what people read is changed: JSON and files keep the exact value.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def one_line(text: str) -> str:
    """The text on one line, controls written out: ``ESC [`` as ``\\x1b[``. Printable text stays."""
    return text if text.isprintable() else "".join(map(_written_out, text))


def lines(text: str) -> str:
    """Like ``one_line`` for each line of a text of ours that has several."""
    return "\n".join(map(one_line, text.split("\n")))


def _written_out(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")


def json_text(encoded: bytes) -> bytes:
    """JSON that says the same, with such characters as JSON's own escapes."""
    text = encoded.decode()
    if text.isprintable():
        return encoded
    return "".join(map(_json_escape, text)).encode()


def _json_escape(character: str) -> str:
    if character.isprintable():
        return character
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def instant_text(ms: int) -> str:
    """ISO text of ms UTC, for people; the number itself outside years 1 to 9999."""
    try:
        text = (_EPOCH + timedelta(milliseconds=ms)).isoformat(sep=" ", timespec="milliseconds")
    except OverflowError:
        return str(ms)
    return text.replace("+00:00", "Z").replace(" 00:00:00.000Z", "").replace(".000Z", "Z")
