"""Requests, reads and tokenises the next piece while the current piece is encoded."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import dataclass
from queue import SimpleQueue

import pyarrow as pa
import pyarrow.compute as pc

from tasks.domain.encoding.protocol import NoMoreWork, Piece, RequestPiece
from tasks.domain.errors import Permanent
from tasks.domain.shards.seal import Quarantined
from tasks.worker.base import LoadedEncoder, Work
from tasks.worker.encoding_errors import first_line
from tasks.worker.pipeline.coordinator_client import CoordinatorClient

BARRED = "crashed the encoder twice: the process that encoded it died"


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedPiece:
    """A piece and its rows, without the barred rows."""

    piece: Piece
    rows: pa.Table
    work: Work
    barred: tuple[Quarantined, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedPiece:
    """A piece that could not be prepared."""

    piece: Piece
    error: BaseException


class PieceReader:
    """Requests one piece at a time and prepares it before it is needed."""

    def __init__(self, coordinator: CoordinatorClient, encoder: LoadedEncoder) -> None:
        self._coordinator, self._encoder = coordinator, encoder
        self._ready: SimpleQueue[PreparedPiece | FailedPiece | None] = SimpleQueue()  # SimpleQueue.put is safe in a signal handler

    def open(self) -> None:
        """Start listening to the coordinator."""
        threading.Thread(target=self._listen, daemon=True, name="reader").start()

    def take(self) -> PreparedPiece | FailedPiece | None:
        """Wait for the next piece and request another one; return None when there are no more."""
        taken = self._ready.get()
        if taken is not None:
            self._coordinator.send(RequestPiece())
        return taken

    def wake(self) -> None:
        """Make `take` return None."""
        self._ready.put(None)

    def _listen(self) -> None:
        try:
            for message in self._coordinator.listen():
                if isinstance(message, Piece):
                    self._ready.put(self._prepare(message))
                elif isinstance(message, NoMoreWork):
                    self._ready.put(None)
                else:  # Welcome
                    self._coordinator.send(RequestPiece())
        except Exception as error:  # noqa: BLE001 - the main thread would wait forever
            sys.stderr.write(f"Error: a rank has lost its connection to the coordinator: {type(error).__name__}: {first_line(error)}\n")
        finally:  # the coordinator has ended: the piece in progress is not needed. With 0 a forking agent would wait for a result
            os._exit(1)

    def _prepare(self, piece: Piece) -> PreparedPiece | FailedPiece:
        try:
            rows, barred = read_rows(piece)
            return PreparedPiece(piece=piece, rows=rows, work=self._encoder.prepare(rows), barred=barred)
        except BaseException as error:  # noqa: BLE001 - the main thread handles it; this thread must keep listening
            return FailedPiece(piece=piece, error=error)


def read_rows(piece: Piece) -> tuple[pa.Table, tuple[Quarantined, ...]]:
    """Map a piece's rows from its file; return them and the barred rows, which are quarantined without being encoded.

    Raises:
        Permanent: the file cannot be read.
    """
    try:
        with pa.memory_map(piece.rows) as file:
            rows = pa.ipc.open_file(file).read_all()
    except (OSError, pa.ArrowInvalid) as error:
        raise Permanent(f"cannot read rows {piece.first}-{piece.stop - 1} of shard {piece.shard} from scratch: {error}") from error
    if not piece.barred:
        return rows, ()
    barred = pc.is_in(rows.column("row"), value_set=pa.array(piece.barred, pa.int64()))
    crashed = rows.filter(barred).select(["row", "id"]).to_pylist()
    return rows.filter(pc.invert(barred)), tuple(Quarantined(row=r["row"], id=r["id"], reason=BARRED) for r in crashed)
