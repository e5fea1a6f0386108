"""What crosses between the door and a partition: a sub-batch of typed rows, and the reply to it.

A sub-batch's table has the payload columns (dotted field paths; Arrow types as ``arrow_type`` in
``ingest`` gives them) and these hidden ones:

    @k0, @k1      uint64       halves of the identity's 128-bit key, never null
    @value        string       the normalised identity value
    @namespace    dictionary<int16, string>
    @timestamp    int64        ms UTC, never null
    @row          int64        the row's offset in its producer's stream, ascending
    @id           string       only for datasets that declare ``id``
    @type         dictionary<int32, string>   event datasets only; may be null
    @others       list<struct<namespace: string, value: string, k0: uint64, k1: uint64>>   the row's
                  further identities, normalised, each once, null without any; no column if no row
                  has more than one. Logs written before it had keys lack k0 and k1:
                  ``ingest.further_identities.keyed`` gives both forms the one of today
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

ANONYMOUS = "~"
"""What names of anonymous streams begin with: a connection's own, which nobody can continue."""


Credit = tuple[str, int, int]
"""(producer, rows, least): its cursor goes on by so many rows, once it has reached ``least``."""


Repair = tuple[int, str, bytes]
"""(attempt, step, offsets): a step of the repair of rejected rows (``repairs``); packed ranges."""


RowVerdicts = tuple[bytes, bytes]
"""The offsets of a sub-batch's rows that were duplicates, and of those that were late; packed."""


@dataclass(frozen=True, slots=True)
class SubBatch:
    """The share of one submitted batch that one partition owns.

    after: offset up to which this producer's rows were sent to this partition before (None: this is
    the first batch of a producer the store does not know). through: the offset after this batch's
    last row, counting rows that went elsewhere or were rejected. clock: ms, event clock only.
    closes: nothing more comes in this anonymous stream, and all that came was answered. by_row:
    submissions of several callers travel in it, so the reply is to say which rows it counts.
    table: None for a sub-batch that only moves the clock or the cursor. resend: the client had no
    answer for it. token: of the submission, where rows have a named producer: an answer that was
    lost is told again to it alone, and not to who offers the same rows another time. catalogue: the
    definitions' version that shaped the rows.
    """

    dataset: str
    producer: str
    after: int | None
    through: int
    catalogue: int
    clock: int | None = None
    table: pa.Table | None = None
    resend: bool = False
    credit: Credit | None = None
    rejected: bytes = b""
    repair: Repair | None = None
    closes: bool = False
    by_row: bool = False
    token: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """A partition's answer. status: 'ok', 'gap' (resend from ``expected``), 'early' (the producer
    that is credited stands at ``expected``, below what its sender sent before), 'behind' (the
    partition must first take the catalogue version), 'busy' (queue full, retry), 'unknown' (the
    dataset was deleted), 'fenced' (a repair since is number ``expected``), 'forgotten' (of an
    anonymous stream that was let go of: whether these rows are here is not known).

    open: offsets of rows that were not taken, since they had been rejected before: they must come
    as a repair. taken: in a repair, offsets that this partition stored. Both as packed ranges.
    rows: what was asked for with ``by_row``. forwarding: accepted rows that are not yet in the
    profile they belong to.
    """

    status: str
    accepted: int = 0
    duplicate: int = 0
    late: int = 0
    position: int = -1
    now: int = 0
    expected: int = 0
    open: bytes = b""
    taken: bytes = b""
    rows: RowVerdicts | None = None
    forwarding: int = 0
