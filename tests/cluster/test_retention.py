"""Rows that leave by retention, on real Ray: by themselves on the wall clock, or when asked."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import profile_actors as pf
from profile_actors.cli import application, keeping_verbs
from tests.waiting import until

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_runtime")]

DAY = 86_400_000


def shop(days: int | None) -> list[Any]:
    return [
        pf.Namespace("CRMID", "cross_device"),
        pf.Schema("visit", "event", {"page": "string"}),
        pf.Dataset(
            "web", "visit", {"who": "CRMID"}, timestamp="at", id="n", event_type="visit",
            retention_days=days,
        ),
        pf.SegmentDefinition("often", "xEvent.count() >= 2"),
        pf.ComputedAttribute("visits", "xEvent.count()"),
    ]  # fmt: skip


def visit(who: str, n: int, at: int) -> dict[str, Any]:
    return {"who": who, "n": f"{who} {n}", "at": at, "page": "home"}


def visits(store: pf.Store, who: str) -> Any:
    found = store.profile("CRMID", who)
    assert found is not None
    return found.computed["visits"]


def expired(store: pf.Store) -> int:
    parts = [one.partition for one in store.status().partitions]
    return sum(one.expired for one in parts if one is not None)


def bytes_of(path: Path, text: str) -> list[str]:
    """Files that have a text."""
    files = [one for one in path.rglob("*") if one.is_file()]
    return [str(one) for one in files if text.encode() in one.read_bytes()]


def test_on_the_wall_clock_they_leave_by_themselves(tmp_path: Path) -> None:
    now = time.time_ns() // 1_000_000
    with pf.start(tmp_path / "s", partitions=2, clock="wall") as store:
        store.apply(*shop(None))
        rows = [visit(who, n, now - n * 20 * DAY) for who in "abcdef" for n in range(3)]
        rows = [{**row, "page": "stays" if row["at"] == now else "gone"} for row in rows]
        assert store.submit("web", rows).accepted == 18
        assert store.members("often").count() == 6
        store.apply(*shop(30))
        until(lambda: expired(store) == 6)
        assert {visits(store, who) for who in "abcdef"} == {2}
        store.apply(*shop(10))
        until(lambda: expired(store) == 12)
        assert store.members("often").count() == 0
        assert store.definitions().expired["web"] > now - 12 * DAY
        left = [c for c in store.changes() if c.name == "often" and c.new == "exited"]
        assert (len(left), {c.cause for c in left}) == (6, {"clock"})
        page = store.events("CRMID", "a")
        assert [one["_id"] for one in page.events] == ["a 0"]
        assert store.verify() == []
        taken = store.purge()
        assert (taken.rows, taken.identities) == (12, [])
        assert {visits(store, who) for who in "abcdef"} == {1}
        assert bytes_of(tmp_path, "gone") == []
        assert bytes_of(tmp_path, "stays")
        assert store.verify() == []
    with pf.start(tmp_path / "s") as store:
        late = store.submit("web", [visit("a", 9, now - 40 * DAY), visit("a", 8, now - DAY)])
        assert (late.accepted, late.rejected_count) == (1, 1)
        assert "retention" in late.rejected[0][2]
        assert visits(store, "a") == 2


def test_on_the_event_clock_a_program_says_when(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(verb: str) -> str:
        told = CliRunner().invoke(application.app, [verb])
        assert told.exit_code == 0, told.output
        return told.output

    begin = 20_000 * DAY
    with pf.start(tmp_path / "s", partitions=2, clock="event") as store:
        monkeypatch.setattr(keeping_verbs, "open_store", lambda _: nullcontext(store))
        store.apply(*shop(5))
        assert store.expire() == {}
        assert "no rows leave" in said("expire")
        rows = [visit(who, n, begin + n * 4 * DAY) for who in "abcdef" for n in range(3)]
        store.submit("web", rows)
        assert {visits(store, who) for who in "abcdef"} == {3}
        assert store.expire() == {"web": begin + 3 * DAY}
        assert {visits(store, who) for who in "abcdef"} == {2}
        version = store.definitions().version
        assert store.expire() == {"web": begin + 3 * DAY}
        assert store.definitions().version == version
        assert store.verify() == []
        made = store.backup(tmp_path / "kept")
        assert "rows from 2024-10-07 on count" in said("expire")
        told = said("purge")
        assert "6 rows were taken out" in told
        assert f"may have them: the backup {made.id}" in " ".join(told.split())
