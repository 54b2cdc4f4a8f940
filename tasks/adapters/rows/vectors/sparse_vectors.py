"""Sparse vectors: thousands of dimensions, each a term of a vocabulary, of which a row has about a hundred weights.

In memory they are an object array of shape (rows,). Each object is the bytes of Milvus' protocol: dimension (uint32) and value (float32)
of each non-zero weight, little-endian, ordered by dimension; so equal bytes are equal vectors. In a part they are a struct of two
lists, which a server can import.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tasks.domain.errors import Permanent

SPARSE_TYPE = pa.struct([("indices", pa.list_(pa.uint32())), ("values", pa.list_(pa.float32()))])
PACKED_WEIGHT = np.dtype([("index", "<u4"), ("value", "<f4")])  # one weight of a packed row
SparseRows = npt.NDArray[Any]  # objects of shape (rows,): packed rows


def is_sparse(vectors: npt.NDArray[Any]) -> bool:
    """Return whether vectors are packed rows rather than numbers of shape (rows, dim)."""
    return vectors.dtype == object


def no_vectors(count: int, dim: int, *, sparse: bool) -> npt.NDArray[Any]:
    """Allocate the vectors of `count` rows."""
    return blank(count) if sparse else np.zeros((count, dim), np.float32)


def unit_vector(dim: int, *, sparse: bool) -> npt.NDArray[Any]:
    """Return one vector along the first dimension."""
    return pack(np.array([0, 1]), np.array([0]), np.array([1.0])) if sparse else np.eye(1, dim, dtype=np.float32)


def blank(count: int) -> SparseRows:
    """Return rows without weights."""
    rows = np.empty(count, object)
    rows[:] = b""
    return rows


def as_rows_of(packed: Sequence[bytes]) -> SparseRows:
    """Return packed rows as an array."""
    rows = np.empty(len(packed), object)
    rows[:] = packed
    return rows


def stacked(vectors: Sequence[Any], dim: int, *, sparse: bool) -> npt.NDArray[Any]:
    """Combine single vectors, float32 of shape (dim,) or packed, to one array."""
    if sparse:
        return as_rows_of(vectors)
    return np.stack(vectors) if len(vectors) else np.empty((0, dim), np.float32)


def pack(offsets: npt.NDArray[Any], indices: npt.NDArray[Any], values: npt.NDArray[Any]) -> SparseRows:
    """Pack rows in CSR form: row i has weights [offsets[i], offsets[i+1]). Drops zeros and sorts dimensions."""
    weights = np.empty(len(indices), PACKED_WEIGHT)
    weights["index"], weights["value"] = indices, values
    rows = [weights[first:stop] for first, stop in pairwise(offsets)]
    return as_rows_of([np.sort(row[row["value"] != 0], order="index").tobytes() for row in rows])


def weights_of(row: bytes) -> npt.NDArray[Any]:
    """Return the weights of a packed row, with the fields `index` and `value`."""
    return np.frombuffer(row, PACKED_WEIGHT)


class PackedFile:
    """Packed rows in a private scratch file; only requested rows are read into memory."""

    def __init__(self, path: Path) -> None:
        """Open a file of `write`."""
        self._words = np.memmap(path, np.int64, "r")  # number of rows, end of each row, rows
        self._count = int(self._words[0])

    @staticmethod
    def write(path: Path, rows: SparseRows) -> None:
        """Write the file. Raises OSError."""
        ends = np.cumsum([len(row) // PACKED_WEIGHT.itemsize for row in rows], dtype=np.int64)
        with path.open("wb") as file:
            np.concatenate([[len(rows), 0], ends]).astype(np.int64).tofile(file)
            file.writelines(rows)

    def __getitem__(self, places: npt.NDArray[Any]) -> SparseRows:
        start = 2 + self._count
        firsts, stops = self._words[1 + places], self._words[2 + places]
        pairs = zip(firsts.tolist(), stops.tolist(), strict=True)
        return as_rows_of([self._words[start + first : start + stop].tobytes() for first, stop in pairs])


def values_finite(rows: SparseRows) -> npt.NDArray[np.bool_]:
    """Return for each row whether all its weights are finite."""
    return np.array([np.isfinite(weights_of(row)["value"]).all() for row in rows], dtype=bool)


def sparse_column(rows: Iterable[bytes | None]) -> pa.StructArray:
    """Return packed rows as the column of a part; None becomes null."""
    rows = list(rows)
    known = [row or b"" for row in rows]
    offsets = np.concatenate([[0], np.cumsum([len(row) // PACKED_WEIGHT.itemsize for row in known])]).astype(np.int32)
    weights = weights_of(b"".join(known))
    lists = [
        pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.ascontiguousarray(weights[name]), kind))
        for name, kind in (("index", pa.uint32()), ("value", pa.float32()))
    ]
    return pa.StructArray.from_arrays(lists, fields=list(SPARSE_TYPE), mask=pa.array([row is None for row in rows], pa.bool_()))


def sparse_rows(column: pa.Array | pa.ChunkedArray, dim: int | None = None) -> SparseRows:
    """Return the packed rows of a column.

    Raises:
        Permanent: a vector is missing, empty, or not of `dim` dimensions.
    """
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    column = pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column
    indices, values = column.field("indices"), column.field("values")
    lengths = pc.list_value_length(indices)
    same = not column.null_count and lengths.equals(pc.list_value_length(values)) and not lengths.null_count
    flat = [lists.flatten() for lists in (indices, values)]
    if not same or any(each.null_count for each in flat) or (len(lengths) and pc.min(lengths).as_py() == 0):
        raise Permanent("sparse vectors of a part are missing or incomplete")
    weights = np.empty(len(flat[0]), PACKED_WEIGHT)
    weights["index"], weights["value"] = (each.to_numpy() for each in flat)
    if dim is not None and len(weights) and int(weights["index"].max()) >= dim:
        raise Permanent(f"a part has a sparse vector that is not of the collection's {dim} dimensions")
    data, ends = weights.tobytes(), PACKED_WEIGHT.itemsize * np.concatenate([[0], np.cumsum(lengths.to_numpy())])
    return as_rows_of([data[first:stop] for first, stop in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)])


def as_mapping(row: bytes) -> dict[int, float]:
    """Convert a packed row to pymilvus' input form."""
    weights = weights_of(row)
    return dict(zip(weights["index"].tolist(), weights["value"].tolist(), strict=True))


def from_mapping(weights: Mapping[Any, Any]) -> bytes:
    """Convert pymilvus' output form to a packed row."""
    made = np.array(sorted((int(index), float(value)) for index, value in weights.items()), PACKED_WEIGHT)
    return made.tobytes()


def products(queries: SparseRows, rows: SparseRows, *, dim: int | None = None) -> npt.NDArray[np.float32]:
    """Return inner products of shape (queries, rows)."""
    weights = weights_of(b"".join(rows))
    unpacked = [weights_of(query) for query in queries]
    dim = dim or 1 + max((int(vector["index"].max()) for vector in (weights, *unpacked) if len(vector)), default=0)
    owners = np.repeat(np.arange(len(rows)), [len(row) // PACKED_WEIGHT.itemsize for row in rows])
    scores = np.zeros((len(unpacked), len(rows)), np.float32)
    for at, query in enumerate(unpacked):
        dense = np.zeros(dim, np.float64)
        dense[query["index"]] = query["value"]
        scores[at] = np.bincount(owners, weights["value"] * dense[weights["index"]], minlength=len(rows))
    return scores


def densest(rows: SparseRows, most: int) -> npt.NDArray[np.float64]:
    """Return the rows in the `most` dimensions with the largest weights: float64 of shape (rows, at most `most`)."""
    weights = weights_of(b"".join(rows))
    dimensions, places = np.unique(weights["index"], return_inverse=True)
    chosen = np.argsort(-np.bincount(places, weights["value"].astype(np.float64) ** 2, minlength=len(dimensions)), kind="stable")[:most]
    owners = np.repeat(np.arange(len(rows)), [len(row) // PACKED_WEIGHT.itemsize for row in rows])
    dense, target = np.zeros((len(rows), len(chosen)), np.float64), np.full(len(dimensions), -1)
    target[chosen] = np.arange(len(chosen))
    within = target[places] >= 0
    dense[owners[within], target[places[within]]] = weights["value"][within]
    return dense
