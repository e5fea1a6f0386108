"""How long rows of events count: what may be declared, and the cutoffs that follow at an instant.

Theory: a cutoff goes in whole days of the rows' own times, so rows leave once a day at most and all
partitions agree. It never goes back: what has left stays away, whatever is declared later. Records
have none: what they say holds until something newer says otherwise, however long ago it was said.
"""

from __future__ import annotations

from msgspec import structs

from profile_actors.columnar.time_units import DAY_MS
from profile_actors.definitions.declared import Catalogue, Dataset, Schema

MAX_DAYS = 100_000


def retention_problem(dataset: Dataset, schema: Schema) -> str | None:
    """What is wrong with a dataset's retention, or None."""
    days = dataset.retention_days
    if days is None:
        return None
    if schema.behavior != "event":
        return (
            f"expected retention_days of an event dataset alone, got {days} of a {schema.behavior}"
            " dataset, whose rows say what is so until newer ones say otherwise; use delete_record"
        )
    if not 1 <= days <= MAX_DAYS:
        return f"expected retention_days from 1 to {MAX_DAYS}, got {days}"
    return None


def expired(catalogue: Catalogue, now: int) -> Catalogue:
    """The catalogue with the cutoffs of an instant (ms), its version one more; the same object if
    none of them is later than before."""
    today = now // DAY_MS * DAY_MS
    cutoffs = dict(catalogue.expired)
    for name, dataset in catalogue.datasets.items():
        if dataset.retention_days is not None:
            cutoff = today - dataset.retention_days * DAY_MS
            cutoffs[name] = max(cutoffs.get(name, cutoff), cutoff)
    if cutoffs == catalogue.expired:
        return catalogue
    return structs.replace(catalogue, version=catalogue.version + 1, expired=cutoffs)


def has_retention(catalogue: Catalogue) -> bool:
    """Whether rows of any dataset leave by themselves."""
    return any(one.retention_days is not None for one in catalogue.datasets.values())
