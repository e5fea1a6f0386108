"""What decides the order among a profile's events of one timestamp, as bytes that compare alike.

Theory: events sort by (timestamp, ``_id``, or without one the xxh3 of the canonical row, dataset,
key of the row's identity), as ``documents.in_order`` says. A *tie* is the id's UTF-8, a zero byte,
and the dataset: bytes compare as code points do, and the zero byte ends the shorter id first. Bytes
0 and 1 inside an id become 1 1 and 1 2, so that they keep their place and no id contains the zero
byte. Rows that say whose they are, in profiles of several identities, have another zero byte and
the key in hexadecimal after the dataset, whose name has no control character.

Cost: rows with an id some 60 ns each; rows without one about 10 us each, since their document is
made and hashed one by one. Only histories whose order shows in an answer pay it.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from profile_actors.columnar.vectors import FOREVER, Array
from profile_actors.engine.log.entry import Block, integers
from profile_actors.engine.merge.documents import id_of, rows_of
from profile_actors.ingest.hidden_columns import ID, K0, K1


def ties_of(block: Block, rows: Array) -> Array:
    """bytes[n]: the ties of these rows of a block of events. rows: int[n]."""
    ids = _ids(block, rows)
    kind = pa.large_string()
    dataset, between = pa.scalar(block.dataset, kind), pa.scalar("\0", kind)
    parts = [_escaped(ids), dataset]
    if K0 in block.table.column_names:
        halves = (integers(block.table, name, np.uint64)[rows].tolist() for name in (K0, K1))
        keys = [f"{high:016x}{low:016x}" for high, low in zip(*halves, strict=True)]
        parts.append(pa.array(keys, kind))
    return fixed_width(pc.binary_join_element_wise(*parts, between))


def _ids(block: Block, rows: Array) -> pa.Array:
    if ID in block.table.column_names:
        ids = block.table.column(ID).take(pa.array(rows)).combine_chunks()
        if pa.types.is_dictionary(ids.type):
            ids = ids.dictionary_decode()
        ids = ids.cast(pa.large_string())
    else:
        ids = pa.nulls(len(rows), pa.large_string())
    if ids.null_count:
        without = ids.is_null()
        local = rows[without.to_numpy(zero_copy_only=False)].astype(np.int64)
        made = [id_of(row) for row in rows_of(block, local)]
        ids = pc.replace_with_mask(ids, without, pa.array(made, pa.large_string()))
    return ids


def _escaped(ids: pa.LargeStringArray) -> pa.Array:
    offsets = np.frombuffer(ids.buffers()[1], np.int64)[ids.offset :][: len(ids) + 1]
    text = np.frombuffer(ids.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]]
    if len(text) and text.min() > 1:  # as good as always
        return ids
    for byte, escape in (("\1", "\1\2"), ("\0", "\1\1")):
        ids = pc.replace_substring(ids, byte, escape)
    return ids


def fixed_width(texts: pa.LargeStringArray) -> Array:
    """bytes[n] of texts without nulls, as wide as the longest; zero bytes at the end go."""
    if not len(texts):
        return np.zeros(0, "S1")
    width = max(1, pc.max(pc.binary_length(texts)).as_py())
    padded = pc.ascii_rpad(texts, width=width, padding="\0")  # "ascii": it counts bytes
    begin = padded.offset * width
    data = np.frombuffer(padded.buffers()[2], np.uint8)[begin : begin + len(texts) * width]
    return data.view(f"S{width}")


def is_in_order(slot: Array, time: Array, tie: Array | None) -> bool:
    """Whether rows ascend by (time, tie) within each slot; slots ascend."""
    same = slot[1:] == slot[:-1]
    if (same & (time[1:] < time[:-1])).any():
        return False
    if tie is None:
        return True
    equal = np.flatnonzero(same & (time[1:] == time[:-1]))
    return not (tie[equal + 1] < tie[equal]).any()


def ordered(group: Array, time: Array, tie: Array | None) -> Array:
    """The stable permutation that sorts by (group, time, tie).

    Cost: one sort of int64 keys, which takes runs that are in order already as they are; ties are
    looked at only where group and time are equal.
    """
    low, groups = int(time.min()), int(group.max()) + 1
    span = int(time.max()) - low + 1
    if span * groups <= FOREVER:
        key = group.astype(np.int64) * np.int64(span) + (time - np.int64(low))
        order = np.argsort(key, kind="stable")
    else:
        order = np.lexsort((time, group))
    if tie is None:
        return order
    group, time = group[order], time[order]
    equal = (group[1:] == group[:-1]) & (time[1:] == time[:-1])
    if equal.any():
        run = np.zeros(len(order), np.int64)
        run[1:] = np.cumsum(~equal)
        in_run = np.zeros(len(order), np.bool_)
        in_run[1:] = equal
        in_run[:-1] |= equal
        at = np.flatnonzero(in_run)
        order[at] = order[at[np.lexsort((tie[order[at]], run[at]))]]
    return order
