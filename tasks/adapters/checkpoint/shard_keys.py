"""The keys of a sealed shard, stored beside its parts without the vectors, so that all keys of a corpus can be read quickly.

One small Parquet object for each effective seal (see `tasks.adapters.checkpoint.duplicate_finder`), written when the
shard is loaded and its parts are read anyway. A missing or damaged object is rebuilt from the parts. Beside each key is a hash of its
vector (since version 3 of the ledger's entries), which shows a later shard that the collection already has a vector.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.checkpoint.duplicate_finder import KEYS, rows_of_table
from tasks.adapters.checkpoint.part_files import part_vectors
from tasks.adapters.object_store.os_errors import writing
from tasks.domain.shards.seal import Part, Seal

HASHED_KEYS = pa.schema([*KEYS, ("vector", pa.uint64())])


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedVectors:
    """The keys of a seal with the hashes of their vectors."""

    ids: pa.Array
    hashes: np.ndarray


class ShardKeys:
    """Reads and writes the keys of one checkpoint's shards; `scratch` (private to a run) holds files while they are written."""

    def __init__(self, checkpoint: Checkpoint, scratch: Path) -> None:
        self._scratch = scratch
        self._store, self._layout, self._read_part = checkpoint.store, checkpoint.layout, checkpoint.verified_part

    def keep(self, seal: Seal, read: Callable[[Part], pa.Table]) -> None:
        """Read every part of a seal, and store its keys. `read` may also use the part otherwise; memory is bounded by one part."""
        with writing(self._scratch), tempfile.NamedTemporaryFile(dir=self._scratch, prefix="keys-", suffix=".parquet") as file:
            with pq.ParquetWriter(file.name, HASHED_KEYS, compression="zstd", write_page_checksum=True) as writer:
                for number, part in enumerate(seal.parts):
                    rows = read(part)
                    numbers = pa.repeat(pa.scalar(number, pa.int32()), rows.num_rows)
                    writer.write_table(pa.table([rows.column("id"), numbers, vector_hashes(rows)], schema=HASHED_KEYS))
            self._store.write(self._key(seal), Path(file.name))

    def read(self, seal: Seal) -> bytes:
        """Return the keys of a seal's parts: a Parquet file with the columns of KEYS.

        Raises:
            Damaged: the keys had to be rebuilt, and a part does not match its seal.
        """
        data = self._store.read(self._key(seal))
        if data is None or not _is_intact(data, seal):
            self.keep(seal, self._read_part)
            data = self._store.read(self._key(seal)) or b""
        return data

    def vectors(self, shard: str, seal: str) -> SealedVectors | None:
        """Return keys and vector hashes by the seal's digest; None if the file is missing, damaged, or of a version without hashes."""
        data = self._store.read(self._layout.keys(shard, seal))
        try:
            table = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True).read(["id", "vector"]) if data else None
        except (pa.ArrowException, OSError):
            return None
        if table is None or "vector" not in table.column_names:
            return None
        return SealedVectors(ids=table["id"].combine_chunks(), hashes=table["vector"].to_numpy())

    def _key(self, seal: Seal) -> str:
        return self._layout.keys(seal.shard, seal.digest)


def vector_hashes(rows: pa.Table) -> np.ndarray:
    """Return a 64-bit hash of each sealed vector of a part."""
    return np.fromiter((_hash(vector) for vector in part_vectors(rows)), np.uint64, rows.num_rows)


def _hash(vector: Any) -> int:
    return int.from_bytes(hashlib.blake2b(memoryview(vector), digest_size=8).digest(), "little")


def keys_in(data: bytes) -> list[str]:
    """Return the keys in a file of `ShardKeys.read`."""
    keys: list[str] = pq.read_table(io.BytesIO(data), columns=["id"]).column("id").to_pylist()
    return keys


def _is_intact(data: bytes, seal: Seal) -> bool:
    try:
        file = pq.ParquetFile(io.BytesIO(data))
    except (pa.ArrowException, OSError):
        return False
    return any(file.schema_arrow.equals(known) for known in (KEYS, HASHED_KEYS)) and rows_of_table(data) == seal.rows
