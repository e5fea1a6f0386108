"""Metrics are what Prometheus' text format asks for, read back by a parser of that format."""

from __future__ import annotations

import re

from msgspec import structs

from profile_actors.actors.actor_status import ActorStatus
from profile_actors.actors.edges.edge_accounts import EdgeStatus
from profile_actors.cli.metrics_text import metrics_text, samples
from profile_actors.driver.receipts import StoreStatus, store_status
from profile_actors.engine.reading.answers import PartitionStatus

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"'
SAMPLE = re.compile(rf"({NAME})\{{({LABEL}(?:,{LABEL})*)?\}} (\S+)")
ESCAPES = {"\\": "\\", '"': '"', "n": "\n"}
ODD = 'odd "name" \\ with\nlines'


def status() -> StoreStatus:
    part = PartitionStatus(
        partition=0, position=7, now=1_760_000_000_123, catalogue=3, profiles=5, events=40,
        records=2, late=1, duplicate=6, changes=9, changes_by_clock=4, lag=0, next_due=None,
        log_bytes=100, feed_bytes=50, state_bytes=25, checkpoint=0, degraded={"segment a": "why"},
    )  # fmt: skip
    actors = [ActorStatus(part, "", 0, "", 1), ActorStatus(None, "CorruptLog: …", 0, "", 2)]
    found = store_status("p", "event", 3, {ODD: (4, 3, 1)}, actors)
    edge = EdgeStatus(
        profiles=5, bytes=4096, is_complete=True, progress=1.0, lag_ms=12, positions=[7, 0],
        lookups=300, expired=2, trouble="", pid=3, path="/e", lag_entries=4,
    )  # fmt: skip
    return structs.replace(found, edges={ODD: edge})


def parsed(text: str) -> dict[tuple[str, str], float]:
    """(name, the labels' values) -> value. Every line must be what the format allows, in order."""
    out: dict[tuple[str, str], float] = {}
    family = kind = ""
    assert text.endswith("\n")
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            family = line.split(" ")[2]
        elif line.startswith("# TYPE "):
            assert line.split(" ")[2] == family
            kind = line.split(" ")[3]
            assert kind in ("counter", "gauge")
        else:
            found = SAMPLE.fullmatch(line)
            assert found is not None, line
            assert found[1] == family
            assert (kind == "counter") == family.endswith("_total")
            values = [value for _, value in re.findall(LABEL, found[2])]
            plain = [re.sub(r"\\(.)", lambda m: ESCAPES[m[1]], value) for value in values]
            key = (family, ",".join(plain))
            assert key not in out
            out[key] = float(found[len(found.groups())])
    return out


def test_the_page_is_well_formed_and_says_what_the_status_says() -> None:
    found = parsed(metrics_text(status()))
    assert found["profile_actors_events_total", "0"] == 40
    assert found["profile_actors_now_seconds", "0"] == 1_760_000_000.123
    assert found["profile_actors_partition_writing", "0"] == 1
    assert found["profile_actors_partition_writing", "1"] == 0  # and nothing else is known of it
    assert ("profile_actors_events_total", "1") not in found
    assert found["profile_actors_degraded_rules", "0"] == 1
    assert found["profile_actors_rejected_rows_total", ODD] == 4
    assert found["profile_actors_quarantined_rows", ODD] == 3
    assert found["profile_actors_repaired_rows_total", ODD] == 1
    edge = {name: value for (name, label), value in found.items() if "_edge_" in name}
    assert edge == {
        "profile_actors_edge_profiles": 5,
        "profile_actors_edge_bytes": 4096,
        "profile_actors_edge_complete": 1,
        "profile_actors_edge_lag_milliseconds": 12,
        "profile_actors_edge_lag_entries": 4,
        "profile_actors_edge_lookups_total": 300,
        "profile_actors_edge_expired_total": 2,
    }
    assert found["profile_actors_edge_profiles", ODD] == 5
    assert len(found) == sum(len(values) for *_, values in samples(status()))
