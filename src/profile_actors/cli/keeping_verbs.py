"""Verbs that keep a store: start it so that it stays up, watch over it, stop it, back it up."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from profile_actors.cli import show
from profile_actors.cli.application import DATA, Data, Json, console, verb
from profile_actors.cli.verbs import open_store
from profile_actors.driver.terminal import instant_text, one_line
from profile_actors.errors import CallerError, ConfigError

ACTIONS = {"list": (), "verify": ("at",), "prune": ("keep", "before")}
"""What may be done with a place, and the options of each."""

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
    from profile_actors.driver.starting.keeper import keep, launch

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
    end = f"profile-actors stop --data {shlex.quote(str(place))}"  # to be pasted as it is
    console.print(f"end it with: {show.safe(end)}", highlight=False, soft_wrap=True)


@contextmanager
def _metrics(place: Path, port: int) -> Iterator[None]:
    """The store's metrics at a port, while it is kept. The keeper asks as any driver does."""
    from profile_actors.cli.metrics_text import metrics_text
    from profile_actors.client import Store, connect
    from profile_actors.driver.starting.metrics_port import MetricsPort

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
    from profile_actors.driver.starting.keeper import stop as stop_keeper

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


@verb()
def scrub(data: Data = DATA, json: Json = False) -> None:
    """Read all that is on the disks of a running store, mend or name damage (docs/BACKUP.md).

    Exit code 1 if something is damaged and not mended.
    """
    with open_store(data) as store:
        found = store.scrub()
    if json:
        show.as_json(found)
    for one in () if json else found:
        state = "whole" if not one.faults else f"{len(one.faults)} damaged"
        mended = f", {one.mended:,} log entries mended" if one.mended else ""
        _say(f"{one.name}: {state}{mended} ({one.read:,} parts, {one.bytes:,} bytes)")
        for fault in one.faults:
            _say(f"  {fault}")
    if any(one.faults for one in found):
        raise typer.Exit(1)


@verb()
def compact(data: Data = DATA, json: Json = False) -> None:
    """Put small log entries of a running store together now (docs/OPERATIONS.md).

    The store does so by itself; this waits for it. Exit code 1 if some could not be.
    """
    with open_store(data) as store:
        found = store.compact()
    if json:
        show.as_json(found)
    for one in () if json else found:
        _say(
            f"{one.name}: {one.entries:,} log entries, {one.bytes_before:,} bytes made"
            f" {one.bytes_after:,}; {one.waiting:,} are left"
        )
        if one.error:
            _say(f"  {one.error}")
    if any(one.error for one in found):
        raise typer.Exit(1)


@verb()
def expire(data: Data = DATA, json: Json = False) -> None:
    """Let rows leave whose dataset's retention is over (docs/OPERATIONS.md).

    On the wall clock a running store does so by itself, once a day.
    """
    with open_store(data) as store:
        cutoffs = store.expire()
    if json:
        show.as_json(cutoffs)
        return
    if not cutoffs:
        _say("no rows leave: no dataset has a retention, or there are no rows yet")
    for name, cutoff in sorted(cutoffs.items()):
        _say(f"{name}: rows from {show.moment(cutoff)} on count")


@verb()
def purge(data: Data = DATA, json: Json = False) -> None:
    """Take rows that have left by retention out of all files (docs/OPERATIONS.md).

    The store stands still meanwhile: one pass over its logs, and a fold of all that is left.
    """
    with open_store(data) as store:
        found = store.purge()
    if json:
        show.as_json(found)
    else:
        _say(f"{found.rows:,} rows were taken out, {len(found.files)} files written anew")
        for backup in found.backups:
            _say(f"  made before, and may have them: the backup {backup.id} at {backup.uri}")


@verb()
def backup(
    place: Annotated[str, typer.Argument(help="A directory or URI; or list, verify or prune.")],
    uri: Annotated[str | None, typer.Argument(help="Of list, verify or prune.")] = None,
    data: Data = DATA,
    json: Json = False,
    at: Annotated[str | None, typer.Option(help="verify: of one backup, by its id.")] = None,
    keep: Annotated[int | None, typer.Option(min=1, help="prune: so many, the newest.")] = None,
    before: Annotated[str | None, typer.Option(help="prune: those made before it.")] = None,
) -> None:
    """Copy the running store to a directory or an object store, only what is new (docs/BACKUP.md).

    `backup list URI` shows the backups of a place, `backup verify URI` reads all of their files,
    `backup prune URI --keep N` (or --before DATE) deletes old ones. (./list is a directory.)
    """
    if place in ACTIONS and uri is not None:
        given = {"at": at, "keep": keep, "before": before, "data": None if data == DATA else data}
        for name, value in given.items():
            if value is not None and name not in ACTIONS[place]:
                raise CallerError(
                    f"expected options of `backup {place}`"
                    f" ({', '.join(f'--{one}' for one in ACTIONS[place]) or 'none'}), got --{name}"
                    " - at the command line"
                )
        {"list": _list, "verify": _verify, "prune": _prune}[place](uri, json, at, keep, before)
        return
    if place in ACTIONS or uri is not None or (at, keep, before) != (None, None, None):
        raise CallerError(
            f"expected `backup URI`, or `backup {'|'.join(ACTIONS)} URI`, got"
            f" {one_line(f'{place} {uri or str()}')!r} - at the command line"
        )
    with open_store(data) as store:
        made = store.backup(place)
    if json:
        show.as_json(made)
        return
    size = f"{made.bytes:,} bytes, {made.new_bytes:,} of them new"
    _say(f"backup {made.id} of {sum(made.positions.values()):,} log entries: {size}")


@verb()
def restore(
    uri: str,
    directory: Annotated[Path, typer.Argument(help="Of the new store; has none yet.")],
    json: Json = False,
    at: Annotated[str | None, typer.Option(help="Id of a backup; the newest if not given.")] = None,
    same: Annotated[
        bool, typer.Option("--same", help="Keep the store's id: the original is gone for good.")
    ] = False,
    original: Annotated[
        Path | None, typer.Option(help="The original's directory: whom it has erased since.")
    ] = None,
) -> None:
    """Make a store in DIRECTORY from a backup, after comparing all of its checksums."""
    from profile_actors.driver.shipping.restored_stores import restore as restored

    made = restored(uri, directory, at, same=same, original=original)
    if json:
        show.as_json(made)
        return
    entries = sum(made.positions.values())
    _say(f"store {made.store} as of {instant_text(made.at)}: {entries:,} log entries")
    if made.erasures:
        _say(f"{made.erasures:,} later erasures done again: {made.identities:,} identities")
    _say(f"start it with: profile-actors start {made.path}")


def _list(uri: str, json: bool, at: str | None, keep: Any, before: Any) -> None:
    from profile_actors.driver.shipping.places_of_backups import backups

    found = backups(uri)
    if json:
        show.as_json(found)
        return
    rows = [
        (one.id, instant_text(one.at), sum(one.positions.values()), f"{one.bytes:,}",
         f"{one.new_bytes:,}")
        for one in found
    ]  # fmt: skip
    console.print(show.table("", ("backup", "made", "entries", "bytes", "new"), rows, (2, 3, 4)))


def _verify(uri: str, json: bool, at: str | None, keep: Any, before: Any) -> None:
    from profile_actors.driver.shipping.places_of_backups import verified

    found = verified(uri, at)
    if json:
        show.as_json(found)
    else:
        for name, faults in found.items():
            _say(f"backup {name}: {'whole' if not faults else f'{len(faults)} files damaged'}")
            for fault in faults:
                _say(f"  {fault}")
    if any(found.values()):
        raise typer.Exit(1)


def _prune(uri: str, json: bool, at: Any, keep: int | None, before: str | None) -> None:
    from profile_actors.driver.shipping.places_of_backups import pruned

    done = pruned(uri, keep, before)
    if json:
        show.as_json(done)
        return
    _say(f"{len(done.backups)} backups deleted, {len(done.kept)} kept: {done.bytes:,} bytes freed")


def _say(text: str) -> None:
    console.print(Text(one_line(text)), soft_wrap=True)
