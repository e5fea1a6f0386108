"""What a log said at an earlier instant: how many entries it had, and which definitions were in
force.

Theory: the clock of a log's entries never goes back, and neither does the version of definitions
that each names; so both are found by halving. Cost: some twenty envelopes.
"""

from __future__ import annotations

from collections.abc import Callable

from profile_actors.definitions import catalogue_changes
from profile_actors.definitions.declared import Catalogue
from profile_actors.engine.log.entry import Envelope, read_envelope
from profile_actors.engine.log.ports import Log


def entries_until(log: Log, entries: int, at: int) -> int:
    """How many of the first entries a log had when its clock stood at an instant (ms), all of that
    instant included."""
    return _first(log, entries, lambda envelope: envelope.now > at)


def definitions_at(log: Log, entries: int) -> bytes:
    """The definitions in force when a partition's log had so many entries, as it keeps them."""
    version = version_at(log, entries)
    if not version:
        return catalogue_changes.encode(Catalogue())
    place = _first(log, entries, lambda envelope: envelope.catalogue >= version)
    return envelope_at(log, place).definition


def version_at(log: Log, entries: int) -> int:
    """The version of the definitions in force then; 0 before the first."""
    return envelope_at(log, entries - 1).catalogue if entries else 0


def envelope_at(log: Log, position: int) -> Envelope:
    """The envelope of an entry. Raises CorruptLog."""
    with log.view(position) as view:
        return read_envelope(view, f"position {position}")[0]


def _first(log: Log, entries: int, holds: Callable[[Envelope], bool]) -> int:
    """The first of the entries of which something holds that holds of all later ones."""
    low, high = 0, entries
    while low < high:
        middle = (low + high) // 2
        if holds(envelope_at(log, middle)):
            high = middle
        else:
            low = middle + 1
    return low
