"""Rows whose producer numbers them with holes: a topic's offsets, a table's sequence.

Theory: a submission is a range of a producer's numbers; what is in the range and has no row is a
hole, and is passed over like the rows. So the cursor moves past it, and nobody waits for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
from msgspec import structs

from profile_actors.driver.arguments import whole_number
from profile_actors.driver.receipts import Receipt
from profile_actors.driver.sender import Rows
from profile_actors.errors import CallerError
from profile_actors.ingest.row_blocks import RowBlock


def numbered(
    rows: Rows, offset: int | None, offsets: Sequence[int], through: int | None
) -> RowBlock:
    """The rows as a block of their producer's numbers from ``first_row`` on.

    offset: where the range begins; by default at the first of offsets. offsets: of each row,
    ascending. through: where it ends; by default after the last. Raises CallerError.
    """
    try:
        numbers = np.array([whole_number(n, "offsets", "submit", 0) for n in offsets], np.int64)
    except (TypeError, OverflowError):
        raise CallerError(f"expected offsets within int64, got {offsets!r} - at submit") from None
    if isinstance(rows, pa.RecordBatch):
        rows = pa.Table.from_batches([rows])
    if not isinstance(rows, pa.Table | list):
        if isinstance(rows, str | bytes | Mapping) or not isinstance(rows, Iterable):
            raise CallerError(
                f"expected rows as dicts, a pa.Table or a pa.RecordBatch, got {type(rows).__name__}"
                " - at submit; put a single row into a list"
            )
        rows = list(rows)
    if len(rows) != len(numbers):
        raise CallerError(
            f"expected an offset for each of {len(rows)} rows, got {len(numbers)} - at submit"
        )
    if (np.diff(numbers) <= 0).any():
        raise CallerError(f"expected ascending offsets, got {offsets[:20]!r} - at submit")
    if not len(numbers) and (offset is None or through is None):
        raise CallerError("expected offset and through, got neither rows nor both - at submit")
    first = int(numbers[0]) if offset is None else whole_number(offset, "offset", "submit", 0)
    end = int(numbers[-1]) + 1 if through is None else whole_number(through, "through", "submit", 0)
    if (len(numbers) and not first <= numbers[0] <= numbers[-1] < end) or not first <= end < 2**63:
        raise CallerError(
            f"expected offsets within [offset, through), got {offsets[:20]!r} in [{first}, {end})"
            " - at submit"
        )
    return RowBlock(first, end - first, rows, numbers - first, (), 0)


def by_row(receipt: Receipt, block: RowBlock) -> Receipt:
    """The receipt of a block's submission with rejected rows numbered as they were submitted."""
    assert block.numbers is not None, "numbered() gives each row its number"
    places = block.numbers
    rejected = [
        (int(np.searchsorted(places, row)), path, reason) for row, path, reason in receipt.rejected
    ]
    return structs.replace(receipt, rejected=rejected)
