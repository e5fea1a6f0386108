"""What an edge destination has of each profile: all of its projections together.

Theory: a profile is kept once at a destination, with what any of its projections chose. The *form*
names that choice; with another form a copy begins anew, beside the one that is there.
"""

from __future__ import annotations

from collections.abc import Iterator

import xxhash
from msgspec import structs

from profile_actors.definitions.declared import Catalogue, ProjectionConfiguration, label_of
from profile_actors.engine.reading.fields import Fields, check_kind, fields_of
from profile_actors.errors import CallerError, DefinitionError
from profile_actors.rules.catalogue.merge_views import is_single

NOTHING = "nothing"
"""The form of a destination without projections."""


def check_projections(catalogue: Catalogue) -> None:
    """Whether all that projections choose is there. Raises DefinitionError."""
    for projection in catalogue.projections.values():
        if is_single(catalogue, None):
            raise DefinitionError(
                "expected a default merge policy with stitching 'graph', got one with 'none' - at"
                f" {label_of(projection)}; edges have copies of people"
            )
        try:
            check_kind(fields_of(list(_selectors(projection)), catalogue), catalogue)
        except CallerError as error:
            problem = str(error).replace(" - at fields=", "")
            raise DefinitionError(f"{problem} - at {label_of(projection)}") from None


def chosen(
    catalogue: Catalogue, destination: str, erasures: int = 0
) -> tuple[Fields | None, str] | None:
    """What a destination has, and its form; None if there is no such destination. Without
    projections it has nothing. erasures: how many there were: a copy from before is another one, so
    that nothing is left of who is in it."""
    if destination not in catalogue.destinations:
        return None
    mine = [p for p in catalogue.projections.values() if p.destination == destination]
    if not mine:
        return None, NOTHING
    fields = fields_of([s for one in mine for s in _selectors(one)], catalogue)
    form = xxhash.xxh3_64_hexdigest(repr(fields).encode("utf-8", "surrogatepass"))
    return fields, f"{form}-{erasures}" if erasures else form


def _selectors(projection: ProjectionConfiguration) -> Iterator[str]:
    yield "identities"
    if projection.selector.strip() == "*":
        yield "attributes"
    elif projection.selector.strip():
        yield f"attributes({projection.selector})"
    for part in ("segments", "computed"):
        names = getattr(projection, part)
        if isinstance(names, str):
            yield part
        else:
            yield from (f"{part}.{name}" for name in names)


def differ_in_copies_alone(old: Catalogue, new: Catalogue) -> bool:
    """Whether two versions say the same of profiles, and differ in where copies of them are."""
    same = structs.replace(
        new, version=old.version, destinations=old.destinations, projections=old.projections
    )
    return same == old
