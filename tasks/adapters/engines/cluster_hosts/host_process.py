"""A `RemoteHost` in its own process, beside an engine's process that must survive it, such as a Dask worker.

The two processes communicate over a pipe. If the pipe breaks (the engine's process has ended in any way), or if there was no call for
`UNCALLED_SECONDS`, the host closes itself and its ranks, and its process exits.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from itertools import count
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

import tasks
from tasks.adapters.engines.remote_host import LEAVING_SECONDS, RemoteHost
from tasks.domain.job.kinds import declared_at

log = logging.getLogger(__name__)
UNCALLED_SECONDS = 20.0  # the engine does not end hosts when the flow dies: every rank must be gone 30 s after that
REMOTE_HOST = "tasks.adapters.engines.remote_host:RemoteHost"
LEFT_SECONDS = LEAVING_SECONDS + 10  # within which a leaving host has exited


class HostProcess:
    """Starts the process; thread-safe.

    Args:
        host: "module:name" of the `RemoteHost` class.
    """

    def __init__(self, host: str = REMOTE_HOST) -> None:
        ours, its = Pipe()
        root = str(Path(tasks.__file__).parents[1])
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        command = [sys.executable, "-m", __spec__.name, str(its.fileno()), host]
        self._process = subprocess.Popen(
            command, pass_fds=[its.fileno()], stdin=subprocess.DEVNULL, start_new_session=True, env={**os.environ, "PYTHONPATH": path}
        )
        its.close()
        self._pipe, self._numbers, self._lock = ours, count(), threading.Lock()
        self._waiting: dict[int, Future[str]] = {}
        self._leaving = self._gone = False
        threading.Thread(target=self._listen, daemon=True, name="host-process").start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def call(self, method: str, *arguments: object) -> Future[str]:
        """See `HostLink.call`; for this one process."""
        answer, number = Future[str](), next(self._numbers)
        self._waiting[number] = answer
        try:
            with self._lock:
                self._pipe.send((number, method, arguments))
        except OSError:
            self._gone = True
        if self._gone:
            self._fail()
        return answer

    def end(self) -> None:
        """Kill the process, unless it is leaving and will exit on its own."""
        if not self._leaving:
            self._process.kill()

    def leave(self) -> None:
        """Have the host finish its pieces in progress and exit; waits for it, and kills it after `LEFT_SECONDS`."""
        self._leaving = True
        self._process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(LEFT_SECONDS)
        self._process.kill()

    def _listen(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                number, answer, error = self._pipe.recv()
                with suppress(InvalidStateError):  # the caller has cancelled
                    future = self._waiting.pop(number)
                    future.set_exception(RuntimeError(error)) if error else future.set_result(answer)
        self._gone = True
        self._process.wait()
        self._fail()

    def _fail(self) -> None:
        for number in list(self._waiting):
            with suppress(KeyError, InvalidStateError):
                self._waiting.pop(number).set_exception(ConnectionError("the host's process has ended"))


def main(pipe: Connection, host: RemoteHost) -> None:
    """Answer calls until the pipe breaks or the host has closed itself."""
    host.leave_on_sigterm()
    lock = threading.Lock()

    def answer(number: int, method: str, arguments: tuple[object, ...]) -> None:
        value, message = "", ""
        try:
            value = getattr(host, method)(*arguments)
        except Exception as error:  # without an answer the caller would wait forever
            log.exception("a call failed with an unexpected error")
            message = f"{type(error).__name__}: {error}; please report this"
        with lock, suppress(OSError):
            pipe.send((number, value, message))

    with suppress(EOFError, OSError):
        while not host.closed or pipe.poll(UNCALLED_SECONDS / 4):
            if pipe.poll(1.0):
                threading.Thread(target=answer, args=pipe.recv(), daemon=True, name="host-call").start()
    if not host.leaving:  # otherwise `leave` exits the process
        host.close()
        os._exit(0)
    threading.Event().wait(LEFT_SECONDS)


if __name__ == "__main__":
    main(Connection(int(sys.argv[1])), declared_at(sys.argv[2])(silence_seconds=UNCALLED_SECONDS))
