"""Rejected rows taken out to be mended, and given back: each counts once, as the row it was.

Theory: a rejected row has a source and a number there, under which it waits (``driver.repair``). A
mended one is offered under the same producer and number: it is stored if it waits still, and is a
duplicate otherwise. A row that came without a producer has no number that outlives its connection:
it is submitted as a new one by whoever mends it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Any

from msgspec import structs

from profile_actors.driver.arguments import whole_number
from profile_actors.driver.connection import Connection
from profile_actors.driver.files.file_load import SHORT
from profile_actors.driver.receipts import Receipt, summed
from profile_actors.driver.sender import Sender
from profile_actors.driver.streams.numbered_rows import by_row, numbered
from profile_actors.engine.log.sub_batch import ANONYMOUS
from profile_actors.errors import CallerError
from profile_actors.ingest.files.file_contents import FileContent

MENDED = "mended"
"""The name of the mended row in a record."""


def resubmitted(
    connection: Connection, sender: Sender, dataset: str, records: Iterable[Mapping[str, Any]]
) -> Receipt:
    """Offer mended rows. records: ``source`` and ``row`` of quarantine records, and the row itself
    as an object under ``mended``; records without it are left out. Rejected rows of the receipt are
    numbered by these records' order of sources and rows.

    Raises CallerError for a record that names no row, before any is offered.
    """
    sender.check_dataset(dataset, "resubmit")
    wanted = sorted(map(_checked, (r for r in records if _mended(r) is not None)), key=_place)
    groups = [(source, list(rows)) for source, rows in itertools.groupby(wanted, itemgetter(0))]
    producers = {source: _producer(connection, dataset, source) for source, _ in groups}
    receipts, before = [], 0
    for source, rows in groups:
        numbers = [row for _, row, _ in rows]
        block = numbered([row for _, _, row in rows], None, numbers, None)
        producer = producers[source]
        begun = sender.submit(dataset, block, producer, block.first_row, later=False, source=source)
        sender.forget(producer)
        receipt = by_row(begun.result(), block)
        shifted = [(row + before, path, why) for row, path, why in receipt.rejected]
        receipts.append(structs.replace(receipt, rejected=shifted))
        before += len(rows)
    return summed(receipts, connection.config.max_receipt_rejects)


def _mended(record: Any) -> Any:
    if not isinstance(record, Mapping):
        raise CallerError(f"expected records as objects, got {type(record).__name__} - at resubmit")
    return record.get(MENDED)


def _checked(record: Mapping[str, Any]) -> tuple[str, int, Any]:
    source = record.get("source")
    if not isinstance(source, str) or not source:
        raise CallerError(
            f"expected the source of a quarantine record, got {source!r} - at resubmit"
        )
    return source, whole_number(record.get("row"), "row", "resubmit", 0), record[MENDED]


def _place(record: tuple[str, int, Any]) -> tuple[str, int]:
    return record[:2]


def _producer(connection: Connection, dataset: str, source: str) -> str:
    """Whose number a source's rows have: a file's rows are its content's, named in short."""
    name, mark, short = source.rpartition("#")
    if mark and len(short) == SHORT:
        contents: list[FileContent] = connection.coordinator.call("files_of_name", dataset, name)
        found = {c.producer for c in contents if c.producer.startswith(short)}
        if len(found) == 1:
            return found.pop()
    if source.startswith(ANONYMOUS):
        raise CallerError(
            f"expected rows of a file or of a named producer, got source {source!r}, a connection's"
            " own - at resubmit; submit the mended rows as new ones"
        )
    return source
