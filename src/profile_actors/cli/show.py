"""Results as people like to read them in a terminal, and as JSON for machines.

Rules for editors: what is no text of ours goes through ``safe`` on its way into markup, and through
``one_line`` into anything else (a table's cells and titles do so by themselves).
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from profile_actors.cli.follower_lines import (
    copy_lines,
    follower_lines,
    linking_line,
    relationship_lines,
)
from profile_actors.driver.terminal import instant_text, json_text, lines, one_line

if TYPE_CHECKING:
    from profile_actors.definitions.declared import Catalogue, Dataset
    from profile_actors.driver.receipts import StoreStatus
    from profile_actors.engine.reading.answers import Change, EventPage, Preview, Profile
    from profile_actors.ingest.rejects import QuarantineRecord

MOMENT_COLUMNS = ("timestamp",)


MAX_WARNINGS = 20  # shown; the report has all of them


STATUS_STYLE = {"realized": "green", "exited": "yellow", "pending": "magenta"}


def as_json(value: Any) -> None:
    """One JSON document on one line of standard output."""
    sys.stdout.buffer.write(json_text(msgspec.json.encode(value, enc_hook=str)) + b"\n")
    sys.stdout.buffer.flush()


def safe(text: object) -> str:
    """A text of any origin, to be put into a line of markup."""
    return escape(one_line(str(text)))


def table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], right: Collection[int] = ()
) -> Padding:
    """A table with a blank line after it; the columns numbered in right are aligned right."""
    out = Table(
        title=Text(one_line(title)) if title else None,
        title_justify="left",
        title_style="bold",
        header_style="dim",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
    )
    for number, column in enumerate(columns):
        # Texts too long for the terminal go on in the next line; nothing is cut.
        is_number = number in right
        justify: Any = "right" if is_number else "left"
        name = Text(one_line(column))
        out.add_column(name, justify=justify, no_wrap=is_number, overflow="fold")
    for row in rows:
        out.add_row(*[_cell(value) for value in row])
    return Padding(out, (0, 0, 1, 0))


def _cell(value: Any) -> Text:
    return value if isinstance(value, Text) else Text(one_line(cell_text(value)))


def cell_text(value: Any) -> str:
    """A cell's text: null as a dash, whole numbers with separators, doubles as short as exact."""
    if value is None:
        return "–"
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)


def moment(ms: int | None) -> str:
    """An instant for people, a dash for none."""
    return "–" if ms is None else instant_text(ms)


def size_text(size: int) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:,.0f} {unit}"
        size //= 1000
    return f"{size:,} GB"


def value_text(name: str, value: Any, moments: frozenset[str]) -> str:
    """A computed value; those that are instants as such."""
    if name in moments and isinstance(value, int):
        return moment(value)
    return f"{value:,.2f}" if isinstance(value, float) else cell_text(value)


def moments_of(catalogue: Catalogue) -> frozenset[str]:
    """The computed attributes whose rule yields an event's timestamp, as far as its text tells."""
    return frozenset(
        name
        for name, attribute in catalogue.computed.items()
        if attribute.rule.rstrip().endswith(("max(timestamp)", "min(timestamp)"))
    )


def profile(console: Console, found: Profile, moments: frozenset[str]) -> None:
    """Everything about one profile but its events."""
    names = ", ".join(f"{i.namespace} {i.value}" for i in found.identities)
    console.print(
        f"[bold]{safe(names)}[/]  as of {moment(found.now)},"
        f" last modified {moment(found.last_modified)}",
        highlight=False,
    )
    if found.attributes:
        console.print(
            table("attributes", ("field", "value"), sorted(flat(found.attributes).items()))
        )
    if found.computed:
        rows = [
            (
                name,
                Text("pending", STATUS_STYLE["pending"])
                if name in found.pending
                else value_text(name, value, moments),
                moment(found.computed_valid_until.get(name)),
            )
            for name, value in sorted(found.computed.items())
        ]
        console.print(table("computed attributes", ("name", "value", "valid until"), rows, (1,)))
    if found.segments:
        memberships: list[Sequence[Any]] = [
            (
                name,
                Text(membership.status, STATUS_STYLE.get(membership.status, "")),
                moment(membership.last_qualification_time),
                moment(membership.valid_until),
            )
            for name, membership in sorted(found.segments.items())
        ]
        columns = ("segment", "status", "last qualification", "valid until")
        console.print(table("segments", columns, memberships))


def flat(document: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested document as dotted paths to leaves."""
    out: dict[str, Any] = {}
    for name, value in document.items():
        if isinstance(value, dict):
            out.update(flat(value, f"{prefix}{name}."))
        else:
            out[prefix + name] = value
    return out


def events(console: Console, page: EventPage, title: str = "events") -> None:
    """A page of events: time and type first, then the fields that any of them has."""
    rows = [flat(event) for event in page.events]
    first = [name for name in ("timestamp", "eventType", "_id") if any(name in r for r in rows)]
    names = first + sorted({name for row in rows for name in row} - set(first))
    cells = [
        [moment(row.get(n)) if n in MOMENT_COLUMNS else cell_text(row.get(n)) for n in names]
        for row in rows
    ]
    right = [
        number
        for number, name in enumerate(names)
        if name not in first and all(isinstance(row.get(name, 0), int | float) for row in rows)
    ]
    console.print(table(title, names, cells, right))


def change(console: Console, one: Change, moments: frozenset[str] = frozenset()) -> None:
    """One line of the change feed."""
    old = "" if one.old is None else f"{one.old} → "
    new = value_text(one.name, one.new, moments)
    console.print(
        f"{moment(one.at)}  {safe(one.identity.namespace)} {safe(one.identity.value)}"
        f"  [bold]{safe(one.name)}[/]  {safe(old)}{safe(new)}  ({one.cause})",
        highlight=False,
        soft_wrap=True,
    )


def preview(console: Console, found: Preview) -> None:
    """How many, as of when, and a table of some."""
    what = "would be members" if found.kind == "segment" else "would have a value"
    console.print(
        f"[bold]{found.count:,}[/] of {found.profiles:,} profiles {what}, as of"
        f" {moment(found.now)}",
        highlight=False,
    )
    if found.kind == "segment":
        rows: list[Sequence[Any]] = [(i.namespace, i.value) for i in found.sample]
        columns: tuple[str, ...] = ("namespace", "value")
    else:
        pairs = zip(found.sample, found.values, strict=True)
        rows = [(i.namespace, i.value, value) for i, value in pairs]
        columns = ("namespace", "identity", "value")
    if rows:
        console.print(table("", columns, rows))


def quarantine(console: Console, rows: Sequence[QuarantineRecord], title: str) -> None:
    """Rejected rows with the reason of each."""
    cells = [(r.source, r.row, r.path, r.reason, r.raw) for r in rows]
    console.print(table(title, ("source", "row", "path", "reason", "raw"), cells, (1,)))


def definitions(console: Console, catalogue: Catalogue) -> None:
    """The catalogue, one table per kind."""
    console.print(f"catalogue version {catalogue.version}")
    spaces = [
        (n.code, n.kind, n.unique, n.priority, ", ".join(n.steps))
        for n in catalogue.namespaces.values()
    ]
    console.print(
        table("namespaces", ("code", "kind", "unique", "priority", "normalize"), spaces, (3,))
    )
    schemas = [(s.name, s.behavior, ", ".join(s.fields)) for s in catalogue.schemas.values()]
    console.print(table("schemas", ("name", "behavior", "fields"), schemas))
    sources = [
        (
            *(d.name, d.schema, ", ".join(f"{f} → {n}" for f, n in d.identities.items())),
            *(_times(d), d.ignore if isinstance(d.ignore, str) else ", ".join(d.ignore)),
            "" if d.retention_days is None else f"{d.retention_days} days",
        )
        for d in catalogue.datasets.values()
    ]
    columns = ("name", "schema", "identities", "timestamp", "ignore", "kept")
    console.print(table("datasets", columns, sources))
    told = (linking_line(catalogue), *relationship_lines(catalogue), *copy_lines(catalogue))
    for line in told:
        console.print(line, highlight=False, soft_wrap=True)
    for title, rules in (
        ("segments", catalogue.segments.values()),
        ("computed attributes", catalogue.computed.values()),
    ):
        rows = [(r.name, r.version, r.state, Text(lines(r.rule)), r.description) for r in rules]
        names = ("name", "version", "state", "rule", "description")
        console.print(table(title, names, rows, (1,)))


def _times(dataset: Dataset) -> str:
    """A dataset's timestamp column and how it is read."""
    given = dataset.timestamp_format
    forms = () if given is None else (given,) if isinstance(given, str) else given
    read = [*map(repr, forms), *filter(None, [dataset.timestamp_unit])]
    return (dataset.timestamp or "") + (f" ({' or '.join(read)})" if read else "")


def warnings(console: Console, texts: Sequence[str]) -> None:
    """What to look at, the first of many."""
    for text in texts[:MAX_WARNINGS]:
        console.print(Text(one_line(f"warning: {text}"), "yellow"), soft_wrap=True)
    if len(texts) > MAX_WARNINGS:
        console.print(f"… and {len(texts) - MAX_WARNINGS} more")


def _places(now: StoreStatus) -> Iterator[Padding]:
    """Where each partition is, in a store over several disks."""
    if any(actor.disk for actor in now.partitions):
        rows = [
            (index, one.disk, one.node or "waiting", one.pid or None, moment(one.since or None))
            for index, one in enumerate(now.partitions)
        ]
        yield table("disks", ("", "disk", "node", "pid", "since"), rows)


def status(console: Console, now: StoreStatus) -> None:
    """The store in one line, then a row per partition, then back-fills and whatever is wrong."""
    console.print(
        f"[bold]{safe(now.path)}[/]  clock {now.clock}  now {moment(now.now)}"
        f"  catalogue {now.catalogue}",
        highlight=False,
    )
    rows: list[Sequence[Any]] = []
    for index, actor in enumerate(now.partitions):
        part = actor.partition
        state = Text("halted", "red") if actor.halted else Text("writing", "green")
        if part is None:
            rows.append([index, state, *[None] * 6])
            continue
        if part.degraded:
            state = Text("degraded", "yellow")
        rows.append(
            [index, state, part.profiles, part.events, part.late, part.lag, part.changes,
             size_text(part.log_bytes + part.feed_bytes)]
        )  # fmt: skip
    # Eight columns: with hundreds of millions of events they still fit into 80 characters.
    columns = ["", "state", "profiles", "events", "late", "lag", "changes", "disk"]
    console.print(table("partitions", columns, rows, range(2, 8)), *_places(now))
    parts = [actor.partition for actor in now.partitions if actor.partition is not None]
    console.print(
        f"log entries {sum(p.position for p in parts):,}"
        f" · memory of state {size_text(sum(p.state_bytes for p in parts))}",
        highlight=False,
    )
    for what, counts in (("in quarantine", now.quarantined), ("repaired since", now.repaired)):
        listed = ", ".join(f"{name} {n:,}" for name, n in sorted(counts.items()) if n)
        if listed or counts is now.quarantined:
            console.print(f"rejected rows {what}: {safe(listed) or 'none'}")
    for line in follower_lines(now):
        console.print(line, highlight=False, soft_wrap=True)
    for note in now.notes:
        console.print(f"[yellow]note[/] {safe(note)}", highlight=False, soft_wrap=True)
    for index, reason in now.halted.items():
        console.print(f"[red]partition {index}[/] {safe(reason)}", highlight=False)
    for part in parts:
        if part.backfill is not None:
            done, of = part.backfill
            console.print(
                f"partition {part.partition} back-fills new rules: {done:,} of {of:,} log entries"
                f" ({done * 100 // max(of, 1)} %)",
                highlight=False,
            )
        if part.slices is not None:
            done, of = part.slices
            console.print(
                f"partition {part.partition} does the clock's work of one instant:"
                f" {done:,} of {of:,} profiles",
                highlight=False,
            )
        elif part.clock_goal is not None:
            console.print(
                f"partition {part.partition} works off what is due up to"
                f" {instant_text(part.clock_goal)}, step by step",
                highlight=False,
            )
    down = {name for part in parts for name in part.degraded}
    if down:
        console.print(f"[yellow]rules without an answer[/] {len(down):,}", highlight=False)
    for index, actor in enumerate(now.partitions):
        for name, reason in (actor.partition.degraded if actor.partition else {}).items():
            text = safe(f"{name}: {reason}")
            console.print(f"[yellow]partition {index}[/] {text}", highlight=False)
        if actor.feed:
            console.print(f"[yellow]partition {index}[/] {safe(actor.feed)}", highlight=False)
        if actor.checkpoint_error:
            text = safe(actor.checkpoint_error)
            console.print(f"[yellow]partition {index}[/] checkpoint: {text}", highlight=False)
