"""Who follows what changes, and where copies are, in lines for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec
from rich.text import Text

from profile_actors.definitions.declared import label_of
from profile_actors.driver.terminal import one_line

if TYPE_CHECKING:
    from profile_actors.actors.actor_status import Standing
    from profile_actors.actors.edges.edge_accounts import EdgeStatus
    from profile_actors.definitions.declared import (
        Catalogue,
        EdgeDestination,
        ProjectionConfiguration,
    )
    from profile_actors.driver.receipts import StoreStatus


def follower_lines(now: StoreStatus) -> Iterator[Text]:
    """The named readers of the change feed, the edges, standbys, and damaged disks."""
    for name, one in now.consumers.items():
        yield Text(one_line(f"consumer {name}: {one.behind:,} log entries behind"))
    for name, edge in now.edges.items():
        yield from edge_lines(name, edge)
    for number, actor in enumerate(now.partitions):
        yield from standby_lines(f"partition {number}", actor.standby)
        for fault in actor.scrub.faults:
            yield Text(one_line(f"damage of partition {number}: {fault}"), "red")
        if actor.compaction.error:
            text = f"partition {number} is not compacted: {actor.compaction.error}"
            yield Text(one_line(text), "yellow")
    yield from people_lines(now)


def standby_lines(who: str, standby: Standing | None) -> Iterator[Text]:
    """How the second copy of a log stands, where there is one."""
    if standby is not None:
        how = f"{standby.state}{', async' if standby.is_async else ''}"
        yield Text(
            one_line(f"standby of {who}: {how} · {standby.lag_entries:,} log entries behind"),
            "" if standby.is_in_sync or standby.is_async else "yellow",
        )


def people_lines(now: StoreStatus) -> Iterator[Text]:
    """The ledger of links, messages that are on their way, and the erasure that goes on."""
    erasure = now.erasure
    if erasure is not None:
        yield Text(one_line(
            f"erasure {erasure.number} goes on: of {erasure.holders} logs {erasure.standing} stand"
            f" still, {erasure.done} are done, {erasure.rows:,} rows taken out"
        ))  # fmt: skip
    if now.ledger is not None:
        one = now.ledger.ledger
        if one is not None:
            skipped = ", ".join(f"{rule} {n:,}" for rule, n in sorted(one.skipped.items()))
            yield Text(one_line(
                f"ledger: {one.links:,} links of {one.identities:,} identities · {one.people:,}"
                f" people of several · skipped by rule: {skipped or 'none'} ·"
                f" not shown yet: {one.unpublished:,}"
            ))  # fmt: skip
            if one.tried is not None:
                done, every = one.tried
                yield Text(f"dry run of linking rules: {done:,} of {every:,} facts judged")
        yield from standby_lines("the ledger", now.ledger.standby)
        for fault in now.ledger.scrub.faults:
            yield Text(one_line(f"damage of the ledger: {fault}"), "red")
        if now.ledger.halted:
            yield Text(one_line(f"ledger: {now.ledger.halted}"), "red")
    for route, told in sorted(now.outbox.items()):
        why = f": {told.error}" if told.error else ""
        yield Text(one_line(
            f"on the way {route}: {told.depth:,} messages, for {told.age_ms:,} ms{why}"
        ), "yellow" if why else "")  # fmt: skip


def edge_lines(name: str, one: EdgeStatus) -> Iterator[Text]:
    """How an edge is, in a line or two."""
    state = "follows" if one.is_complete else f"copies: {100 * one.progress:.0f} %"
    yield Text(one_line(
        f"edge {name}: {state} · {one.profiles:,} profiles · {one.bytes:,} bytes · behind by"
        f" {one.lag_entries:,} log entries, {one.lag_ms:,} ms · {one.lookups:,} look-ups"
    ))  # fmt: skip
    if one.trouble:
        yield Text(one_line(f"edge {name}: {one.trouble}"), "yellow")


def quoted(text: str) -> str:
    """A text among others: an empty one is seen, and nothing in it is changed."""
    return f"'{text}'"


def linking_line(catalogue: Catalogue) -> Text:
    """When identities are not taken for one person."""
    rules = catalogue.linking
    return Text(one_line(
        f"{label_of(rules)}: max_size {rules.max_size:,}, max_people {rules.max_people:,},"
        f" placeholders {', '.join(map(quoted, rules.placeholders)) or 'none'}"
        f"{'' if catalogue.linking_rules else ' (by default)'}"
    ))  # fmt: skip


def relationship_lines(catalogue: Catalogue) -> Iterator[Text]:
    """Which fields name which things."""
    for one in catalogue.relationships.values():
        what = f"{one.schema} {one.field} → {one.target}, read as {one.name}"
        yield Text(one_line(f"relationship: {what} (version {one.version})"))


def copy_lines(catalogue: Catalogue) -> Iterator[Text]:
    """The edge destinations and projections of a catalogue."""
    items: list[EdgeDestination | ProjectionConfiguration] = [
        *catalogue.destinations.values(),
        *catalogue.projections.values(),
    ]
    for item in items:
        said = {k: v for k, v in msgspec.structs.asdict(item).items() if k != "name" and v}
        text = ", ".join(f"{name} {value}" for name, value in said.items())
        yield Text(one_line(f"{label_of(item)}: {text}"))
