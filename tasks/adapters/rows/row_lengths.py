"""How long each row is in tokens: those that the model reads, and those that were cut off. Kept with a part, so that reports know it of rows
whose vectors are taken over.

In a table on its way they are a column of `LENGTHS_TYPE`; in a part's file a line of its metadata, since a server imports every column.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.adapters.rows.row_schema import LENGTHS_TYPE, ROW_LENGTHS
from tasks.domain.encoding.length_bins import histogram
from tasks.domain.shards.seal import EncodeStats

NOBODY_KNOWS = -1


def lengths_column(read: Sequence[int], lost: Sequence[int]) -> pa.Array:
    """From what the encoder counted of each row."""
    return as_column(np.stack([np.asarray(read, np.int32), np.asarray(lost, np.int32)], axis=1))


def as_column(lengths: np.ndarray) -> pa.Array:
    """int32 of shape (rows, 2) as the column; null where the first is below 0."""
    flat = pa.array(np.ascontiguousarray(lengths, np.int32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, type=LENGTHS_TYPE, mask=pa.array(lengths[:, 0] < 0))


def stats_of_lengths(table: pa.Table) -> EncodeStats:
    """What a report says of lengths, of those rows of a table whose lengths are known; nothing of its work."""
    if ROW_LENGTHS not in table.column_names:
        return EncodeStats()
    known = _as_array(table)
    known = known[known[:, 0] >= 0]
    lost = known[:, 1]
    return EncodeStats(truncated=int((lost > 0).sum()), tokens_cut=int(lost.sum()), lengths=histogram(known[:, 0].tolist()))


def with_lengths(table: pa.Table, lengths: pa.Array | pa.ChunkedArray | None) -> pa.Table:
    """The table with the column; unknown without `lengths`."""
    return table.append_column(pa.field(ROW_LENGTHS, LENGTHS_TYPE), pa.nulls(table.num_rows, LENGTHS_TYPE) if lengths is None else lengths)


def without_lengths(table: pa.Table) -> tuple[pa.Table, bytes]:
    """The table without the column, and what a file keeps of it; empty where no length is known."""
    if ROW_LENGTHS not in table.column_names:
        return table, b""
    lengths, rest = table.column(ROW_LENGTHS), table.drop_columns(ROW_LENGTHS)
    if lengths.null_count == len(lengths):
        return rest, b""
    return rest, base64.b64encode(zlib.compress(_as_array(table).astype("<i4").T.tobytes()))


def unpacked_lengths(packed: bytes, rows: int) -> np.ndarray | None:
    """int32 of shape (rows, 2); None where these are not those of so many rows."""
    try:
        numbers = np.frombuffer(zlib.decompress(base64.b64decode(packed)), "<i4")
    except (ValueError, zlib.error):
        return None
    return numbers.reshape(2, rows).T.astype(np.int32) if len(numbers) == 2 * rows else None


def _as_array(table: pa.Table) -> np.ndarray:
    column = table.column(ROW_LENGTHS).combine_chunks()
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    lengths = np.full((table.num_rows, 2), NOBODY_KNOWS, np.int32)
    lengths[valid] = pc.list_flatten(column.drop_null()).to_numpy(zero_copy_only=False).reshape(-1, 2)
    return lengths
