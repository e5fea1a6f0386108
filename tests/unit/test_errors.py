"""Errors cross processes and say whose fault they are."""

from __future__ import annotations

import pickle
import re

import pytest

from profile_actors import errors


def _classes(root: type[Exception]) -> list[type[Exception]]:
    return [root, *(c for child in root.__subclasses__() for c in _classes(child))]


CLASSES = [c for c in _classes(errors.ProfileActorsError) if c.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_survives_pickling(kind: type[Exception]) -> None:
    if kind is errors.RuleError:
        error: Exception = errors.RuleError("expected ')', got end of rule", 3, 14)
    elif kind is errors.OffsetGap:
        error = errors.OffsetGap("expected offset 7, got 9", 7)
    else:
        error = kind("expected this, got that - at there; do so")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_positions_travel_with_the_error() -> None:
    rule = pickle.loads(pickle.dumps(errors.RuleError("no", line=3, column=14)))
    assert (rule.message, rule.line, rule.column) == ("no", 3, 14)
    assert pickle.loads(pickle.dumps(errors.OffsetGap("no", expected=7))).expected == 7
    assert pickle.loads(pickle.dumps(errors.FencedOut("no", epoch=5))).epoch == 5


def test_every_error_is_exactly_one_kind_of_fault() -> None:
    kinds = (errors.CallerError, errors.Weather, errors.Halt)
    for cls in CLASSES:
        if cls is not errors.ProfileActorsError:
            assert sum(issubclass(cls, kind) for kind in kinds) == 1, cls


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = re.findall(r"[├└]── (\w+)|^    (\w+)$", errors.__doc__ or "", re.MULTILINE)
    names = [first or second for first, second in drawn]
    assert sorted(names) == sorted(c.__name__ for c in CLASSES)
    assert names == [c.__name__ for c in CLASSES], "drawn in another order than defined"
