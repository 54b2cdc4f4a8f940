"""An index of content that already has a vector: digests of earlier shards, sorted on disk by DuckDB with bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.checkpoint.duplicate_finder import duckdb_error
from tasks.adapters.checkpoint.reuse.digest_file import mixed_ids, read_digests, rows_of_parts
from tasks.adapters.checkpoint.reuse.donor_parts import LENGTHS_EACH, SCRATCH_BYTES, DonorPart, DonorParts
from tasks.adapters.concurrent_map import ahead
from tasks.adapters.rows.vectors.sparse_vectors import is_sparse, no_vectors, sparse_column

SORT_MEMORY, SORT_THREADS = "128MB", 2  # threads share the memory; sorts twenty million rows as fast as with 512 MB
MOST_INDEXED = 20_000_000  # rows: 0.5 GB of scratch
SHARDS_AT_ONCE = 16  # whose digests are read concurrently
SPARSE_BYTES = 1 << 10  # of a vector of about a hundred terms
COLUMNS = {"high": np.uint64, "low": np.uint64, "part": np.int32, "place": np.int32}
# One location for each digest: in the best shard that has it.
SORTED = "SELECT high, low, min(part) AS part, arg_min(place, part) AS place FROM known GROUP BY high, low ORDER BY high, low"


class ContentIndex:
    """Vectors by the digest of their content. Thread-safe.

    Args:
        checkpoint: checkpoint of one encoder.
        donors: sealed shards to take vectors from, best first.
        scratch: private folder for the index and for vectors.
        dim: dimension of the vectors.
        sparse: whether the vectors are sparse.
        most_bytes: limit of vectors in scratch at a time.

    Raises:
        Permanent: scratch is full.
        Transient: the store does not respond.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        donors: Iterable[str],
        scratch: Path,
        *,
        dim: int,
        sparse: bool = False,
        most_bytes: int = SCRATCH_BYTES,
    ) -> None:
        self._scratch, self._dim, self._sparse = scratch, dim, sparse
        self._donors: list[DonorPart] = []
        self.rows = self._sort(checkpoint, donors)
        self._parts = DonorParts(checkpoint, self._donors, scratch, dim=dim, sparse=sparse, most_bytes=most_bytes)

    @property
    def vector_bytes(self) -> int:
        """Bytes of one vector; approximate if sparse."""
        return SPARSE_BYTES if self._sparse else 4 * self._dim

    def vectors_of(self, digests: pa.Array) -> pa.Array:
        """Return the vector of each digest as the column of a part; null if unknown, or if its part differs from its seal."""
        return self.taken(digests)[0]

    def taken(self, digests: pa.Array) -> tuple[pa.Array, np.ndarray]:
        """Return vectors like `vectors_of`, and row lengths: int32 of shape (digests, 2), -1 if unknown, always for sparse vectors."""
        taken = no_vectors(len(digests), self._dim, sparse=self._sparse)
        lengths = np.full((len(digests), LENGTHS_EACH), -1, np.int32)
        valid = np.zeros(len(digests), dtype=bool)
        found, at = self._find(digests)
        numbers, places = self._column("part")[found], self._column("place")[found]
        for number in np.unique(numbers).tolist():
            vectors, of_part = self._parts.vectors(number), numbers == number
            if vectors is not None:
                rows = vectors[places[of_part]]
                taken[at[of_part]] = rows if self._sparse else rows[:, : self._dim]
                if not self._sparse:
                    lengths[at[of_part]] = rows[:, self._dim :].view(np.int32)
                valid[at[of_part]] = True
        return vector_lists(taken, valid), lengths

    def _find(self, digests: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """Return the matching lines of the index, and the position in `digests` of each."""
        known = np.flatnonzero(digests.is_valid().to_numpy(zero_copy_only=False))
        if not self.rows or not len(known):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        high, low = _halves(digests.drop_null())
        highs = self._column("high")
        lines = np.minimum(np.searchsorted(highs, high), self.rows - 1)
        hit = (highs[lines] == high) & (self._column("low")[lines] == low)  # two digests with the same first 64 bits cost a row its vector
        return lines[hit], known[hit]

    def _sort(self, checkpoint: Checkpoint, donors: Iterable[str]) -> int:
        """Write the index. Returns its number of lines."""
        import duckdb  # noqa: PLC0415 - 0.3 s, only needed to reuse vectors

        path = self._scratch / "content.duckdb"
        try:
            config: dict[str, Any] = {
                "memory_limit": SORT_MEMORY,
                "threads": SORT_THREADS,
                "temp_directory": str(self._scratch / "spilled"),
            }
            with closing(duckdb.connect(str(path), config=config)) as db:
                db.execute("CREATE TABLE known (high UBIGINT, low UBIGINT, part INTEGER, place INTEGER)")
                for lines in self._lines(checkpoint, donors):
                    db.register("incoming", lines)
                    db.execute("INSERT INTO known SELECT * FROM incoming")
                return self._write(db.sql(SORTED).to_arrow_reader(100_000))
        except (OSError, duckdb.Error) as error:
            raise duckdb_error(error, self._scratch) from error
        finally:
            path.unlink(missing_ok=True)

    def _lines(self, checkpoint: Checkpoint, donors: Iterable[str]) -> Iterator[pa.Table]:
        rows = 0
        for found in ahead(partial(read_digests, checkpoint), donors, at_once=SHARDS_AT_ONCE):
            if found is None:
                continue
            digests = found[2]
            for part, places in rows_of_parts(*found):
                lines = digests.take(pa.array(places))
                self._donors.append(DonorPart(part=part, ids=mixed_ids(lines.column("id"))))
                yield _incoming(lines.column("digest"), len(self._donors) - 1)
            rows += digests.num_rows
            if rows >= MOST_INDEXED:
                return

    def _write(self, batches: pa.RecordBatchReader) -> int:
        rows = 0
        files = {name: (self._scratch / name).open("wb") for name in COLUMNS}
        try:
            for batch in batches:
                rows += batch.num_rows
                for name, kind in COLUMNS.items():
                    files[name].write(batch.column(name).to_numpy(zero_copy_only=False).astype(kind).tobytes())
        finally:
            for file in files.values():
                file.close()
        return rows

    def _column(self, name: str) -> np.ndarray:
        """Map a column for one lookup: touched pages count as memory of this process while it is mapped."""
        return np.memmap(self._scratch / name, COLUMNS[name], "r") if self.rows else np.empty(0, COLUMNS[name])


def _incoming(digests: pa.ChunkedArray, part: int) -> pa.Table:
    known = digests.is_valid()
    high, low = _halves(digests.filter(known).combine_chunks())
    places = np.flatnonzero(known.to_numpy()).astype(np.int32)
    return pa.table({"high": high, "low": low, "part": np.full(len(places), part, np.int32), "place": places})


def _halves(digests: pa.FixedSizeBinaryArray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the last 64 bits of each digest; none may be null."""
    values = (
        np.frombuffer(digests.buffers()[1] or b"", ">u8", 2 * len(digests), 16 * digests.offset) if len(digests) else np.empty(0, ">u8")
    )
    return values[::2].astype(np.uint64), values[1::2].astype(np.uint64)


def vector_lists(vectors: np.ndarray, valid: np.ndarray) -> pa.Array:
    """Return valid rows as the column of a part, the others null."""
    if is_sparse(vectors):
        return sparse_column([row if is_valid else None for row, is_valid in zip(vectors, valid, strict=True)])
    ends = np.concatenate([[0], np.cumsum(valid)]) * vectors.shape[1]
    known = vectors if valid.all() else vectors[valid]
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(known.reshape(-1)), mask=pa.array(~valid))
