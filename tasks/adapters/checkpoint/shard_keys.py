"""The keys of a sealed shard beside its parts, without the vectors: so that all keys of a corpus can be read again.

One small Parquet object for each effective seal (see `tasks.adapters.checkpoint.duplicate_finder`), written when the
shard is loaded and its parts are at hand. One that is missing or damaged is made again from the parts.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.checkpoint.duplicate_finder import KEYS, rows_of_table
from tasks.adapters.object_store.os_errors import writing
from tasks.domain.shards.seal import Part, Seal


class ShardKeys:
    """Reads and writes them for one checkpoint; `scratch` (private, of a run) holds files while they are written."""

    def __init__(self, checkpoint: Checkpoint, scratch: Path) -> None:
        self._scratch = scratch
        self._store, self._layout, self._read_part = checkpoint.store, checkpoint.layout, checkpoint.verified_part

    def keep(self, seal: Seal, read: Callable[[Part], pa.Table]) -> None:
        """Read every part of a seal, and keep its keys. `read` may do more with the part; memory is bounded by one."""
        with writing(self._scratch), tempfile.NamedTemporaryFile(dir=self._scratch, prefix="keys-", suffix=".parquet") as file:
            with pq.ParquetWriter(file.name, KEYS, compression="zstd", write_page_checksum=True) as writer:
                for place, part in enumerate(seal.parts):
                    ids = read(part).column("id")
                    writer.write_table(pa.table([ids, pa.repeat(pa.scalar(place, pa.int32()), len(ids))], schema=KEYS))
            self._store.write(self._key(seal), Path(file.name))

    def read(self, seal: Seal) -> bytes:
        """The keys of a seal's parts: a Parquet file of the schema KEYS.

        Raises:
            Damaged: they had to be read from the parts, and one of those does not match its seal.
        """
        data = self._store.read(self._key(seal))
        if data is None or not _is_whole(data, seal):
            self.keep(seal, self._read_part)
            data = self._store.read(self._key(seal)) or b""
        return data

    def _key(self, seal: Seal) -> str:
        return self._layout.keys(seal.shard, seal.digest)


def keys_in(data: bytes) -> list[str]:
    """The keys in what `ShardKeys.read` gives."""
    keys: list[str] = pq.read_table(io.BytesIO(data), columns=["id"]).column("id").to_pylist()
    return keys


def _is_whole(data: bytes, seal: Seal) -> bool:
    try:
        file = pq.ParquetFile(io.BytesIO(data))
    except (pa.ArrowException, OSError):
        return False
    return bool(file.schema_arrow.equals(KEYS)) and rows_of_table(data) == seal.rows
