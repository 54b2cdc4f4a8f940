"""Unreadable documents of a checkpoint: read-only commands report them, a run moves them aside and rewrites them.

Documents moved aside are kept under {corpus}/damaged/{run}/ with their original key, for inspection.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from tasks.domain.ports import Store
from tasks.domain.shards.layout import damaged

DAMAGES_NAMED = 1_000  # limit of documents to remember by key
log = logging.getLogger("kitestring.checkpoint")


class Damages:
    """The damaged documents found in one corpus. Thread-safe."""

    def __init__(self, store: Store, corpus: str) -> None:
        self._store, self._corpus = store, corpus
        self._run: str | None = None
        self._report: Callable[[str, str], None] = lambda _key, _line: None
        self._found: dict[str, str] = {}
        self._lock = threading.Lock()
        self.count = 0

    @property
    def mends(self) -> bool:
        """Whether this is a run, which may rewrite missing documents."""
        return self._run is not None

    @property
    def keys(self) -> list[str]:
        """Keys of the damaged documents, up to `DAMAGES_NAMED`."""
        with self._lock:
            return list(self._found)

    @property
    def lines(self) -> list[str]:
        """The damaged documents, one line each, for read-only commands."""
        with self._lock:
            lines = [f"{message}: `kitestring run` rewrites it" for message in self._found.values()]
            return lines + ([f"and {self.count - len(lines):,} more"] if self.count > len(lines) else [])

    def mend(self, run: str, report: Callable[[str, str], None]) -> None:
        """Move unreadable documents aside from now on. `report`: receives key and message of each."""
        self._run, self._report = run, report

    def name(self, key: str, message: str) -> None:
        """Record damage that cannot be moved aside."""
        with self._lock:
            self._note(key, message)

    def take(self, key: str, data: bytes, message: str) -> bool:
        """Record an unreadable document, and move it aside if this is a run. Returns False if it was replaced meanwhile."""
        with self._lock:
            if self._run is None:
                self._note(key, message)
                return True
            if self._store.read(key) != data:
                return False
            moved_to = damaged(self._corpus, self._run, key)
            self._store.write(moved_to, data)
            self._store.delete(key)
            self._note(key, message)
        log.warning("%s; moved to %s", message, moved_to)
        self._report(key, f"{message}; moved to {moved_to}")
        return True

    def _note(self, key: str, message: str) -> None:
        if key not in self._found:
            self.count += 1
            if len(self._found) < DAMAGES_NAMED:
                self._found[key] = message
