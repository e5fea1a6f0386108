"""The verdict on one value: what a field takes, and as what. The authority over every faster way.

Theory: ``judge`` is slow and obvious. The vectorised converters of ``typed_columns`` accept only
what they can prove equal to it and hand every other value here, so a row gets the same verdict and
the same words however it came. ``docs/TEXT_FORMS.md`` is the table of accepted texts.

Rules for editors: a form is added here first, then to the table, then (if it matters) to
``typed_columns``; the property test compares all three ways on generated values.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Any

import msgspec
import numpy as np

from profile_actors.columnar.time_units import DAY_MS
from profile_actors.errors import UNDECODED
from profile_actors.ingest.typing.field_checks import Check, ignores
from profile_actors.ingest.typing.time_readings import (
    FRACTIONAL,
    TIME_MAX_MS,
    TIME_MIN_MS,
    TimeReading,
)

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
DECIMAL_DIGITS = 18  # Arrow decimal128 with 18 digits: an int64 of units of the last digit
UNKNOWN = "expected a field of the schema, got an unknown one"
MAX_SHOWN = 60  # characters of a value shown in a reason
INTEGER_TEXT = r"[+-]?[0-9]+"
DECIMAL_TEXT = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)"
DOUBLE_TEXT = DECIMAL_TEXT + r"([eE][+-]?[0-9]+)?"
DATE_TEXT = r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
TIMESTAMP_TEXT = (
    DATE_TEXT + r"([T ]([0-9]{2}):([0-9]{2})(:([0-9]{2})(\.([0-9]{1,9}))?)?"
    r"(Z|[+-]([0-9]{2}):?([0-9]{2})?)?)?"
)
BOOLEAN_TEXTS = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER, _DECIMAL, _DOUBLE, _DATE, _TIMESTAMP = (
    re.compile(text)
    for text in (INTEGER_TEXT, DECIMAL_TEXT, DOUBLE_TEXT, DATE_TEXT, TIMESTAMP_TEXT)
)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_EPOCH_DAY = dt.date(1970, 1, 1).toordinal()
_EXACT = Context(prec=DECIMAL_DIGITS, traps=[Inexact, InvalidOperation])
_MILLISECOND = dt.timedelta(milliseconds=1)


class Refused(Exception):
    """A value that its field does not take. path: where, inside the row; reason: why."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason


def judge(check: Check, value: Any, is_text: bool = False) -> Any:
    """The value as the field keeps it: str, int (timestamps: ms, dates: days since 1970), float,
    Decimal, bool, list, dict, list of pairs for a map; None stays None.

    is_text: the value is a text file's cell, where everything is text; otherwise a Python or JSON
    value, which has to be of the type already. Raises Refused.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None:
        if check.required:
            raise Refused(check.path, f"expected {_name(check)}, got none")
        return None
    typed = _OF_KIND[check.kind](check, value, is_text)
    problem = None if check.is_free else _limit_problem(check, typed)
    if problem:
        raise Refused(check.path, problem)
    return typed


def shown(value: Any) -> str:
    """A value as reasons show it: its JSON-like type and a bounded text."""
    names = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array"}
    try:
        text = repr(value[:MAX_SHOWN] if isinstance(value, str) else value)
    except ValueError:
        text = "of thousands of digits"  # Python does not print such integers
    except RecursionError:
        text = "nested too deeply"
    text = text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"
    name = names.get(type(value), "object" if isinstance(value, dict) else type(value).__name__)
    return f"{name} {text}"


def _name(check: Check) -> str:
    if check.reading is not None:
        return check.reading.expected if check.kind == "timestamp" else f"{check.kind}, a whole day"
    if check.kind == "decimal":
        return f"decimal({check.scale})"
    return "string or integer" if check.kind == "key" else check.kind


def _refuse(check: Check, value: Any) -> Refused:
    return Refused(check.path, f"expected {_name(check)}, got {shown(value)}")


def _limit_problem(check: Check, value: Any) -> str | None:
    """Which constraint a typed value breaks, or None."""
    if check.enum is not None and value not in check.enum:
        return f"expected one of {sorted(check.enum)!r}"[:400] + f", got {shown(value)}"
    if check.minimum is not None and value < check.minimum:
        return f"expected at least {check.minimum}, got {value}"
    if check.maximum is not None and value > check.maximum:
        return f"expected at most {check.maximum}, got {value}"
    if check.max_length is not None and len(value) > check.max_length:
        return f"expected at most {check.max_length} characters, got {len(value)}"
    if check.pattern is not None and not check.pattern.search(value):
        return f"expected text with the pattern {check.pattern_text!r}, got {shown(value)}"
    return None


def _string(check: Check, value: Any, is_text: bool) -> str:
    if not isinstance(value, str):
        raise _refuse(check, value)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Refused(check.path, f"expected UTF-8 text, got {shown(value)}") from None
    return value


def _key(check: Check, value: Any, is_text: bool) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(_integer(check, value, False))
    return _string(check, value, is_text)


def _integer(check: Check, value: Any, is_text: bool) -> int:
    if is_text and isinstance(value, str) and _INTEGER.fullmatch(value):
        # Python refuses to parse very long numbers; whatever is this long is out of range, unless
        # it is padded with zeros.
        digits = value.lstrip("+-").lstrip("0")
        if len(digits) > 19:
            raise Refused(check.path, f"expected an integer within int64, got {shown(value)}")
        value = int(digits or "0") * (-1 if value[0] == "-" else 1)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _refuse(check, value)
    if not INT64_MIN <= value <= INT64_MAX:
        raise Refused(check.path, f"expected an integer within int64, got {shown(value)}")
    return value


def _double(check: Check, value: Any, is_text: bool) -> float:
    if is_text and isinstance(value, str) and _DOUBLE.fullmatch(value):
        number = float(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
    else:
        raise _refuse(check, value)
    if not math.isfinite(number):
        raise Refused(check.path, f"expected a finite number, got {shown(value)}")
    return number


def _decimal(check: Check, value: Any, is_text: bool) -> Decimal:
    """Exact: what has more digits than the scale is refused, never rounded."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise _refuse(check, value)
    if isinstance(value, str) and not _DECIMAL.fullmatch(value):
        raise _refuse(check, value)
    try:
        number = Decimal(repr(value) if isinstance(value, float) else value)
        if not number.is_finite():
            raise Refused(check.path, f"expected a finite number, got {shown(value)}")
        return number.quantize(Decimal((0, (1,), -check.scale)), context=_EXACT)
    except (Inexact, InvalidOperation, ValueError):
        raise Refused(
            check.path,
            f"expected at most {check.scale} digits after the point and {DECIMAL_DIGITS} in all,"
            f" got {shown(value)}",
        ) from None


def _boolean(check: Check, value: Any, is_text: bool) -> bool:
    if is_text and isinstance(value, str) and value in BOOLEAN_TEXTS:
        return BOOLEAN_TEXTS[value]
    if not isinstance(value, bool):
        raise _refuse(check, value)
    return value


def _timestamp(check: Check, value: Any, is_text: bool) -> int:
    if isinstance(value, bool):
        raise _refuse(check, value)
    if isinstance(value, str):
        ms = _text_ms(check, value, is_text)
    elif isinstance(value, int | float | Decimal):
        digits = (
            check.reading.of_digits(value) if check.reading and isinstance(value, int) else None
        )
        ms = _number_ms(check, value, value) if digits is None else digits
    elif isinstance(value, dt.datetime):
        aware = value if value.tzinfo is not None else value.replace(tzinfo=dt.UTC)
        if aware != aware:  # pandas' NaT calls itself a datetime
            raise _refuse(check, value)
        ms = (aware - _EPOCH) // _MILLISECOND
    elif isinstance(value, dt.date):
        ms = (value.toordinal() - _EPOCH_DAY) * DAY_MS
    else:
        raise _refuse(check, value)
    if not TIME_MIN_MS <= ms <= TIME_MAX_MS:
        raise Refused(check.path, f"expected a time in the years 1 to 9999, got {shown(value)}")
    return ms


def _text_ms(check: Check, text: str, is_text: bool) -> int:
    """A text by the declared formats, as a number where texts are numbers, or as ISO-8601."""
    reading = check.reading or TimeReading()
    ms = reading.of_text(text)
    if ms is not None:
        return ms
    unit = reading.number_unit
    if is_text and unit is not None and _INTEGER.fullmatch(text):
        return _number_ms(check, _integer(check, text, True), text)
    if is_text and unit in FRACTIONAL and _DECIMAL.fullmatch(text):
        return _number_ms(check, Decimal(text), text)
    if reading.formats:
        raise _refuse(check, text)
    return _iso_ms(check, text)


def _number_ms(check: Check, number: int | float | Decimal, value: Any) -> int:
    """A number in the declared unit. value: as it came."""
    ms = (check.reading or TimeReading()).of_number(number)
    if ms is None:
        raise _refuse(check, value)
    return ms


def _iso_ms(check: Check, text: str) -> int:
    """ISO-8601 text as ms UTC; digits below the millisecond are cut off."""
    match = _TIMESTAMP.fullmatch(text)
    if not match:
        raise _refuse(check, text)
    part = match.group
    try:
        day = dt.date(int(part(1)), int(part(2)), int(part(3))).toordinal() - _EPOCH_DAY
        clock = dt.time(int(part(5) or 0), int(part(6) or 0), int(part(8) or 0))
        zone = dt.time(int(part(12) or 0), int(part(13) or 0))
    except ValueError:
        raise _refuse(check, text) from None
    seconds = clock.hour * 3600 + clock.minute * 60 + clock.second
    offset = zone.hour * 3600 + zone.minute * 60
    seconds += offset if (part(11) or "").startswith("-") else -offset
    return day * DAY_MS + seconds * 1000 + int((part(10) or "0").ljust(3, "0")[:3])


def _date(check: Check, value: Any, is_text: bool) -> int:
    if check.reading is not None and not isinstance(value, dt.date):
        days, rest = divmod(_timestamp(check, value, is_text), DAY_MS)
        if rest:
            raise _refuse(check, value)
        return days
    if isinstance(value, str):
        match = _DATE.fullmatch(value)
        try:
            value = dt.date(*map(int, match.groups())) if match else value
        except ValueError:
            raise _refuse(check, value) from None
    if not isinstance(value, dt.date) or isinstance(value, dt.datetime):
        raise _refuse(check, value)
    return value.toordinal() - _EPOCH_DAY


def _json(check: Check, value: Any, is_text: bool) -> Any:
    """A text file's arrays and maps are JSON."""
    if not (is_text and isinstance(value, str)):
        return value
    try:
        return msgspec.json.decode(value)
    except (UnicodeEncodeError, *UNDECODED):
        raise Refused(check.path, f"expected JSON of a {check.kind}, got {shown(value)}") from None


def _array(check: Check, value: Any, is_text: bool) -> list[Any]:
    """Nulls inside are dropped: arrays hold none (RULES section 2)."""
    value = _json(check, value, is_text)
    if not isinstance(value, list | tuple | np.ndarray) or check.item is None:
        raise _refuse(check, value)
    return [judge(check.item, element) for element in value if element is not None]


def _map(check: Check, value: Any, is_text: bool) -> list[tuple[str, Any]]:
    """Pairs sorted by key, so that equal maps are equal rows; pairs with a null value leave."""
    value = _json(check, value, is_text)
    if isinstance(value, list) and all(isinstance(p, tuple) and len(p) == 2 for p in value):
        try:
            value = dict(value)  # how Arrow hands out a map
        except TypeError:  # whose keys may be objects
            raise _refuse(check, value) from None
    if not isinstance(value, dict) or check.item is None:
        raise _refuse(check, value)
    key = Check(check.path, "string")
    pairs = {judge(key, k): judge(check.item, v) for k, v in value.items() if v is not None}
    return sorted(pairs.items())


def _object(check: Check, value: Any, is_text: bool) -> dict[str, Any]:
    value = _json(check, value, is_text)
    if not isinstance(value, dict):
        raise _refuse(check, value)
    for name, inner in value.items():
        path = f"{check.path}.{name}"
        if name not in check.fields and inner is not None and not ignores(check.ignore, path):
            raise Refused(f"{check.path}.{name}", UNKNOWN)
    return {name: judge(inner, value.get(name)) for name, inner in check.fields.items()}


_OF_KIND: dict[str, Callable[[Check, Any, bool], Any]] = {
    "string": _string,
    "key": _key,
    "integer": _integer,
    "double": _double,
    "decimal": _decimal,
    "boolean": _boolean,
    "timestamp": _timestamp,
    "date": _date,
    "array": _array,
    "map": _map,
    "object": _object,
}
