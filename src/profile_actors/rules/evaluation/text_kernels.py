"""String tests over columns: the reference's scalar functions, applied to distinct texts.

Theory: one implementation of every string test (DESIGN section 5). Here is only the plumbing: a
column's dictionary is small beside its rows, so a test is evaluated per distinct text and spread by
``take``; a second operand that is itself a column is evaluated per distinct pair.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from profile_actors.columnar import kernels
from profile_actors.columnar.vectors import Vector, both, compact
from profile_actors.rules.semantics import string_tests

Test = Callable[[str, str], bool]


def text_test(function: str, text: Vector, arguments: Sequence[Vector]) -> Vector:
    """``text.function(argument[, case_sensitive])``: false where any operand is null."""
    argument = arguments[0]
    if len(arguments) == 1:
        return _one_case(function, text, argument, sensitive=True)
    flag = arguments[1]
    if flag.values.ndim == 0 and flag.valid is None:
        return _one_case(function, text, argument, sensitive=bool(flag.values))
    yes = _one_case(function, text, argument, sensitive=True).values
    no = _one_case(function, text, argument, sensitive=False).values
    chosen = np.where(flag.values, yes, no)
    return Vector(chosen if flag.valid is None else chosen & flag.valid)


def _one_case(function: str, text: Vector, argument: Vector, sensitive: bool) -> Vector:
    test = scalar_test(function, sensitive)
    assert argument.dictionary is not None
    if len(argument.dictionary) == 1 and argument.valid is None:
        constant = argument.dictionary[0]
        return kernels.per_text(text, lambda value: test(value, constant))
    return kernels.per_pair(text, argument, test)


def scalar_test(function: str, sensitive: bool) -> Test:
    """The scalar test of two non-null texts."""
    if function == "like":
        return string_tests.like
    if function == "matches":
        return string_tests.matches
    return lambda text, argument: string_tests.test(function, text, argument, sensitive)


def regex_group(text: Vector, pattern: Vector, group: Vector) -> Vector:
    """``text.regexGroup(pattern, n)``: the text of group n of the first match, null if none."""
    text = compact(text)
    assert text.dictionary is not None
    assert pattern.dictionary is not None
    assert pattern.values.ndim == group.values.ndim == 0, "a pattern and its group are constants"
    expression, number = pattern.dictionary[0], int(group.values)
    found = [string_tests.regex_group(value, expression, number) for value in text.dictionary]
    known = np.array([value is not None for value in found], np.bool_).take(text.values)
    dictionary = tuple(value or "" for value in found)
    return Vector(text.values, both(text.valid, known), dictionary)
