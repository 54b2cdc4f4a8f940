"""What each row of a shard is made of: one small Parquet object beside its parts, which its seal names by checksum.

It holds a line for every row that was read and is no duplicate, in the source's order. A part's rows are the same in the same order, less
those that the encoder could not embed, which the part names: so a line says where its vector is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.checkpoint.part_files import sha256_of_part
from tasks.adapters.object_store.os_errors import writing
from tasks.domain.errors import Permanent
from tasks.domain.shards.amendment import Amendment
from tasks.domain.shards.seal import Part, Seal

DIGESTS = pa.schema([("row", pa.int64()), ("id", pa.string()), ("digest", pa.binary(16))])  # digest: null where nobody knows it
Places = npt.NDArray[np.int64]


class DigestFile:
    """The digests of one shard's rows while it is read; `path` is in private scratch."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer: pq.ParquetWriter | None = None
        self._known = 0

    def add(self, rows: pa.RecordBatch, digests: pa.Array) -> None:
        """Take in rows in the form of `tasks.adapters.rows.row_schema` and their digests.

        Raises:
            Permanent: there is no room in scratch.
        """
        with writing(self.path.parent):
            self._writer = self._writer or pq.ParquetWriter(self.path, DIGESTS, compression="zstd", use_dictionary=False)
            self._writer.write_table(pa.table([rows.column("row"), rows.column("id"), digests], schema=DIGESTS))
        self._known += len(digests) - digests.null_count

    def keep(self, checkpoint: Checkpoint, shard: str, attempt: str) -> str:
        """Put the file in the checkpoint; its SHA-256, or "" where no row has a digest. It is gone from scratch afterwards."""
        try:
            if self._writer is None or not self._known:
                return ""
            with writing(self.path.parent):
                self._writer.close()
            checkpoint.store.write(checkpoint.layout.digests(shard, attempt), self.path)
            return sha256_of_part(self.path)
        finally:
            self.drop()

    def drop(self) -> None:
        """Remove it from scratch."""
        if self._writer is not None:
            self._writer.close()
        self.path.unlink(missing_ok=True)


def read_digests(checkpoint: Checkpoint, shard: str) -> tuple[Seal, list[Amendment], pa.Table] | None:
    """A sealed shard, what retries have added to it, and the digests of its rows; None where there are none that can be trusted.

    Raises:
        Transient: the store does not answer.
    """
    try:
        seal = checkpoint.read_seal(shard)
        data = checkpoint.store.read(checkpoint.layout.digests(shard, seal.attempt)) if seal and seal.digests else None
        if seal is None or data is None or hashlib.sha256(data).hexdigest() != seal.digests:
            return None
        return seal, checkpoint.amendments(shard) if seal.quarantined else [], pq.read_table(pa.BufferReader(data))
    except Permanent:  # a damaged seal is seen to by whoever relies on it
        return None


def rows_of_parts(seal: Seal, amendments: Sequence[Amendment], digests: pa.Table) -> Iterator[tuple[Part, Places]]:
    """Each part, and which lines of the digests are its rows, in its order. A part that is otherwise is left out."""
    rows = digests.column("row").to_numpy()
    for part in seal.parts:
        first, stop = np.searchsorted(rows, [part.first, part.stop])
        missing = np.isin(rows[first:stop], [row.row for row in part.quarantined])
        yield from _as_told(part, first + np.flatnonzero(~missing))
    for amendment in amendments:
        for part in amendment.parts:
            recovered = [row for row in amendment.recovered if part.first <= row < part.stop]
            yield from _as_told(part, np.flatnonzero(np.isin(rows, recovered)))


def _as_told(part: Part, places: Places) -> Iterator[tuple[Part, Places]]:
    if part.rows == len(places):
        yield part, places


def mixed_ids(ids: pa.Array | pa.ChunkedArray) -> bytes:
    """A digest of keys in their order: whether a part holds the rows that are expected in it."""
    mixed = hashlib.blake2b(digest_size=16)
    for key in ids.to_pylist():
        encoded = str(key).encode()
        mixed.update(len(encoded).to_bytes(4, "big") + encoded)
    return mixed.digest()
