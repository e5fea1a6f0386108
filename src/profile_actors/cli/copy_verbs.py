"""The verbs of copies: edges, and logs that are kept on a second disk."""

from __future__ import annotations

import os
import re
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from profile_actors.cli import show
from profile_actors.cli.application import DATA, Data, Json, console, verb
from profile_actors.cli.follower_lines import edge_lines
from profile_actors.cli.verbs import open_store
from profile_actors.driver.terminal import instant_text, one_line
from profile_actors.errors import CallerError, ConfigError

if TYPE_CHECKING:
    from profile_actors.driver.replicas.disks_of_nodes import LogName
    from profile_actors.driver.replicas.replica_doors import Replica
    from profile_actors.storage.replicas.lost_end import LostEnd

_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")


@verb()
def edge(
    name: str,
    namespace: Annotated[str | None, typer.Argument(help="Of an identity to look up.")] = None,
    value: Annotated[str | None, typer.Argument(help="Of that identity.")] = None,
    data: Data = DATA,
    json: Json = False,
) -> None:
    """Show how an edge is, or one profile as the edge knows it."""
    if namespace is not None and value is None:
        raise CallerError(f"expected a namespace and a value, got {namespace!r} alone - at edge")
    with open_store(data) as store:
        one = store.edge(name)
        if namespace is None or value is None:
            found = store.status().edges.get(name)
            if found is None:
                raise CallerError(
                    f"expected an edge destination, got {name!r}, deleted a moment ago - at edge"
                )
            if json:
                show.as_json(found)
            else:
                for line in edge_lines(name, found):
                    console.print(line, highlight=False, soft_wrap=True)
            return
        profile = one.profile(namespace, value)
        moments = show.moments_of(store.definitions())
    if json:
        show.as_json(profile)
        return
    if profile is None:
        who = f"{show.safe(namespace)} {show.safe(value)}"
        console.print(f"the edge has no profile of {who}", highlight=False)
        return
    show.profile(console, profile, moments)
    _stale(console, profile.stale)


def _stale(out: Console, is_stale: bool) -> None:
    if is_stale:
        out.print("[yellow]stale[/]: the hub has not said yet what came after", highlight=False)


@verb()
def disks(
    data: Data = DATA,
    json: Json = False,
    add: Annotated[Path | None, typer.Option(help="A directory on another disk.")] = None,
    remove: Annotated[
        Path | None, typer.Option(help="One that no copy is on any more, also if it is gone.")
    ] = None,
) -> None:
    """Show the disks that a store may keep copies on, or add one, or remove one."""
    with open_store(data) as store:
        if add is not None:
            store.add_disk(add)
        if remove is not None:
            store.remove_disk(remove)
        found = store.disks()
        logs = [] if json else store.replicas()
    if json:
        show.as_json(found)
        return

    def of(directories: list[tuple[LogName, str]], at: str) -> str:
        return ", ".join(str(whose) for whose, directory in directories if directory == at) or "-"

    force = [(one.partition, one.primary) for one in logs]
    standbys = [(one.partition, one.standby) for one in logs]
    rows = [
        (disk, one_line(directory), of(force, directory), of(standbys, directory))
        for disk, directory in sorted(found.items())
    ]
    console.print(show.table("disks", ("disk", "directory", "in force", "standbys"), rows))


@verb("disk-id")
def disk_id(
    directory: Annotated[Path, typer.Argument(help="The store's directory on this node.")],
    json: Json = False,
    name: Annotated[
        str, typer.Option("--as", help="Name a new disk so; one that has another name is refused.")
    ] = "",
) -> None:
    """Print the id of this node's disk, for its label (docs/OPERATIONS.md); make it if it has none.

    ray start ... --labels=profile-actors/disk=$(profile-actors disk-id DIR)
    """
    from profile_actors.storage.replicas.standby_files import named_disk

    if name and not _LABEL.fullmatch(name):
        raise CallerError(
            "expected a name of up to 63 letters, digits, '-', '_' and '.', a letter or digit first"
            f" and last, got {name!r} - at disk-id --as; it is a node's label"
        )
    found = named_disk(directory.resolve(), name or uuid.uuid4().hex)
    if name and found != name:
        raise ConfigError(
            f"expected disk {name}, got disk {found} - at {directory.resolve()}; another disk is"
            " mounted there"
        )
    if json:
        name = os.fsencode(directory.resolve()).decode("utf-8", "replace")  # it may be no text
        show.as_json({"directory": name, "disk": found})
    else:
        console.print(found)


@verb()
def replicas(
    number: Annotated[int | None, typer.Argument(help="0 or 1; none: only show them.")] = None,
    data: Data = DATA,
    json: Json = False,
    is_async: Annotated[
        bool, typer.Option("--async", help="Acknowledge before the standby has it.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Until standbys have everything.")] = False,
) -> None:
    """Keep each log, of partitions and ledger, on a second disk, or not; show how that stands."""
    with open_store(data) as store:
        if number is not None:
            store.set_replicas(number, "async" if is_async else "sync")
        found = store.wait_for_replicas() if wait else store.replicas()
    _show(found, json)


def log_name(text: str) -> LogName:
    """A partition's number, or 'ledger'. Raises CallerError."""
    if text == "ledger":
        return "ledger"
    try:
        return int(text)
    except ValueError:
        raise CallerError(
            f"expected the number of a partition, or ledger, got {one_line(text)!r} - at the"
            " command line; profile-actors replicas shows them"
        ) from None


Log = Annotated[str, typer.Argument(metavar="PARTITION", help="Its number, or: ledger.")]


@verb()
def promote(
    partition: Log,
    data: Data = DATA,
    json: Json = False,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Also one that lacks acknowledged entries.")
    ] = False,
    abandon: Annotated[
        bool,
        typer.Option("--abandon", help="Take back one whose standby is gone for good."),
    ] = False,
) -> None:
    """Put the standby of a partition, or the ledger, in force: its copy is the log from then on."""
    log = log_name(partition)
    if abandon and accept_loss:
        raise CallerError("expected --abandon or --accept-loss, got both - at promote")
    with open_store(data) as store:
        if abandon:
            found = store.abandon_promotion(log)
        else:
            found = store.promote(log, accept_loss=accept_loss)
    _show([found], json)
    if found.lost is not None and not json:
        console.print(Text(_loss(_who(log), found.lost)), soft_wrap=True)


def _who(log: LogName) -> str:
    return "ledger" if log == "ledger" else f"partition {log}"


def _loss(who: str, lost: LostEnd) -> str:
    """What a promotion took away, in a sentence or three."""
    if not lost.is_whole:
        known = f"{lost.entries:,} at least, as the catalogue was told"
        return (
            f"{who}: what came after its first {lost.first:,} log entries is lost ({known}); the"
            " other copy cannot be read"
        )
    if not lost.entries:
        return f"{who}: nothing is lost, the standby had every log entry"
    rows = ", ".join(f"{count:,} of {one_line(name)}" for name, count in lost.rows.items())
    return (
        f"{who}: log entries {lost.first:,} to {lost.end - 1:,} are lost, with {rows or 'no'} rows"
        " (accepted ones); whoever has them sends them again, from its producer's cursor"
    )


@verb()
def recover(
    directory: Annotated[Path, typer.Argument(help="Of the disk with copies of its logs.")],
    json: Json = False,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Also of standbys that were not in sync.")
    ] = False,
) -> None:
    """Make a store of its second disk, when the disk with its catalogue is lost for good."""
    from profile_actors.driver.replicas.recovering import recover as recovered

    made = recovered(directory, accept_loss=accept_loss)
    if json:
        show.as_json(made)
        return
    lines = [
        f"store {made.store} is at {made.path}: {sum(made.entries.values()):,} log entries; the"
        f" lost disk's catalogue was copied last at {instant_text(made.told)}",
        *(f"{_who(one.partition)} may lack entries: {one.reason}" for one in made.lost),
        f"start it with: profile-actors start {made.path}",
    ]
    for line in lines:
        console.print(Text(one_line(line)), soft_wrap=True)


@verb("move")
def change_disk(
    partition: Log,
    disk: Annotated[str, typer.Argument(help="Of the store: its id, or its directory.")],
    data: Data = DATA,
    json: Json = False,
) -> None:
    """Bring a partition, or the ledger, to another disk while it works; the old files go."""
    log = log_name(partition)
    with open_store(data) as store:
        found = store.change_disk(log, disk)
    _show([found], json)


@verb()
def rebalance(
    data: Data = DATA,
    json: Json = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it, one partition after another.")] = False,
) -> None:
    """Show, or with --yes do, what gives each disk as many logs in force as the others."""
    with open_store(data) as store:
        plan = store.plan_of_disks()
        for partition, _, to in plan if yes else ():
            store.change_disk(partition, to)
    if json:
        show.as_json([{"partition": number, "from": old, "to": new} for number, old, new in plan])
        return
    if not plan:
        console.print("each disk has as many logs in force as the others")
        return
    rows = [(str(number), one_line(old), one_line(new)) for number, old, new in plan]
    title = "brought to other disks" if yes else "to be brought to other disks (--yes does it)"
    console.print(show.table(title, ("partition", "from", "to"), rows))


def _show(found: list[Replica], json: bool) -> None:
    if json:
        show.as_json(found)
        return
    rows = [
        (
            str(one.partition),
            one_line(one.primary),
            one_line(one.standby) or "-",
            f"{one.state}{', async' if one.is_async else ''}",
            f"{one.lag_entries:,}",
        )
        for one in found
    ]
    names = ("partition", "in force", "standby", "state", "entries behind")
    console.print(show.table("replicas", names, rows))
    for one in found:
        if one.reason:
            console.print(Text(one_line(f"{_who(one.partition)}: {one.reason}")), soft_wrap=True)
