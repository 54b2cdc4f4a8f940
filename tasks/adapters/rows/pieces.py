"""Cutting a shard's rows into pieces: consecutive source rows, sized by what the ranks can do in some seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from tasks.adapters.object_store.os_errors import disk_error
from tasks.adapters.rows.builder import Prepared
from tasks.domain.shards.findings import Findings
from tasks.domain.shards.resume import uncovered
from tasks.domain.shards.seal import Quarantined

LARGEST_PIECE = 64 << 20  # bytes


@dataclass(slots=True)
class Tally:
    """What the reader counted, on its own: one side of the law "Accounted rows"."""

    seen: int = 0
    duplicates: int = 0
    quarantined: list[Quarantined] = field(default_factory=list)
    found: Findings = field(default_factory=Findings)


@dataclass(slots=True)
class PieceRows:
    """Source rows [first, stop) less those that cannot or need not be encoded."""

    first: int
    stop: int
    batches: list[pa.RecordBatch] = field(default_factory=list)
    rows: int = 0
    bytes: int = 0

    def add(self, batch: pa.RecordBatch) -> None:
        self.batches.append(batch)
        self.rows += batch.num_rows
        self.bytes += batch.nbytes

    def write(self, path: Path) -> None:
        """Arrow IPC, which a rank maps into memory as it is.

        Raises:
            Permanent: there is no room in scratch (names the path).
        """
        try:
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, self.batches[0].schema) as writer:
                for batch in self.batches:
                    writer.write_batch(batch)
        except OSError as error:
            raise disk_error(error, path) from error


def cut_pieces(
    prepared: Iterable[Prepared], tally: Tally, *, covered: list[tuple[int, int]], piece_rows: Callable[[], int]
) -> Iterator[PieceRows]:
    """Pieces for the source rows that no adopted part covers.

    Args:
        prepared: a shard's rows, in order.
        tally: counts every row, covered or not.
        covered: source rows [first, stop) of adopted parts.
        piece_rows: asked for each piece how many rows it should have.
    """
    piece: PieceRows | None = None
    aim = piece_rows()
    for chunk in prepared:
        begin = tally.seen
        tally.seen += chunk.seen
        tally.duplicates += chunk.duplicates
        tally.quarantined += chunk.quarantined
        tally.found.extend(chunk.found)
        for first, stop in uncovered(begin, tally.seen, covered):
            if piece and piece.stop != first:
                yield from _whole(piece)
                piece = None
            rows = _between(chunk.batch, first, stop)
            while rows.num_rows:
                piece = piece or PieceRows(first=first, stop=first)
                taken = rows.slice(0, max(1, aim - piece.rows))
                rows = rows.slice(taken.num_rows)
                piece.add(taken)
                piece.stop = taken.column("row")[-1].as_py() + 1
                if piece.rows >= aim or piece.bytes >= LARGEST_PIECE:
                    yield piece
                    piece, aim = PieceRows(first=piece.stop, stop=piece.stop), piece_rows()
            if piece:
                piece.stop = stop
    if piece:
        yield from _whole(piece)


def _whole(piece: PieceRows) -> Iterator[PieceRows]:
    if piece.rows:
        yield piece


def _between(batch: pa.RecordBatch, first: int, stop: int) -> pa.RecordBatch:
    rows = batch.column("row")
    return batch.filter(pc.and_(pc.greater_equal(rows, first), pc.less(rows, stop)))
