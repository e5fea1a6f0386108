"""Forms of times as texts: a strptime format, compiled to a pattern that every evaluator shares.

Theory: a source that writes 2/11/2013 must say which number is the day; nothing is ever guessed.
The standard library's ``strptime`` depends on the locale and takes digits of other scripts, so a
format becomes a regular expression without either, which Python and RE2 read alike: whole columns
and single values get the same verdicts. Where digits of two directives touch, each has its full
width; elsewhere a leading zero may be missing. A run of blanks stands for one or more blanks.

Limits: English names of months and days; a format names a whole date; a zone is UTC or an offset.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, field

from profile_actors.definitions.field_types import MAX_NAME_CHARS

MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September"),
    *("October", "November", "December"),
)


_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


_WIDTHS = {"Y": (4, 4), "y": (2, 2), "j": (1, 3), "f": (1, 9)} | dict.fromkeys("mdHIMS", (1, 2))


ZONE = "[Zz]|[+-][0-9]{2}(?::?[0-9]{2})?"


_EPOCH_DAY = dt.date(1970, 1, 1).toordinal()


FIRST_SHORT_YEAR = 69  # two digits from here on are of the last century, as POSIX has it


# Directives of which a format has at most one.
_ONE_OF = ("Yy", "mbBj", "dj", "HI", "M", "S", "f", "p", "zZ", "a", "A")


_NEEDS = {"M": "HI", "S": "M", "f": "S", "I": "p", "p": "I"}


def _any_case(words: tuple[str, ...]) -> str:
    """A pattern of words in either case, spelled out: case folding differs between libraries."""
    return "|".join(
        "".join(f"[{c.upper()}{c.lower()}]" for c in word)
        for word in sorted(words, key=len, reverse=True)
    )


_WORDS = {
    "B": _any_case(MONTHS),
    "b": _any_case(tuple(name[:3] for name in MONTHS)),
    "A": _any_case(_DAYS),
    "a": _any_case(tuple(name[:3] for name in _DAYS)),
    "p": "[AaPp][Mm]",
    "z": ZONE,
    "Z": "UTC|GMT|Z",
}


@dataclass(frozen=True, slots=True)
class TimeFormat:
    """A compiled format. pattern: a regular expression for the whole text without anchors, whose
    groups are called as the directives are."""

    text: str
    pattern: str
    _compiled: re.Pattern[str] = field(repr=False, compare=False)

    def read(self, text: str) -> int | None:
        """The time in ms since 1970 UTC, digits below the millisecond cut off; None if the text has
        another form or names no day or time that exists."""
        match = self._compiled.fullmatch(text)
        if match is None:
            return None
        part = match.groupdict()
        try:
            day = _day(part)
            clock = dt.time(_hour(part), int(part.get("M") or 0), int(part.get("S") or 0))
            zone_ms = offset_ms(part.get("z") or "Z")
        except ValueError:
            return None
        seconds = day * 86_400 + clock.hour * 3600 + clock.minute * 60 + clock.second
        return seconds * 1000 + int((part.get("f") or "0").ljust(3, "0")[:3]) - zone_ms


def _day(part: dict[str, str]) -> int:
    """Days since 1970. Raises ValueError for a day that is none."""
    year = full_year(int(part["y"])) if "y" in part else int(part["Y"])
    if "j" in part:
        number = int(part["j"])
        first = dt.date(year, 1, 1).toordinal()
        if not 1 <= number <= dt.date(year, 12, 31).toordinal() - first + 1:
            raise ValueError
        return first + number - 1 - _EPOCH_DAY
    name = part.get("b") or part.get("B")
    month = int(part["m"]) if name is None else month_of(name)
    return dt.date(year, month, int(part["d"])).toordinal() - _EPOCH_DAY


def _hour(part: dict[str, str]) -> int:
    if "I" not in part:
        return int(part.get("H") or 0)
    hour = int(part["I"])
    if not 1 <= hour <= 12:
        raise ValueError
    return hour % 12 + (12 if part["p"][0] in "Pp" else 0)


def full_year(two_digits: int) -> int:
    """The year that two digits mean."""
    return two_digits + (1900 if two_digits >= FIRST_SHORT_YEAR else 2000)


def month_of(name: str) -> int:
    """1 to 12, from the first three letters of an English month."""
    return next(i for i, month in enumerate(MONTHS, 1) if month[:3].lower() == name[:3].lower())


def offset_ms(zone: str) -> int:
    """A zone's distance from UTC in ms, positive to the east. Raises ValueError beyond a day."""
    if zone in "Zz":
        return 0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    time = dt.time(int(digits[:2]), int(digits[2:]))
    ms = (time.hour * 60 + time.minute) * 60_000
    return -ms if zone[0] == "-" else ms


def compile_time_format(text: str) -> TimeFormat:
    """Compile a format. Raises ValueError saying what was expected of it."""
    if not 0 < len(text) <= MAX_NAME_CHARS or any(ord(c) < 32 for c in text):
        raise ValueError(
            f"expected a strptime format of 1 to {MAX_NAME_CHARS} characters, got {text!r}"
        )
    tokens = re.findall(r"%.?| +|[^% ]", text)
    names = [token[1:] for token in tokens if token[0] == "%" and token != "%%"]
    odd = [name for name in names if name not in _WIDTHS and name not in _WORDS]
    if odd:
        known = " ".join(f"%{name}" for name in [*_WIDTHS, *_WORDS])
        raise ValueError(f"expected directives among {known} %%, got '%{odd[0]}' in {text!r}")
    problem = _problem(names)
    if problem:
        raise ValueError(f"{problem}, got {text!r}")
    is_digit = [(token[0] != "%" and token.isdigit()) or token[1:] in _WIDTHS for token in tokens]
    pattern = ""
    for place, token in enumerate(tokens):
        name = token[1:]
        if token[0] == " ":
            pattern += " +"
        elif token[0] != "%" or token == "%%":
            pattern += re.escape(token[-1])
        elif name in _WORDS:
            pattern += f"(?P<{name}>{_WORDS[name]})"
        else:
            low, high = _WIDTHS[name]
            touches = any(is_digit[max(0, place - 1) : place] + is_digit[place + 1 : place + 2])
            low = high if touches and name != "f" else low
            pattern += f"(?P<{name}>[0-9]{{{low},{high}}})"
    return TimeFormat(text, pattern, re.compile(pattern))


def _problem(names: list[str]) -> str | None:
    """What the directives lack or have twice, or None."""
    for group in _ONE_OF:
        if sum(names.count(name) for name in group) > 1:
            said = " or ".join(f"%{name}" for name in group)
            return f"expected a format that says each part once ({said})"
    has_day = "j" in names or ("d" in names and any(name in names for name in "mbB"))
    if not has_day or not any(name in names for name in "Yy"):
        return "expected a format with a year (%Y), a month (%m) and a day (%d), or a year and %j"
    for name, others in _NEEDS.items():
        if name in names and not any(other in names for other in others):
            return f"expected %{others[0]} beside %{name}"
    return None
