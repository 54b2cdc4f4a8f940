"""Memory that is freed goes back to the system: parts of a shard come and go for hours, in threads that come and go as well."""

from __future__ import annotations

import ctypes
from contextlib import suppress

M_MMAP_THRESHOLD = -3  # as malloc.h has it


def return_large_blocks() -> None:
    """Have the C library map blocks of a MiB or more by themselves, so that each is returned as soon as it is freed; does nothing where it is not glibc.

    By itself it raises that size to 32 MiB as such blocks come and go. Layers of 48 MiB that were gathered one after another then left
    holes in the heap, each a little too small for the next.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 20)


def return_freed_memory() -> None:
    """The same, and have Arrow take its memory from the C library: what its own allocator has once had for a thread it keeps."""
    import pyarrow as pa  # noqa: PLC0415 - torch's processes come here for the other one

    return_large_blocks()
    pa.set_memory_pool(pa.system_memory_pool())
