"""The order of events: timestamp, then id, then the row's hash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import xxhash

from profile_actors.rules.semantics.calendar import in_range
from profile_actors.rules.semantics.values import Instant, copied, lift, parse_instant, plain
from profile_actors.rules.tree.faults import Fault


def order_events(
    events: Sequence[Mapping[str, Any]], in_order: bool = False
) -> list[dict[str, Any]]:
    """Copies in order-key order, their timestamps instants: by timestamp, then ``_id``, or without
    one the hash of the canonical document. in_order: equal timestamps stay as they come, since a
    store's order key knows more (dataset, occurrence) than its documents do. Raises Fault."""
    keyed: list[tuple[tuple[int, str], dict[str, Any]]] = []
    for event in events:
        made = copied(event)
        ms = _event_time(made.get("timestamp"))
        made["timestamp"] = Instant(ms)
        name = made.get("_id")
        tie = "" if in_order else _row_hash(made) if name is None else str(name)
        keyed.append(((ms, tie), made))
    keyed.sort(key=lambda pair: pair[0])
    return [made for _, made in keyed]


def _event_time(raw: object) -> int:
    moment = lift(raw)
    if isinstance(moment, str):
        moment = parse_instant(moment)
    ms = moment.ms if isinstance(moment, Instant) else moment
    if not isinstance(ms, int) or isinstance(ms, bool) or in_range(ms) is None:
        raise Fault(
            "expected every event's timestamp as a datetime, ISO-8601 text or ms since 1970,"
            f" got {str(raw)[:60]!r}"
        )
    return ms


def _row_hash(event: dict[str, Any]) -> str:
    row = msgspec.json.encode(plain(event), order="deterministic", enc_hook=str)
    return xxhash.xxh3_128_hexdigest(row)
