"""Vectors of sealed parts that other shards reuse: each part is read and verified once, and cached in scratch."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.checkpoint.part_files import lengths_in, part_vectors
from tasks.adapters.checkpoint.reuse.digest_file import mixed_ids
from tasks.adapters.object_store.os_errors import writing
from tasks.adapters.rows.vectors.sparse_vectors import PackedFile, is_sparse
from tasks.domain.errors import Permanent
from tasks.domain.shards.seal import Part

SCRATCH_BYTES = 8 << 30  # of cached vectors
LENGTHS_EACH = 2  # numbers beside a vector
WRITTEN_ROWS = 1_000  # per write
MOST_READS = 4  # of one part: if every batch needs every part, endless reads are avoided by encoding the rows instead


@dataclass(frozen=True, slots=True, kw_only=True)
class DonorPart:
    """A part to take vectors from. `ids`: digest of its expected keys, in order."""

    part: Part
    ids: bytes


class DonorParts:
    """Vectors by part and position in it. Thread-safe.

    Args:
        checkpoint: checkpoint of the parts.
        parts: the parts, by number.
        scratch: private folder; one file for each cached part.
        dim: dimension of the vectors.
        sparse: whether the vectors are sparse.
        most_bytes: limit of vectors in scratch at a time.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        parts: Sequence[DonorPart],
        scratch: Path,
        *,
        dim: int,
        sparse: bool = False,
        most_bytes: int = SCRATCH_BYTES,
    ) -> None:
        self._checkpoint, self._parts, self._scratch, self._dim, self._most_bytes = checkpoint, parts, scratch, dim, most_bytes
        self._sparse = sparse
        self._lock = threading.Lock()
        self._open: dict[int, bool] = {}  # least recently used first; False: differs from its seal
        self._reads = Counter[int]()

    def vectors(self, number: int) -> np.ndarray | PackedFile | None:
        """Return a part's vectors and lengths, mapped from scratch; None if it is damaged, missing, or was read too often.

        float32 of shape (rows, dim + 2): the bytes of the last two columns are int32 lengths, see `tasks.adapters.rows.row_lengths`.
        Sparse vectors come without lengths.

        Release the result soon: touched pages count as memory of this process while they are mapped.

        Raises:
            Permanent: scratch is full.
            Transient: the store does not respond.
        """
        with self._lock:
            if number in self._open:
                self._open[number] = self._open.pop(number)
            elif self._reads[number] < MOST_READS:
                self._open[number] = self._read(number)
                self._reads[number] += 1
                self._make_room()
            if not self._open.get(number):
                return None
            path = self._path(number)
            return PackedFile(path) if self._sparse else np.memmap(path, np.float32, "r", shape=self._shape(number))

    def _read(self, number: int) -> bool:
        donor = self._parts[number]
        try:
            table = self._checkpoint.sealed_part(donor.part)
            vectors = part_vectors(table)
        except Permanent:
            return False
        expected_shape = (donor.part.rows,) if self._sparse else (donor.part.rows, self._dim)
        if is_sparse(vectors) != self._sparse or vectors.shape != expected_shape or mixed_ids(table.column("id")) != donor.ids:
            return False
        lengths = lengths_in(table)
        known_lengths = np.full((len(vectors), LENGTHS_EACH), -1, np.int32) if lengths is None else np.ascontiguousarray(lengths)
        with writing(self._scratch):
            if self._sparse:
                PackedFile.write(self._path(number), vectors)
            else:
                _write(self._path(number), vectors, known_lengths.view(np.float32))
        return True

    def _make_room(self) -> None:
        sizes = {number: self._path(number).stat().st_size for number, is_cached in self._open.items() if is_cached}
        total = sum(sizes.values())
        for number in list(sizes)[:-1]:
            if total <= self._most_bytes:
                return
            total -= sizes[number]
            del self._open[number]
            self._path(number).unlink(missing_ok=True)

    def _shape(self, number: int) -> tuple[int, int]:
        return self._parts[number].part.rows, self._dim + LENGTHS_EACH

    def _path(self, number: int) -> Path:
        return self._scratch / f"donor-{number}.f32"


def _write(path: Path, vectors: np.ndarray, lengths: np.ndarray) -> None:
    with path.open("wb") as file:
        for first in range(0, len(vectors), WRITTEN_ROWS):
            rows = slice(first, first + WRITTEN_ROWS)
            np.concatenate([vectors[rows], lengths[rows]], axis=1).tofile(file)
