"""Servers that all tests of a session share: they end with the process, whatever ends it.

They are not stopped while it lives. Twice of three times, stopping them at the end of the whole suite killed the process before
it had told what it found: hundreds of threads of in-process flows, some of them of native libraries, still held connections.
"""

from __future__ import annotations

import subprocess
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TypeVar

Server = TypeVar("Server")
_entered = ExitStack()
_folders: list[Path] = []


def share(server: AbstractContextManager[Server]) -> Server:
    """Start a server that nobody stops; what starts it has to see to its end with this process."""
    return _entered.enter_context(server)


def remove_later(folder: Path) -> None:
    """Have a folder removed when the process, and the server that writes into it, are gone."""
    _folders.append(folder)


def remove_folders() -> None:
    """Start what removes them; this process is about to end."""
    if not _folders:
        return
    command = ["sh", "-c", 'sleep 2; rm -rf "$@"', "sh", *map(str, _folders)]
    subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
