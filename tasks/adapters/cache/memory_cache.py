"""An in-memory cache that behaves like the real one, for tests."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence


class MemoryCache:
    """A `Cache` whose entries live in this object only."""

    def __init__(self) -> None:
        self.entries: dict[bytes, tuple[bytes, float]] = {}

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self._get(key) for key in keys]

    def put_many(self, values: Mapping[bytes, bytes], *, seconds: int) -> None:
        self.entries |= {key: (value, time.monotonic() + seconds) for key, value in values.items()}

    def close(self) -> None:
        """Do nothing: there is no connection."""

    def _get(self, key: bytes) -> bytes | None:
        value, until = self.entries.get(key, (None, 0.0))
        return value if time.monotonic() < until else None
