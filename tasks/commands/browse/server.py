"""Serves the page until it is ended."""

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


def serve_job(job: Job, *, host: str, port: int | None, questions: str | None, opens: bool, told: Callable[[str], None]) -> None:
    """Answer until SIGINT or SIGTERM.

    Args:
        job: whose collections are searched.
        host: to listen at; other machines need the token that is told with the address.
        port: None: the usual one or, if that is in use, any that is free.
        questions: the file that questions are saved to; None: the gate's.
        opens: open the page in this machine's browser.
        told: gets the page's address once it is answered.

    Raises:
        BadInput: nothing was made with the job's encoder, the port is in use, the host is none of this machine's, or questions cannot be saved.
    """
    gate = job.target.gate
    file, where = (questions, "--questions") if questions else (gate.queries if gate else None, "target.gate.queries")
    if file is not None:
        check_questions(file, where)
    with _listening(host, port) as listener, JobSearch(job) as search, SourcePictures(job) as pictures:
        access = Access.at(host, listener.getsockname()[1])
        app = BrowseApp(search, pictures, access, questions=file, where=where)
        app.load()
        told(access.url)
        if opens:
            _open_soon(access.url)
        with suppress(KeyboardInterrupt):
            _Server(config_of(app)).run(sockets=[listener])


def config_of(app: BrowseApp, **where: Any) -> uvicorn.Config:
    """How it is served: without a log of requests, since addresses may hold the token. `where`: for those who bring no socket."""
    quiet: dict[str, Any] = {"access_log": False, "log_config": None, "log_level": "warning", "server_header": False}
    return uvicorn.Config(app.asgi(), http="h11", ws="none", loop="asyncio", lifespan="off", **quiet, **where)


class _Server(uvicorn.Server):
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """At once: nobody's work is lost by it."""
        super().handle_exit(sig, frame)
        self.force_exit = True


def _listening(host: str, port: int | None) -> socket.socket:
    for wanted in (USUAL_PORT, 0) if port is None else (port,):
        try:
            family = socket.getaddrinfo(host, wanted, type=socket.SOCK_STREAM)[0][0]
            return socket.create_server((host, wanted), family=family)
        except socket.gaierror as error:
            raise BadInput(f"--host '{host}' is no address of this machine: {error.strerror}") from error
        except OSError as error:
            refused = error
    if refused.errno == errno.EADDRNOTAVAIL:
        raise BadInput(f"--host '{host}' is no address of this machine: leave it out, or give one such as 0.0.0.0") from refused
    reason = os.strerror(refused.errno) if refused.errno else str(refused)  # without the address that Python adds
    raise BadInput(f"{host}:{wanted} cannot be listened at ({reason}): give another --port, or leave it out") from refused


def _open_soon(url: str) -> None:
    """In a browser with windows: one that runs in the terminal would take it over."""
    windows = sys.platform != "linux" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    if windows:
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True, name="open-page").start()
