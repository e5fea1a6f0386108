"""Which values name nobody."""

from __future__ import annotations

import pytest

from profile_actors.definitions.placeholders import is_placeholder

NOBODY = ["", " ", "null", "NULL ", "0", "0000", "00000000-0000-0000-0000-000000000000", "0:0 0",
          "undefined", "Test@Test.com", "who@example.org", "n/a", "[object Object]"]  # fmt: skip
SOMEBODY = ["ann", "10", "0x0", "nullable", "test@home.org", "example.org", "ann@sub.example.orgs"]


@pytest.mark.parametrize("value", NOBODY)
def test_it_names_nobody(value: str) -> None:
    assert is_placeholder(value)


@pytest.mark.parametrize("value", SOMEBODY)
def test_it_names_somebody(value: str) -> None:
    assert not is_placeholder(value)


def test_the_list_is_the_users() -> None:
    assert is_placeholder("Guest", ("guest",))
    assert not is_placeholder("0000", ("guest",))
    assert not is_placeholder("who@example.org", ())
