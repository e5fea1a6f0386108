"""Golden cases of the rule language, computed by hand from its definition, against the reference.

Format of ``reference/*.txt``: ``#`` starts a comment line. ``now:``, ``profile:``, ``computed:``,
``segments:`` set what following cases see, ``event:`` adds an event and ``events:`` clears them.
A case is ``rule => value`` or ``rule => value ; valid_until`` (ISO-8601 or none), or
``rule => RuleError: words of its message``; ``@instant`` before the rule replaces now for it
alone. In JSON ``{"$time": ISO}`` is a datetime, ``{"$date": ISO}`` a date, ``{"$decimal": text}`` a
Decimal, and in values ``{"$ms": ISO}`` milliseconds.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from profile_actors.errors import RuleError
from profile_actors.rules.catalogue.on_documents import evaluate
from profile_actors.rules.reference.validity import same

FILES = sorted((Path(__file__).parent / "reference").glob("*.txt"))
UNASKED = "unasked"


@dataclass(frozen=True)
class Case:
    """One line of a golden file with what stands before it."""

    where: str = ""
    rule: str = ""
    expected: str = ""
    until: str = UNASKED
    now: str = "2020-06-15T12:00:00Z"
    profile: Any = field(default_factory=dict)
    events: tuple[Any, ...] = ()
    computed: Any = field(default_factory=dict)
    segments: tuple[str, ...] = ()


def moment(text: str) -> datetime.datetime:
    made = datetime.datetime.fromisoformat(text)
    return made if made.tzinfo else made.replace(tzinfo=datetime.UTC)


def ms(text: str) -> int:
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return (moment(text) - epoch) // datetime.timedelta(milliseconds=1)


def special(value: dict[str, Any]) -> Any:
    match value:
        case {"$time": text}:
            return moment(text)
        case {"$date": text}:
            return datetime.date.fromisoformat(text)
        case {"$decimal": text}:
            return Decimal(text)
        case {"$ms": text}:
            return ms(text)
    return value


def read(text: str) -> Any:
    return json.loads(text, object_hook=special)


def cases(path: Path) -> Iterator[Case]:
    state = Case()
    for number, raw in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if " => " in line:
            rule, expected = line.rsplit(" => ", 1)
            expected, _, until = expected.partition(" ; ")
            case = replace(state, rule=rule, expected=expected, until=until.strip() or UNASKED)
            if rule.startswith("@"):
                now, _, rule = rule[1:].partition(" ")
                case = replace(case, now=now, rule=rule)
            yield replace(case, where=f"{path.stem}:{number}")
            continue
        word, _, rest = line.partition(":")
        match word:
            case "now":
                state = replace(state, now=rest.strip())
            case "event":
                state = replace(state, events=(*state.events, read(rest)))
            case "events":
                state = replace(state, events=())
            case "profile" | "computed":
                state = replace(state, **{word: read(rest)})
            case "segments":
                state = replace(state, segments=tuple(rest.split()))
            case _:
                raise AssertionError(f"{path.name}:{number}: {line}")


ALL = [case for path in FILES for case in cases(path)]


def test_there_are_enough_cases() -> None:
    assert len(ALL) >= 150
    assert len({case.where for case in ALL}) == len(ALL)


@pytest.mark.parametrize("case", ALL, ids=[case.where for case in ALL])
def test_golden(case: Case) -> None:
    def run() -> tuple[Any, int | None]:
        return evaluate(
            case.rule,
            case.profile,
            case.events,
            now=case.now,
            computed=case.computed,
            segments=case.segments,
        )

    if case.expected.startswith("RuleError"):
        with pytest.raises(RuleError) as caught:
            run()
        words = case.expected.partition(":")[2].strip()
        assert words in str(caught.value)
        return
    value, until = run()
    expected = read(case.expected)
    assert same(value, expected), f"{case.rule}: got {value!r}"
    assert type(value) is type(expected), f"{case.rule}: got {value!r}"
    if case.until != UNASKED:
        wanted = None if case.until == "none" else ms(case.until)
        assert until == wanted, f"{case.rule}: valid until {until}, expected {wanted}"
