"""Where the rows of each entity of the lookup datasets stand: products, shops; nobody's profile.

Theory: an entity is no person. It gets no ident and no slot, so that nothing which goes over
profiles ever meets one: members, counts, exports, rules about events that are not there. Its rows
are blocks of the log like others, and name it themselves by their hidden columns; entities are
numbered here as they are first seen in the log, and a locator of their own finds their rows.

Logs from before have blocks whose entities were given idents, and profiles, when they came: those
stay, and their rows are found here too.

Every partition has all rows of lookup datasets, for its rules read them beside its profiles' rows.

Limits: ``Config.max_lookup_rows`` rows; 16 bytes each, and 36 an entity.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from profile_actors.columnar.hash_table import KeyTable
from profile_actors.columnar.state_columns import Saving
from profile_actors.columnar.vectors import Array
from profile_actors.engine.log.entry import Block, integers
from profile_actors.engine.log.row_locator import Locator, rows_of_all
from profile_actors.errors import StorageFull
from profile_actors.ingest.hidden_columns import K0, K1


class EntityIndex:
    """The entities of one partition. The writer's; readers hold the partition's lock, briefly."""

    def __init__(self, max_rows: int) -> None:
        self.max_rows = max_rows
        self.table = KeyTable()
        self.locator = Locator()

    def check_room(self, table: pa.Table) -> None:
        """Raises StorageFull if there are too many rows with those of a table."""
        known = sum(map(len, self.locator.runs))
        if known + table.num_rows > self.max_rows:
            raise StorageFull(
                f"expected at most {self.max_rows} rows of lookup datasets, got {known} and"
                f" {table.num_rows} more; raise Config.max_lookup_rows"
            )

    def add(self, position: int, first: int, block: Block, keys: Array) -> None:
        """Prepare a block's rows, which begin at ``first`` in their entry; shown by the locator's
        ``publish``. keys: uint64[n, 2], of its entities. The caller holds the partition's lock."""
        numbers, _ = self.table.number(keys[:, 0], keys[:, 1])
        numbers = numbers.astype(np.int64)
        order = np.lexsort((block.timestamps, numbers))
        self.locator.add(position, numbers[order], block.timestamps[order], first + order)

    def rows_of(self, key: tuple[int, int]) -> tuple[Array, Array]:
        """(position, row) of all rows of an entity, empty if it is unknown."""
        number = self.table.find(*np.array([key], np.uint64).T)
        _, positions, rows = rows_of_all(self.locator.runs, number[number >= 0].astype(np.int64))
        return positions, rows

    def saving(self) -> Saving:
        """For a checkpoint; the locator's runs are saved with the others."""
        keys = self.table.keys_later()

        def made() -> dict[str, Array]:
            k0, k1 = keys()
            return {"k0": k0, "k1": k1}

        return Saving((), made)

    def restore(self, arrays: dict[str, Array]) -> None:
        """Entities from a checkpoint."""
        self.table.number(arrays["k0"], arrays["k1"])


def keys_in(block: Block) -> Array | None:
    """The keys that a block's rows name themselves by, uint64[n, 2]; None if they do not."""
    if block.table.schema.get_field_index(K0) < 0:
        return None
    halves = (integers(block.table, name, np.uint64) for name in (K0, K1))
    return np.stack(tuple(halves), axis=1)
