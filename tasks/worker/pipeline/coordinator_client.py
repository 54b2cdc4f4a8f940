"""A rank's end of the conversation with the coordinator: one JSON document a line over a Unix socket."""

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
        """Say one thing.

        Raises:
            OSError: the coordinator has ended.
        """
        line = message.model_dump_json().encode() + b"\n"
        with self._sending:
            self._socket.sendall(line)

    def listen(self) -> Iterator[Piece | NoMoreWork | Welcome]:
        """What the coordinator says, until it hangs up."""
        with self._socket.makefile("rb") as lines:
            try:
                for line in lines:
                    if line.endswith(b"\n"):  # else the coordinator died in the middle of a word
                        yield ToRank.validate_json(line)
            except OSError:
                return

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


HEARTBEAT_SECONDS = 1.0


@contextmanager
def beating(beat: Callable[[], object]) -> Iterator[None]:
    """Send a heartbeat at once and every second: a store may take minutes, and a rank that says nothing is taken to hang.

    The block must end by itself: every call to a store has a time limit and a maximum number of tries.
    """
    over = threading.Event()

    def send() -> None:
        with suppress(OSError):  # the coordinator has ended: the inbox notices
            beat()
            while not over.wait(HEARTBEAT_SECONDS):
                beat()

    beats = threading.Thread(target=send, daemon=True, name="beats")
    beats.start()
    try:
        yield
    finally:
        over.set()
        beats.join()


def unforeseen(error: BaseException, what: str) -> KitestringError:
    """An unexpected error as a leaf of the error tree: it belongs to the reported operation, and to no row.

    Args:
        error: anything but a KitestringError.
        what: was being done.
    """
    words = without_credentials(f"{what}: {type(error).__name__}: {first_line(error)}")
    return Transient(words) if isinstance(error, MemoryError) else Permanent(words)


def fault_of(error: KitestringError, key: str = "") -> Fault:
    """An error as a message to the coordinator; no key: the encoder itself is at fault."""
    text = " ".join(str(error).split())
    if isinstance(error, BadInput):
        return Fault(key=key, leaf="bad input", text=text)
    return Fault(key=key, leaf="permanent" if isinstance(error, Permanent) else "transient", text=text)
