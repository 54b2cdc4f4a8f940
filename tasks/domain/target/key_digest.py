"""A digest of a set of keys, taken as they stream by in whatever order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

BITS = 128


def digest_keys(keys: Iterable[str]) -> str:
    """32 hexadecimal digits. Hashes are added up, so that the order does not matter and a key that comes twice does."""
    total = 0
    for key in keys:
        total += int.from_bytes(hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=BITS // 8).digest())
    return f"{total % (1 << BITS):032x}"
