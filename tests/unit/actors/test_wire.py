"""What crosses between driver and partition comes out as it went in: small, large, sliced."""

from __future__ import annotations

import pyarrow as pa
import pytest

from profile_actors.actors.wire import SMALL_BYTES, dumps, loads, pack, unpack
from profile_actors.engine.identity.identity import Identity
from profile_actors.engine.log.sub_batch import SubBatch
from profile_actors.engine.reading.answers import Membership, Profile


def rows(count: int) -> pa.Table:
    """Columns of the kinds that sub-batches have."""
    words = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int8()), pa.array(["CRMID"]))
    return pa.table(
        {
            "@k0": pa.array([2**64 - 1 - n for n in range(count)], pa.uint64()),
            "@value": [f"é{n}" for n in range(count)],
            "@namespace": words,
            "tags": pa.array([["a", None], None][:count] * (count // 2 or 1), pa.list_(pa.string()))
            if count > 1
            else pa.nulls(count, pa.list_(pa.string())),
        }
    )


@pytest.mark.parametrize("count", [1, 2, 10_000])
def test_a_sub_batch_survives(count: int) -> None:
    batch = SubBatch("orders", "p", 2**62, 2**62 + count, 7, -5, rows(count), resend=True)
    header, beside = pack(batch)
    assert (beside is None) == (count < 10_000)
    again = unpack(header, beside)
    assert again == batch
    assert again.table is not None
    assert all(column.num_chunks == 1 for column in again.table.columns)


def test_a_slice_travels_without_its_parent_and_chunks_become_one() -> None:
    table = pa.concat_tables([rows(10_000).slice(500, 2), rows(2)])
    header, beside = pack(SubBatch("orders", "p", None, 4, 1, table=table))
    assert beside is None
    assert len(header) < 4096 < SMALL_BYTES
    again = unpack(header, None)
    assert again.table is not None
    assert again.table.equals(table.combine_chunks())
    assert again.table[0].num_chunks == 1


def test_a_sub_batch_without_rows_only_moves_clock_and_cursor() -> None:
    batch = SubBatch("orders", "p", None, 3, 1, clock=852_076_800_000)
    assert unpack(*pack(batch)) == batch


def test_answers_survive() -> None:
    who = [Identity("CRMID", "1")]
    profile = Profile(who, {"a": {"b": 1.5}}, {"s": Membership("realized", 1, None)}, {}, {}, 1, 2)
    assert loads(dumps([profile, None])) == [profile, None]
