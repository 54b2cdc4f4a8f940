"""Milvus Lite's files: one process at a time can open a file, and all its users in this process share one server.

That server does not support concurrent calls. Seen with 3.2: of two simultaneous first writes both are acknowledged
but only one is in its log (the file is opened twice, `WAL.write_insert`), so a kill loses the other. Calls to a file are serialised here.

No public API releases a file before the process ends, or reports why one cannot be opened; milvus-lite's own server manager
does (3.2; private). Without it, pymilvus opens the file, and the process keeps it until it ends.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from tasks.domain.errors import BadInput

try:
    from milvus_lite.server_manager import server_manager_instance as lite_servers
except ImportError:
    lite_servers = None

T = TypeVar("T")

_users: Counter[str] = Counter()
_turns: defaultdict[str, threading.RLock] = defaultdict(threading.RLock)
_lock = threading.Lock()


def is_lite(uri: str) -> bool:
    """True for a Milvus Lite file, by pymilvus' rule."""
    return uri.endswith(".db") and "://" not in uri


def check_folder(absolute: str, uri: str) -> None:
    """Check that a file that does not exist yet can be created.

    Raises:
        BadInput: its folder cannot be created or is not writable; names both.
    """
    folder = next(each for each in Path(absolute).parents if each.exists())
    if not folder.is_dir():
        raise BadInput(f"{uri}: {folder} is a file, so no folder can be created in it: correct target.uri")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise BadInput(f"{uri}: the folder {folder} is not writable: grant this user write access, or correct target.uri")


def take(absolute: str, uri: str) -> None:
    """Open the file, or share it if this process has it open. `uri`: as the user wrote it.

    Raises:
        BadInput: another process has it open, or it cannot be opened; names the file.
    """
    path = Path(absolute)
    with _lock:
        if not path.exists():
            check_folder(absolute, uri)
            path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_dir():
            raise BadInput(f"{uri} is not a Milvus Lite 3 database (it is a file, not a folder): set target.uri to another path")
        if lite_servers is not None and lite_servers.start_and_get_uri(str(path)) is None:
            raise BadInput(_why_not(uri, path))
        _users[str(path)] += 1


def make_room(absolute: str, database: str, name: str) -> bool:
    """Remove the remains of an incomplete collection: Milvus Lite does not list it, and refuses to create it again.

    A folder without a schema is no collection. A kill leaves either a partly written schema, alone in its folder, or the rest of a
    drop that was recorded by `dropping`. Returns False if the folder has anything else, which is left as it is.
    The caller has the file open and holds its lock (`alone`), so that no other thread creates or drops the collection meanwhile.
    """
    folder = _folder(absolute, database, name)
    if (folder / "schema.json").exists():
        return True
    if folder.is_dir():
        if not _note(folder).exists() and any(each.name != "schema.json.tmp" for each in folder.iterdir()):
            return False
        shutil.rmtree(folder, ignore_errors=True)
    _note(folder).unlink(missing_ok=True)
    return True


@contextmanager
def dropping(absolute: str, database: str, name: str) -> Iterator[None]:
    """Mark a collection as being dropped, so that the remains after a kill are recognised."""
    note = _note(_folder(absolute, database, name))
    with suppress(OSError):  # the drop must succeed on a full disk, too
        note.touch()
    yield
    note.unlink(missing_ok=True)


def _folder(absolute: str, database: str, name: str) -> Path:
    root = Path(absolute, "databases", database) if database not in {"", "default"} else Path(absolute)
    return root / "collections" / name


def _note(folder: Path) -> Path:
    """The marker file beside the folder, where Milvus Lite ignores everything but folders with a schema."""
    return folder.with_name(f"{folder.name}.dropping")


def _why_not(uri: str, path: Path) -> str:
    try:
        with (path / "LOCK").open("r+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return f"{uri}: another process has this Milvus Lite file open: wait for it or end it, or use a Milvus server"
    except OSError as error:
        return f"{uri}: Milvus Lite cannot open it ({error.strerror}): correct its permissions or target.uri"
    return f"{uri}: Milvus Lite cannot open it: it may be damaged; set target.uri to another path and run `kitestring replay`"


def alone(path: str, action: Callable[[], T]) -> T:
    """Run an action with exclusive access to a file within this process."""
    with _lock:
        turn = _turns[path]
    with turn:
        return action()


def let_go(path: str) -> None:
    """Undo one `take`; the last one releases the file for other processes."""
    with _lock:
        _users[path] -= 1
        if _users[path] <= 0:
            del _users[path]
            if lite_servers is not None:
                lite_servers.release_server(path)
