"""What a fuzzer draws, values and texts that nobody sends on purpose, and a campaign of them.

A campaign is numbered cases, each drawn from its own number: ``make fuzz SEED=n N=1`` repeats one.
"""

from __future__ import annotations

import datetime
import math
import os
import random
import time
import traceback
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from profile_actors.errors import ProfileActorsError

CASE_S = 5.0
"""CPU time that one case may take, whatever is in it."""


TEXTS = [
    "", " ", "\t", "\n", "a\nb", "\x00", "\x1b[31m", "\x7f", "\u202eabc", "\ud800", "\udcff",
    "é", "e\u0301", "💥", "\ufeff", "a" * 300, "x." * 200, "9" * 30, "9" * 400, "-" * 50, "-1",
    "0", "1e999", "nan", "inf", "null", "true", "../../x", "..", ".", "/", "a/b", "~",
    "con.csv", "s3://", "s3://b", "file:///nowhere/x.csv", "http://x", "%s%n", "{}", "{0}",
    "[bold]x[/]", "[/]", "[", "]", "(", ")", "a(b,c", "a)", "a..b", ".a", "a.", "*", "**", "?",
    "[!", "$", "\\", "'", '"', "`ls`", "$(ls)", "--", "-", "--json", "--data", "2020-01-01",
    "9999-12-31T23:59:59.999Z", "10000-01-01", "0000-00-00", "xEvent.count() > 1", "((((((((((",
    "identities", "segments", "attributes", "computed", "timestamp", "eventType", "_id", "@row",
    "@k0", "__class__", "name", "string", "integer[]", "map<map<x>>",
]  # fmt: skip
"""Among them what JSON, a terminal, a shell, a path, YAML, a selector or an index may trip over."""


NUMBERS = [
    0, -1, 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 10**40, 0.5, -0.0, math.nan,
    math.inf,
]  # fmt: skip


ODD: list[Any] = [None, True, False, [], {}, [[]], {"": ""}, {"a": {"b": []}}, [None, 1, "x"]]


PYTHON = [
    b"", b"\xff", (), set(), object(), int, Decimal("NaN"), Decimal("1e400"), Decimal("0.1"),
    datetime.date(1, 1, 1), datetime.datetime.max, datetime.timedelta.max, range(3), 1j, {1: 2},
    {("a", 1): None}, iter("ab"), Ellipsis,
]  # fmt: skip
"""What a program can pass and no file can say."""


def deep(chance: random.Random) -> Any:
    """Nested far."""
    value: Any = "x"
    for _ in range(chance.choice((40, 400, 3_000))):
        value = [value] if chance.random() < 0.5 else {"a": value}
    return value


def text(chance: random.Random) -> str:
    found = chance.choice(TEXTS)
    return found if chance.random() < 0.7 else found + chance.choice(TEXTS)


def value(chance: random.Random, python: bool = False) -> Any:
    """Anything at all; python: what JSON has no word for, too."""
    rooms: list[Callable[[], Any]] = [
        lambda: text(chance), lambda: text(chance), lambda: chance.choice(NUMBERS),
        lambda: chance.choice(ODD),
    ]  # fmt: skip
    if python:
        rooms.append(lambda: chance.choice(PYTHON))
    return chance.choice(rooms)()


def mutated(whole: Any, chance: random.Random, python: bool = False) -> Any:
    """The document with one of its parts another, gone, doubled, or under another name."""
    if not isinstance(whole, dict | list) or not whole or chance.random() < 0.1:
        return value(chance, python) if chance.random() < 0.98 else deep(chance)
    if isinstance(whole, list):
        at = chance.randrange(len(whole))
        match chance.randrange(6):
            case 0:
                return whole[:at] + whole[at + 1 :]
            case 1:
                return [*whole, whole[at]]
            case _:
                return [*whole[:at], mutated(whole[at], chance, python), *whole[at + 1 :]]
    key = chance.choice(list(whole))
    match chance.randrange(8):
        case 0:
            return {k: v for k, v in whole.items() if k != key}
        case 1:
            return {(text(chance) if k == key else k): v for k, v in whole.items()}
        case 2:
            return whole | {text(chance): value(chance, python)}
        case 3:
            return whole | {key: whole[chance.choice(list(whole))]}
        case _:
            return whole | {key: mutated(whole[key], chance, python)}


def campaign(case: Callable[[random.Random], None], cases: int) -> int:
    """Run so many cases, or those that SECONDS, SEED and N of the environment name; how many ran.

    A case may end with an error of ours; anything else, or one that takes long, fails with the
    number to repeat it by.
    """
    # In the suite always the same cases, however fast the machine: whoever changes something else
    # must not meet a new one.
    seconds = float(os.environ.get("FUZZ_SECONDS") or 0)
    number = int(os.environ.get("FUZZ_SEED") or (random.randrange(2**40) if seconds else 0))
    most = int(os.environ.get("FUZZ_N") or (2**40 if seconds else cases))
    end = time.monotonic() + (seconds or math.inf)
    ran = 0
    while ran < most and (time.monotonic() < end or not ran):
        began = time.process_time()
        words = _ends(case, number + ran)
        took = time.process_time() - began
        assert not words, f"SEED={number + ran}: {words}"
        assert took < CASE_S, f"SEED={number + ran}: {took:.1f} s"
        ran += 1
    return ran


def _ends(case: Callable[[random.Random], None], number: int) -> str:
    """What is wrong with how a case ends, if anything."""
    try:
        case(random.Random(number))
    except ProfileActorsError as error:
        return "" if str(error) else f"{type(error).__name__} without a word"
    except Exception:
        return traceback.format_exc()
    return ""
