"""Stores that earlier releases wrote: a copy opens and answers what was answered then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import profile_actors as pf
from profile_actors.storage.files.layout import StoreLayout, reset_derived
from tests.fixtures.stores.made import answers, expected, unpacked

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_runtime")]


def without(attribute: str, found: dict[str, Any]) -> dict[str, Any]:
    """The answers but the values that changes show of one computed attribute."""
    changes = [c if c[4] != attribute else [*c[:7], None, *c[8:]] for c in found["changes"]]
    return {**found, "changes": changes}


AT_THE_CLOSE: dict[str, dict[str, Any]] = {"first": {}, "second": {"changes_cursor": "21.0-21.0"}}
"""What closing the store added to its answers: since the first one was written, an entry says that
the connection is gone."""


@pytest.mark.parametrize("derived", ["kept", pytest.param("deleted", marks=pytest.mark.slow)])
@pytest.mark.parametrize("stored", ["first", "second"])
def test_a_stored_store_answers_the_same(stored: str, derived: str, tmp_path: Path) -> None:
    """With its own feed to the last value; a rescanned decimal, too, is a decimal after reopening.
    A feed that is made anew shows the values of an attribute in trouble as they are known now."""
    data = unpacked(stored, tmp_path)
    if derived == "deleted":
        for index in range(2):
            reset_derived(StoreLayout(data).partition(index).directory)
    with pf.start(data) as store:
        found = answers(store)
    wanted = expected("first") | AT_THE_CLOSE[stored]
    if derived == "deleted":
        found, wanted = without("balance-if-tea", found), without("balance-if-tea", wanted)
    for part, answer in wanted.items():
        assert found[part] == answer, part
