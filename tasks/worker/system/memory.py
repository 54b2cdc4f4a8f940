"""Memory of a rank: peak use, and returning free memory to the system."""

from __future__ import annotations

import ctypes
import mmap
import sys
from contextlib import suppress
from typing import Any

from tasks.adapters.processes.hardware import peak_resident


def peak_memory() -> dict[str, int]:
    """Return peak bytes: '' for this process, 'GPU' for torch's reservation on its device. Decode workers are not counted."""
    sizes = {"": peak_resident()}
    torch: Any = sys.modules.get("torch")  # without torch there is no GPU, and importing it takes seconds
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        sizes["GPU"] = int(torch.cuda.max_memory_reserved())
    return sizes


def forget(address: int, size: int) -> None:
    """Drop the whole pages of a range that is not read again, so that they no longer count: pages of a mapped file stay until it is closed.

    Args:
        address: start of the range.
        size: length in bytes.
    """
    first, last = -(-address // mmap.PAGESIZE), (address + size) // mmap.PAGESIZE
    if last > first:
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).madvise(
                ctypes.c_void_p(first * mmap.PAGESIZE), ctypes.c_size_t((last - first) * mmap.PAGESIZE), mmap.MADV_DONTNEED
            )


def give_back() -> None:
    """Make glibc return free memory to the system; does nothing with another C library.

    Batches of hundreds of different sizes fragment the heap: measured with all-MiniLM-L6-v2 in bfloat16, a rank of
    1,180 MiB grew to 1,940 after 9,000 rows, and to 1,590 with this call after each piece, at the same speed.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
