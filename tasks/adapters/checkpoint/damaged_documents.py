"""Documents of a checkpoint that cannot be read: named by whoever looks, moved aside by a run, which makes them anew.

What is moved aside is kept under {corpus}/damaged/{run}/ with the key that it had, for whoever wants to know what became of it.
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
    """What was found of one corpus. Many threads may use one."""

    def __init__(self, store: Store, corpus: str) -> None:
        self._store, self._corpus = store, corpus
        self._run: str | None = None
        self._tell: Callable[[str, str], None] = lambda _key, _line: None
        self._found: dict[str, str] = {}
        self._lock = threading.Lock()
        self.count = 0

    @property
    def mends(self) -> bool:
        """Whether this is a run, which may write what is missing."""
        return self._run is not None

    @property
    def keys(self) -> list[str]:
        """Of what was found, up to `DAMAGES_NAMED`."""
        with self._lock:
            return list(self._found)

    @property
    def lines(self) -> list[str]:
        """What was found, each in a line for who only looks."""
        with self._lock:
            lines = [f"{what}: `kitestring run` mends it" for what in self._found.values()]
            return lines + ([f"and {self.count - len(lines):,} more"] if self.count > len(lines) else [])

    def mend(self, run: str, tell: Callable[[str, str], None]) -> None:
        """From here on move aside what cannot be read. `tell`: takes the key and a line of each."""
        self._run, self._tell = run, tell

    def name(self, key: str, what: str) -> None:
        """Note what is wrong and cannot be moved aside."""
        with self._lock:
            self._note(key, what)

    def take(self, key: str, data: bytes, what: str) -> bool:
        """Note what cannot be read, and move it aside if this is a run. False: by now something else stands there."""
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
