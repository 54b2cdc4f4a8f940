"""Content digests, which serve as ids and object keys."""

from __future__ import annotations

import hashlib
import json

from pydantic import JsonValue


def digest(value: JsonValue) -> str:
    """Return 32 hexadecimal digits (128 bits of SHA-256) of a value's canonical JSON."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]
