"""Verbs that load files."""

from __future__ import annotations

from typing import Annotated

import typer

from profile_actors.cli import show
from profile_actors.cli.application import DATA, Data, Json, console, verb
from profile_actors.cli.verbs import open_store
from profile_actors.driver.terminal import one_line


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
) -> None:
    """Load CSV, NDJSON or Parquet files, packed or not: paths, patterns, folders, URIs.

    Each counts once, resumes where a crash left it, goes on if it grew. A broken file, or one with
    more bad rows than --max-bad-percent, does not keep the others from loading. Exit code 1 if
    there was one, or if of a file rows were rejected and none was accepted or known already.
    """
    with open_store(data) as store:
        bar = False if json else None
        done = store.ingest(dataset, list(files), max_bad_percent, bar, closed=not growing)
    if json:
        show.as_json(done)
    else:
        show.report(console, done)
        show.warnings(console, done.warnings)
        if done.rejected_count:
            console.print(
                one_line(f"the reasons: profile-actors quarantine {dataset} --data {data}"),
                highlight=False, markup=False, soft_wrap=True,
            )  # fmt: skip
    if done.refused or done.broken:
        raise typer.Exit(1)
