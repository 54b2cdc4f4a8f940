"""Unreadable documents of a checkpoint: named by commands that only read, moved aside by a run, which writes them again.

Documents moved aside are kept under {corpus}/damaged/{run}/ with the key that they had, for inspection.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from tasks.domain.ports import Store
from tasks.domain.shards.layout import damaged

DAMAGES_NAMED = 1_000  # that are remembered by name
log = logging.getLogger("kitestring.checkpoint")


class Damages:
    """The damaged documents found in one corpus. Thread-safe."""

    def __init__(self, store: Store, corpus: str) -> None:
        self._store, self._corpus = store, corpus
        self._run: str | None = None
        self._tell: Callable[[str, str], None] = lambda _key, _line: None
        self._found: dict[str, str] = {}
        self._lock = threading.Lock()
        self.count = 0

    @property
    def mends(self) -> bool:
        """Whether this is a run, which may write missing documents again."""
        return self._run is not None

    @property
    def keys(self) -> list[str]:
        """Of the documents found, up to `DAMAGES_NAMED`."""
        with self._lock:
            return list(self._found)

    @property
    def lines(self) -> list[str]:
        """The documents found, a line for each, for commands that only read."""
        with self._lock:
            lines = [f"{what}: `kitestring run` mends it" for what in self._found.values()]
            return lines + ([f"and {self.count - len(lines):,} more"] if self.count > len(lines) else [])

    def mend(self, run: str, tell: Callable[[str, str], None]) -> None:
        """From here on move unreadable documents aside. `tell`: receives the key and a line for each."""
        self._run, self._tell = run, tell

    def name(self, key: str, what: str) -> None:
        """Record damage that cannot be moved aside."""
        with self._lock:
            self._note(key, what)

    def take(self, key: str, data: bytes, what: str) -> bool:
        """Record an unreadable document, and move it aside if this is a run. False: it was replaced meanwhile."""
        with self._lock:
            if self._run is None:
                self._note(key, what)
                return True
            if self._store.read(key) != data:
                return False
            kept = damaged(self._corpus, self._run, key)
            self._store.write(kept, data)
            self._store.delete(key)
            self._note(key, what)
        log.warning("%s; moved to %s", what, kept)
        self._tell(key, f"{what}; moved to {kept}")
        return True

    def _note(self, key: str, what: str) -> None:
        if key not in self._found:
            self.count += 1
            if len(self._found) < DAMAGES_NAMED:
                self._found[key] = what
