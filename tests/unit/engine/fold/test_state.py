"""Where the bytes of a state go: every kind is counted, and grows with what it is for."""

from __future__ import annotations

from tests.model.hub import BASE, HOUR, Hub


def test_bytes_by_kind_add_up_and_say_which_part_grew() -> None:
    hub = Hub()
    (partition,) = hub.partitions
    empty = partition.status()
    rows = [
        {"who": f"w{i}", "at": BASE + i, "_id": f"e{i}", "kind": "buy", "n": i, "x": 0.5}
        for i in range(200)
    ]
    hub.submit([("hits", "p", rows)], BASE + HOUR)
    some = partition.status()
    assert sum(some.state_by_kind.values()) - some.state_by_kind["log_index"] == some.state_bytes
    grown = {kind for kind, size in some.state_by_kind.items() if size > empty.state_by_kind[kind]}
    assert grown >= {"identities", "instants", "levels", "aggregates", "lines", "log_index"}
    levels = sum(gauge.level.itemsize for gauge in partition.state.book.gauges)
    assert some.state_by_kind["levels"] == 200 * levels
    assert some.state_by_kind["log_index"] == 200 * 16
    partition.advance(BASE + 40 * 24 * HOUR)
    late = partition.status()
    assert late.state_by_kind["lines"] < some.state_by_kind["lines"]
