"""A port of the loopback that leads to another: for a text that names the usual port of a server which listens elsewhere."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

WAIT_SECONDS = 120.0  # another session of the tests may hold the port


@contextlib.contextmanager
def forwarded(port: int, to: int) -> Iterator[None]:
    """Pass every connection to `port` on to `to`, for as long as it lasts.

    Raises:
        OSError: the port stays in use.
    """
    with _listen(port) as listener:
        threading.Thread(target=_accept, args=(listener, to), daemon=True).start()
        yield
        with contextlib.suppress(OSError):  # wakes the thread; it is gone where the listener broke
            listener.shutdown(socket.SHUT_RDWR)


def _listen(port: int) -> socket.socket:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            return socket.create_server(("127.0.0.1", port))
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def _accept(listener: socket.socket, to: int) -> None:
    with contextlib.suppress(OSError):
        while True:
            near, _ = listener.accept()
            far = socket.create_connection(("127.0.0.1", to))
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=(source, sink), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
