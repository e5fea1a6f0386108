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
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from profile_actors.driver.arguments import whole_number
from profile_actors.driver.connection import Connection
from profile_actors.driver.files.file_load import SHORT
from profile_actors.driver.files.whole_files import check_place, is_there, whole_file
from profile_actors.driver.receipts import Receipt, summed
from profile_actors.driver.repair import progress
from profile_actors.driver.sender import Sender
from profile_actors.driver.streams.numbered_rows import by_row, numbered
from profile_actors.engine.log.sub_batch import ANONYMOUS
from profile_actors.errors import CallerError
from profile_actors.ingest.files.file_contents import FileContent
from profile_actors.ingest.rejects import QuarantineRecord

MENDED = "mended"
"""The name of the mended row in a record."""


def resubmitted(
    connection: Connection, sender: Sender, dataset: str, records: Iterable[Mapping[str, Any]]
) -> Receipt:
    """Offer mended rows. records: ``source`` and ``row`` of quarantine records, and the row itself
    as an object under ``mended``; records without it are left out. Rejected rows of the receipt are
    numbered by these records' order of sources and rows.

    Raises CallerError for a record that names no row, or one that the store has not come to, and
    for two records of one row, before any is offered.
    """
    sender.check_dataset(dataset, "resubmit")
    wanted = sorted(map(_checked, (r for r in records if _mended(r) is not None)), key=_place)
    _check_once(wanted)
    groups = [(source, list(rows)) for source, rows in itertools.groupby(wanted, itemgetter(0))]
    producers = {source: _producer(connection, dataset, source) for source, _ in groups}
    for source, rows in groups:
        _check_reached(source, rows[-1][1], progress(connection, producers[source]).cursor)
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


def written_out(records: Iterable[QuarantineRecord], name: str, data: str | Path, at: str) -> None:
    """Write quarantine records as NDJSON to a path or a URI where nothing is yet: a file that is
    there may be somebody's mending. data: the store's directory. Raises CallerError, OSError."""
    check_place(name, data, at)
    if is_there(name):
        raise CallerError(f"expected a file that is not there yet, got {name!r} - at {at}")
    with whole_file(name) as out:
        out.write(msgspec.json.Encoder().encode_lines(records))


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


def _check_once(wanted: list[tuple[str, int, Any]]) -> None:
    for one, other in itertools.pairwise(map(_place, wanted)):
        if one == other:
            raise CallerError(
                f"expected each row once, got row {one[1]} of {one[0]!r} twice - at resubmit"
            )


def _check_reached(source: str, last: int, cursor: int) -> None:
    """Rows are rejected before their neighbours are sent: a driver that dies in between leaves
    records ahead of its cursor, and to offer one of those would pass over what was never sent."""
    if last >= cursor:
        raise CallerError(
            f"expected a row that the store has come to, got row {last} of {source!r}, of which it"
            f" has those before {cursor} - at resubmit; load the source to its end first"
        )


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
