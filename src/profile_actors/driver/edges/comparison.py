"""Whether an edge says what the hub says: profile by profile, in all that its projections chose.

Theory: hub and edge move on while they are compared. So what differs is looked at again, until it
is the same or has been different since the edge had everything up to there; only then it is told.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from profile_actors.driver.connection import LOOK_UPS_PER_CALL, Connection
from profile_actors.driver.edges.remote_edge import Edge
from profile_actors.engine.edges.edge_rows import EdgeProfile, packed_keys
from profile_actors.engine.edges.projections import chosen
from profile_actors.engine.reading.answers import Profile
from profile_actors.engine.reading.fields import Fields
from profile_actors.errors import StoreUnavailable

LOOKS = 20


PAUSE_S = 0.25
"""Between looks at what differs, and how often: an edge catches up within."""


MAX_DIFFERENCES = 100


MAX_SUSPECTS = 10 * MAX_DIFFERENCES
"""So many are looked at again before others are looked at."""


def differences(connection: Connection, edge: Edge) -> list[str]:
    """What differs, in sentences that name the profiles; [] if nothing does. Cost: some 100 us a
    profile, of all that the store has."""
    found = chosen(connection.coordinator.call("catalogue"), edge.name)
    if found is None or found[0] is None:
        return []
    fields, said = found[0], connection.coordinator.call("catalogue").destinations[edge.name]
    is_partial = said.ttl_s is not None or said.policy == "reactive"
    try:
        edge.wait()  # one that still copies differs everywhere
    except StoreUnavailable as error:
        return [f"edge {edge.name!r}: not compared: {error}"]
    suspects: dict[bytes, str] = {}
    for keys in _pages(connection, edge, is_partial):
        suspects |= _differing(connection, edge, fields, keys, is_partial)
        if len(suspects) >= MAX_SUSPECTS:
            suspects = _lasting(connection, edge, fields, suspects, is_partial)
            if len(suspects) >= MAX_DIFFERENCES:
                return list(suspects.values())[:MAX_DIFFERENCES]
    suspects = _lasting(connection, edge, fields, suspects, is_partial)
    return list(suspects.values())[:MAX_DIFFERENCES]


def _lasting(
    connection: Connection,
    edge: Edge,
    fields: Fields,
    suspects: dict[bytes, str],
    is_partial: bool,
) -> dict[bytes, str]:
    """Of what differed, what still does after some looks."""
    for _ in range(LOOKS):
        if not suspects:
            break
        time.sleep(PAUSE_S)
        keys = list(suspects)
        suspects = {}
        for first in range(0, len(keys), LOOK_UPS_PER_CALL):
            page = keys[first : first + LOOK_UPS_PER_CALL]
            suspects |= _differing(connection, edge, fields, page, is_partial)
    return suspects


def _pages(connection: Connection, edge: Edge, is_partial: bool) -> Iterator[list[bytes]]:
    """The keys of all profiles: the hub's, then those of the edge."""
    if not is_partial:  # else the edge need not have all of them
        for partition in range(len(connection.partitions)):
            after = -1
            while True:
                begun = after
                data, after = connection.read(partition, "profile_keys", begun, LOOK_UPS_PER_CALL)
                if after <= begun:
                    break
                yield packed_keys(np.frombuffer(data, np.uint64))
    yield from edge.keys()


def _differing(
    connection: Connection, edge: Edge, fields: Fields, keys: list[bytes], is_partial: bool
) -> dict[bytes, str]:
    joined = b"".join(keys)
    asked = np.frombuffer(joined, np.uint64).reshape(-1, 2)
    theirs = edge.by_keys(joined)
    ours = connection.profiles_of_keys(asked, fields)
    out = {}
    for key, hub, copied in zip(keys, ours, theirs, strict=True):
        if copied is None and (hub is None or is_partial):
            continue
        what = _difference(hub, copied)
        if what:
            of = hub or copied
            named = of.identities if of is not None else []
            who = f"{named[0].namespace} {named[0].value}" if named else key.hex()
            out[key] = f"edge {edge.name!r}: {who}: {what}"
    return out


def _difference(hub: Profile | None, copied: EdgeProfile | None) -> str:
    """How they differ, in what is not stale; empty if they do not."""
    if hub is None or copied is None:
        return f"expected {'no profile' if hub is None else 'a profile'}, got the opposite"
    now = copied.now
    for name in ("identities", "attributes", "last_modified", "pending"):
        mine, wanted = getattr(copied, name), getattr(hub, name)
        if repr(mine) != repr(wanted):
            return f"expected {name} {wanted!r}, got {mine!r}"
    if (
        copied.segments.keys() != hub.segments.keys()
        or copied.computed.keys() != hub.computed.keys()
    ):
        return f"expected {sorted((*hub.segments, *hub.computed))}, got other names"
    for name, one in copied.segments.items():
        wanted = hub.segments[name]
        if one != wanted and not (copied.stale and one.valid_until is None):
            return f"expected segment {name!r} {wanted!r}, got {one!r}"
    for name, value in copied.computed.items():
        until = copied.computed_valid_until[name]
        if (until is None or until > max(now, hub.now)) and repr(value) != repr(hub.computed[name]):
            return f"expected computed {name!r} {hub.computed[name]!r}, got {value!r}"
    return ""
