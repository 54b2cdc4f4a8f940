"""A compact set of shard ids: a million shards in 16 MB."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import numpy as np

_DIGEST = re.compile(r"[0-9a-f]{32}")


class DigestSet:
    """An immutable set of 128-bit digests (32 hexadecimal digits each)."""

    def __init__(self, digests: Iterable[str] = ()) -> None:
        """Collect digests from a stream; other strings are ignored."""
        packed = bytearray()
        for digest in digests:
            if _DIGEST.fullmatch(digest):
                packed += bytes.fromhex(digest)
        self._sorted = np.unique(np.frombuffer(packed, dtype="S16"))

    def __contains__(self, digest: object) -> bool:
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest) or not len(self):
            return False
        wanted = np.frombuffer(bytes.fromhex(digest), dtype="S16")
        at = int(np.searchsorted(self._sorted, wanted)[0])
        return at < len(self) and bool(self._sorted[at] == wanted[0])

    def __len__(self) -> int:
        return int(self._sorted.size)

    def __iter__(self) -> Iterator[str]:
        """Yield the digests in order."""
        return (bytes(digest).ljust(16, b"\0").hex() for digest in self._sorted)

    @property
    def nbytes(self) -> int:
        """Memory of the digests."""
        return int(self._sorted.nbytes)
