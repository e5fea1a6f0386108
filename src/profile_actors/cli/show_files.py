"""What files did, as people like to read it: into the store, out of it, and rows given back."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from profile_actors.cli.follower_lines import quoted
from profile_actors.cli.show import MAX_WARNINGS, as_json, safe, warnings
from profile_actors.definitions.placeholders import OTHERS_TOLD
from profile_actors.driver.terminal import one_line

if TYPE_CHECKING:
    from profile_actors.driver.files.exports import ExportReport
    from profile_actors.driver.receipts import IngestReport, Receipt


def report(console: Console, done: IngestReport) -> None:
    """What an ingest did, in two lines, and a line for each file that was not taken whole."""
    speed = done.rows / done.seconds if done.seconds else 0
    console.print(
        f"{done.files:,} files, {done.rows:,} rows, {done.bytes:,} bytes in {done.seconds:.1f} s"
        f" ({speed:,.0f} rows/s)"
    )
    parts = [
        Text(f"accepted {done.accepted:,} (late {done.late:,})", "green" if done.accepted else ""),
        Text(f"duplicate {done.duplicate:,}"),
        Text(f"rejected {done.rejected_count:,}", "bold red" if done.rejected_count else ""),
    ]
    console.print(Text(" · ").join(parts), highlight=False)
    placeholders(console, done)
    for file in done.refused:
        console.print(
            f"[bold red]refused[/] {safe(file)}: every row was rejected",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    if done.skipped:
        counted = Counter(done.skipped.values())
        what = ", ".join(f"{count:,} {why}" for why, count in sorted(counted.items()))
        console.print(f"passed over: {safe(what)}", highlight=False, soft_wrap=True)
    for file, why in done.broken.items():
        console.print(
            f"[bold red]broken[/] {safe(file)}: {safe(why)}", highlight=False, soft_wrap=True
        )


def placeholders(console: Console, done: IngestReport | Receipt) -> None:
    """Values that stood in the place of an identity and name nobody, the most frequent ones."""
    if done.placeholders:
        listed = [
            f"{text if text == OTHERS_TOLD else quoted(text)} {n:,}"
            for text, n in done.placeholders.items()
        ]
        more = ["…"] if len(listed) > MAX_WARNINGS else []
        text = f"placeholders passed over: {', '.join(listed[:MAX_WARNINGS] + more)}"
        console.print(Text(one_line(text)), highlight=False, soft_wrap=True)


def receipt(console: Console, done: Receipt, json: bool) -> None:
    """What became of rows that were submitted."""
    if json:
        as_json(done)
        return
    console.print(
        f"accepted {done.accepted:,} · duplicate {done.duplicate:,} · rejected"
        f" {done.rejected_count:,}",
        highlight=False,
    )
    placeholders(console, done)
    for row, path, reason in done.rejected[:MAX_WARNINGS]:
        console.print(Text(one_line(f"mended row {row}: {path} {reason}"), "red"), soft_wrap=True)


def followed(console: Console, done: IngestReport) -> None:
    """A line for a file that was loaded, and one for each thing to look at."""
    for name, one in done.by_file.items():
        style = "bold red" if done.broken or one.rejected_count else ""
        text = (
            f"{name}: accepted {one.accepted:,}, duplicate {one.duplicate:,},"
            f" rejected {one.rejected_count:,}{', broken' if done.broken else ''}"
        )
        console.print(Text(one_line(text), style), soft_wrap=True)
    placeholders(console, done)
    warnings(console, [*done.broken.values(), *done.warnings])


def exported(console: Console, done: ExportReport) -> None:
    """What an export wrote, in two lines."""
    console.print(
        f"{done.rows:,} profiles, {len(done.columns):,} columns, {done.bytes:,} bytes in"
        f" {done.seconds:.1f} s: {safe(done.path)}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    places = ", ".join(f"{at}: {last:,}" for at, (_, last) in done.positions.items())
    console.print(f"as of positions {places}", highlight=False, soft_wrap=True)
