"""Which content has a vector already: the digests of earlier shards, sorted on disk by DuckDB with bounded memory, and searched there."""

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

SORT_MEMORY, SORT_THREADS = "128MB", 2  # each thread needs some of it: twenty million rows are sorted as fast as with 512 MB
MOST_INDEXED = 20_000_000  # that are looked through: 0.5 GB of scratch
SHARDS_AT_ONCE = 16  # of which the digests are read
SPARSE_BYTES = 1 << 10  # of a vector of some hundred terms
COLUMNS = {"high": np.uint64, "low": np.uint64, "part": np.int32, "place": np.int32}
# One place for each digest: in the best shard that has it.
SORTED = "SELECT high, low, min(part) AS part, arg_min(place, part) AS place FROM known GROUP BY high, low ORDER BY high, low"


class ContentIndex:
    """Vectors by the digest of their content. Many threads may ask one.

    Args:
        checkpoint: of one encoder.
        donors: sealed shards to take vectors from, best first.
        scratch: private, for the index and for vectors.
        dim: of the vectors.
        sparse: whether they are.
        most_bytes: of vectors in scratch at a time.

    Raises:
        Permanent: there is no room in scratch.
        Transient: the store does not answer.
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
        self._found: list[DonorPart] = []
        self.rows = self._sort(checkpoint, donors)
        self._parts = DonorParts(checkpoint, self._found, scratch, dim=dim, sparse=sparse, most_bytes=most_bytes)

    @property
    def vector_bytes(self) -> int:
        """Of one; of a sparse one about."""
        return SPARSE_BYTES if self._sparse else 4 * self._dim

    def vectors_of(self, digests: pa.Array) -> pa.Array:
        """The vector of each digest as the column of a part; null where none is known, or a part that held it is not what was sealed."""
        return self.taken(digests)[0]

    def taken(self, digests: pa.Array) -> tuple[pa.Array, np.ndarray]:
        """The same, and the lengths of the rows: int32 of shape (digests, 2), -1 where they are not known, as of sparse vectors."""
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
        """Lines of the index, and which of the digests each is."""
        known = np.flatnonzero(digests.is_valid().to_numpy(zero_copy_only=False))
        if not self.rows or not len(known):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        high, low = _halves(digests.drop_null())
        highs = self._column("high")
        lines = np.minimum(np.searchsorted(highs, high), self.rows - 1)
        hit = (highs[lines] == high) & (self._column("low")[lines] == low)  # 64 bits that are alike in two digests cost a row its vector
        return lines[hit], known[hit]

    def _sort(self, checkpoint: Checkpoint, donors: Iterable[str]) -> int:
        """Write the index; how many lines it has."""
        import duckdb  # noqa: PLC0415 - 0.3 s, for those who take vectors over

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
                self._found.append(DonorPart(part=part, ids=mixed_ids(lines.column("id"))))
                yield _incoming(lines.column("digest"), len(self._found) - 1)
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
        """Mapped for one question: pages that were touched count as memory of this process until then."""
        return np.memmap(self._scratch / name, COLUMNS[name], "r") if self.rows else np.empty(0, COLUMNS[name])


def _incoming(digests: pa.ChunkedArray, part: int) -> pa.Table:
    known = digests.is_valid()
    high, low = _halves(digests.filter(known).combine_chunks())
    places = np.flatnonzero(known.to_numpy()).astype(np.int32)
    return pa.table({"high": high, "low": low, "part": np.full(len(places), part, np.int32), "place": places})


def _halves(digests: pa.FixedSizeBinaryArray) -> tuple[np.ndarray, np.ndarray]:
    """The first and the last 64 bits of each digest; none of them null."""
    values = (
        np.frombuffer(digests.buffers()[1] or b"", ">u8", 2 * len(digests), 16 * digests.offset) if len(digests) else np.empty(0, ">u8")
    )
    return values[::2].astype(np.uint64), values[1::2].astype(np.uint64)


def vector_lists(vectors: np.ndarray, valid: np.ndarray) -> pa.Array:
    """The rows that are valid as the column of a part, the others null."""
    if is_sparse(vectors):
        return sparse_column([row if there else None for row, there in zip(vectors, valid, strict=True)])
    ends = np.concatenate([[0], np.cumsum(valid)]) * vectors.shape[1]
    known = vectors if valid.all() else vectors[valid]
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(known.reshape(-1)), mask=pa.array(~valid))
