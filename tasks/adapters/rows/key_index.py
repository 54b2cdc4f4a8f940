"""An exact index of seen keys in bounded memory: the newest in a dict, the rest in a private SQLite file.

Not DuckDB, which compares the keys of whole corpora (checkpoint/duplicate_finder.py): here every batch looks up a few keys,
which DuckDB answers with a scan. A million keys, 1 in 100 of them seen before, in rows per second of CPU time and MiB of memory:

    rows in a batch    SQLite              DuckDB, joined with the batch    DuckDB, primary key
    1,000              268,000, 24 MiB     108,000,  99 MiB                  79,000, 134 MiB
    5,000              233,000, 25 MiB     335,000, 104 MiB                 231,000, 143 MiB
    8,192              231,000, 26 MiB     380,000, 108 MiB

Wide rows come in batches of a few hundred, and every shard being read has its own index.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from types import TracebackType
from typing import Self

IN_MEMORY = 50_000  # keys; about 10 MB if short, and more are no faster
CACHE_KIB = 16_384
KEYS_PER_QUERY = 10_000  # SQLite's limit of parameters is 32,766


class SeenKeys:
    """Maps keys to rows. Row numbers increase.

    Args:
        in_memory: keys to keep in memory before they move to disk.
    """

    def __init__(self, *, in_memory: int = IN_MEMORY) -> None:
        self._newest: dict[str, int] = {}
        self._most = in_memory
        self._disk: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def add(self, keys: Sequence[str], rows: Sequence[int]) -> dict[int, int]:
        """Add new keys. Returns the duplicates: position in `keys` to the first row with the key."""
        seen: dict[int, int] = {}
        if not self._all_new(keys):
            old = self.rows_of(keys)
            for at, key in enumerate(keys):
                first = old.setdefault(key, rows[at])
                if first != rows[at]:
                    seen[at] = first
        fresh = (
            zip(keys, rows, strict=True) if not seen else ((k, r) for i, (k, r) in enumerate(zip(keys, rows, strict=True)) if i not in seen)
        )
        self._newest.update(fresh)
        self._spill()
        return seen

    def replace(self, keys: Sequence[str], rows: Sequence[int]) -> None:
        """Store the last row of each key."""
        self._newest.update(zip(keys, rows, strict=True))
        self._spill()

    def rows_of(self, keys: Sequence[str]) -> dict[str, int]:
        """Return the stored rows of the known keys."""
        rows = self._on_disk(keys)
        rows.update((key, self._newest[key]) for key in keys if key in self._newest)
        return rows

    def close(self) -> None:
        """Free memory and close the file."""
        self._newest.clear()
        if self._disk is not None:
            self._disk.close()
            self._disk = None

    def _all_new(self, keys: Sequence[str]) -> bool:
        distinct = set(keys)
        return len(distinct) == len(keys) and self._newest.keys().isdisjoint(distinct) and not self._on_disk(keys)

    def _on_disk(self, keys: Sequence[str]) -> dict[str, int]:
        rows: dict[str, int] = {}
        for start in range(0, len(keys) if self._disk else 0, KEYS_PER_QUERY):
            batch = keys[start : start + KEYS_PER_QUERY]
            marks = ",".join("?" * len(batch))
            assert self._disk is not None
            rows.update(self._disk.execute(f"SELECT key, row FROM keys WHERE key IN ({marks})", batch))  # noqa: S608 - only question marks
        return rows

    def _spill(self) -> None:
        if len(self._newest) < self._most:
            return
        if self._disk is None:
            self._disk = _open()
        with self._disk:
            # In key order, SQLite fills its pages sequentially.
            self._disk.executemany("INSERT OR REPLACE INTO keys VALUES (?, ?)", sorted(self._newest.items()))
        self._newest.clear()


def _open() -> sqlite3.Connection:
    """Open a database without a name: SQLite creates a private temporary file and unlinks it at once."""
    disk = sqlite3.connect("", check_same_thread=False)
    disk.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    disk.execute("PRAGMA journal_mode = OFF")
    disk.execute("PRAGMA synchronous = OFF")
    disk.execute("CREATE TABLE keys (key TEXT PRIMARY KEY, row INTEGER NOT NULL) WITHOUT ROWID")
    return disk
