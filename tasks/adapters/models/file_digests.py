"""SHA-256 of files that seldom change and are large: a model's weights take seconds, and every command needs to know them.

A digest is kept for as long as the file is the same by path, size, inode and times: in this process, and of a large file beside
the user's other caches. A file that was changed a moment ago is not kept: the next change could bear the same time.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from tasks.domain.digest import digest

REMEMBERED_BYTES = 64 << 20  # bytes; fewer are read faster than it is worth a file
SETTLED_SECONDS = 2.0  # the coarsest times that file systems keep

_known: dict[str, str] = {}


def sha256_of_file(file: Path) -> str:
    """The digest of what a file holds now."""
    place, at = file.resolve(), file.stat()
    key = _key(place, at)
    found = _known.get(key) or (_kept(key) if at.st_size >= REMEMBERED_BYTES else None)
    if found is None:
        with file.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
        if _key(place, file.stat()) != key or time.time() - max(at.st_mtime, at.st_ctime) < SETTLED_SECONDS:
            return found
        if at.st_size >= REMEMBERED_BYTES:
            _keep(key, found)
    _known[key] = found
    return found


def _key(place: Path, at: os.stat_result) -> str:
    return digest([str(place), at.st_size, at.st_ino, at.st_mtime_ns, at.st_ctime_ns])


def _folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kitestring" / "digests"


def _kept(key: str) -> str | None:
    try:
        found = (_folder() / key).read_text()
    except (OSError, ValueError, RuntimeError):  # RuntimeError: this user has no home
        return None
    return found if re.fullmatch(r"[0-9a-f]{64}", found) else None


def _keep(key: str, found: str) -> None:
    with suppress(OSError, RuntimeError):  # a cache that cannot be written to is none
        folder = _folder()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, written = tempfile.mkstemp(dir=folder)
        try:
            with os.fdopen(handle, "w") as opened:
                opened.write(found)
            os.replace(written, folder / key)  # noqa: PTH105
        except OSError:
            Path(written).unlink(missing_ok=True)
            raise
