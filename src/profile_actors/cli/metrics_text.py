"""A store's status as Prometheus reads it: text exposition format 0.0.4, without a package.

Names end in their unit; what only ever grows ends in ``_total``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from profile_actors.driver.receipts import StoreStatus


class Sample(NamedTuple):
    """One value."""

    name: str
    labels: dict[str, str]
    value: float


PREFIX = "profile_actors_"


# Of a partition: (name, type, field of its status, help).
PARTITION_FAMILIES = (
    ("log_entries_total", "counter", "position", "Entries of the partition's log."),
    ("profiles", "gauge", "profiles", "Profiles."),
    ("events_total", "counter", "events", "Events that were accepted."),
    ("records_total", "counter", "records", "Records that were accepted."),
    ("late_events_total", "counter", "late", "Events older than what was folded for a profile."),
    ("duplicate_rows_total", "counter", "duplicate", "Rows that were there already."),
    ("expired_rows_total", "counter", "expired", "Events that have left by retention."),
    ("changes_total", "counter", "changes", "Changes of memberships and computed attributes."),
    ("clock_changes_total", "counter", "changes_by_clock", "Of those, by the passing of time."),
    ("lag_entries", "gauge", "lag", "Entries not yet folded, and sub-batches queued."),
    ("log_bytes", "gauge", "log_bytes", "The log on disk."),
    ("feed_bytes", "gauge", "feed_bytes", "The change feed on disk."),
    ("state_bytes", "gauge", "state_bytes", "Memory of what is kept per profile."),
    ("catalogue_version", "gauge", "catalogue", "Version of the definitions in force."),
)


DATASET_FAMILIES = (
    ("rejected_rows_total", "counter", "rejected", "Rows that were ever rejected."),
    ("quarantined_rows", "gauge", "quarantined", "Of those, kept in the quarantine."),
    ("repaired_rows_total", "counter", "repaired", "Of those, offered again and stored."),
)


# Of the standby of a partition, or of the ledger, likewise.
STANDBY_FAMILIES = (
    ("standby_in_sync", "gauge", "is_in_sync", "1 if nothing is acknowledged without it, else 0."),
    ("standby_lag_entries", "gauge", "lag_entries", "Log entries that it does not have yet."),
)


# Of a pass over a partition's disk, likewise.
SCRUB_FAMILIES = (
    ("scrub_damaged", "gauge", "damaged", "Log entries and files on disk that are damaged."),
    ("scrub_mended_total", "counter", "mended", "Log entries fetched from another copy."),
    ("scrub_bytes_total", "counter", "bytes", "Bytes compared with their checksums."),
)


# Of a partition's compaction, likewise.
COMPACTION_FAMILIES = (
    ("compacted_entries_total", "counter", "entries", "Log entries put together."),
    ("compaction_waiting_entries", "gauge", "waiting", "Small log entries that wait for it."),
)


# Of an edge, likewise.
EDGE_FAMILIES = (
    ("edge_profiles", "gauge", "profiles", "Profiles that an edge has."),
    ("edge_bytes", "gauge", "bytes", "Its files on disk."),
    ("edge_complete", "gauge", "is_complete", "1 once it has had everything, else 0."),
    ("edge_lag_milliseconds", "gauge", "lag_ms", "How long ago it last knew it had everything."),
    ("edge_lag_entries", "gauge", "lag_entries", "Log entries that it does not have yet."),
    ("edge_lookups_total", "counter", "lookups", "Profiles that it was asked for."),
    ("edge_expired_total", "counter", "expired", "Profiles that left since nobody asked."),
)


# Of the ledger, likewise.
LEDGER_FAMILIES = (
    ("links", "gauge", "links", "Pairs of identities that there is evidence of."),
    ("linked_identities", "gauge", "identities", "Identities that evidence names."),
    ("linked_people", "gauge", "people", "People of two identities or more."),
    ("unsettled_people", "gauge", "unpublished", "People who are not shown yet as they are."),
    ("ledger_bytes", "gauge", "log_bytes", "The ledger's log on disk."),
)


# Of the messages from one to another, likewise.
OUTBOX_FAMILIES = (
    ("outbox_messages", "gauge", "depth", "Messages that are not acknowledged."),
    ("outbox_age_milliseconds", "gauge", "age_ms", "For how long none of them was."),
)


def samples(now: StoreStatus) -> Iterator[tuple[str, str, str, list[Sample]]]:
    """Families: full name, type, help, and their values."""
    numbers = range(len(now.partitions))
    places = [{"partition": str(number)} for number in numbers]
    writing = [float(not actor.halted) for actor in now.partitions]
    name = PREFIX + "partition_writing"
    text = "1 if the partition takes rows, 0 if it has halted."
    yield name, "gauge", text, [Sample(name, *one) for one in zip(places, writing, strict=True)]
    parts = [(place, a.partition) for place, a in zip(places, now.partitions, strict=True)]
    known = [(place, part) for place, part in parts if part is not None]
    for short, kind, field, text in PARTITION_FAMILIES:
        name = PREFIX + short
        found = [Sample(name, place, float(getattr(part, field))) for place, part in known]
        yield name, kind, text, found
    name, text = PREFIX + "now_seconds", "The partition's now, seconds since 1970."
    clocks = [(place, part.now) for place, part in known]
    found = [Sample(name, place, at / 1000) for place, at in clocks if at is not None]
    yield name, "gauge", text, found
    name, text = PREFIX + "degraded_rules", "Rules without an answer."
    found = [Sample(name, place, float(len(part.degraded))) for place, part in known]
    yield name, "gauge", text, found
    for short, kind, field, text in DATASET_FAMILIES:
        name = PREFIX + short
        counts: dict[str, int] = getattr(now, field)
        found = [Sample(name, {"dataset": key}, float(n)) for key, n in sorted(counts.items())]
        yield name, kind, text, found
    standbys = [(place, a.standby) for place, a in zip(places, now.partitions, strict=True)]
    if now.ledger is not None:
        standbys.append(({"partition": "ledger"}, now.ledger.standby))
    copied = [(place, one) for place, one in standbys if one is not None]
    for short, kind, field, text in STANDBY_FAMILIES if copied else ():
        name = PREFIX + short
        found = [Sample(name, place, float(getattr(one, field))) for place, one in copied]
        yield name, kind, text, found
    scrubs = [(place, a.scrub) for place, a in zip(places, now.partitions, strict=True)]
    for short, kind, field, text in SCRUB_FAMILIES:
        name = PREFIX + short
        yield name, kind, text, [Sample(name, at, float(getattr(one, field))) for at, one in scrubs]
    for short, kind, field, text in COMPACTION_FAMILIES:
        name = PREFIX + short
        each = [(at, a.compaction) for at, a in zip(places, now.partitions, strict=True)]
        yield name, kind, text, [Sample(name, at, float(getattr(one, field))) for at, one in each]
    name, text = PREFIX + "scrub_finished_seconds", "When all was last read, seconds since 1970."
    ends = [(at, one.finished) for at, one in scrubs]
    yield name, "gauge", text, [Sample(name, at, end / 1000) for at, end in ends if end is not None]
    for short, kind, field, text in EDGE_FAMILIES if now.edges else ():
        name = PREFIX + short
        every = now.edges.items()
        found = [Sample(name, {"edge": key}, float(getattr(one, field))) for key, one in every]
        yield name, kind, text, found
    ledger = None if now.ledger is None else now.ledger.ledger
    for short, kind, field, text in LEDGER_FAMILIES if ledger is not None else ():
        name = PREFIX + short
        yield name, kind, text, [Sample(name, {}, float(getattr(ledger, field)))]
    for short, kind, field, text in OUTBOX_FAMILIES if ledger is not None else ():
        name = PREFIX + short
        routes = now.outbox.items()
        found = [Sample(name, {"route": key}, float(getattr(one, field))) for key, one in routes]
        yield name, kind, text, found


def metrics_text(now: StoreStatus) -> str:
    """The whole page."""
    lines: list[str] = []
    for name, kind, text, found in samples(now):
        lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
        for one in found:
            labels = ",".join(f'{key}="{_escaped(value)}"' for key, value in one.labels.items())
            lines.append(f"{one.name}{{{labels}}} {one.value!r}")
    return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    # Source: Prometheus text format 0.0.4: a label's value escapes these three, and nothing else.
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
