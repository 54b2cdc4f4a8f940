"""Cached SHA-256 of large files that seldom change: hashing a model's weights takes seconds, and every command needs the digest.

A digest stays valid while the file's path, size, inode and times are unchanged. It is cached in this process and, for a large file,
in the user's cache folder. The digest of a file that changed a moment ago is not cached: its next change could have the same time.
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

REMEMBERED_BYTES = 64 << 20  # bytes; smaller files are hashed too fast to be worth a cache file
SETTLED_SECONDS = 2.0  # the coarsest time resolution of file systems

_known: dict[str, str] = {}


def sha256_of_file(file: Path) -> str:
    """Return the SHA-256 of a file's current content, in hex."""
    path, stat = file.resolve(), file.stat()
    key = _key(path, stat)
    sha256 = _known.get(key) or (_load_cached(key) if stat.st_size >= REMEMBERED_BYTES else None)
    if sha256 is None:
        with file.open("rb") as opened:
            sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
        if _key(path, file.stat()) != key or time.time() - max(stat.st_mtime, stat.st_ctime) < SETTLED_SECONDS:
            return sha256
        if stat.st_size >= REMEMBERED_BYTES:
            _save_cached(key, sha256)
    _known[key] = sha256
    return sha256


def _key(path: Path, stat: os.stat_result) -> str:
    return digest([str(path), stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns])


def _folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kitestring" / "digests"


def _load_cached(key: str) -> str | None:
    try:
        sha256 = (_folder() / key).read_text()
    except (OSError, ValueError, RuntimeError):  # RuntimeError: this user has no home
        return None
    return sha256 if re.fullmatch(r"[0-9a-f]{64}", sha256) else None


def _save_cached(key: str, sha256: str) -> None:
    with suppress(OSError, RuntimeError):  # an unwritable cache folder only costs time
        folder = _folder()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=folder)
        try:
            with os.fdopen(handle, "w") as opened:
                opened.write(sha256)
            os.replace(temporary, folder / key)  # noqa: PTH105
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise
