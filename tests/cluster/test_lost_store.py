"""A store of which something is missing refuses at once, with what to do, and harms nothing."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

import profile_actors as pf
from tests.cluster.shop import answers, orders, shop

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_runtime")]

PROMPT_S = 30.0
"""Starting processes on a busy machine takes less, waiting for a call's patience 60 s."""


def test_a_store_that_lost_a_log_or_its_catalogue_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "s"
    with pf.start(data, partitions=2, clock="event") as store:
        store.apply(*shop())
        store.submit("orders", orders(100))
        before = answers(store)
    for path in (data, *data.rglob("*")):  # what the actors and the driver made
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
    for piece, word in (
        ("partitions/0", "of partition 0"),
        ("catalogue", "the catalogue"),
    ):
        shutil.move(data / piece, tmp_path / "aside")
        began = time.monotonic()
        with pytest.raises(pf.LostLog, match=word):
            pf.start(data)
        assert time.monotonic() - began < PROMPT_S
        assert not (data / piece).exists()
        shutil.move(tmp_path / "aside", data / piece)
    with pf.start(data) as store:
        assert answers(store) == before
        assert store.verify() == []


def test_the_catalogue_is_told_how_long_the_logs_are_while_they_grow(tmp_path: Path) -> None:
    """What is lost of a log that was never closed is missed as well."""
    data, copy = tmp_path / "s", tmp_path / "copy"
    config = pf.Config(tell_position_ms=100)
    with pf.start(data, partitions=1, clock="event", config=config) as store:
        store.apply(*shop())
        store.submit("orders", orders(10))
        shutil.copytree(data / "partitions", copy)
        for first in range(10, 100, 10):
            store.submit("orders", orders(10, first=first))
        time.sleep(3.0)
        store._placement.coordinator.call("stop")  # the last word at closing is not heard
    shutil.rmtree(data / "partitions")
    shutil.copytree(copy, data / "partitions")
    with pytest.raises(pf.LostLog, match="last seen with 11 entries"):
        pf.start(data)
