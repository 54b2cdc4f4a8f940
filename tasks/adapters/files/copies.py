"""Compares files with those of the same names below another root."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pyarrow as pa

from tasks.adapters.files.access import drive_of, open_file
from tasks.domain.errors import KitestringError
from tasks.domain.shards.removal import below
from tasks.domain.shards.shard import FileVersion

Likeness = Literal["gone", "copy", "other"]
BYTES_AT_ONCE = 4 << 20


def liken(files: Sequence[FileVersion], root: str) -> Likeness:
    """Compare files with those of the same names below another root.

    Returns "gone" if one of those is missing or cannot be read, "copy" if all have the same bytes, else "other".
    """
    counterparts = [file.model_copy(update={"path": below(root, file.name)}) for file in files]
    try:
        now = [version for _, version in drive_of(counterparts[0].path).versions(counterparts)]
        if None in now:
            return "gone"
        identical = all(
            version and version.size == file.size and _same_bytes(file, version) for file, version in zip(files, now, strict=True)
        )
    except (KitestringError, OSError, pa.ArrowException):
        return "gone"
    return "copy" if identical else "other"


def _same_bytes(one: FileVersion, two: FileVersion) -> bool:
    if not one.is_timed and not two.is_timed and one.version:
        return one.version == two.version
    with open_file(one.path) as first, open_file(two.path) as second:
        blocks = iter(lambda: (first.read(BYTES_AT_ONCE), second.read(BYTES_AT_ONCE)), (b"", b""))
        return all(a == b for a, b in blocks)
