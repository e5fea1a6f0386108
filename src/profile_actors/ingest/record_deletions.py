"""The door for deletions of records: what takes back a record travels as a row of its dataset.

Theory: such a row has the identity, a time and no payload. It hides what the same fragment (that
dataset, that primary identity) stated up to its time, whenever it arrives, and nothing after.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pyarrow as pa

from profile_actors.config import Config
from profile_actors.definitions.declared import Catalogue, Namespace
from profile_actors.definitions.placeholders import is_placeholder, listed
from profile_actors.errors import CallerError, DefinitionError
from profile_actors.ingest.door import Prepared
from profile_actors.ingest.hidden_columns import (
    DELETED,
    K0,
    K1,
    NAMESPACE,
    ROW,
    TIMESTAMP,
    VALUE,
)
from profile_actors.ingest.identity_keys import key_of, normalised
from profile_actors.ingest.typing.time_readings import TIME_MAX_MS, TIME_MIN_MS


class Deletion(msgspec.Struct, frozen=True):
    """Of the record of one identity. at: ms; None: the time that a row without one gets."""

    namespace: str
    value: str
    at: int | None = None


class DeletionDoor:
    """Takes ``Deletion``s of one dataset, as a ``Door`` takes rows. seed: the store's.

    Raises DefinitionError for a dataset that is one of events.
    """

    def __init__(self, catalogue: Catalogue, dataset: str, seed: int, config: Config) -> None:
        self.dataset = catalogue.datasets[dataset]
        self._seed, self._config = seed, config
        self._nobody = listed(catalogue.linking.placeholders)
        behavior = catalogue.schemas[self.dataset.schema].behavior
        if behavior == "event":
            raise DefinitionError(
                f"expected a dataset of records, got {dataset!r}, which is of {behavior}s - at"
                " delete_record"
            )
        if behavior == "lookup":
            self._nobody = listed(())  # an entity may be called 0
        names = self.dataset.identities.values()
        self._namespaces = {
            code: one
            for code, one in catalogue.namespaces.items()
            if code in names or self.dataset.identity_map is not None
        }

    def namespace(self, code: str) -> Namespace:
        """One of those that the dataset's records may be of. Raises DefinitionError."""
        if code not in self._namespaces:
            known = ", ".join(sorted(self._namespaces))
            raise DefinitionError(
                f"expected a namespace of dataset {self.dataset.name!r}, got {code!r} - at"
                f" delete_record; its records have {known}"
            )
        return self._namespaces[code]

    def prepare(
        self,
        rows: Sequence[Deletion],
        first_offset: int,
        wall_ms: int,
        stamp_ms: int | None = None,
    ) -> Prepared:
        """Rows that delete, as the partitions take them. Raises CallerError for a time that the
        store would refuse, or an identity without a value; DefinitionError."""
        now = wall_ms if stamp_ms is None else stamp_ms
        times = [now if row.at is None else row.at for row in rows]
        latest = min(wall_ms + self._config.max_ahead_ms, TIME_MAX_MS)
        spaces = [self.namespace(row.namespace) for row in rows]
        values = [normalised(*one) for one in zip(spaces, (r.value for r in rows), strict=True)]
        for time, value in zip(times, values, strict=True):
            if not TIME_MIN_MS <= time <= latest:
                raise CallerError(
                    f"expected at as an instant from {TIME_MIN_MS} to {latest} ms, got {time} - at"
                    " delete_record"
                )
            if is_placeholder(value, self._nobody):
                raise CallerError(
                    f"expected an identity that names somebody, got {value!r}, which is listed as"
                    " a placeholder (LinkingRules) - at delete_record"
                )
            if not 1 <= len(value) <= self._config.max_identity_chars:
                raise CallerError(
                    f"expected an identity of 1 to {self._config.max_identity_chars} characters,"
                    f" got {len(value)} once it is normalised - at delete_record"
                )
        keys = np.array(
            [key_of(space, row.value, self._seed) for space, row in zip(spaces, rows, strict=True)],
            np.uint64,
        ).reshape(-1, 2)
        names = list(self._namespaces)
        codes = pa.array([names.index(row.namespace) for row in rows], pa.int16())
        table = pa.table(
            {
                K0: pa.array(np.ascontiguousarray(keys[:, 0])),
                K1: pa.array(np.ascontiguousarray(keys[:, 1])),
                VALUE: pa.array(values, pa.string()),
                NAMESPACE: pa.DictionaryArray.from_arrays(codes, pa.array(names, pa.string())),
                TIMESTAMP: pa.array(times, pa.int64()),
                ROW: pa.array(np.arange(len(rows)) + first_offset),
                DELETED: pa.array([True] * len(rows)),
            }
        )
        clock = max(times) if self.dataset.timestamp is not None and times else None
        return Prepared(table, [], len(rows), clock)
