"""Verbs that load files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from profile_actors.cli import show, show_files
from profile_actors.cli.application import DATA, Data, Json, console, verb
from profile_actors.cli.verbs import open_store
from profile_actors.driver.terminal import one_line
from profile_actors.errors import CallerError


@verb()
def ingest(
    dataset: str,
    files: list[str],
    data: Data = DATA,
    json: Json = False,
    max_bad_percent: Annotated[
        float | None, typer.Option(help="Refuse a file whole if more of its rows are bad.")
    ] = None,
    growing: Annotated[
        bool,
        typer.Option("--growing", help="Leave a last line that has no line end for the next time."),
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Watch a folder until Ctrl-C; a line per file.")
    ] = False,
    every_s: Annotated[float, typer.Option("--every", help="Seconds between two looks.")] = 2.0,
    format: Annotated[str | None, typer.Option(help="Of '-': csv or ndjson.")] = None,
    producer: Annotated[
        str | None, typer.Option(help="Of '-': whose rows they are, so that each counts once.")
    ] = None,
) -> None:
    """Load CSV, NDJSON or Parquet files, packed or not: paths, patterns, folders, URIs, '-'.

    Each counts once, resumes where a crash left it, goes on if it grew. A broken file, or one with
    more bad rows than --max-bad-percent, does not keep the others from loading. Exit code 1 if
    there was one, or if of a file rows were rejected and none was accepted or known already.
    """
    if follow:
        if format is not None or producer is not None:
            raise CallerError(
                "expected --format and --producer with '-' alone, got one with --follow - at ingest"
            )
        _follow(data, dataset, files, every_s, max_bad_percent, not growing, json)
        return
    form: Any = format  # checked below
    if form not in (None, "csv", "ndjson"):
        raise CallerError(f"expected --format csv or ndjson, got {form!r} - at ingest")
    with open_store(data) as store:
        bar = False if json else None
        named = "-" if files == ["-"] else list(files)
        done = store.ingest(
            dataset, named, max_bad_percent, bar, not growing, format=form, producer=producer
        )
    if json:
        show.as_json(done)
    else:
        show_files.report(console, done)
        show.warnings(console, done.warnings)
        if done.rejected_count:
            console.print(
                one_line(f"the reasons: profile-actors quarantine {dataset} --data {data}"),
                highlight=False, markup=False, soft_wrap=True,
            )  # fmt: skip
    if done.refused or done.broken:
        raise typer.Exit(1)


def _follow(
    data: Path,
    dataset: str,
    folders: list[str],
    every_s: float,
    max_bad_percent: float | None,
    closed: bool,
    json: bool,
) -> None:
    if len(folders) != 1:
        raise CallerError(f"expected one folder with --follow, got {len(folders)} - at ingest")
    with open_store(data) as store:
        coming = store.follow(dataset, folders[0], every_s, max_bad_percent, closed)
        try:
            for done in coming:
                if json:
                    show.as_json(done)
                else:
                    show_files.followed(console, done)
        except KeyboardInterrupt:
            pass
