"""The other end of the wire, for tests: serves pieces to a real torchrun launch and keeps what the ranks say."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from tasks.adapters.processes.hardware import Launch as Hardware
from tasks.adapters.processes.torchrun import command_of
from tasks.adapters.rows.row_schema import rows_schema
from tasks.domain.encoding.protocol import (
    Assignment,
    Done,
    Fault,
    FromRank,
    Heartbeat,
    Hello,
    NoMoreWork,
    Piece,
    RequestPiece,
    Storing,
    Welcome,
)
from tasks.domain.job.encoder import Encoder
from tasks.domain.job.job import Compute
from tasks.domain.job.source import Modality

Heard = Hello | RequestPiece | Heartbeat | Storing | Done | Fault


def write_rows(path: Path, first: int, columns: dict[str, list[Any]], modality: Modality = "text") -> Path:
    """Rows in the form that ranks read; ids are `r` and the row's number."""
    count = len(next(iter(columns.values())))
    rows = {"row": list(range(first, first + count)), "id": [f"r{first + n}" for n in range(count)], **columns}
    table = pa.table(rows, schema=rows_schema(modality, ()))
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    return path


@dataclass
class Launch:
    """One torchrun and the pieces it is to work on. Leaving the context ends every process of it."""

    scratch: Path
    encoder: Encoder
    model_path: str
    ranks: int = 1
    pieces: deque[Piece] = field(default_factory=deque)
    modality: Modality = "text"
    precision: str = "float32"
    sample: tuple[str, ...] = ()
    compute: Compute = field(default_factory=lambda: Compute(device="cpu"))
    forked: bool = True  # as ranks on CPUs are; else each is started by itself, as on GPUs
    command: list[str] | None = None  # in place of torchrun's; the path of the assignment comes after it
    on_message: Callable[[Heard], None] = lambda _: None
    heard: list[tuple[int, Heard]] = field(default_factory=list)  # with the number of the connection

    def __enter__(self) -> Self:
        assignment = Assignment(
            encoder=self.encoder,
            model_path=self.model_path,
            modality=self.modality,
            precision=self.precision,
            sample=self.sample,
            compute=self.compute,
            store=str(self.scratch / "store"),
            fields=(),
            store_text=self.modality == "text",
            socket=str(self.scratch / "s"),
        )
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(assignment.socket)
        self._listener.listen()
        self._connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()
        self._log = (self.scratch / "log").open("wb")
        hardware, written = Hardware(ranks=self.ranks, threads=1, device="cpu" if self.forked else "cuda"), self.scratch / "assignment.json"
        self.process = subprocess.Popen(
            [*self.command, str(written)] if self.command else command_of(hardware, self.encoder.kind, written),
            env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
            stderr=self._log,
            start_new_session=True,
        )
        # An agent waits for it; plain torchrun's ranks read it, seconds later.
        (self.scratch / "new").write_text(assignment.model_dump_json())
        (self.scratch / "new").rename(self.scratch / "assignment.json")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.hang_up()
        self._listener.close()
        for rank in self.said(Hello):
            if self.process.poll() is None:
                with suppress(ProcessLookupError):  # it has left
                    os.kill(rank.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self._log.close()

    def wait(self, seconds: float = 120) -> int:
        return self.process.wait(seconds)

    def hang_up(self) -> None:
        """Go away as a coordinator does that was killed."""
        for connection in self._connections:
            connection.shutdown(socket.SHUT_RDWR) if connection.fileno() >= 0 else None

    def said(self, kind: type[Any]) -> list[Any]:
        return [message for _, message in self.heard if isinstance(message, kind)]

    @property
    def log(self) -> str:
        return (self.scratch / "log").read_text()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            threading.Thread(target=self._serve, args=(connection, len(self._connections)), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        try:
            with connection, connection.makefile("rb") as lines:
                for line in lines:
                    message = FromRank.validate_json(line)
                    self.heard.append((number, message))
                    self.on_message(message)
                    self._answer(connection, message)
        except OSError:  # hung up
            return

    def _answer(self, connection: socket.socket, message: Heard) -> None:
        if isinstance(message, Hello):
            connection.sendall(Welcome().model_dump_json().encode() + b"\n")
        elif isinstance(message, RequestPiece):
            try:
                answer: Piece | NoMoreWork = self.pieces.popleft()
            except IndexError:
                answer = NoMoreWork()
            connection.sendall(answer.model_dump_json().encode() + b"\n")
