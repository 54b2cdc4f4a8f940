"""torch's failures, classified by what a rank may do next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tasks.worker.encoding_errors import Fatal, OutOfMemory, first_line


@contextmanager
def classified_errors() -> Iterator[None]:
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


def checkpoint_error(error: BaseException) -> str:
    """Why weights cannot be loaded, in one line: torch says it on the second, and the cure on the last."""
    told = str(error)
    if "Weights only load failed" in told or "WeightsUnpickler" in told:
        return (
            "its weights are a pickle that holds more than tensors, which would run as code: save them as safetensors, or "
            "torch.save(model.state_dict(), path)"
        )
    if "loading state_dict" in told:
        details = [line.strip() for line in told.splitlines()[1:] if line.strip()]
        return f"its weights are those of another architecture: {details[0][:300] if details else first_line(error)}"
    return first_line(error)
