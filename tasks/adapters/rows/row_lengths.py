"""Token lengths of rows: tokens that the model reads, and truncated tokens. Stored with a part, so that reports have them for rows whose
vectors are reused.

In memory they are a column of `LENGTHS_TYPE`; in a part's file an entry of its metadata, since a server imports every column.
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

UNKNOWN = -1


def lengths_column(read: Sequence[int], lost: Sequence[int]) -> pa.Array:
    """Return the column from the encoder's counts of each row."""
    return as_column(np.stack([np.asarray(read, np.int32), np.asarray(lost, np.int32)], axis=1))


def as_column(lengths: np.ndarray) -> pa.Array:
    """Convert int32 of shape (rows, 2) to the column; null where the first is below 0."""
    flat = pa.array(np.ascontiguousarray(lengths, np.int32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, type=LENGTHS_TYPE, mask=pa.array(lengths[:, 0] < 0))


def stats_of_lengths(table: pa.Table) -> EncodeStats:
    """Return length statistics of the rows with known lengths; fields about work stay empty."""
    if ROW_LENGTHS not in table.column_names:
        return EncodeStats()
    known = _as_array(table)
    known = known[known[:, 0] >= 0]
    lost = known[:, 1]
    return EncodeStats(truncated=int((lost > 0).sum()), tokens_cut=int(lost.sum()), lengths=histogram(known[:, 0].tolist()))


def with_lengths(table: pa.Table, lengths: pa.Array | pa.ChunkedArray | None) -> pa.Table:
    """Return the table with the column; all null without `lengths`."""
    return table.append_column(pa.field(ROW_LENGTHS, LENGTHS_TYPE), pa.nulls(table.num_rows, LENGTHS_TYPE) if lengths is None else lengths)


def without_lengths(table: pa.Table) -> tuple[pa.Table, bytes]:
    """Return the table without the column, and the column packed for a file's metadata; empty if no length is known."""
    if ROW_LENGTHS not in table.column_names:
        return table, b""
    lengths, rest = table.column(ROW_LENGTHS), table.drop_columns(ROW_LENGTHS)
    if lengths.null_count == len(lengths):
        return rest, b""
    return rest, base64.b64encode(zlib.compress(_as_array(table).astype("<i4").T.tobytes()))


def unpacked_lengths(packed: bytes, rows: int) -> np.ndarray | None:
    """Return int32 of shape (rows, 2); None if the data does not fit that many rows."""
    try:
        numbers = np.frombuffer(zlib.decompress(base64.b64decode(packed)), "<i4")
    except (ValueError, zlib.error):
        return None
    return numbers.reshape(2, rows).T.astype(np.int32) if len(numbers) == 2 * rows else None


def _as_array(table: pa.Table) -> np.ndarray:
    column = table.column(ROW_LENGTHS).combine_chunks()
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    lengths = np.full((table.num_rows, 2), UNKNOWN, np.int32)
    lengths[valid] = pc.list_flatten(column.drop_null()).to_numpy(zero_copy_only=False).reshape(-1, 2)
    return lengths
