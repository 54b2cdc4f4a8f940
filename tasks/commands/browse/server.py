"""Serve the page and the API until the process is stopped."""

from __future__ import annotations

import errno
import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

import uvicorn

from tasks.adapters.sources.saved_questions import check_questions
from tasks.commands.browse.guest_access import Access
from tasks.commands.browse.job_search import JobSearch
from tasks.commands.browse.source_pictures import SourcePictures
from tasks.commands.browse.web_app import BrowseApp
from tasks.domain.errors import BadInput
from tasks.domain.job.job import Job

USUAL_PORT = 8642


def serve_job(job: Job, *, host: str, port: int | None, questions: str | None, opens: bool, show_url: Callable[[str], None]) -> None:
    """Serve a job's collections until SIGINT or SIGTERM.

    Args:
        job: names the collections.
        host: to listen at; other machines need the token in the printed address.
        port: None: the usual one or, if that is in use, any free port.
        questions: the file that questions are saved to; None: the gate's.
        opens: open the page in this machine's browser.
        show_url: called with the page's address once the server listens.

    Raises:
        BadInput: the corpus has no vectors of the job's encoder, the port is in use, the host is not an address of this machine, or
            questions cannot be saved.
    """
    gate = job.target.gate
    file, where = (questions, "--questions") if questions else (gate.queries if gate else None, "target.gate.queries")
    if file is not None:
        check_questions(file, where)
    with _listening(host, port) as listener, JobSearch(job) as search, SourcePictures(job) as pictures:
        access = Access.at(host, listener.getsockname()[1])
        app = BrowseApp(search, pictures, access, questions=file, where=where)
        app.load()
        show_url(access.url)
        if opens:
            _open_soon(access.url)
        with suppress(KeyboardInterrupt):
            _Server(config_of(app)).run(sockets=[listener])


def config_of(app: BrowseApp, **where: Any) -> uvicorn.Config:
    """The configuration of uvicorn: no access log, since addresses may hold the token. `where`: host and port, if no socket is passed."""
    quiet: dict[str, Any] = {"access_log": False, "log_config": None, "log_level": "warning", "server_header": False}
    return uvicorn.Config(app.asgi(), http="h11", ws="none", loop="asyncio", lifespan="off", **quiet, **where)


class _Server(uvicorn.Server):
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Exit at once, without waiting for connections: no work is lost."""
        super().handle_exit(sig, frame)
        self.force_exit = True


def _listening(host: str, port: int | None) -> socket.socket:
    for number in (USUAL_PORT, 0) if port is None else (port,):
        try:
            family = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0][0]
            return socket.create_server((host, number), family=family)
        except socket.gaierror as error:
            raise BadInput(f"--host '{host}' is not an address of this machine: {error.strerror}") from error
        except OSError as error:
            refused = error
    if refused.errno == errno.EADDRNOTAVAIL:
        raise BadInput(f"--host '{host}' is not an address of this machine: leave it out, or use one such as 0.0.0.0") from refused
    reason = os.strerror(refused.errno) if refused.errno else str(refused)  # without the address that Python adds
    raise BadInput(f"cannot listen at {host}:{number} ({reason}): use another --port, or leave it out") from refused


def _open_soon(url: str) -> None:
    """Open a page in a graphical browser: one that runs in the terminal would take the terminal over."""
    graphical = sys.platform != "linux" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    if graphical:
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True, name="open-page").start()
