"""A set of ids that stays small: a million shards in 16 MB."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import numpy as np

_DIGEST = re.compile(r"[0-9a-f]{32}")


class DigestSet:
    """Which 128-bit digests (as 32 hexadecimal digits) are in it; made once, then only asked."""

    def __init__(self, digests: Iterable[str] = ()) -> None:
        """Take in digests from a stream; anything else is left out."""
        held = bytearray()
        for digest in digests:
            if _DIGEST.fullmatch(digest):
                held += bytes.fromhex(digest)
        self._sorted = np.unique(np.frombuffer(held, dtype="S16"))

    def __contains__(self, digest: object) -> bool:
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest) or not len(self):
            return False
        wanted = np.frombuffer(bytes.fromhex(digest), dtype="S16")
        place = int(np.searchsorted(self._sorted, wanted)[0])
        return place < len(self) and bool(self._sorted[place] == wanted[0])

    def __len__(self) -> int:
        return int(self._sorted.size)

    def __iter__(self) -> Iterator[str]:
        """In order."""
        return (bytes(digest).ljust(16, b"\0").hex() for digest in self._sorted)

    @property
    def nbytes(self) -> int:
        """Memory that the digests take."""
        return int(self._sorted.nbytes)
