"""Copies: whether files at another place are the same ones."""

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
    """What files of the same names below another root are.

    Returns "gone" where one of them is not there or cannot be read, "copy" where all have the same bytes, "other" where one has others.
    """
    there = [file.model_copy(update={"path": below(root, file.name)}) for file in files]
    try:
        now = [found for _, found in drive_of(there[0].path).versions(there)]
        if None in now:
            return "gone"
        alike = all(found and found.size == file.size and _same_bytes(file, found) for file, found in zip(files, now, strict=True))
    except (KitestringError, OSError, pa.ArrowException):
        return "gone"
    return "copy" if alike else "other"


def _same_bytes(one: FileVersion, two: FileVersion) -> bool:
    if not one.is_timed and not two.is_timed and one.version:
        return one.version == two.version
    with open_file(one.path) as first, open_file(two.path) as second:
        blocks = iter(lambda: (first.read(BYTES_AT_ONCE), second.read(BYTES_AT_ONCE)), (b"", b""))
        return all(a == b for a, b in blocks)
