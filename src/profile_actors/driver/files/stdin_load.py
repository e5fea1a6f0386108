"""Rows from standard input, or any open stream of bytes: what packed it and its form are seen.

Theory: a stream has no content that could be known before it is read. With a producer its rows are
numbered from 0, so that the same stream given again counts once and a longer one goes on; without
one, each row counts as often as it comes (but for datasets with an ``id``).
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any

from profile_actors.driver.connection import Connection
from profile_actors.driver.files.file_load import UNKNOWN, BlockSender, report_of
from profile_actors.driver.receipts import IngestReport
from profile_actors.driver.repair import progress
from profile_actors.driver.sender import Sender
from profile_actors.errors import SchemaError
from profile_actors.ingest.files.byte_sources import MAGIC_BYTES, Stream, packing_of
from profile_actors.ingest.files.forms import text_blocks
from profile_actors.ingest.files.json_tables import JsonTables

STDIN = "-"


class _Joined(io.RawIOBase):
    """What was read of a stream, then the rest of it."""

    def __init__(self, head: bytes, rest: Any) -> None:
        self._head = head
        self._rest = rest
        self._place = 0

    def readable(self) -> bool:
        return True

    def readinto(self, room: Any) -> int:
        piece = self._head[: len(room)] or self._rest.read(len(room))
        self._head = self._head[len(piece) :]
        room[: len(piece)] = piece
        self._place += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self._place


def ingest_stream(
    connection: Connection,
    sender: Sender,
    dataset: str,
    opened: Any,
    form: str | None,
    producer: str | None,
    on_block: Callable[[int, int], None] = lambda size, rows: None,
) -> IngestReport:
    """Load a stream of CSV or NDJSON to its end. form: by default what begins with ``{`` is NDJSON.

    Raises SchemaError, OSError for a broken stream: what was read before stays.
    """
    sender.check_dataset(dataset, "ingest")
    began = time.perf_counter()
    head = Stream(opened, None, STDIN).read(MAGIC_BYTES)
    packing = packing_of(head)
    source = Stream(_Joined(head, opened), packing, STDIN)
    start = source.read(64)
    source.seek(-len(start), 1)
    form = form or ("ndjson" if start.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{" else "csv")
    if start.startswith(b"PAR1") or form == "parquet":
        raise SchemaError("expected CSV or NDJSON on standard input, got Parquet; name its file")
    catalogue = connection.catalogue
    ignore = catalogue.datasets[dataset].ignore
    blocks = text_blocks(
        source, form, STDIN, connection.config.ingest_block_bytes, JsonTables(catalogue, dataset),
        skip_unnamed=ignore == "*" or "" in tuple(ignore),
    )  # fmt: skip
    sent = BlockSender(connection, sender, dataset, on_block)
    before = UNKNOWN if producer is None else progress(connection, producer)
    sent.send(blocks, producer, producer or STDIN, before)
    if producer is not None:
        sender.forget(producer)
    sent.bytes = source.packed_place()
    one = sent.report(form, packing, time.perf_counter() - began)
    return report_of(STDIN, one, [f"{STDIN}: {text}" for text in sent.done.warnings])
