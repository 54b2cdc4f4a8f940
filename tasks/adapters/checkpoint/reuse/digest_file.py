"""Content digests of a shard's rows: one small Parquet object beside its parts, which its seal names by checksum.

It has a line for every row that was read and is not a duplicate, in source order. A part has the same rows in the same order, without
those that the encoder could not embed, which the part lists: so a line determines the position of its vector.
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

DIGESTS = pa.schema([("row", pa.int64()), ("id", pa.string()), ("digest", pa.binary(16))])  # digest: null if unknown
Places = npt.NDArray[np.int64]


class DigestFile:
    """Collects the digests of one shard's rows while it is read; `path` is in private scratch."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer: pq.ParquetWriter | None = None
        self._known = 0

    def add(self, rows: pa.RecordBatch, digests: pa.Array) -> None:
        """Add rows in the form of `tasks.adapters.rows.row_schema` and their digests.

        Raises:
            Permanent: scratch is full.
        """
        with writing(self.path.parent):
            self._writer = self._writer or pq.ParquetWriter(self.path, DIGESTS, compression="zstd", use_dictionary=False)
            self._writer.write_table(pa.table([rows.column("row"), rows.column("id"), digests], schema=DIGESTS))
        self._known += len(digests) - digests.null_count

    def keep(self, checkpoint: Checkpoint, shard: str, attempt: str) -> str:
        """Move the file from scratch to the checkpoint. Returns its SHA-256, or "" if no row has a digest."""
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
        """Remove the file from scratch."""
        if self._writer is not None:
            self._writer.close()
        self.path.unlink(missing_ok=True)


def read_digests(checkpoint: Checkpoint, shard: str) -> tuple[Seal, list[Amendment], pa.Table] | None:
    """Return a sealed shard, its amendments, and the digests of its rows; None without trustworthy digests.

    Raises:
        Transient: the store does not respond.
    """
    try:
        seal = checkpoint.read_seal(shard)
        data = checkpoint.store.read(checkpoint.layout.digests(shard, seal.attempt)) if seal and seal.digests else None
        if seal is None or data is None or hashlib.sha256(data).hexdigest() != seal.digests:
            return None
        return seal, checkpoint.amendments(shard) if seal.quarantined else [], pq.read_table(pa.BufferReader(data))
    except Permanent:  # code that relies on a damaged seal handles it
        return None


def rows_of_parts(seal: Seal, amendments: Sequence[Amendment], digests: pa.Table) -> Iterator[tuple[Part, Places]]:
    """Yield each part with the lines of its rows in the digests, in order. Skips parts whose number of rows differs."""
    rows = digests.column("row").to_numpy()
    for part in seal.parts:
        first, stop = np.searchsorted(rows, [part.first, part.stop])
        missing = np.isin(rows[first:stop], [row.row for row in part.quarantined])
        yield from _if_consistent(part, first + np.flatnonzero(~missing))
    for amendment in amendments:
        for part in amendment.parts:
            recovered = [row for row in amendment.recovered if part.first <= row < part.stop]
            yield from _if_consistent(part, np.flatnonzero(np.isin(rows, recovered)))


def _if_consistent(part: Part, places: Places) -> Iterator[tuple[Part, Places]]:
    if part.rows == len(places):
        yield part, places


def mixed_ids(ids: pa.Array | pa.ChunkedArray) -> bytes:
    """Return a digest of keys in order, to check that a part has the expected rows."""
    mixed = hashlib.blake2b(digest_size=16)
    for key in ids.to_pylist():
        encoded = str(key).encode()
        mixed.update(len(encoded).to_bytes(4, "big") + encoded)
    return mixed.digest()
