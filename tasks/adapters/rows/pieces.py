"""Cuts a shard's rows into pieces: consecutive source rows, sized to a few seconds of a rank's work."""

from __future__ import annotations

import bisect
import itertools
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tasks.adapters.object_store.os_errors import disk_error
from tasks.adapters.rows.builder import ChunksMade, Prepared
from tasks.adapters.rows.row_lengths import stats_of_lengths, with_lengths
from tasks.adapters.rows.row_schema import CACHED, INTERNAL_COLUMNS, ROW_DIGEST, ROW_LENGTHS, TAKEN_VECTOR, as_part
from tasks.domain.encoding.protocol import Piece
from tasks.domain.errors import Permanent
from tasks.domain.shards.findings import Findings
from tasks.domain.shards.resume import uncovered
from tasks.domain.shards.seal import EncodeStats, Quarantined

LARGEST_PIECE = 64 << 20  # bytes
LARGEST_TAKEN = 8 << 20  # bytes of reused vectors: no rank's speed bounds them, and memory holds several copies of a part


@dataclass(slots=True)
class Tally:
    """The reader's own counts: one side of the law "Accounted rows"."""

    seen: int = 0
    made: int = 0  # positions, by which pieces are numbered: rows seen, or their chunks
    documents: DocumentTable | None = None  # if rows are chunks
    duplicates: int = 0
    quarantined: list[Quarantined] = field(default_factory=list)
    found: Findings = field(default_factory=Findings)


@dataclass(slots=True)
class DocumentTable:
    """For each split document: the position of its first chunk, its source row, and its number of chunks."""

    firsts: array[int] = field(default_factory=lambda: array("q"))
    rows: array[int] = field(default_factory=lambda: array("q"))
    chunks: array[int] = field(default_factory=lambda: array("l"))
    overlap_tokens: int = 0
    encoded: set[int] = field(default_factory=set)  # indices of documents with a chunk for the encoder

    def add(self, made: ChunksMade) -> None:
        """Add the documents of a batch."""
        for first, row, chunks in made.documents:
            self.firsts.append(first)
            self.rows.append(row)
            self.chunks.append(chunks)
        self.overlap_tokens += made.overlap_tokens

    def number_at(self, position: int) -> int:
        """Return the index in this table of the document that contains a chunk."""
        return bisect.bisect_right(self.firsts, position) - 1


@dataclass(slots=True)
class PieceRows:
    """Source rows or chunks [first, stop), without those that cannot or need not be encoded."""

    first: int
    stop: int
    batches: list[pa.RecordBatch] = field(default_factory=list)
    rows: int = 0
    bytes: int = 0
    taken: int = 0  # rows with a reused vector
    taken_bytes: int = 0  # size of those vectors

    def add(self, batch: pa.RecordBatch) -> None:
        self.batches.append(batch)
        self.rows += batch.num_rows
        self.bytes += batch.nbytes
        self.taken += batch.num_rows - int(_to_encode(batch).sum())
        self.taken_bytes += _taken_bytes(batch)

    @property
    def is_full(self) -> bool:
        """Whether a size limit is reached."""
        return self.bytes >= LARGEST_PIECE or self.taken_bytes >= LARGEST_TAKEN

    @property
    def to_encode(self) -> int:
        """Number of rows without a vector."""
        return self.rows - self.taken

    @property
    def cached(self) -> int:
        """Number of rows whose vectors came from a cache."""
        return sum(pc.sum(batch.column(CACHED)).as_py() or 0 for batch in self.batches if CACHED in batch.schema.names)

    def write(self, path: Path) -> None:
        """Write the rows to encode as Arrow IPC, which a rank memory-maps.

        Raises:
            Permanent: scratch is full (names the path).
        """
        _write(path, (_without_vectors(batch) for batch in self.batches))

    def write_taken(self, path: Path) -> None:
        """Write the rows with a reused vector, in the same way."""
        _write(path, (batch.filter(pc.is_valid(batch.column(TAKEN_VECTOR))) for batch in self.batches))

    def taken_rows(self) -> pa.Table:
        """Return the rows with a reused vector; without a copy if that is all rows."""
        rows = pa.Table.from_batches(self.batches)
        return rows.filter(pc.is_valid(rows.column(TAKEN_VECTOR))) if self.to_encode else rows


def digests_to_cache(rows: PieceRows) -> dict[str, bytes]:
    """Return key and content digest of the rows to encode; empty without a cache."""
    digests: dict[str, bytes] = {}
    for batch in rows.batches:
        if ROW_DIGEST in batch.schema.names:
            remaining = batch.filter(pc.and_(pc.is_null(batch.column(TAKEN_VECTOR)), pc.is_valid(batch.column(ROW_DIGEST))))
            digests |= dict(zip(remaining.column("id").to_pylist(), remaining.column(ROW_DIGEST).to_pylist(), strict=True))
    return digests


def _write(path: Path, batches: Iterator[pa.RecordBatch]) -> None:
    first = next(batches)
    try:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, first.schema) as writer:
            for batch in itertools.chain([first], batches):
                writer.write_batch(batch)
    except OSError as error:
        raise disk_error(error, path) from error


def _without_vectors(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the rows to encode, without internal columns."""
    if TAKEN_VECTOR not in batch.schema.names:
        return batch
    remaining = batch.filter(pc.is_null(batch.column(TAKEN_VECTOR)))
    return remaining.select([name for name in batch.schema.names if name not in INTERNAL_COLUMNS])


def _to_encode(batch: pa.RecordBatch) -> npt.NDArray[np.bool_]:
    """Return a mask of the rows without a vector."""
    if TAKEN_VECTOR not in batch.schema.names:
        return np.ones(batch.num_rows, dtype=bool)
    missing: npt.NDArray[np.bool_] = pc.is_null(batch.column(TAKEN_VECTOR)).to_numpy(zero_copy_only=False)
    return missing


def _rows_to_encode(batch: pa.RecordBatch) -> list[int]:
    rows: list[int] = batch.column("row").filter(pa.array(_to_encode(batch))).to_pylist()
    return rows


def cut_pieces(
    prepared: Iterable[Prepared], tally: Tally, *, covered: list[tuple[int, int]], piece_rows: Callable[[], int]
) -> Iterator[PieceRows]:
    """Yield pieces for the source rows that no adopted part covers.

    Args:
        prepared: a shard's rows, in order.
        tally: counts every row, covered or not.
        covered: source rows [first, stop) of adopted parts.
        piece_rows: called for each piece; returns its target number of rows to encode.
    """
    piece: PieceRows | None = None
    target = piece_rows()
    for chunk in prepared:
        first_position = tally.made
        tally.seen += chunk.seen
        tally.made += chunk.made
        if chunk.chunks:
            tally.documents = tally.documents or DocumentTable()
            tally.documents.add(chunk.chunks)
        tally.duplicates += chunk.duplicates
        tally.quarantined += chunk.quarantined
        tally.found.extend(chunk.found)
        for first, stop in uncovered(first_position, tally.made, covered):
            if piece and piece.stop != first:
                yield from _unless_empty(piece)
                piece = None
            rows = _between(chunk.batch, first, stop)
            while rows.num_rows:
                piece = piece or PieceRows(first=first, stop=first)
                taken = rows.slice(0, min(_room(rows, target - piece.to_encode), _room_for_taken(rows, piece)))
                rows = rows.slice(taken.num_rows)
                piece.add(taken)
                if tally.documents:
                    tally.documents.encoded.update(map(tally.documents.number_at, _rows_to_encode(taken)))
                piece.stop = taken.column("row")[-1].as_py() + 1
                if piece.to_encode >= target or piece.is_full:
                    yield piece
                    piece, target = PieceRows(first=piece.stop, stop=piece.stop), piece_rows()
            if piece:
                piece.stop = stop
    if piece:
        yield from _unless_empty(piece)


def _room(rows: pa.RecordBatch, left: int) -> int:
    """Return how many of the first rows fit into a piece with room for `left` rows to encode; at least one."""
    return max(1, int(np.searchsorted(np.cumsum(_to_encode(rows)), left, side="right")))


def _room_for_taken(rows: pa.RecordBatch, piece: PieceRows) -> int:
    """Return how many of the first rows fit by the average size of their reused vectors; at least one."""
    size = _taken_bytes(rows)
    fit: int = rows.num_rows * (LARGEST_TAKEN - piece.taken_bytes) // size if size else rows.num_rows
    return max(1, fit)


def _taken_bytes(batch: pa.RecordBatch) -> int:
    return int(batch.column(TAKEN_VECTOR).nbytes) if TAKEN_VECTOR in batch.schema.names else 0


def merge_taken(encoded: pa.Table, table: pa.Table, piece: Piece, schema: pa.Schema) -> tuple[pa.Table, int, EncodeStats]:
    """Merge the reused rows of a piece into its part. Returns the part, the number of reused rows, and statistics of their lengths.

    Args:
        encoded: the piece's encoded rows, in the form of `tasks.adapters.rows.row_schema`.
        table: the same rows as a part, possibly with their lengths, which the result always has.
        piece: names the file of the reused rows.
        schema: of the part.

    Raises:
        Permanent: the reused rows cannot be read.
    """
    try:
        with pa.memory_map(piece.taken) as file:
            taken = pa.ipc.open_file(file).read_all()
    except (OSError, pa.ArrowInvalid) as error:
        raise Permanent(f"rows {piece.first}-{piece.stop - 1} of shard {piece.shard} cannot be read from scratch: {error}") from error
    table = table if ROW_LENGTHS in table.column_names else with_lengths(table, None)
    reused = part_of_taken(taken, piece.shard, schema)
    both = pa.concat_tables([table, reused])
    order = np.argsort(np.concatenate([encoded.column("row").to_numpy(), taken.column("row").to_numpy()]), kind="stable")
    return both.take(pa.array(order)).combine_chunks(), taken.num_rows, stats_of_lengths(reused)


def part_of_taken(taken: pa.Table, shard: str, schema: pa.Schema) -> pa.Table:
    """Return rows with reused vectors as a part, with a column of their lengths."""
    return with_lengths(
        as_part(taken, taken.column(TAKEN_VECTOR), shard, schema), taken.column(ROW_LENGTHS) if ROW_LENGTHS in taken.column_names else None
    )


def _unless_empty(piece: PieceRows) -> Iterator[PieceRows]:
    if piece.rows:
        yield piece


def _between(batch: pa.RecordBatch, first: int, stop: int) -> pa.RecordBatch:
    rows = batch.column("row")
    return batch.filter(pc.and_(pc.greater_equal(rows, first), pc.less(rows, stop)))
