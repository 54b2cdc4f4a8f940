"""A rank's connection to the coordinator: one JSON document per line over a Unix socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tasks.domain.encoding.protocol import Done, Fault, Heartbeat, Hello, NoMoreWork, Piece, RequestPiece, Storing, ToRank, Welcome
from tasks.domain.errors import BadInput, KitestringError, Permanent, Transient
from tasks.domain.job.credentials import without_credentials
from tasks.worker.encoding_errors import first_line


class CoordinatorClient:
    """A connected socket. Any thread may send; one thread listens."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(path)
        self._sending = threading.Lock()

    def send(self, message: Hello | RequestPiece | Heartbeat | Storing | Done | Fault) -> None:
        """Send a message.

        Raises:
            OSError: the coordinator has ended.
        """
        line = message.model_dump_json().encode() + b"\n"
        with self._sending:
            self._socket.sendall(line)

    def listen(self) -> Iterator[Piece | NoMoreWork | Welcome]:
        """Yield the coordinator's messages until it closes the connection."""
        with self._socket.makefile("rb") as lines:
            try:
                for line in lines:
                    if line.endswith(b"\n"):  # otherwise the coordinator died while sending the line
                        yield ToRank.validate_json(line)
            except OSError:
                return

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


HEARTBEAT_SECONDS = 1.0


@contextmanager
def heartbeats(beat: Callable[[], object]) -> Iterator[None]:
    """Send a heartbeat at once and every second during the block: a store may take minutes, and a silent rank counts as hung.

    The block must end without help: every call to a store has a time limit and a maximum number of tries.
    """
    over = threading.Event()

    def send() -> None:
        with suppress(OSError):  # the coordinator has ended; the reader handles that
            beat()
            while not over.wait(HEARTBEAT_SECONDS):
                beat()

    thread = threading.Thread(target=send, daemon=True, name="heartbeats")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def unexpected_error(error: BaseException, failure: str) -> KitestringError:
    """Convert an unexpected error into a leaf of the error tree, attributed to the operation and to no row.

    Args:
        error: anything but a KitestringError.
        failure: the failed operation, in words.
    """
    message = without_credentials(f"{failure}: {type(error).__name__}: {first_line(error)}")
    return Transient(message) if isinstance(error, MemoryError) else Permanent(message)


def fault_of(error: KitestringError, key: str = "") -> Fault:
    """Convert an error into a message to the coordinator; without a key, the encoder itself failed."""
    text = " ".join(str(error).split())
    if isinstance(error, BadInput):
        return Fault(key=key, leaf="bad input", text=text)
    return Fault(key=key, leaf="permanent" if isinstance(error, Permanent) else "transient", text=text)
