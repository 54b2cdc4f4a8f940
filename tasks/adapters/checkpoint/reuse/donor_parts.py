"""The vectors of sealed parts that rows of other shards take over: each part is read and verified once, and waits in scratch."""

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

SCRATCH_BYTES = 8 << 30  # of vectors that wait at a time
LENGTHS_EACH = 2  # numbers beside a vector
WRITTEN_ROWS = 1_000  # at a time
MOST_READS = 4  # of one part: rows in an order in which every batch needs every part would read them for ever, and are encoded instead


@dataclass(frozen=True, slots=True, kw_only=True)
class DonorPart:
    """`ids`: digest of the keys that it is expected to hold, in their order."""

    part: Part
    ids: bytes


class DonorParts:
    """Vectors by part and place in it. Many threads may ask one.

    Args:
        checkpoint: that the parts are in.
        parts: by number.
        scratch: private; a file for each part that was read.
        dim: of the vectors.
        sparse: whether they are.
        most_bytes: of vectors in scratch at a time.
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
        self._open: dict[int, bool] = {}  # those used last are at its end; False: not what was sealed
        self._reads = Counter[int]()

    def vectors(self, number: int) -> np.ndarray | PackedFile | None:
        """A part's vectors and lengths, mapped from scratch; None where it is damaged, gone, or was read often enough.

        float32 of shape (rows, dim + 2): the last two columns are int32 in the same bytes, as of `tasks.adapters.rows.row_lengths`.
        Sparse ones alone, without lengths.

        Let go of it soon: pages that were touched count as memory of this process for as long as they are mapped.

        Raises:
            Permanent: there is no room in scratch.
            Transient: the store does not answer.
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
        wanted = self._parts[number]
        try:
            table = self._checkpoint.sealed_part(wanted.part)
            vectors = part_vectors(table)
        except Permanent:
            return False
        whole = (wanted.part.rows,) if self._sparse else (wanted.part.rows, self._dim)
        if is_sparse(vectors) != self._sparse or vectors.shape != whole or mixed_ids(table.column("id")) != wanted.ids:
            return False
        lengths = lengths_in(table)
        known = np.full((len(vectors), LENGTHS_EACH), -1, np.int32) if lengths is None else np.ascontiguousarray(lengths)
        with writing(self._scratch):
            if self._sparse:
                PackedFile.write(self._path(number), vectors)
            else:
                _write(self._path(number), vectors, known.view(np.float32))
        return True

    def _make_room(self) -> None:
        held = {number: self._path(number).stat().st_size for number, there in self._open.items() if there}
        left = sum(held.values())
        for number in list(held)[:-1]:
            if left <= self._most_bytes:
                return
            left -= held[number]
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
