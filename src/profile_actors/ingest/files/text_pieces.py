"""A text file in pieces of whole rows, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from profile_actors.errors import SchemaError
from profile_actors.ingest.files.byte_sources import ByteSource
from profile_actors.ingest.rejects import MAX_RAW_CHARS

FIRST_PIECE = 8


MAX_ROW_BLOCKS = 8  # blocks in which one row's end must be found


def pieces(
    file: ByteSource,
    block_bytes: int,
    end_of_file: int,
    path: str,
    last_row_end: Callable[[bytes], tuple[int, bool]],
    lacking: str,
) -> Iterator[tuple[memoryview, bool]]:
    """The rest of the file in pieces of whole rows, without a copy; True with one that is a last
    row that never ends.

    The first pieces are smaller and double, so that partitions have work while the next piece is
    read. last_row_end: the place in some bytes where their last whole row ends (0: none does), and
    whether what comes after it can only end by a later byte. lacking: why a row may have no end, as
    errors say it. Raises SchemaError for a row without
    an end.
    """
    target = max(1, block_bytes // FIRST_PIECE)
    size = target
    while data := file.read(max(0, min(size, end_of_file - file.tell()))):
        end, is_open = last_row_end(data)
        if len(data) < size or file.tell() >= end_of_file:
            end = end if is_open else len(data)
            if end:
                yield memoryview(data)[:end], False
            if is_open:
                yield memoryview(data)[end:], True
        elif end:
            yield memoryview(data)[:end], False
            # What is left of the piece, less than a row as a rule, is read again.
            file.seek(end - len(data), 1)
            size = target = min(block_bytes, 2 * target)
        elif size > MAX_ROW_BLOCKS * block_bytes:
            raise SchemaError(
                f"expected the end of a row within {size} bytes, got none - at {path}; look for"
                f" {lacking} near {data[: MAX_RAW_CHARS // 10]!r}"
            )
        else:
            file.seek(-len(data), 1)
            size *= 2
