"""The demo: a year and a half of a music shop's purchases, replayed as they happened.

Theory: it is an ordinary driver. On the event clock it streams the purchases in time order, stops
the clock at four instants, and asks who is in which segment. What it shows it asked the store for;
nothing is computed here. Then a tablet changes hands, and an edge follows (``people_demo``).

Data: the public CDNOW sample (B. Hardie), shipped as ``examples/cdnow``.
"""

from __future__ import annotations

import csv
import itertools
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from profile_actors.cli import people_demo, show
from profile_actors.client import Store, start
from profile_actors.driver.receipts import PendingReceipt
from profile_actors.driver.terminal import one_line
from profile_actors.errors import ConfigError
from profile_actors.rules.explain.wording import render
from profile_actors.storage.files.layout import StoreLayout
from profile_actors.storage.files.lock import DirectoryLock

INSTANTS = ("1997-04-01", "1997-07-01", "1998-01-01", "1998-06-30")


SEGMENTS = ("big-spenders", "lapsed-90d", "repeat-30d", "week-since")


PRODUCER = "cdnow-demo"


CUSTOMER = "15423"
"""Somebody who was lapsed and came back: every column of the profile has something to say."""


MARK = ".profile-actors-demo"
"""File in a directory that a demo made: the next demo may replace such a one, and no other."""


def example_directory() -> Path:
    """Where the example's files are: in the source tree, or where the wheel puts them."""
    tree = Path(__file__).resolve().parents[3] / "examples" / "cdnow"
    installed = Path(sys.prefix) / "share" / "profile-actors" / "examples" / "cdnow"
    for place in (tree, installed):
        if (place / "definitions.yaml").is_file():
            return place
    raise ConfigError(
        f"expected the example's data, got no definitions.yaml - at {tree} and {installed};"
        " install the package again, or run from a clone"
    )


def purchases(file: Path) -> list[dict[str, Any]]:
    """The rows of the sample, oldest first (equal dates keep the file's order)."""
    with file.open(newline="", encoding="utf-8") as lines:
        rows = [
            {
                "customer_id": row["customer_id"],
                "date": row["date"],
                "number_of_cds": int(row["number_of_cds"]),
                "dollar_value": float(row["dollar_value"]),
            }
            for row in csv.DictReader(lines)
        ]
    return sorted(rows, key=lambda row: str(row["date"]))


def run(data: Path, partitions: int, clock: Any, json: bool, console: Console) -> None:
    """Replay the sample into a new store in data, and show what it knows."""
    began = time.monotonic()
    example = example_directory()
    _make_room(data)
    (data / MARK).touch()
    rows = purchases(example / "cdnow_sample.csv")
    quiet = Console(quiet=True) if json else console
    quiet.print(
        f"[bold]profile-actors demo[/]: {len(rows):,} purchases of a music shop, 1997-98,"
        f" replayed through {partitions} partitions on Ray\n"
    )
    with quiet.status("starting Ray and the store …"):
        store = start(data, partitions, clock)
    with store:
        store.apply_file(example / "definitions.yaml")
        with _bar(quiet) as bar:
            task = bar.add_task("streaming purchases", total=len(rows), day="")
            sizes = replay(store, rows, lambda day, n: bar.update(task, advance=n, day=day))
        with quiet.status("asking the store, and refolding every profile to verify it …"):
            found = _questions(store, sizes)
        with quiet.status("a tablet changes hands …"):
            found["people"] = list(people_demo.scenes(store))
        with quiet.status("a page is viewed while an edge follows …"):
            found["live"] = people_demo.live(store, found.pop("cursor"))
        if json:
            found["profile"] = store.profile("CRMID", CUSTOMER)
            show.as_json(found)
            return
        _tell(store, found, data, console)
    console.print(f"[dim]{time.monotonic() - began:.1f} s in all[/]")


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
        TextColumn("[bold]{task.fields[day]}"),
        console=console,
        transient=True,
        disable=console.quiet,
    )


def replay(
    store: Store, rows: Sequence[dict[str, Any]], on_day: Callable[[str, int], None] | None = None
) -> list[dict[str, Any]]:
    """Stream rows (oldest first) day by day; the segment sizes at each of INSTANTS.

    On the wall clock it is today already, so there is one instant. on_day: told of each day and how
    many rows it had.
    """
    sent = 0
    sizes: list[dict[str, Any]] = []
    pending: list[PendingReceipt] = []
    days = [list(day) for _, day in itertools.groupby(rows, key=lambda row: str(row["date"]))]
    days.reverse()
    for instant in INSTANTS if store.clock == "event" else ("today",):
        while days and days[-1][0]["date"] <= instant:
            day = days.pop()
            pending.append(store.submit_async("orders", day, producer=PRODUCER, offset=sent))
            sent += len(day)
            if on_day is not None:
                on_day(str(day[0]["date"]), len(day))
        while pending:
            pending.pop().result()
        if store.clock == "event":
            store.advance_to(instant)
        sizes.append(
            {
                "now": instant,
                "profiles": store.status().profiles,
                **{name: store.members(name).count() for name in SEGMENTS},
            }
        )
    return sizes


def _make_room(data: Path) -> None:
    """An empty directory. Raises ConfigError, or FencedOut if that demo is still running."""
    if (data / MARK).is_file():
        keeper = DirectoryLock(StoreLayout(data).keeper, wait_s=0.1)
        try:
            shutil.rmtree(data)
        finally:
            keeper.release()
    elif data.exists() and (not data.is_dir() or any(data.iterdir())):
        raise ConfigError(
            f"expected a new directory or an earlier demo's, got one with other things in it - at"
            f" {data}; name another one: profile-actors demo --data DIR"
        )
    data.mkdir(parents=True, exist_ok=True)


def _questions(store: Store, sizes: list[dict[str, Any]]) -> dict[str, Any]:
    changes: Counter[str] = Counter()
    by_clock: Counter[str] = Counter()
    feed = store.changes()
    for change in feed:
        if change.kind == "membership":
            changes[change.name] += 1
            by_clock[change.name] += change.cause == "clock"
    return {
        "cursor": feed.cursor,
        "sizes": sizes,
        "profile": store.profile("CRMID", CUSTOMER),
        "events": store.events("CRMID", CUSTOMER, order="desc", limit=5),
        "rule": store.definitions().segments["lapsed-90d"].rule,
        "explain": store.explain(store.definitions().segments["lapsed-90d"].rule).report,
        "changes": dict(changes),
        "changes_by_clock": dict(by_clock),
        "status": store.status(),
        "verify": store.verify(),
    }


def _tell(store: Store, found: dict[str, Any], data: Path, console: Console) -> None:
    columns = ("now, 00:00", "profiles", *SEGMENTS)
    cells = [list(row.values()) for row in found["sizes"]]
    title = "segment sizes as time passes"
    console.print(show.table(title, columns, cells, tuple(range(1, len(columns)))))
    console.print()
    show.profile(console, found["profile"], show.moments_of(store.definitions()))
    show.events(console, found["events"], "its last events")
    console.print("\n[bold]explain[/] of the segment lapsed-90d")
    console.print(render(found["explain"]), highlight=False, markup=False)
    total, clock = sum(found["changes"].values()), sum(found["changes_by_clock"].values())
    console.print(
        f"\n[bold]{total:,}[/] membership changes, [bold]{clock:,}[/] of them by the clock alone"
        " (nobody bought anything; time passed)"
    )
    names = sorted(found["changes"])
    rows = [(name, found["changes"][name], found["changes_by_clock"][name]) for name in names]
    console.print(show.table("", ("segment", "changes", "by the clock"), rows, (1, 2)))
    console.print()
    show.status(console, found["status"])
    differences = found["verify"]
    console.print(
        "[bold]verify[/]: every profile refolded from the log, "
        + ("[green]no differences[/]" if not differences else "[red]differences[/]")
    )
    for line in differences[:20]:
        console.print(f"  {one_line(line)}", highlight=False, markup=False)
    console.print()
    people_demo.tell(store, found["people"], console)
    people_demo.tell_live(found["live"], console)
    option = "" if data == Path("data") else f" --data {data}"
    console.print(f"\nThe store stays in [bold]{show.safe(data)}[/]. Try:", highlight=False)
    for verb in (
        f"profile CRMID {CUSTOMER}",
        f"events CRMID {CUSTOMER}",
        "members big-spenders",
        "changes --limit 20",
        "identity-graph Cookie tablet-7",
        f"edge {people_demo.EDGE} Account ben",
        "changes --follow",
        "advance 1998-09-30",
        "status",
    ):
        console.print(one_line(f"  profile-actors {verb}{option}"), highlight=False, markup=False)
    console.print()
