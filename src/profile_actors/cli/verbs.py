"""The door for shells: ``profile-actors VERB``; tables for people, ``--json`` for machines.

Theory: a verb attaches to the store of ``--data`` where it runs; else it starts it for its call and
stops it again. An error raised on purpose is printed as a sentence with exit code 1,
never as a traceback. What needs Ray or Arrow is imported by the verbs that do: help is at once.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from profile_actors.cli import show, show_files
from profile_actors.cli.application import DATA, Data, Json, console, verb
from profile_actors.driver.terminal import lines, one_line
from profile_actors.errors import CallerError, ConfigError

if TYPE_CHECKING:
    from profile_actors.client import Store


def open_store(data: Path) -> Store:
    """The running store, or one that ends with the call."""
    if not os.path.isfile(data / "store.json"):  # of a name that no file can have, too
        raise ConfigError(
            f"expected a store, got a directory without store.json - at {data}; make one with"
            " `profile-actors start`, `apply` or `demo`, or name it with --data"
        )
    from profile_actors.client import for_a_call

    return for_a_call(data)


@verb()
def demo(
    data: Data = DATA,
    json: Json = False,
    partitions: Annotated[int, typer.Option(help="Partitions of the demo's store.")] = 2,
    clock: Annotated[
        str, typer.Option(help="event: as it happened; wall: as all of it looks today.")
    ] = "event",
) -> None:
    """Replay a music shop's purchases of 1997-98 and watch segments change as time passes."""
    from profile_actors.cli import demo as demo_job

    demo_job.run(data, partitions, clock, json, console)


@verb()
def apply(
    file: Path,
    data: Data = DATA,
    json: Json = False,
    clock: Annotated[str | None, typer.Option(help="Of a new store: wall or event.")] = None,
    partitions: Annotated[int | None, typer.Option(help="Of a new store.")] = None,
) -> None:
    """Apply the definitions of a YAML or JSON file; makes the store if there is none."""
    from profile_actors.client import for_a_call
    from profile_actors.ingest.definition_files import definitions_of

    items = definitions_of(file)  # a file that cannot be read makes no store
    with for_a_call(data, partitions, clock) as store:
        version = store.apply(*items)
    if json:
        show.as_json({"version": version})
    else:
        text = one_line(f"applied {file}: catalogue version {version}")
        console.print(text, highlight=False, markup=False, soft_wrap=True)


@verb()
def profile(
    namespace: str,
    value: str,
    data: Data = DATA,
    json: Json = False,
    as_of: Annotated[str | None, typer.Option(help="By what was known at this instant.")] = None,
) -> None:
    """Show one profile: attributes, computed attributes, segments."""
    with open_store(data) as store:
        found = store.profile(namespace, value, as_of=as_of)
        moments = show.moments_of(store.definitions())
    if json:
        show.as_json(found)
    elif found is None:
        who = f"{show.safe(namespace)} {show.safe(value)}"
        console.print(f"no profile has the identity {who}", highlight=False)
    else:
        show.profile(console, found, moments)


@verb()
def events(
    namespace: str,
    value: str,
    data: Data = DATA,
    json: Json = False,
    start_at: Annotated[str | None, typer.Option("--start", help="First instant.")] = None,
    end_at: Annotated[str | None, typer.Option("--end", help="Instant after the last.")] = None,
    order: Annotated[str, typer.Option(help="asc or desc.")] = "asc",
    limit: Annotated[int, typer.Option(min=1, help="Events on a page.")] = 20,
    cursor: Annotated[str | None, typer.Option(help="Of the page before.")] = None,
) -> None:
    """List a profile's events in time order."""
    with open_store(data) as store:
        way: Any = order  # checked by the store
        page = store.events(namespace, value, start_at, end_at, way, limit, cursor)
    if json:
        show.as_json(page)
        return
    if not page.events:
        console.print(f"no events of {show.safe(namespace)} {show.safe(value)}", highlight=False)
        return
    show.events(console, page)
    if page.next is not None:
        more = one_line(f"more: --cursor {page.next}")
        console.print(more, highlight=False, markup=False, soft_wrap=True)


@verb()
def export(
    segment: Annotated[str, typer.Argument(help="A segment, or '-' for everybody.")],
    file: Annotated[str, typer.Argument(help="A path or URI: .parquet, .csv, .ndjson (.gz …).")],
    data: Data = DATA,
    json: Json = False,
    field: Annotated[
        list[str] | None, typer.Option(help="identities, attributes.…, computed.…, segments.….")
    ] = None,
) -> None:
    """Write a segment's profiles to a Parquet, CSV or NDJSON file."""
    with open_store(data) as store:
        done = store.export(None if segment == "-" else segment, file, field)
    if json:
        show.as_json(done)
    else:
        show_files.exported(console, done)


@verb()
def members(
    segment: str,
    data: Data = DATA,
    json: Json = False,
    limit: Annotated[
        int, typer.Option(min=0, help="Identities to list; 0 for the count alone.")
    ] = 20,
    out: Annotated[
        str | None, typer.Option(help="Write their identities to this file instead.")
    ] = None,
) -> None:
    """Count a segment's members and list some of them."""
    if out is not None:
        return export(segment, out, data, json, ["identities"])
    with open_store(data) as store:
        found = store.members(segment)
        count = found.count()
        listed = list(itertools.islice(found, limit))
    if json:
        show.as_json({"segment": segment, "count": count, "members": listed})
        return
    console.print(f"{show.safe(segment)}: {count:,} members")
    if listed:
        rows = [(i.namespace, i.value) for i in listed]
        console.print(show.table("", ("namespace", "value"), rows))
    if count > len(listed):
        console.print(f"… and {count - len(listed):,} more (--limit)")


@verb()
def changes(
    data: Data = DATA,
    json: Json = False,
    after: Annotated[str | None, typer.Option(help="Cursor of an earlier call.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Wait for more.")] = False,
    limit: Annotated[int | None, typer.Option(min=0, help="Stop after so many.")] = None,
) -> None:
    """List membership and computed-attribute changes, oldest first."""
    with open_store(data) as store:
        feed = store.changes(after, follow)
        moments = show.moments_of(store.definitions())
        try:
            for one in itertools.islice(feed, limit):
                if json:
                    show.as_json(one)
                else:
                    show.change(console, one, moments)
        except KeyboardInterrupt:
            pass
        if json:
            show.as_json({"cursor": feed.cursor})
        else:
            console.print(f"cursor: --after {feed.cursor}", highlight=False, soft_wrap=True)


@verb()
def explain(rule: str, data: Data = DATA, json: Json = False) -> None:
    """Show how a rule would be evaluated, and what of it runs incrementally."""
    with open_store(data) as store:
        found = store.explain(rule)
    if json:
        show.as_json(found.report)
    else:
        console.print(lines(str(found)), highlight=False, markup=False, soft_wrap=True)


@verb()
def preview(
    rule: str,
    data: Data = DATA,
    json: Json = False,
    sample: Annotated[int, typer.Option(help="Identities to list.")] = 10,
) -> None:
    """Count whom a rule would let in, over the stored log; nothing is saved."""
    with open_store(data) as store:
        found = store.preview(rule, sample)
    if json:
        show.as_json(found)
    else:
        show.preview(console, found)


@verb()
def delete(
    name: str,
    data: Data = DATA,
    json: Json = False,
    kind: Annotated[
        str | None, typer.Option(help="segment, dataset, …: if several have the name.")
    ] = None,
) -> None:
    """Delete a definition that nothing reads."""
    with open_store(data) as store:
        version = store.delete(name, kind)
    if json:
        show.as_json({"deleted": name, "version": version})
    else:
        console.print(f"deleted {show.safe(name)}: catalogue version {version}", highlight=False)


@verb("eval")
def eval_(
    rule: str,
    json: Json = False,
    events_file: Annotated[
        Path | None, typer.Option("--events", help="A JSON array, or a JSON object per line.")
    ] = None,
    profile_file: Annotated[Path | None, typer.Option("--profile", help="A JSON object.")] = None,
    now: Annotated[str, typer.Option(help="The instant: ms or ISO text.")] = "1970-01-01",
) -> None:
    """Evaluate a rule by the reference evaluator, without a store."""
    from profile_actors.driver.arguments import instant_ms
    from profile_actors.rules.catalogue.on_documents import evaluate

    happened = [] if events_file is None else _documents(events_file)
    subject = {} if profile_file is None else _documents(profile_file)[0]
    value, valid_until = evaluate(rule, profile=subject, events=happened, now=instant_ms(now))
    if json:
        show.as_json({"value": value, "valid_until": valid_until})
    else:
        text = show.safe(show.cell_text(value))
        console.print(f"{text}  (valid until {show.moment(valid_until)})", highlight=False)


_DOCUMENTS = msgspec.json.Decoder(dict[str, Any] | list[dict[str, Any]])
_LINES = msgspec.json.Decoder(dict[str, Any])


def _documents(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of a file: one, an array of them, or one per line."""
    try:
        data = path.read_bytes()
        try:
            found = _DOCUMENTS.decode(data)
        except msgspec.MsgspecError:
            found = _LINES.decode_lines(data)
    except (OSError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise CallerError(f"expected JSON objects, got {error} - at {path}") from None
    return found if isinstance(found, list) else [found]


@verb()
def quarantine(
    dataset: str,
    data: Data = DATA,
    json: Json = False,
    limit: Annotated[int, typer.Option(min=0, help="Rows to list.")] = 20,
    out: Annotated[
        str | None, typer.Option(help="Write all of them to this new NDJSON file instead.")
    ] = None,
    resubmit: Annotated[
        Path | None, typer.Option(help="Offer the rows of such a file that have 'mended'.")
    ] = None,
) -> None:
    """List rejected rows of a dataset, with the reason of each; take them out, give them back.

    To mend rows, write them to a file, put the right row as an object under 'mended' on the lines
    of those that can be mended, and resubmit the file: each counts once, as the row that it was.
    """
    if resubmit is not None:
        mended = _documents(resubmit)
        with open_store(data) as store:
            show_files.receipt(console, store.resubmit(dataset, mended), json)
        return
    if out is not None:
        from profile_actors.driver.files.mended_rows import written_out

        with open_store(data) as store:
            every = store.quarantine(dataset, sys.maxsize)
        written_out(every, out, data, "quarantine --out")
        console.print(f"{len(every):,} rejected rows: {show.safe(out)}", highlight=False)
        return
    with open_store(data) as store:
        rows = store.quarantine(dataset, limit)
    if json:
        show.as_json(rows)
    elif not rows:
        console.print(f"no rejected rows of {show.safe(dataset)}", highlight=False)
    else:
        show.quarantine(console, rows, f"rejected rows of {dataset}")


@verb()
def definitions(data: Data = DATA, json: Json = False) -> None:
    """Show the catalogue: namespaces, schemas, datasets, segments, computed attributes."""
    with open_store(data) as store:
        catalogue = store.definitions()
    if json:
        show.as_json(catalogue)
    else:
        show.definitions(console, catalogue)


@verb()
def advance(to: str, data: Data = DATA, json: Json = False) -> None:
    """Move the event clock to an instant (ms or ISO text); what is due by then happens."""
    with open_store(data) as store:
        store.advance_to(to)
        now = store.status().now
    if json:
        show.as_json({"now": now})
    else:
        console.print(f"now {show.moment(now)}")


@verb()
def status(data: Data = DATA, json: Json = False) -> None:
    """Show each partition's position, clock, counts and troubles."""
    with open_store(data) as store:
        found = store.status()
    if json:
        show.as_json(found)
    else:
        show.status(console, found)


@verb()
def verify(
    data: Data = DATA,
    json: Json = False,
    sample: Annotated[int | None, typer.Option(help="Profiles per partition; default all.")] = None,
) -> None:
    """Re-read the whole log, refold profiles, and compare; exit code 1 if anything differs."""
    with open_store(data) as store:
        found = store.verify(sample)
    if json:
        show.as_json({"differences": found})
    else:
        for line in map(one_line, found or ["no differences"]):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    if found:
        raise typer.Exit(1)


@verb()
def bench(
    name: Annotated[str, typer.Argument(help="w1, latency, lookup or recovery.")] = "w1",
    arguments: Annotated[list[str] | None, typer.Argument(help="Passed on.")] = None,
) -> None:
    """Run one of the benches of the source tree; prints one JSON line."""
    script = Path(__file__).resolve().parents[3] / "bench" / f"{name}.py"
    if not script.is_file():
        raise ConfigError(
            f"expected a bench of the source tree, got {name!r} - at {script.parent}; clone the"
            " project to run its benches"
        )
    raise typer.Exit(subprocess.run([sys.executable, str(script), *(arguments or [])]).returncode)
