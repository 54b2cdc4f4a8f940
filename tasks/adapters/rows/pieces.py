"""Cutting a shard's rows into pieces: consecutive source rows, sized by what the ranks can do in some seconds."""

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
LARGEST_TAKEN = (
    8 << 20
)  # of vectors that are taken over, which no rank's pace bounds: a part is held several times while it is made and loaded


@dataclass(slots=True)
class Tally:
    """What the reader counted, on its own: one side of the law "Accounted rows"."""

    seen: int = 0
    made: int = 0  # rows for the encoder, by which pieces are numbered: as many as were seen, or the chunks of those
    documents: DocumentTable | None = None  # where rows are chunks
    duplicates: int = 0
    quarantined: list[Quarantined] = field(default_factory=list)
    found: Findings = field(default_factory=Findings)


@dataclass(slots=True)
class DocumentTable:
    """Of each document that was split: the position of its first chunk, its row of the source, and its number of chunks."""

    firsts: array[int] = field(default_factory=lambda: array("q"))
    rows: array[int] = field(default_factory=lambda: array("q"))
    chunks: array[int] = field(default_factory=lambda: array("l"))
    overlap_tokens: int = 0
    encoded: set[int] = field(default_factory=set)  # places of those of which a chunk goes to the encoder

    def add(self, made: ChunksMade) -> None:
        """Take in the documents of a batch."""
        for first, row, chunks in made.documents:
            self.firsts.append(first)
            self.rows.append(row)
            self.chunks.append(chunks)
        self.overlap_tokens += made.overlap_tokens

    def number_at(self, position: int) -> int:
        """The place in this table of the document that a chunk is of."""
        return bisect.bisect_right(self.firsts, position) - 1


@dataclass(slots=True)
class PieceRows:
    """Source rows, or chunks of them, [first, stop) less those that cannot or need not be encoded."""

    first: int
    stop: int
    batches: list[pa.RecordBatch] = field(default_factory=list)
    rows: int = 0
    bytes: int = 0
    taken: int = 0  # rows that have a vector already
    taken_bytes: int = 0  # of those vectors

    def add(self, batch: pa.RecordBatch) -> None:
        self.batches.append(batch)
        self.rows += batch.num_rows
        self.bytes += batch.nbytes
        self.taken += batch.num_rows - int(_to_encode(batch).sum())
        self.taken_bytes += _taken_bytes(batch)

    @property
    def is_full(self) -> bool:
        """Whether it may hold no more bytes."""
        return self.bytes >= LARGEST_PIECE or self.taken_bytes >= LARGEST_TAKEN

    @property
    def to_encode(self) -> int:
        """Rows that have no vector yet."""
        return self.rows - self.taken

    @property
    def cached(self) -> int:
        """Rows whose vectors came from a cache."""
        return sum(pc.sum(batch.column(CACHED)).as_py() or 0 for batch in self.batches if CACHED in batch.schema.names)

    def write(self, path: Path) -> None:
        """The rows to encode as Arrow IPC, which a rank maps into memory as it is.

        Raises:
            Permanent: there is no room in scratch (names the path).
        """
        _write(path, (_without_vectors(batch) for batch in self.batches))

    def write_taken(self, path: Path) -> None:
        """The rows that have a vector, likewise."""
        _write(path, (batch.filter(pc.is_valid(batch.column(TAKEN_VECTOR))) for batch in self.batches))

    def taken_rows(self) -> pa.Table:
        """The same, in memory: what is in it already, where that is all rows."""
        rows = pa.Table.from_batches(self.batches)
        return rows.filter(pc.is_valid(rows.column(TAKEN_VECTOR))) if self.to_encode else rows


def wanted_of(rows: PieceRows) -> dict[str, bytes]:
    """Of the rows to encode, where there is a cache: keys, and digests of what they are made of."""
    found: dict[str, bytes] = {}
    for batch in rows.batches:
        if ROW_DIGEST in batch.schema.names:
            left = batch.filter(pc.and_(pc.is_null(batch.column(TAKEN_VECTOR)), pc.is_valid(batch.column(ROW_DIGEST))))
            found |= dict(zip(left.column("id").to_pylist(), left.column(ROW_DIGEST).to_pylist(), strict=True))
    return found


def _write(path: Path, batches: Iterator[pa.RecordBatch]) -> None:
    first = next(batches)
    try:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, first.schema) as writer:
            for batch in itertools.chain([first], batches):
                writer.write_batch(batch)
    except OSError as error:
        raise disk_error(error, path) from error


def _without_vectors(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The rows to encode, in the form that the encoder takes."""
    if TAKEN_VECTOR not in batch.schema.names:
        return batch
    left = batch.filter(pc.is_null(batch.column(TAKEN_VECTOR)))
    return left.select([name for name in batch.schema.names if name not in INTERNAL_COLUMNS])


def _to_encode(batch: pa.RecordBatch) -> npt.NDArray[np.bool_]:
    """Which rows have no vector."""
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
    """Pieces for the source rows that no adopted part covers.

    Args:
        prepared: a shard's rows, in order.
        tally: counts every row, covered or not.
        covered: source rows [first, stop) of adopted parts.
        piece_rows: asked for each piece how many rows it should have that are to be encoded.
    """
    piece: PieceRows | None = None
    aim = piece_rows()
    for chunk in prepared:
        begin = tally.made
        tally.seen += chunk.seen
        tally.made += chunk.made
        if chunk.chunks:
            tally.documents = tally.documents or DocumentTable()
            tally.documents.add(chunk.chunks)
        tally.duplicates += chunk.duplicates
        tally.quarantined += chunk.quarantined
        tally.found.extend(chunk.found)
        for first, stop in uncovered(begin, tally.made, covered):
            if piece and piece.stop != first:
                yield from _whole(piece)
                piece = None
            rows = _between(chunk.batch, first, stop)
            while rows.num_rows:
                piece = piece or PieceRows(first=first, stop=first)
                taken = rows.slice(0, min(_room(rows, aim - piece.to_encode), _room_for_taken(rows, piece)))
                rows = rows.slice(taken.num_rows)
                piece.add(taken)
                if tally.documents:
                    tally.documents.encoded.update(map(tally.documents.number_at, _rows_to_encode(taken)))
                piece.stop = taken.column("row")[-1].as_py() + 1
                if piece.to_encode >= aim or piece.is_full:
                    yield piece
                    piece, aim = PieceRows(first=piece.stop, stop=piece.stop), piece_rows()
            if piece:
                piece.stop = stop
    if piece:
        yield from _whole(piece)


def _room(rows: pa.RecordBatch, left: int) -> int:
    """How many of the first rows a piece takes that has room for so many to encode; one at least."""
    return max(1, int(np.searchsorted(np.cumsum(_to_encode(rows)), left, side="right")))


def _room_for_taken(rows: pa.RecordBatch, piece: PieceRows) -> int:
    """How many of the first rows have vectors for which it has room, by their average size; one at least."""
    size = _taken_bytes(rows)
    fit: int = rows.num_rows * (LARGEST_TAKEN - piece.taken_bytes) // size if size else rows.num_rows
    return max(1, fit)


def _taken_bytes(batch: pa.RecordBatch) -> int:
    return int(batch.column(TAKEN_VECTOR).nbytes) if TAKEN_VECTOR in batch.schema.names else 0


def merge_taken(encoded: pa.Table, table: pa.Table, piece: Piece, schema: pa.Schema) -> tuple[pa.Table, int, EncodeStats]:
    """A piece's part with the rows in it that had a vector before; how many those are, and what is known of their lengths.

    Args:
        encoded: the piece's rows that were encoded, in the form of `tasks.adapters.rows.row_schema`.
        table: the same as they stand in a part, maybe with their lengths, which the answer has.
        piece: says where the others wait.
        schema: of the part.

    Raises:
        Permanent: those cannot be read.
    """
    try:
        with pa.memory_map(piece.taken) as file:
            taken = pa.ipc.open_file(file).read_all()
    except (OSError, pa.ArrowInvalid) as error:
        raise Permanent(f"rows {piece.first}-{piece.stop - 1} of shard {piece.shard} cannot be read from scratch: {error}") from error
    table = table if ROW_LENGTHS in table.column_names else with_lengths(table, None)
    before = part_of_taken(taken, piece.shard, schema)
    both = pa.concat_tables([table, before])
    order = np.argsort(np.concatenate([encoded.column("row").to_numpy(), taken.column("row").to_numpy()]), kind="stable")
    return both.take(pa.array(order)).combine_chunks(), taken.num_rows, stats_of_lengths(before)


def part_of_taken(taken: pa.Table, shard: str, schema: pa.Schema) -> pa.Table:
    """Rows with vectors of their own as a part, and their lengths beside them."""
    return with_lengths(
        as_part(taken, taken.column(TAKEN_VECTOR), shard, schema), taken.column(ROW_LENGTHS) if ROW_LENGTHS in taken.column_names else None
    )


def _whole(piece: PieceRows) -> Iterator[PieceRows]:
    if piece.rows:
        yield piece


def _between(batch: pa.RecordBatch, first: int, stop: int) -> pa.RecordBatch:
    rows = batch.column("row")
    return batch.filter(pc.and_(pc.greater_equal(rows, first), pc.less(rows, stop)))
