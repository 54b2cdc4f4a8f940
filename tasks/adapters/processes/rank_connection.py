"""A connected rank, and the pieces that it holds."""

from __future__ import annotations

import contextlib
import socket
import time
from concurrent.futures import Future
from dataclasses import dataclass, field

from tasks.domain.encoding.protocol import Heartbeat, NoMoreWork, Piece, Welcome
from tasks.domain.errors import KitestringError
from tasks.domain.shards.seal import Part


@dataclass(slots=True, kw_only=True)
class RankWorkItem:
    """A piece, the future of its caller, and how often its rank died."""

    piece: Piece
    part: Future[Part]
    deaths: int = 0

    def fail(self, error: KitestringError) -> None:
        """Fail the waiting caller, unless it has its result."""
        if not self.part.done():
            self.part.set_exception(error)


@dataclass(slots=True, kw_only=True)
class RankConnection:
    """One connected rank."""

    connection: socket.socket
    rank: int = -1
    pid: int = 0
    wants: int = 0
    at: Heartbeat | None = None
    heard: float = field(default_factory=time.monotonic)
    held: dict[str, RankWorkItem] = field(default_factory=dict)  # by the part's key, oldest first

    def send(self, message: Piece | NoMoreWork | Welcome) -> None:
        with contextlib.suppress(OSError):  # a dead rank shows itself on the reading side
            self.connection.sendall(message.model_dump_json().encode() + b"\n")
