"""A block of JSON lines as columns, where Arrow's parser provably says what the lines say.

Theory: Arrow's parser differs from the authority (``ndjson_blocks.judged_line`` and the door) where
it takes more: objects that share a line or span lines, NaN and Infinity, texts that look like times
as times, whole numbers as doubles. So it is asked only about lines that begin and end as an object,
of UTF-8, and told the type of every declared column; then a type that does not fit, a number out of
range or a name that an object has twice refuses the block, as do numbers that are none: it is
judged line by line. Objects that are nested deeply are not shown to it at all: it recurses.

Rules for editors: whatever is added to ``_ARROW`` has to be in the property test over all forms.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from profile_actors.definitions.declared import Catalogue
from profile_actors.definitions.schema_paths import columns_of
from profile_actors.ingest.row_blocks import Lines
from profile_actors.ingest.typing.field_checks import Ignored, ignores

# Kinds of which a JSON value of this type gets the same verdict as the value by itself. Numbers
# that may be times or texts are learnt from the file.
_ARROW = {
    "string": pa.string(),
    "key": pa.string(),
    "integer": pa.int64(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "timestamp": pa.string(),
    "date": pa.string(),
}
_LEARNT = ("key", "timestamp", "date")
_SAMPLE_LINES = 8
_MAX_OPEN = 64  # brackets that open in one line
_OBJECT = msgspec.json.Decoder(dict[str, Any])


class JsonTables:
    """The columns of one dataset's JSON lines; remembers what its files looked like so far."""

    def __init__(self, catalogue: Catalogue, dataset: str) -> None:
        declared = catalogue.datasets[dataset]
        columns = columns_of(catalogue.schemas[declared.schema])
        kinds = {path: kind.kind for path, kind in columns.items()}
        for path in (*declared.identities, declared.id):
            if path is not None:
                kinds.setdefault(path, "key")
        for name, kind in (
            (declared.timestamp, "timestamp"),
            (declared.event_type_field, "string"),
        ):
            if name is not None:
                kinds.setdefault(name, kind)
        self._kinds = {path: kind for path, kind in kinds.items() if kind in _ARROW}
        self._types = {path: _ARROW[kind] for path, kind in self._kinds.items()}
        self._known = {*kinds, declared.identity_map}
        self._objects = {p[:i] for p in kinds for i, c in enumerate(p) if c == "."}
        ignore = declared.ignore
        self._ignored: Ignored = "*" if ignore == "*" else frozenset(ignore)

    def are_sound(self, lines: Lines) -> bool:
        """Whether Arrow can be asked: each line looks like one object, none is odd."""
        if not len(lines.starts):
            return False
        codes = np.frombuffer(lines.data, np.uint8)
        if (codes[lines.starts] != ord("{")).any() or (codes[lines.ends - 1] != ord("}")).any():
            return False
        text = bytes(lines.data)
        if not text.isascii():
            try:
                text.decode()
            except UnicodeDecodeError:
                return False
        return self._is_shallow(codes, text, lines)

    def _is_shallow(self, codes: np.ndarray, text: bytes, lines: Lines) -> bool:
        count = len(lines.starts)
        if b"[" not in text and text.count(b"{") == count:
            return True
        opens = np.flatnonzero((codes == ord("{")) | (codes == ord("[")))
        line_of = np.searchsorted(lines.starts, opens, side="right") - 1
        return int(np.bincount(line_of, minlength=count).max()) <= _MAX_OPEN

    def table(self, lines: Lines) -> pa.Table | None:
        """What Arrow makes of sound lines; None if it takes them for broken, or for of other
        types."""
        table = self._read(lines)
        if table is None and self._learn(lines):
            table = self._read(lines)
        return table

    def _read(self, lines: Lines) -> pa.Table | None:
        size = len(lines.data)
        try:
            table = pyarrow.json.read_json(
                pa.BufferReader(pa.py_buffer(lines.data)),
                pyarrow.json.ReadOptions(use_threads=False, block_size=size + 1),
                pyarrow.json.ParseOptions(
                    explicit_schema=_schema(self._types), unexpected_field_behavior="infer"
                ),
            )
        except pa.ArrowException:
            return None
        is_same = table.num_rows == len(lines.starts) and all(map(_finite, table.columns))
        return table if is_same else None

    def _learn(self, lines: Lines) -> bool:
        """Look at the first lines: are keys and times numbers? True if that is news."""
        found: dict[str, pa.DataType] = {}
        pairs = zip(lines.starts[:_SAMPLE_LINES], lines.ends[:_SAMPLE_LINES], strict=True)
        for start, end in pairs:
            try:
                row = _OBJECT.decode(lines.data[int(start) : int(end)])
            except (msgspec.MsgspecError, ValueError, RecursionError):
                continue
            for path, kind in self._kinds.items():
                value = _at(row, path.split(".")) if kind in _LEARNT else None
                if value is not None:
                    is_number = isinstance(value, int) and not isinstance(value, bool)
                    found.setdefault(path, pa.int64() if is_number else pa.string())
        is_news = any(self._types[path] != kind for path, kind in found.items())
        self._types |= found
        return is_news

    def is_plain(self, table: pa.Table) -> bool:
        """Whether the columns are all there is to the rows: declared ones of plain types, none of
        an unknown name that has a value, none whose name is a path."""
        columns = zip(table.column_names, table.columns, strict=True)
        pending: list[tuple[str, Any]] = list(columns)
        if any("." in name for name in table.column_names):
            return False
        while pending:
            path, column = pending.pop()
            if path in self._types or column.null_count == len(column):
                continue
            if path in self._objects and pa.types.is_struct(column.type):
                names = [column.type.field(i).name for i in range(column.type.num_fields)]
                if any("." in name for name in names):
                    return False
                inner = zip(names, column.flatten(), strict=True)
                pending += [(f"{path}.{name}", part) for name, part in inner]
            elif path in self._known or path in self._objects or not ignores(self._ignored, path):
                return False
        return True


def _at(row: dict[str, Any], path: Iterable[str]) -> Any:
    value: Any = row
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _finite(column: Any) -> bool:
    """Whether no number in a column, or below it, is NaN or infinite."""
    kind = column.type
    if pa.types.is_floating(kind):
        return bool(pc.all(pc.is_finite(column)).as_py() is not False)
    if pa.types.is_struct(kind):
        return all(map(_finite, column.flatten()))
    return not pa.types.is_list(kind) or _finite(pc.list_flatten(column))


def _schema(types: Mapping[str, pa.DataType]) -> pa.Schema:
    """Dotted paths as structs of structs."""
    tree: dict[str, Any] = {}
    for path, kind in types.items():
        *above, name = path.split(".")
        place = tree
        for step in above:
            place = place.setdefault(step, {})
        place[name] = kind
    return pa.schema(_fields(tree))


def _fields(tree: dict[str, Any]) -> list[tuple[str, pa.DataType]]:
    return [
        (name, pa.struct(_fields(kind)) if isinstance(kind, dict) else kind)
        for name, kind in tree.items()
    ]
