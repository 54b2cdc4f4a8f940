"""Returns freed memory to the system: a run allocates and frees parts for hours, in short-lived threads."""

from __future__ import annotations

import ctypes
from contextlib import suppress

M_MMAP_THRESHOLD = -3  # as malloc.h has it


def return_large_blocks() -> None:
    """Have glibc allocate blocks of 1 MiB and more with mmap, so that each is returned to the system when freed; no effect on other C libraries.

    By default glibc raises that threshold up to 32 MiB as such blocks are freed. Layers of 48 MiB that were assembled one after another then left
    holes in the heap, each slightly too small for the next.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 20)


def return_freed_memory() -> None:
    """The same, and have Arrow allocate from the C library: its own allocator keeps memory that a thread once used."""
    import pyarrow as pa  # noqa: PLC0415 - torch's processes import this module for `return_large_blocks` only

    return_large_blocks()
    pa.set_memory_pool(pa.system_memory_pool())
