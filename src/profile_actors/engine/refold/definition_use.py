"""Whether rows name a dataset or a namespace: what must be known before one is deleted.

Theory: nothing is counted while rows come, since nobody asks but once in a store's life; the answer
is in the log. What came cannot be unsaid, so a definition that rows need is kept by the partition
that has them, even if rows and the deletion crossed.

Limits: a pass over the log's envelopes; for a namespace also over rows with several identities.
"""

from __future__ import annotations

import pyarrow as pa
from msgspec import structs

from profile_actors.columnar.vectors import one_array
from profile_actors.definitions.declared import Catalogue
from profile_actors.engine.fold.state import State
from profile_actors.engine.log.entry import decode
from profile_actors.engine.log.ports import Log
from profile_actors.ingest.hidden_columns import NAMESPACE, OTHERS


def has_rows_of(state: State, log: Log, kind: str, name: str) -> bool:
    """Whether the log has rows of a dataset (kind 'dataset') or identities of a namespace."""
    if kind == "dataset":
        return name in _datasets(log, state.position)
    if name in state.directory.namespaces:
        return True
    for position in range(state.position):
        with log.view(position) as view:
            for block in decode(view, f"position {position}").blocks:
                if NAMESPACE in block.table.column_names:  # of entities, which have no idents
                    named = one_array(block.table.column(NAMESPACE)).cast(pa.string())
                    if name in named.unique().to_pylist():
                        return True
                if OTHERS not in block.table.column_names:
                    continue
                for row in block.table.column(OTHERS).to_pylist():
                    if any(other["namespace"] == name for other in row or ()):
                        return True
    return False


def _datasets(log: Log, head: int) -> set[str]:
    found: set[str] = set()
    for position in range(head):
        with log.view(position) as view:
            entry = decode(view, f"position {position}")
            found.update(block.dataset for block in entry.blocks if block.rows)
    return found


def kept(old: Catalogue, new: Catalogue, log: Log, position: int) -> Catalogue:
    """The new catalogue with those deleted datasets, and their schemas, of which there are rows."""
    if old.datasets.keys() <= new.datasets.keys():
        return new
    needed = _datasets(log, position) & old.datasets.keys() - new.datasets.keys()
    if not needed:
        return new
    datasets = {name: old.datasets[name] for name in old.datasets if name in needed}
    schemas = {d.schema: old.schemas[d.schema] for d in datasets.values()}
    codes = {code for d in datasets.values() for code in d.identities.values()}
    spaces = {code: old.namespaces[code] for code in sorted(codes)}
    return structs.replace(
        new,
        datasets=new.datasets | datasets,
        schemas=schemas | new.schemas,
        namespaces=spaces | new.namespaces,
    )
