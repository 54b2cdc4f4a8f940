"""torch's failures, told apart by what a rank may do next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tasks.worker.encoding_errors import Fatal, OutOfMemory, first_line


@contextmanager
def told_apart() -> Iterator[None]:
    """Turn what torch raises into `OutOfMemory` (try fewer rows) or `Fatal` (this process is done for).

    torch has a type for a GPU's lack of memory and none for the CPU allocator's: that one is known by its words.
    After any other CUDA error the context is broken, and every later call would fail on innocent rows.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        _release()
        raise OutOfMemory(first_line(error)) from None
    except torch.AcceleratorError as error:
        raise Fatal(first_line(error)) from error
    except RuntimeError as error:
        if "DefaultCPUAllocator: can't allocate memory" in str(error):
            raise OutOfMemory(first_line(error)) from None
        raise


def _release() -> None:
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
