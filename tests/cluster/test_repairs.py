"""Rows that were rejected are offered again once the definitions have been put right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import profile_actors as pf
from tests.cluster.shop import order, orders, shop

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_runtime")]


def with_coupon() -> pf.Schema:
    """The shop's schema, grown by the field that some rows have."""
    price = pf.Field("double", minimum=0)
    return pf.Schema(
        "order", behavior="event", fields={"price": price, "sku": "string", "coupon": "string"}
    )


def rows_with(count: int, every: int = 2) -> list[dict[str, Any]]:
    """Orders, of which each ``every``-th has a coupon."""
    return [
        row | ({"coupon": f"k{n}"} if n % every == 0 else {}) for n, row in enumerate(orders(count))
    ]


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    names = ["_id", "customer", "at", "price", "sku", "coupon"]
    lines = [",".join(names)]
    lines += [",".join(str(row.get(name, "")) for name in names) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_file_is_repaired_by_a_field_and_loading_it_again(tmp_path: Path) -> None:
    file = written(tmp_path / "orders.csv", rows_with(3000))
    config = pf.Config(ingest_block_bytes=20_000)
    with pf.start(tmp_path / "s", 1, "event", config) as store:
        store.apply(*shop())
        first = store.ingest("orders", file)
        assert (first.accepted, first.duplicate, first.rejected_count) == (1500, 0, 1500)
        # Nothing has changed: what was rejected is judged again, and called what it is.
        again = store.ingest("orders", file)
        assert (again.accepted, again.duplicate, again.rejected_count) == (0, 1500, 1500)
        assert store.status().rejected == {"orders": 1500}
        store.apply(with_coupon())
        mended = store.ingest("orders", file)
        assert (mended.accepted, mended.duplicate, mended.rejected_count) == (1500, 1500, 0)
        assert store.quarantine("orders") == []
        status = store.status()
        assert (status.events, status.rejected["orders"]) == (3000, 1500)
        assert (status.quarantined["orders"], status.repaired["orders"]) == (0, 1500)
        assert store.verify() == []
    with pf.start(tmp_path / "s") as store:
        last = store.ingest("orders", file)
        assert (last.accepted, last.duplicate, last.rejected_count) == (0, 3000, 0)
        assert store.status().events == 3000


def test_rows_are_put_right_in_the_file_itself(tmp_path: Path) -> None:
    """Without an id: what was accepted counts once, what was rejected is accepted once."""
    file = tmp_path / "hits.csv"
    lines = [f"c{n % 7},{'soon' if n % 3 == 1 else 1_700_000_000_000 + n},{n}" for n in range(30)]

    def write(lines: list[str], end: str = "\n") -> None:
        file.write_text("\n".join(["customer,at,price", *lines]) + end)

    write(lines, "")
    with pf.start(tmp_path / "s", 2, "event") as store:
        store.apply(*shop())
        store.apply(pf.Dataset("plain", "order", {"customer": "CRMID"}, timestamp="at"))
        first = store.ingest("plain", file)
        assert (first.accepted, first.rejected_count) == (20, 10)
        lines = [line.replace("soon", "1700000000001") if n < 20 else line
                 for n, line in enumerate(lines)]  # fmt: skip
        write(lines)
        some = store.ingest("plain", file)
        assert (some.accepted, some.duplicate, some.rejected_count) == (7, 20, 3)
        assert {row.row for row in store.quarantine("plain")} == {22, 25, 28}
        lines = [line.replace("soon", "1700000000002") for line in lines]
        write([*lines, "c1,1700000000003,9"])
        rest = store.ingest("plain", file)
        assert (rest.accepted, rest.duplicate, rest.rejected_count) == (4, 27, 0)
        assert (some.warnings, rest.warnings, store.quarantine("plain")) == ([], [], [])
        again = store.ingest("plain", file)
        assert (again.accepted, again.duplicate) == (0, 31)
        status = store.status()
        assert (status.events, status.repaired["plain"]) == (31, 10)
        assert store.verify() == []


def by_offset(store: pf.Store, rows: list[dict[str, Any]]) -> list[pf.Receipt]:
    return [store.submit("orders", rows, producer="loader", offset=0)]


def cut_anyhow(store: pf.Store, rows: list[dict[str, Any]]) -> list[pf.Receipt]:
    pending = [
        store.submit_async("orders", rows[at : at + 7], producer="loader", offset=at)
        for at in range(0, len(rows), 7)
    ]
    return [future.result() for future in pending]


@pytest.mark.parametrize("again", [by_offset, cut_anyhow])
def test_rows_that_their_caller_numbers_are_repaired(
    tmp_path: Path, again: Callable[[pf.Store, list[dict[str, Any]]], list[pf.Receipt]]
) -> None:
    rows = rows_with(40)
    with pf.start(tmp_path / "s", 1, "event") as store:
        store.apply(*shop())
        receipt = store.submit("orders", rows, producer="loader", offset=0)
        assert (receipt.accepted, receipt.duplicate, receipt.rejected_count) == (20, 0, 20)
        assert {r.source for r in store.quarantine("orders")} == {"loader"}
        store.apply(with_coupon())
        for accepted in (20, 0):
            found = again(store, rows)
            assert sum(r.accepted for r in found) == accepted
            assert sum(r.duplicate for r in found) == 40 - accepted
            assert sum(r.rejected_count for r in found) == 0
        # The stream goes on, a row that is wrong still is refused and can be mended by hand.
        bad = order(900, 1) | {"price": -1.0}
        assert store.submit("orders", [bad], producer="loader", offset=40).rejected_count == 1
        assert store.submit("orders", [bad], producer="loader", offset=40).rejected_count == 1
        assert [r.row for r in store.quarantine("orders")] == [40]
        good = order(901, 2)  # about somebody else, whom another partition may own
        assert store.submit("orders", [good], producer="loader", offset=40).accepted == 1
        assert store.submit("orders", [order(902, 3)], "loader", 40).duplicate == 1
        assert store.quarantine("orders") == []
        assert store.status().events == 41
        assert store.verify() == []


def test_rows_that_were_appended_are_repaired_by_their_offset(tmp_path: Path) -> None:
    rows = rows_with(20, every=1)
    with pf.start(tmp_path / "s", 1, "event") as store:
        store.apply(*shop())
        assert store.submit("orders", rows, producer="feed").rejected_count == 20
        assert store.cursor("feed") == 20
        store.apply(with_coupon())
        assert store.submit("orders", rows, producer="feed", offset=0).accepted == 20
        assert store.quarantine("orders") == []


def test_a_reject_whose_record_was_dropped_is_named_and_never_a_duplicate(tmp_path: Path) -> None:
    file = written(tmp_path / "orders.csv", rows_with(20, every=1))
    with pf.start(tmp_path / "s", 1, "event", pf.Config(max_quarantine_rows=5)) as store:
        store.apply(*shop())
        assert store.ingest("orders", file).rejected_count == 20
        store.apply(with_coupon())
        for accepted, duplicate in ((5, 0), (0, 5)):
            report = store.ingest("orders", file)
            assert (report.accepted, report.duplicate) == (accepted, duplicate)
            assert report.rejected_count == 15
        assert store.status().events == 5
        rows = rows_with(20, every=1)
        receipt = store.submit("orders", [r | {"price": -1} for r in rows], "loader", 0)
        assert receipt.rejected_count == 20
        receipt = store.submit("orders", rows, "loader", 0)
        assert receipt.accepted + receipt.duplicate == 5
        assert receipt.rejected_count == 15
        told = "dropped at Config.max_quarantine_rows or max_quarantine_bytes"
        assert all(told in reason for _, _, reason in receipt.rejected)
        assert all("can no longer be repaired" in reason for _, _, reason in receipt.rejected)
