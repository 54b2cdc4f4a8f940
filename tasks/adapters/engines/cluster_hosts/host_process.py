"""A `RemoteHost` in a process of its own, beside the process of an engine that must not be ended with it, such as a Dask worker.

The two speak over a pipe. When it breaks (the engine's process is gone, however it ended), or when nobody has called for
`UNCALLED_SECONDS`, the host closes itself with its ranks, and its process ends.
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
UNCALLED_SECONDS = 20.0  # an engine that does not end its hosts with the run's process: every rank is to be gone 30 s after that
REMOTE_HOST = "tasks.adapters.engines.remote_host:RemoteHost"
LEFT_SECONDS = LEAVING_SECONDS + 10  # in which a host that leaves has ended


class HostProcess:
    """Starts it; calls may come from any thread.

    Args:
        host: "module:name" of the class of `RemoteHost`.
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
        """As of `HostLink`, of this one process."""
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
        """At once; one that is leaving ends by itself."""
        if not self._leaving:
            self._process.kill()

    def leave(self) -> None:
        """It finishes the pieces in hand, and ends. Waits for it."""
        self._leaving = True
        self._process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(LEFT_SECONDS)
        self._process.kill()

    def _listen(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                number, answer, wrong = self._pipe.recv()
                with suppress(InvalidStateError):  # who asked has gone
                    asked = self._waiting.pop(number)
                    asked.set_exception(RuntimeError(wrong)) if wrong else asked.set_result(answer)
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
        found, wrong = "", ""
        try:
            found = getattr(host, method)(*arguments)
        except Exception as error:  # nobody may wait for an answer that never comes
            log.exception("a call failed with an unexpected error")
            wrong = f"{type(error).__name__}: {error}; please report this"
        with lock, suppress(OSError):
            pipe.send((number, found, wrong))

    with suppress(EOFError, OSError):
        while not host.closed or pipe.poll(UNCALLED_SECONDS / 4):
            if pipe.poll(1.0):
                threading.Thread(target=answer, args=pipe.recv(), daemon=True, name="host-call").start()
    if not host.leaving:  # it ends the process when it has left
        host.close()
        os._exit(0)
    threading.Event().wait(LEFT_SECONDS)


if __name__ == "__main__":
    main(Connection(int(sys.argv[1])), declared_at(sys.argv[2])(silence_seconds=UNCALLED_SECONDS))
