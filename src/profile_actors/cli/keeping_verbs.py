"""Verbs that start a store so that it stays up, watch over it, and stop it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from profile_actors.cli import show
from profile_actors.cli.application import DATA, Data, Json, console, verb
from profile_actors.cli.verbs import open_store
from profile_actors.errors import ConfigError

Directory = Annotated[Path | None, typer.Argument(help="The store's directory, as --data.")]


def _one(directory: Path | None, data: Path) -> Path:
    """The directory that was named, absolute. Raises ConfigError if two were."""
    if directory is not None and data not in (DATA, directory):
        raise ConfigError(
            f"expected one directory, got {directory} and --data {data} - at the command line"
        )
    return (data if directory is None else directory).resolve()


@verb()
def start(
    directory: Directory = None,
    data: Data = DATA,
    json: Json = False,
    partitions: Annotated[int | None, typer.Option(help="Of a new store.")] = None,
    clock: Annotated[str | None, typer.Option(help="Of a new store: wall or event.")] = None,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay, and stop at Ctrl-C or SIGTERM.")
    ] = False,
    metrics_port: Annotated[
        int | None,
        typer.Option(help="Serve metrics at http://127.0.0.1:PORT/metrics, for this machine only."),
    ] = None,
    ready: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Start a store that stays up; makes it if there is none. Other verbs attach to it.

    Returns when every partition has answered. It outlives this shell; end it with `stop`.
    """
    from profile_actors.driver.keeping.keeper import keep, launch

    place = _one(directory, data)
    if metrics_port is not None and not 1 <= metrics_port <= 65_535:
        raise ConfigError(
            f"expected a port from 1 to 65535, got {metrics_port} - at --metrics-port"
        )
    if foreground:
        beside = nullcontext if metrics_port is None else partial(_metrics, place, metrics_port)
        raise typer.Exit(keep(place, partitions, clock, ready, beside))
    began = time.monotonic()
    found = launch(place, partitions, clock, metrics_port)
    if json:
        show.as_json(
            {"data": str(place), "pid": found.pid, "host": found.host, "store": found.store}
        )
        return
    console.print(
        f"[bold]{show.safe(place)}[/] runs: process {found.pid},"
        f" started in {time.monotonic() - began:.1f} s",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    console.print(f"end it with: profile-actors stop --data {show.safe(place)}", highlight=False)


@contextmanager
def _metrics(place: Path, port: int) -> Iterator[None]:
    """The store's metrics at a port, while it is kept. The keeper asks as any driver does."""
    from profile_actors.cli.metrics_text import metrics_text
    from profile_actors.client import Store, connect
    from profile_actors.driver.keeping.metrics_port import MetricsPort

    asking: list[Store] = []

    def page() -> str:
        if not asking:
            asking.append(connect(place))
        return metrics_text(asking[0].status())

    at = MetricsPort(port)
    try:
        at.serve(page)
        yield
    finally:
        at.close()
        for store in asking:
            store.close()


@verb()
def stop(directory: Directory = None, data: Data = DATA, json: Json = False) -> None:
    """Stop a store that `start` has started: flush, write checkpoints, end its processes."""
    from profile_actors.driver.keeping.keeper import stop as stop_keeper

    place = _one(directory, data)
    began = time.monotonic()
    found = stop_keeper(place)
    if json:
        show.as_json({"data": str(place), "stopped": found is not None})
    elif found is None:
        console.print(f"{show.safe(place)} does not run", highlight=False, soft_wrap=True)
    else:
        console.print(
            f"[bold]{show.safe(place)}[/] is stopped: flushed, with checkpoints, in"
            f" {time.monotonic() - began:.1f} s",
            highlight=False, soft_wrap=True,
        )  # fmt: skip


@verb()
def metrics(data: Data = DATA, json: Json = False) -> None:
    """Print the status as Prometheus text (for a node exporter's textfile, or a small script)."""
    from profile_actors.cli.metrics_text import metrics_text, samples

    with open_store(data) as store:
        now = store.status()
    if json:
        show.as_json([one._asdict() for *_, found in samples(now) for one in found])
    else:
        sys.stdout.write(metrics_text(now))
