"""The command line: the demo's table to the number, each verb's JSON, errors as sentences."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

import pytest
from rich.console import Console
from typer.testing import CliRunner

import profile_actors as pf
from profile_actors import client
from profile_actors.cli import application, verbs

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_runtime")]

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "cdnow"
TABLE = [
    {"now": "1997-04-01", "profiles": 2357, "sizes": [8, 0, 154, 2272]},
    {"now": "1997-07-01", "profiles": 2357, "sizes": [17, 1828, 42, 2285]},
    {"now": "1998-01-01", "profiles": 2357, "sizes": [48, 1955, 37, 2327]},
    {"now": "1998-06-30", "profiles": 2357, "sizes": [76, 2057, 29, 2330]},
]
VERBS_OF_PEOPLE = (
    ("events", "CRMID", "15423", "--limit", 2),
    ("members", "week-since"),
    ("definitions",),
    ("explain", "xEvent.count() > 1"),
    ("status",),
    ("quarantine", "orders"),
    ("changes", "--limit", 2),
    ("verify", "--sample", 2),
)
SEGMENTS = ("big-spenders", "lapsed-90d", "repeat-30d", "week-since")


def run(*arguments: object) -> str:
    """One call; what it printed."""
    result = CliRunner().invoke(
        application.app, [str(a) for a in arguments], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return result.stdout


def run_json(*arguments: object) -> Any:
    """One call with --json; its only line."""
    return json.loads(run(*arguments, "--json"))


def fails(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["profile-actors", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        application.main()
    assert end.value.code == 1


@contextmanager
def opened(
    monkeypatch: pytest.MonkeyPatch, data: Path, partitions: int | None = None
) -> Iterator[None]:
    """The verbs below run on one open store; that each can open it is seen elsewhere."""
    clock: Literal["event"] | None = "event" if partitions else None
    with pf.start(data, partitions, clock) as store, monkeypatch.context() as patch:
        patch.setattr(verbs, "open_store", lambda _: nullcontext(store))
        patch.setattr(client, "for_a_call", lambda *_, **__: nullcontext(store))
        yield


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, ray_runtime: None) -> tuple[Path, Any]:
    """The demo's store and what the demo said as JSON."""
    data = tmp_path_factory.mktemp("demo") / "store"
    return data, run_json("demo", "--data", data)


def test_the_demo_gives_the_published_table(demo: tuple[Path, Any]) -> None:
    _, found = demo
    got = [
        {"now": row["now"], "profiles": row["profiles"], "sizes": [row[s] for s in SEGMENTS]}
        for row in found["sizes"]
    ]
    assert got == TABLE
    assert found["verify"] == []
    assert found["status"]["events"] == 6919
    assert found["status"]["late"] == 0
    assert sum(found["changes_by_clock"].values()) > 1000
    whose = [[one["value"] for one in scene["tablet"]["identities"]] for scene in found["people"]]
    assert whose == [["tablet-7"], ["ann", "tablet-7"], ["ben", "tablet-7"], ["ann", "tablet-7"]]
    assert [scene["tablet"]["computed"]["views"] for scene in found["people"]] == [3, 3, 3, 3]
    assert [scene["ann"] and scene["ann"]["computed"]["views"] for scene in found["people"]] == [
        None, 3, 0, 3,
    ]  # fmt: skip
    live = found["live"]
    assert (live["change"]["identity"]["value"], live["change"]["new"]) == ("ben", "realized")
    assert live["edge"]["segments"]["browsers"]["status"] == "realized"
    assert live["edge"]["computed"] == {"views": 3}
    segments = found["profile"]["segments"]
    assert segments["big-spenders"]["status"] == "realized"
    assert all(membership["last_qualification_time"] for membership in segments.values())


@pytest.mark.slow
def test_the_demo_is_a_page_to_read_and_can_be_run_again(
    demo: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, _ = demo
    monkeypatch.setattr(verbs, "console", Console(width=80))
    text = run("demo", "--data", data)
    assert "…" not in text  # nothing is cut in a narrow terminal
    assert max(map(len, text.splitlines())) <= 80
    for word in (
        "1,828",
        "lifetimeSpend",
        "repeat-30d",
        "by the clock",
        "no differences",
        "ms later",
    ):
        assert word in text
    assert f"--data {data}" in text.replace("\n", "")


@pytest.mark.slow
def test_the_demo_runs_on_the_wall_clock(tmp_path: Path) -> None:
    data = tmp_path / "demo"
    today = run_json("demo", "--data", data.with_name("today"), "--clock", "wall")
    assert [row["big-spenders"] for row in today["sizes"]] == [76]


def test_the_demo_replaces_nothing_but_a_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "precious").touch()
    fails(monkeypatch, "demo", "--data", tmp_path)
    assert "earlier demo" in capsys.readouterr().err
    assert (tmp_path / "precious").exists()


def test_the_verbs_explore_the_demo(
    demo: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, found = demo
    (identity,) = found["profile"]["identities"]
    subject = (identity["namespace"], identity["value"])
    assert run_json("profile", *subject, "--data", data) == found["profile"]
    with opened(monkeypatch, data):
        page = run_json("events", *subject, "--order", "desc", "--limit", 5)
        assert page == found["events"]
        members = run_json("members", "big-spenders", "--limit", 100)
        assert members["count"] == len(members["members"]) == 76
        assert run_json("definitions")["version"] == 3
        assert run_json("explain", found["rule"]) == found["explain"]
        assert run_json("status")["profiles"] == 2357 + 2  # Ann with the tablet, and Ben
        assert run_json("verify", "--sample", 20) == {"differences": []}
        assert run_json("quarantine", "orders") == []
        first = run("changes", "--limit", 3, "--json").splitlines()
        instants = [json.loads(line)["at"] for line in first[:3]]
        assert instants == sorted(instants)
        after = json.loads(first[3])["cursor"]
        following = run("changes", "--after", after, "--limit", 1, "--json").splitlines()
        assert following[0] not in first
        for verb in VERBS_OF_PEOPLE:
            assert run(*verb).strip(), verb
        assert "15423" in run("profile", *subject)
        assert "no events of CRMID nobody" in run("events", "CRMID", "nobody")
        assert "no events of CRMID -100123" in run("events", "CRMID", "-100123")
        assert "no rejected rows of orders" in run("quarantine", "orders")
        assert run_json("profile", "CRMID", "nobody") is None
        for verb in (("members", "week-since"), ("changes",), ("quarantine", "orders")):
            below = CliRunner().invoke(application.app, [*verb, "--limit", "-1"])
            assert below.exit_code == 2, verb
            assert "--limit" in below.output, verb
        assert run_json("advance", "1998-09-30") == {"now": 907_113_600_000}
        assert run_json("members", "repeat-30d")["count"] == 0


def test_definitions_and_files_make_a_store(tmp_path: Path) -> None:
    where = ("--data", tmp_path / "store")
    version = run_json(
        "apply", EXAMPLE / "definitions.yaml", *where, "--clock", "event", "--partitions", 1
    )
    assert version == {"version": 1}
    report = run_json("ingest", "orders", EXAMPLE / "cdnow_sample.csv", *where)
    assert (report["rows"], report["accepted"], report["rejected_count"]) == (6919, 6919, 0)
    assert run_json("ingest", "orders", EXAMPLE / "cdnow_sample.csv", *where)["duplicate"] == 6919
    assert run_json("members", "big-spenders", *where)["count"] == 76


def test_a_file_of_which_nothing_is_taken_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--data", tmp_path / "store")
    head, *rows = EXAMPLE.joinpath("cdnow_sample.csv").read_text().splitlines(keepends=True)
    good = "".join([head, *rows[:5]])
    bad = head + "".join(row.replace("1997", "some").replace("1998", "some") for row in rows[:5])
    for name, text in {
        "good.csv": good, "none.csv": bad, "half.csv": good + bad.removeprefix(head),
        "empty.csv": head, "broken.csv": head + '"15423,1997',
    }.items():  # fmt: skip
        (tmp_path / name).write_text(text)

    def ingest(*words: object) -> tuple[int, str]:
        names = [tmp_path / str(w) if str(w).endswith(".csv") else w for w in words]
        arguments = [str(a) for a in ("ingest", "orders", *names, *where)]
        result = CliRunner().invoke(application.app, arguments)
        return result.exit_code, result.output

    with opened(monkeypatch, tmp_path / "store", 1):
        run("apply", EXAMPLE / "definitions.yaml", *where)
        assert ingest("good.csv", "empty.csv")[0] == 0
        assert ingest("good.csv")[0] == 0  # known already
        code, text = ingest("half.csv", "none.csv", "good.csv")
        assert code == 1
        assert "rejected 10" in text
        assert "refused" in text
        assert "none.csv" in text.replace("\n", "").partition("refused")[2]
        assert "half.csv" not in text.replace("\n", "").partition("refused")[2]
        fails(monkeypatch, "ingest", "orders", tmp_path / "broken.csv", *where)
        (tmp_path / "headless.csv").write_text("")
        (tmp_path / "later.csv").write_text(head + rows[7])
        code, text = ingest("headless.csv", "later.csv")
        assert code == 1
        assert "accepted 1 " in text
        assert "headless.csv" in text.replace("\n", "").partition("broken")[2]
        assert "header" in text.replace("\n", "").partition("headless.csv")[2]
        (tmp_path / "more.csv").write_text(good + bad.removeprefix(head) + rows[6])
        over = ("--max-bad-percent", "10")
        fails(monkeypatch, "ingest", "orders", tmp_path / "more.csv", *over, *where)
    printed = capsys.readouterr()
    assert "broken.csv" in printed.out.replace("\n", "")
    assert "at most 10 percent" in printed.err


def test_rules_are_previewed_and_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ("--data", tmp_path / "s")
    file = tmp_path / "more.json"
    file.write_text(
        '{"segments": [{"name": "many", "rule": "xEvent.count() > 1", "state": "draft"}]}'
    )
    with opened(monkeypatch, tmp_path / "s", 1):
        run("apply", EXAMPLE / "definitions.yaml", *store)
        run("apply", file, *store)
        lines = EXAMPLE.joinpath("cdnow_sample.csv").read_text().splitlines(keepends=True)
        part = tmp_path / "part.csv"
        part.write_text("".join(lines[:301]))
        assert run_json("ingest", "orders", part, *store)["accepted"] == 300
        rule = run_json("definitions", *store)["segments"]["many"]["rule"]
        found = run_json("preview", rule, *store, "--sample", 3)
        assert found["count"] > 3
        assert len(found["sample"]) == 3
        people = run("preview", "xEvent.count()", *store)
        assert f"{found['profiles']} profiles would have a value" in people
        before = run_json("definitions", *store)
        deleted = run_json("delete", "many", *store)
        assert deleted == {"deleted": "many", "version": before["version"] + 1}
        assert "many" not in run_json("definitions", *store)["segments"]


def test_eval_needs_no_store(tmp_path: Path) -> None:
    events = tmp_path / "events.json"
    events.write_text('[{"timestamp": "1997-01-01", "x": 2}, {"timestamp": "1997-01-02", "x": 3}]')
    rule = "xEvent[timestamp occurs <= 7 days before now].sum(x)"
    found = run_json("eval", rule, "--events", events, "--now", "1997-01-08")
    assert found == {"value": 5, "valid_until": 852_681_600_001}


def test_errors_are_sentences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fails(monkeypatch, "status", "--data", tmp_path / "none")
    fails(monkeypatch, "eval", "xEvent.cuont() >")
    fails(monkeypatch, "apply", tmp_path / "no.yaml", "--data", tmp_path / "store")
    assert not (tmp_path / "store").exists()  # a file that cannot be read makes no store
    text = capsys.readouterr().err
    assert "Traceback" not in text
    for word in ("ConfigError", "RuleError", "DefinitionError"):
        assert word in text
