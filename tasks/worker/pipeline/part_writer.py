"""Writes the previous piece as Parquet to the store while the current piece is encoded."""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pyarrow as pa

from tasks.adapters.checkpoint.part_files import PartMeta, documents_in, part_of, vector_column, write_part
from tasks.adapters.object_store.os_errors import disk_error
from tasks.adapters.rows.pieces import merge_taken
from tasks.adapters.rows.row_lengths import lengths_column, with_lengths
from tasks.adapters.rows.row_schema import as_part, part_schema
from tasks.domain.encoding.protocol import Done, Storing
from tasks.domain.errors import KitestringError, Transient
from tasks.domain.ports import Store
from tasks.domain.shards.seal import EncodeStats, Part
from tasks.domain.target.fields import ScalarField
from tasks.worker.pipeline.coordinator_client import CoordinatorClient, fault_of, heartbeats, unexpected_error
from tasks.worker.pipeline.piece_encoder import EncodedPiece
from tasks.worker.system.memory import peak_memory


class PartWriter:
    """Writes one part at a time; `put` waits for the previous part, which bounds memory."""

    def __init__(
        self, coordinator: CoordinatorClient, store: Store, fields: tuple[ScalarField, ...], *, store_text: bool, sparse: bool = False
    ) -> None:
        self._coordinator, self._store = coordinator, store
        self._fields, self._schema = fields, part_schema(fields, store_text=store_text, sparse=sparse)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._last: Future[None] | None = None

    def put(self, encoded: EncodedPiece) -> None:
        """Write an encoded piece in the background."""
        self.drain()
        self._last = self._thread.submit(self._deliver, encoded)

    def drain(self) -> None:
        """Wait until every part is in the store and reported."""
        if self._last is not None:
            self._last.result()

    def _deliver(self, encoded: EncodedPiece) -> None:
        key = encoded.ready.piece.key
        try:
            with heartbeats(partial(self._coordinator.send, Storing(key=key))):
                part = self._store_part(encoded)
        except KitestringError as error:
            self._coordinator.send(fault_of(error, key))
        except OSError as error:
            self._coordinator.send(fault_of(disk_error(error, Path(encoded.ready.piece.rows).parent), key))
        except Exception as error:  # noqa: BLE001 - raised at the next piece, it would be attributed to that piece's rows
            self._coordinator.send(fault_of(unexpected_error(error, "cannot write the part"), key))
        else:
            self._coordinator.send(Done(part=part, padded=encoded.padded, halved=encoded.halved, memory=peak_memory()))

    def _store_part(self, encoded: EncodedPiece) -> Part:
        began, piece = time.perf_counter(), encoded.ready.piece
        table, reused, taken = part_table(encoded, self._schema)
        stats = encoded.ready.work.stats.model_copy(update={"encode_seconds": encoded.encode_seconds}) + taken
        meta = PartMeta(
            first=piece.first,
            stop=piece.stop,
            shard=piece.shard,
            quarantined=encoded.quarantined,
            stats=stats,
            reused=reused,
            documents=documents_in(table, self._fields),
        )
        with tempfile.TemporaryDirectory(dir=Path(piece.rows).parent, prefix="part-") as folder:
            path = Path(folder) / "part.parquet"
            write_part(path, table, meta)
            data = path.read_bytes()
        part = part_of(piece.key, data, table, meta)
        self._put(piece.key, data)
        took = part.stats.model_copy(update={"write_seconds": time.perf_counter() - began})
        return part.model_copy(update={"stats": took})

    def _put(self, key: str, data: bytes) -> None:
        try:
            self._store.write(key, data)
        except (KitestringError, OSError):
            raise
        except Exception as error:  # a store's client may raise anything, and the part is not the cause
            raise Transient(str(unexpected_error(error, "cannot write the part to the checkpoint"))) from error


def part_table(encoded: EncodedPiece, schema: pa.Schema) -> tuple[pa.Table, int, EncodeStats]:
    """Build the table of rows with a vector, in the source's order: the columns of `schema`, and lengths if they are known.

    Returns also the number of reused vectors and the length statistics of their rows.
    """
    piece, kept = encoded.ready.piece, encoded.ready.rows.filter(pa.array(encoded.kept))
    table = as_part(kept, vector_column(encoded.vectors), piece.shard, schema)
    lost = getattr(encoded.ready.work, "lost", ())  # present if the encoder counts tokens
    if len(lost):
        table = with_lengths(table, lengths_column(encoded.ready.work.sizes, lost).filter(pa.array(encoded.kept)))
    if not piece.taken:
        return table, 0, EncodeStats()
    return merge_taken(kept, table, piece, schema)
