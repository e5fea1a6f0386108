"""String tests of the rule language, as plain functions of non-null strings.

Theory: both evaluators call these, the reference one per value and the vector one per distinct
value of a batch. Regular expressions and ``like`` run in RE2: linear time, whatever the pattern.

Limits: RE2's memory for one pattern is bounded; ``compile_regex`` refuses a pattern beyond it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import re2

from profile_actors.errors import RuleError
from profile_actors.rules.semantics import string_tests

_OPTIONS = re2.Options()


_OPTIONS.log_errors = False


_OPTIONS.max_mem = 64 << 20  # enough for a pattern as long as a rule may be


@functools.lru_cache(maxsize=4096)
def compile_regex(pattern: str) -> re2._Regexp[str]:
    """The compiled RE2 pattern. Raises RuleError, without a position, if RE2 refuses it."""
    try:
        return re2.compile(pattern, _OPTIONS)
    except (re2.error, UnicodeEncodeError) as error:
        reason = error.args[0] if error.args else error
        if isinstance(reason, bytes):
            reason = reason.decode("utf-8", "replace")
        raise RuleError(
            f"expected an RE2 regular expression, got {pattern[:100]!r}: {reason}"
            " (RE2 has no look-around and no back-references)"
        ) from None


@functools.lru_cache(maxsize=4096)
def _like_regex(pattern: str) -> re2._Regexp[str]:
    parts = [{"%": "(?s:.*)", "_": "(?s:.)"}.get(c) or re2.escape(c) for c in pattern]
    return compile_regex("".join(parts))


def like(text: str, pattern: str) -> bool:
    """Whether the whole text matches: ``%`` any run, ``_`` one code point, no escape.

    A pattern beyond RE2's memory (tens of thousands of characters, from data) matches nothing.
    """
    try:
        return _like_regex(pattern).fullmatch(text) is not None
    except RuleError:
        return False


def matches(text: str, pattern: str) -> bool:
    """Whether the RE2 pattern is found anywhere in the text."""
    return compile_regex(pattern).search(text) is not None


def regex_group(text: str, pattern: str, group: int) -> str | None:
    """Group ``group`` of the leftmost match (0: all of it); None without match or such a group."""
    compiled = compile_regex(pattern)
    found = compiled.search(text)
    if found is None or not 0 <= group <= compiled.groups:
        return None
    value: str | None = found.group(group)
    return value


def starts_with(text: str, part: str) -> bool:
    return text.startswith(part)


def ends_with(text: str, part: str) -> bool:
    return text.endswith(part)


def contains(text: str, part: str) -> bool:
    return part in text


def equals(text: str, part: str) -> bool:
    return text == part


# function -> (test, whether its truth is negated); the canonical names of tree.Call.
_TESTS: dict[str, tuple[Callable[[str, str], bool], bool]] = {
    "startswith": (starts_with, False),
    "doesnotstartwith": (starts_with, True),
    "endswith": (ends_with, False),
    "doesnotendwith": (ends_with, True),
    "contains": (contains, False),
    "doesnotcontain": (contains, True),
    "equals": (equals, False),
    "notequalto": (equals, True),
}


TESTS = tuple(_TESTS)


def test(function: str, text: str, part: str, case_sensitive: bool) -> bool:
    """One of TESTS on two strings; insensitive compares the case folds of both."""
    check, negated = _TESTS[function]
    if not case_sensitive:
        text, part = text.casefold(), part.casefold()
    return check(text, part) is not negated


TEXT_TESTS = frozenset({*string_tests.TESTS, "like", "matches"})
