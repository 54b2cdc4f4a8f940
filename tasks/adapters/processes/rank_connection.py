"""A connected rank and the pieces assigned to it."""

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
    """A piece, the caller's future, and how many ranks died on it."""

    piece: Piece
    part: Future[Part]
    deaths: int = 0

    def fail(self, error: KitestringError) -> None:
        """Fail the future, unless it is done."""
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
        with contextlib.suppress(OSError):  # the reading side notices a dead rank
            self.connection.sendall(message.model_dump_json().encode() + b"\n")
