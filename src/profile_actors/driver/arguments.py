"""What callers pass to the doors: instants, identities, numbers, cursors, checked before use.

Theory: a wrong argument is the caller's error and must be told here, in his process: what reaches a
partition is taken for granted there, and a writer that trips over it would stop for good.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec

from profile_actors.engine.identity.identity import Identity
from profile_actors.engine.log.sub_batch import ANONYMOUS
from profile_actors.errors import CallerError
from profile_actors.rules.semantics.calendar import MAX_MS, MIN_MS

Instant = int | datetime | date | str


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


_MILLISECOND = timedelta(milliseconds=1)


def instant_ms(when: Instant) -> int:
    """ms UTC of ms, a datetime (without a zone: UTC), a date, or ISO text. Raises CallerError."""
    ms = _ms(when)
    if ms is None or not MIN_MS <= ms <= MAX_MS:
        raise CallerError(
            "expected an instant in the years 1 to 9999 (ms, a datetime, a date, or ISO text such"
            f" as 1997-07-01), got {when!r}"
        )
    return ms


def _ms(when: Any) -> int | None:
    if isinstance(when, str):
        if when.removeprefix("-").isdecimal():
            return int(when) if len(when) < 20 else None
        try:
            when = datetime.fromisoformat(when)
        except ValueError:
            return None
    if isinstance(when, datetime):
        zoned = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
        return (zoned - _EPOCH) // _MILLISECOND if zoned == zoned else None
    if isinstance(when, date):
        return (datetime(when.year, when.month, when.day, tzinfo=UTC) - _EPOCH) // _MILLISECOND
    try:
        return None if isinstance(when, bool) else int(operator.index(when))
    except TypeError:
        return None


def whole_number(value: Any, name: str, at: str, least: int) -> int:
    """The value as an int of at least ``least``. Raises CallerError."""
    try:
        number = None if isinstance(value, bool) else int(operator.index(value))
    except TypeError:
        number = None
    if number is None or number < least:
        raise CallerError(f"expected {name} as an integer >= {least}, got {value!r} - at {at}")
    return number


def text_name(value: Any, name: str, at: str) -> str:
    """The value, a text that is not empty and has a UTF-8 form. Raises CallerError."""
    if not isinstance(value, str) or not value or not _is_utf8(value):
        raise CallerError(f"expected {name} as a text that is not empty, got {value!r} - at {at}")
    return value


def identity_pairs(identities: Iterable[Any]) -> list[tuple[str, str]]:
    """(namespace, value) of pairs or ``Identity``; integers are taken as their digits, as in rows.

    Raises CallerError.
    """
    if isinstance(identities, (str, bytes)) or not hasattr(identities, "__iter__"):
        raise CallerError(
            f"expected pairs of namespace and value, got {identities!r} - at a look-up"
        )
    pairs = list(identities)
    if set(map(type, pairs)) == {tuple} and set(map(len, pairs)) == {2}:
        spaces, values = zip(*pairs, strict=True)
        if set(map(type, spaces)) == {str} == set(map(type, values)) and "".join(values).isascii():
            return pairs  # as nearly always, found out by the interpreter's own passes
    return [identity_pair(one) for one in pairs]


def identity_pair(one: Any) -> tuple[str, str]:
    """One of them. Raises CallerError."""
    if isinstance(one, Identity):
        return one.namespace, one.value
    if isinstance(one, (tuple, list)) and len(one) == 2:
        namespace, value = one
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        is_text = isinstance(namespace, str) and isinstance(value, str)
        if is_text and (value.isascii() or _is_utf8(value)):
            return namespace, value
    raise CallerError(f"expected a namespace and a value as texts, got {one!r} - at a look-up")


def check_stream(producer: str | None, offset: int | None) -> None:
    """Raises CallerError for a producer and an offset that name no stream of rows."""
    if producer is not None:
        if text_name(producer, "producer", "submit").startswith(ANONYMOUS):
            raise CallerError(
                f"expected a producer's name that does not begin with {ANONYMOUS!r}, got"
                f" {producer!r} - at submit; those are the store's own, choose another"
            )
    elif offset is not None:
        raise CallerError(
            f"expected a producer with an offset, got offset={offset!r} alone - at submit; name the"
            " producer whose rows you number"
        )
    if offset is not None:
        whole_number(offset, "offset", "submit", 0)


def check_page_cursor(cursor: Any) -> None:
    """Raises CallerError unless it says a place in the order of events."""
    # Here, since it brings Arrow: who checks an instant alone, as `eval` does, is to begin at once.
    from profile_actors.engine.reading.event_pages import place_of

    try:
        if not isinstance(cursor, str):
            raise ValueError(cursor)
        place_of(cursor, (0, 0))
    except (ValueError, msgspec.MsgspecError):
        raise CallerError(
            f"expected the cursor of a page of events, got {cursor!r} - at events; pass page.next"
            " unchanged"
        ) from None


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
