"""Stores that earlier releases wrote: a copy opens and answers what was answered then."""

from __future__ import annotations

from pathlib import Path

import pytest

import profile_actors as pf
from profile_actors.storage.layout import StoreLayout, reset_derived
from tests.fixtures.stores.made import answers, expected, unpacked

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_runtime")]


@pytest.mark.parametrize("derived", ["kept", "deleted"])
def test_a_stored_store_answers_the_same(derived: str, tmp_path: Path) -> None:
    data = unpacked("first", tmp_path)
    if derived == "deleted":
        for index in range(2):
            reset_derived(StoreLayout(data).partition(index).directory)
    with pf.start(data) as store:
        found = answers(store)
    for part, answer in expected("first").items():
        assert found[part] == answer, part
