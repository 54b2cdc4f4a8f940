"""The piece after this one: fetched, read and tokenised while the current one is encoded."""

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
class Ready:
    """A piece and its rows, less the barred ones."""

    piece: Piece
    rows: pa.Table
    work: Work
    barred: tuple[Quarantined, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unready:
    """A piece that could not be made ready."""

    piece: Piece
    error: BaseException


class Inbox:
    """Asks for one piece at a time, and has it ready before it is needed."""

    def __init__(self, wire: CoordinatorClient, encoder: LoadedEncoder) -> None:
        self._wire, self._encoder = wire, encoder
        self._ready: SimpleQueue[Ready | Unready | None] = SimpleQueue()  # its put may be called in a signal handler

    def open(self) -> None:
        """Begin to listen."""
        threading.Thread(target=self._listen, daemon=True, name="inbox").start()

    def take(self) -> Ready | Unready | None:
        """The next piece, waited for; None when there is no more. One more is asked for at once."""
        taken = self._ready.get()
        if taken is not None:
            self._wire.send(RequestPiece())
        return taken

    def wake(self) -> None:
        """Have `take` return None."""
        self._ready.put(None)

    def _listen(self) -> None:
        try:
            for message in self._wire.listen():
                if isinstance(message, Piece):
                    self._ready.put(self._prepare(message))
                elif isinstance(message, NoMoreWork):
                    self._ready.put(None)
                else:  # Welcome
                    self._wire.send(RequestPiece())
        except Exception as error:  # noqa: BLE001 - the main thread would wait without end
            sys.stderr.write(f"Error: a rank has lost its connection to the coordinator: {type(error).__name__}: {first_line(error)}\n")
        finally:  # the coordinator has ended: the piece in work is not needed. 0 would have a forking agent wait for a result
            os._exit(1)

    def _prepare(self, piece: Piece) -> Ready | Unready:
        try:
            rows, barred = read_rows(piece)
            return Ready(piece=piece, rows=rows, work=self._encoder.prepare(rows), barred=barred)
        except BaseException as error:  # noqa: BLE001 - judged in the main thread, which this thread must not outlive
            return Unready(piece=piece, error=error)


def read_rows(piece: Piece) -> tuple[pa.Table, tuple[Quarantined, ...]]:
    """A piece's rows, mapped from its file, and those that are set aside unseen.

    Raises:
        Permanent: the file cannot be read.
    """
    try:
        with pa.memory_map(piece.rows) as file:
            rows = pa.ipc.open_file(file).read_all()
    except (OSError, pa.ArrowInvalid) as error:
        raise Permanent(f"the rows {piece.first}-{piece.stop - 1} of shard {piece.shard} cannot be read from scratch: {error}") from error
    if not piece.barred:
        return rows, ()
    barred = pc.is_in(rows.column("row"), value_set=pa.array(piece.barred, pa.int64()))
    aside = rows.filter(barred).select(["row", "id"]).to_pylist()
    return rows.filter(pc.invert(barred)), tuple(Quarantined(row=r["row"], id=r["id"], reason=BARRED) for r in aside)
