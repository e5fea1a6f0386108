"""Datasets of Ray Data into the store, and profiles as one (extra ``data``).

Theory, in: a Dataset is worked out by Ray, and its blocks are taken here one after the other, as an
Arrow table's rows are. With a producer its rows are numbered from 0, for which its blocks must come
in the order of its sources: that is asked of Ray for this pass. What Ray works out twice, after a
worker's death, comes here once.

Out: who is in it is fixed as of a scan (``driver.iterators``), as slots. Tasks of the cluster then
ask the partitions for their profiles, and what they make of them stays in Ray's object store: the
driver has the slots alone, four bytes a profile.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import ray
from ray.exceptions import RayTaskError

from profile_actors.actors.calls import Remote, Session
from profile_actors.config import Config
from profile_actors.definitions.declared import Catalogue
from profile_actors.driver.connection import Connection, Selectors
from profile_actors.driver.files.exports import GROUP_ROWS, PAGE_ROWS
from profile_actors.driver.files.file_load import UNKNOWN, BlockSender, report_of
from profile_actors.driver.iterators import scan_slots
from profile_actors.driver.receipts import IngestReport
from profile_actors.driver.repair import progress
from profile_actors.driver.sender import Sender
from profile_actors.engine.reading.fields import Fields
from profile_actors.engine.reading.scans import ScanColumns
from profile_actors.errors import ConfigError, ProfileActorsError
from profile_actors.ingest.files.parquet_blocks import MAX_ROWS
from profile_actors.ingest.row_blocks import RowBlock

FORM = "ray.data"


def is_dataset(given: object) -> bool:
    """Whether it is one of Ray Data; whoever has one has imported that."""
    known = sys.modules.get("ray.data")
    return known is not None and isinstance(given, known.Dataset)


def ingest_dataset(
    connection: Connection, sender: Sender, dataset: str, given: Any, producer: str | None
) -> IngestReport:
    """Take the rows of a Dataset of Ray Data, and wait until they are durable and folded.

    Raises what the Dataset raises where it cannot be worked out: what came before stays.
    """
    sender.check_dataset(dataset, "ingest")
    began = time.perf_counter()
    sent = BlockSender(connection, sender, dataset, lambda size, rows: None)
    name = producer or FORM
    before = UNKNOWN if producer is None else progress(connection, producer)
    try:
        with _in_order(given, producer is not None):
            sent.send(_blocks(given, connection.config), producer, name, before)
    finally:
        if producer is not None:
            sender.forget(producer)
    one = sent.report(FORM, None, time.perf_counter() - began)
    return report_of(name, one, [f"{name}: {text}" for text in sent.done.warnings])


@contextmanager
def _in_order(given: Any, is_wanted: bool) -> Iterator[None]:
    """Have a Dataset's blocks come in the order of its sources, not as soon as each is there."""
    options = given.context.execution_options
    known = options.preserve_order
    options.preserve_order = known or is_wanted
    try:
        yield
    finally:
        options.preserve_order = known


def _blocks(given: Any, config: Config) -> Iterator[RowBlock]:
    """The rows of a Dataset, numbered as they come."""
    row = 0
    for table in given.iter_batches(batch_size=None, batch_format="pyarrow"):
        row_bytes = max(1, table.nbytes // max(1, table.num_rows))
        step = max(1, min(MAX_ROWS, config.ingest_block_bytes // row_bytes))
        for first in range(0, table.num_rows, step):
            part = table.slice(first, step)
            yield RowBlock(row, part.num_rows, part, None, (), part.nbytes)
            row += part.num_rows


class _Source(NamedTuple):
    """What a task needs to ask a store's partitions: where its actors are, and what is asked."""

    path: str
    clock: str
    config: Config
    seed: int
    restored: str
    namespace: str
    catalogue: Catalogue
    fields: Fields


def ray_dataset(
    connection: Connection,
    newest: Callable[[], Catalogue],
    segment: str | None,
    fields: Selectors,
) -> Any:
    """The profiles of a segment, or of everybody, as a Dataset (``Store.ray_dataset``)."""
    data = _ray_data()
    asked, every = scan_slots(connection, newest, fields, segment)
    session = connection.coordinator.session
    source = _Source(
        connection.path, connection.clock, connection.config, connection.seed, connection.restored,
        session.namespace, connection.catalogue, asked,
    )  # fmt: skip
    with session:
        shared, ask = ray.put(source), ray.remote(_piece)
        pieces = [
            ask.remote(shared, partition, slots[first : first + GROUP_ROWS].tobytes())
            for partition, (_, slots) in enumerate(every)
            for first in range(0, max(1, len(slots)), GROUP_ROWS)
        ]
        try:
            return data.from_arrow_refs(pieces)
        except RayTaskError as error:
            if isinstance(error.cause, ProfileActorsError):
                raise error.cause from None
            raise


def _ray_data() -> ModuleType:
    """Raises ConfigError where what it needs is not installed."""
    try:
        import ray.data
    except ImportError as error:
        raise ConfigError(
            f"expected Ray Data, got: {error} - at ray_dataset; install what it needs: pip install"
            " 'profile-actors[data]'"
        ) from None
    return ray.data


def _piece(source: _Source, partition: int, slots: bytes) -> pa.Table:
    """Profiles of one partition as a table, in a task of the cluster. slots: int32."""
    store = source

    def remote(name: str) -> Remote:
        handle = ray.get_actor(name, namespace=store.namespace)
        own = Session(store.path, store.namespace)
        return Remote(handle, name, store.config.call_timeout_s, own)

    asking = Connection(
        store.path, store.clock, store.config, store.seed, np.empty(0), remote("coordinator"),
        [remote(f"partition-{partition}")], store.restored,
    )  # fmt: skip
    asking.catalogue = store.catalogue
    columns = ScanColumns(store.catalogue, store.fields)
    size = PAGE_ROWS * np.dtype(np.int32).itemsize
    batches = [
        batch.replace_schema_metadata(None)
        for first in range(0, len(slots), size)
        for batch in columns.batches(
            asking.read(0, "scan_page", slots[first : first + size], store.fields)
        )
    ]
    asking.close()
    return _plain(pa.Table.from_batches(batches, columns.schema))


def _plain(table: pa.Table) -> pa.Table:
    """Without structs of nothing, which files cannot hold, and dictionaries, which cannot be
    joined inside structs."""
    kept = [f for f in table.schema if not (pa.types.is_struct(f.type) and not f.type.num_fields)]
    plain = pa.schema([pa.field(f.name, _without_dictionaries(f.type)) for f in kept])
    return table.select(plain.names).cast(plain)


def _without_dictionaries(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return kind.value_type
    if pa.types.is_struct(kind):
        return pa.struct([(f.name, _without_dictionaries(f.type)) for f in kind])
    return kind
