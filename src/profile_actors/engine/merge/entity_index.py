"""Where the rows of each entity of the lookup datasets stand: products, shops; nobody's profile.

Theory: an entity is no person. It gets no ident and no slot, so that nothing which goes over
profiles ever meets one: members, counts, exports, rules about events that are not there. Its rows
are blocks of the log like others, and name it themselves by their hidden columns; entities are
numbered here as they are first seen in the log, and a locator of their own finds their rows.

Logs from before have blocks whose entities were given idents, and profiles, when they came: those
stay, and their rows are found here too.

Every partition has all rows of lookup datasets, for its rules read them beside its profiles' rows.

Which of its rows still say something is kept as of a person's records (``live_rows``), so an entity
that is stated again and again is read from one row or a few.

Limits: ``Config.max_lookup_rows`` rows; 16 bytes each, and some 80 an entity.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from profile_actors.columnar.hash_table import KeyTable
from profile_actors.columnar.state_columns import Saving
from profile_actors.columnar.vectors import Array
from profile_actors.engine.log.entry import Block, integers
from profile_actors.engine.log.row_locator import Locator, rows_of_all
from profile_actors.engine.merge.live_rows import LiveDelta, LiveRows, RecordPart
from profile_actors.engine.merge.tied_rows import Read
from profile_actors.errors import StorageFull
from profile_actors.ingest.hidden_columns import K0, K1


class EntityPart(NamedTuple):
    """A block of a lookup dataset. first: the number of its first row in the entry; keys: uint64
    [n, 2], of the entities of its rows; replaces: whether a row of the dataset is all it says."""

    block: Block
    first: int
    keys: Array
    replaces: bool


class EntityIndex:
    """The entities of one partition. The writer's; readers hold the partition's lock, briefly."""

    def __init__(self, max_rows: int) -> None:
        self.max_rows = max_rows
        self.table = KeyTable()
        self.locator = Locator()
        self.living = LiveRows(max_rows)
        self._delta: LiveDelta | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of memory in use, but for the locator's."""
        return self.table.size_bytes + self.living.size_bytes

    def check_room(self, table: pa.Table) -> None:
        """Raises StorageFull if there are too many rows with those of a table."""
        known = sum(map(len, self.locator.runs))
        if known + table.num_rows > self.max_rows:
            raise StorageFull(
                f"expected at most {self.max_rows} rows of lookup datasets, got {known} and"
                f" {table.num_rows} more; raise Config.max_lookup_rows"
            )

    def add(
        self,
        position: int,
        parts: Sequence[EntityPart],
        lock: AbstractContextManager[object],
        read: Read,
        is_known: bool = False,
    ) -> None:
        """Prepare an entry's rows; shown by ``publish``. lock: the partition's, held while entities
        are numbered. read: of rows of the log, this entry's included. is_known: where they stand is
        known already."""
        keys = np.concatenate([part.keys for part in parts])
        with lock:
            numbers, _ = self.table.number(keys[:, 0], keys[:, 1])
        numbers = numbers.astype(np.int64)
        living, begin = [], 0
        for block, first, mine, replaces in parts:
            places = begin + np.arange(block.rows)
            begin += block.rows
            of = numbers[places]
            if not is_known:
                order = np.lexsort((block.timestamps, of))
                self.locator.add(position, of[order], block.timestamps[order], first + order)
            # What the rows are of is told by the numbers, through their places in this entry.
            placed = Block(block.dataset, block.table, places, block.order, block.timestamps)
            living.append(RecordPart(placed, first + np.arange(len(mine)), replaces))
        self._delta = self.living.step(living, position, numbers, read)

    def publish(self) -> None:
        """Show what was added. The caller holds the partition's lock."""
        self.locator.publish()
        self.living.publish(self._delta)
        self._delta = None

    def living_of(self, key: tuple[int, int]) -> tuple[Array, Array]:
        """(position, row) of the rows of an entity that still say something, and of one that none
        says anything of, its rows; empty if it is unknown."""
        number = self.table.find(*np.array([key], np.uint64).T)
        number = number[number >= 0].astype(np.int64)
        _, positions, rows = self.living.gather(number)
        if not len(rows):
            _, positions, rows = rows_of_all(self.locator.runs, number)
        return positions, rows

    def saving(self) -> Saving:
        """For a checkpoint; the locator's runs are saved with the others."""
        keys, living = self.table.keys_later(), self.living.saving_at_once(self.table.count)

        def made() -> dict[str, Array]:
            k0, k1 = keys()
            return {"k0": k0, "k1": k1, **{f"living/{name}": of for name, of in living().items()}}

        return Saving((), made)

    def restore(self, arrays: dict[str, Array]) -> None:
        """Entities from a checkpoint; of one from before, without their living rows."""
        self.table.number(arrays["k0"], arrays["k1"])
        if "living/size" in arrays:
            prefix = "living/"
            self.living.restore(
                {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}
            )


def keys_in(block: Block) -> Array | None:
    """The keys that a block's rows name themselves by, uint64[n, 2]; None if they do not."""
    if block.table.schema.get_field_index(K0) < 0:
        return None
    halves = (integers(block.table, name, np.uint64) for name in (K0, K1))
    return np.stack(tuple(halves), axis=1)
