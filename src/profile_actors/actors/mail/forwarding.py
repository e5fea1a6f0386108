"""Holds a receipt back until its rows are in the profiles they belong to, for a short while.

Theory: a row is durable and folded when its entry is. Of people with several identities that is not
yet the profile they are shown in: their rows travel on, and evidence of links goes by the ledger.
That takes some commits of others, which a caller waits for, up to ``Config.forward_ack_ms``; what
takes longer is counted in the receipt as ``forwarding``. Where a destination has acknowledged
nothing for that long nobody waits at all: a ledger that is away must not fill the threads that
submit.

Cost: of a store where nobody is linked, a look at two dicts.
"""

from __future__ import annotations

import time
from dataclasses import replace
from threading import Condition

import numpy as np

from profile_actors.actors.mail.postman import Postman
from profile_actors.engine.log.entry import integers
from profile_actors.engine.log.sub_batch import Reply, SubBatch
from profile_actors.engine.partition.partition import Partition
from profile_actors.ingest.hidden_columns import K0, K1, OTHERS

LOOK_S = 0.05
"""A wait is ended by what others acknowledge; and looked at so often in any case."""


class Forwarding:
    """See the module. For the threads that submit."""

    def __init__(self, partition: Partition, postman: Postman, forward_ack_ms: int) -> None:
        self._partition = partition
        self._postman = postman
        self._patience_s = forward_ack_ms / 1000
        self._changed = Condition()

    def notify(self) -> None:
        """An entry was written, or messages were acknowledged."""
        with self._changed:
            self._changed.notify_all()

    def wait(self, position: int) -> bool:
        """Whether all that the entries up to a position caused is folded and shown; waits for it as
        long as there is hope."""
        end = time.monotonic() + self._patience_s
        with self._changed:
            while not self._is_settled(position):
                left_s = end - time.monotonic()
                if left_s <= 0 or self._is_hopeless():
                    return False
                self._changed.wait(min(left_s, LOOK_S))
        return True

    def told(self, batch: SubBatch, reply: Reply) -> Reply:
        """The reply to a sub-batch, once its rows are where they belong, or with how many are not
        there yet."""
        if reply.status != "ok" or batch.table is None or not self._is_concerned(batch):
            return reply
        if self.wait(reply.position):
            return reply
        rows = min(self._on_their_way(batch), reply.accepted)
        return replace(reply, forwarding=rows) if rows else reply

    def _is_settled(self, position: int) -> bool:
        with self._partition.lock:
            return self._partition.state.homes.is_settled(position)

    def _is_hopeless(self) -> bool:
        patience_ms = 1000 * self._patience_s
        return any(one.age_ms > patience_ms for one in self._postman.account().values())

    def _is_concerned(self, batch: SubBatch) -> bool:
        """Whether a row names several identities, or one that is linked: nobody else waits for what
        is on its way. Cost: a look-up a row, if anybody is linked."""
        assert batch.table is not None
        state = self._partition.state
        if not state.homes.is_used:
            return False
        names = batch.table.column_names
        if OTHERS in names and batch.table.column(OTHERS).null_count < batch.table.num_rows:
            return True
        if not state.homes.residences:
            return False
        k0, k1 = (integers(batch.table, half, np.uint64) for half in (K0, K1))
        with self._partition.lock:
            idents = state.directory.find(k0, k1)
            return len(state.listing.leaving(idents[idents >= 0])) > 0

    def _on_their_way(self, batch: SubBatch) -> int:
        """Rows whose identity is not shown where its rows go, or that name several."""
        assert batch.table is not None
        table = batch.table
        residences = self._partition.state.homes.residences
        several = [False] * table.num_rows
        if OTHERS in table.column_names:
            several = table.column(OTHERS).is_valid().to_pylist()
        count = 0
        keys = zip(table.column(K0).to_pylist(), table.column(K1).to_pylist(), strict=True)
        for key, names_more in zip(keys, several, strict=True):
            mine = residences.get(key)  # of one key, while the writer goes on
            count += names_more or (mine is not None and mine.shown != mine.assigned)
        return count
