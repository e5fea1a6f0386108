"""Scans: profiles as Arrow record batches, one struct per profile and column (``store.scan``).

    namespace, id: string | last_modified: timestamp[ms, UTC]
    attributes: struct, nested as the record schemas spell it, maps as map<string, …>
    computed.NAME: of the rule's type; integers int64, decimals decimal128(38, scale)
    segments.NAME: struct<status: dictionary<string>, last_qualification_time, valid_until:
        timestamp[ms, UTC]>, null where the profile has never been in the segment

``namespace`` and ``id`` stand there when identities are asked, the others when they are. Each
batch is of one partition; its schema's metadata says of which (``partition``), how many entries of
the log that had seen (``position``), and as of when (``now``, ms UTC).

Theory: who is in a scan is fixed by its first question, as slots; their values are read page by
page, each as of its own position, by the look-up of any others. So the partition keeps nothing for
a scan, and a page holds the lock as long as a look-up of so many profiles.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from profile_actors.columnar.vectors import FOREVER, Array
from profile_actors.definitions.declared import Catalogue
from profile_actors.definitions.field_types import FieldType
from profile_actors.definitions.schema_paths import union_tree
from profile_actors.engine.reading.fields import Fields, tree_of_paths
from profile_actors.engine.reading.profile_columns import STATUS, ProfileColumns
from profile_actors.rules.catalogue.typed_rules import check_all

INSTANT = pa.timestamp("ms", "UTC")


WORDS = pa.dictionary(pa.int8(), pa.string())


MEMBERSHIP = pa.struct([
    ("status", WORDS), ("last_qualification_time", INSTANT), ("valid_until", INSTANT),
])  # fmt: skip


SCALARS = {
    "string": pa.string(),
    "key": pa.string(),
    "integer": pa.int64(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "timestamp": INSTANT,
    "date": INSTANT,
}


class ScanPage(msgspec.Struct, array_like=True, gc=False):
    """The profiles of some slots as of one position: entries that their partition had seen."""

    partition: int
    position: int
    parts: list[ProfileColumns]


class ScanColumns:
    """The columns of one scan, by the definitions of its begin."""

    def __init__(self, catalogue: Catalogue, fields: Fields) -> None:
        self._attributes: FieldType | None = None
        self._computed: list[tuple[str, FieldType | None]] = []
        columns: list[tuple[str, pa.DataType]] = []
        if fields.identities:
            columns += [("namespace", pa.string()), ("id", pa.string())]
        columns.append(("last_modified", INSTANT))
        if fields.attributes != ():
            tree = union_tree(catalogue, "record")
            if fields.attributes is not None:
                tree = _pruned(tree, tree_of_paths(fields.attributes))
            self._attributes = tree
            columns.append(("attributes", _arrow(tree)))
        typed = check_all(catalogue)
        every = {kind: sorted(name for of, name in typed if of == kind) for kind, _ in typed}
        chosen = every.get("computed", []) if fields.computed is None else fields.computed
        for name in chosen:
            kind = typed["computed", name].type
            self._computed.append((name, kind))
            columns.append((f"computed.{name}", _arrow(kind)))
        segments = every.get("segment", []) if fields.segments is None else fields.segments
        self._segments = list(segments)
        columns += [(f"segments.{name}", MEMBERSHIP) for name in self._segments]
        self.schema = pa.schema(columns)

    def batches(self, page: ScanPage) -> Iterator[pa.RecordBatch]:
        """A page as record batches: one, or two while the clock's work is done in slices."""
        for part in page.parts:
            about = {"partition": page.partition, "position": page.position, "now": part.now}
            schema = self.schema.with_metadata({name: str(at) for name, at in about.items()})
            yield pa.RecordBatch.from_arrays(list(self._arrays(part)), schema=schema)

    def _arrays(self, part: ProfileColumns) -> Iterator[pa.Array]:
        count = len(part.ends)
        if "id" in self.schema.names[:2]:
            yield pa.array(part.namespaces, pa.string())
            yield pa.array(part.ids, pa.string())
        yield pa.array(part.modified).view(INSTANT)
        if self._attributes is not None:
            documents = part.attributes or [{}] * count
            yield _column(documents, self._attributes)
        yield from self._values(part)
        yield from self._memberships(part)

    def _values(self, part: ProfileColumns) -> Iterator[pa.Array]:
        """A column per computed attribute. Numbers stay as they came."""
        place = {name: number for number, name in enumerate(part.computed)}
        numbers = {n: (of, row) for of in part.numbers for row, n in enumerate(of.places)}
        refused = {name for name, _, _ in part.refused}
        plain = None
        for name, kind in self._computed:
            number = place.get(name, -1)
            if number in numbers and name not in refused:
                of, row = numbers[number]
                missing = None if of.missing is None else of.missing[row]
                found, wanted = pa.array(of.values[row], mask=missing), _arrow(kind)
                is_time = pa.types.is_timestamp(wanted)
                yield found.view(wanted) if is_time else found.cast(wanted)
            else:
                if plain is None:
                    plain = part.table()
                yield _column([None] * len(plain) if number < 0 else plain[:, number], kind)

    def _memberships(self, part: ProfileColumns) -> Iterator[pa.Array]:
        """A struct column per segment."""
        count, names = len(part.ends), len(part.segments)
        row = np.repeat(np.arange(count), np.diff(part.ends, prepend=0))
        cells = part.segment.astype(np.intp) * count + row
        # One row per segment, and one of nobody for those that the partition does not know.
        shape = names + 1, count
        status, is_out = np.zeros(shape, np.int8), np.ones(shape, np.bool_)
        last, until = np.full(shape, FOREVER), np.full(shape, FOREVER)
        for matrix, given in ((status, part.status), (last, part.last), (until, part.until)):
            matrix.reshape(-1)[cells] = given
        is_out.reshape(-1)[cells] = False
        place = {name: number for number, name in enumerate(part.segments)}
        words = pa.array(list(STATUS), pa.string())
        for name in self._segments:
            number = place.get(name, names)
            codes = pa.DictionaryArray.from_arrays(pa.array(status[number]), words)
            yield pa.StructArray.from_arrays(
                [codes, _instants(last[number]), _instants(until[number])],
                fields=list(MEMBERSHIP),
                mask=pa.array(is_out[number]),
            )


def _instants(at: Array) -> pa.Array:
    return pa.array(at, mask=at == FOREVER).view(INSTANT)


def _arrow(kind: FieldType | None) -> pa.DataType:
    """The column type of a value."""
    if kind is None:
        return pa.null()
    if kind.kind == "decimal":
        return pa.decimal128(38, kind.scale)
    if kind.kind == "object":
        return pa.struct([(name, _arrow(inner)) for name, inner in kind.fields])
    if kind.item is not None:
        item = _arrow(kind.item)
        return pa.list_(item) if kind.kind == "array" else pa.map_(pa.string(), item)
    return SCALARS.get(kind.kind, pa.null())


def _column(values: Iterable[Any], kind: FieldType | None) -> pa.Array:
    """Plain values as a column."""
    if kind is not None and _has_maps(kind):
        values = [_with_pairs(value, kind) for value in values]
    return pa.array(list(values), _arrow(kind))


def _has_maps(kind: FieldType) -> bool:
    inner = [one for _, one in kind.fields] + ([] if kind.item is None else [kind.item])
    return kind.kind == "map" or any(_has_maps(one) for one in inner)


def _with_pairs(value: Any, kind: FieldType) -> Any:
    """A value whose maps are lists of pairs, as Arrow takes them."""
    if value is None or kind.kind not in ("map", "array", "object"):
        return value
    if kind.kind == "object":
        return {name: _with_pairs(value.get(name), inner) for name, inner in kind.fields}
    assert kind.item is not None
    if kind.kind == "array":
        return [_with_pairs(item, kind.item) for item in value]
    return [(str(key), _with_pairs(item, kind.item)) for key, item in value.items()]


def _pruned(kind: FieldType, wanted: dict[str, Any] | None) -> FieldType:
    """The type of what ``fields.picked`` leaves."""
    if wanted is None or kind.kind not in ("object", "array"):
        return kind
    if kind.kind == "array":
        assert kind.item is not None
        return FieldType("array", item=_pruned(kind.item, wanted))
    left = [(name, _pruned(inner, wanted[name])) for name, inner in kind.fields if name in wanted]
    return FieldType("object", fields=tuple(left))
