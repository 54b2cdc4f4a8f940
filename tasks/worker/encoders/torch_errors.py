"""Classifies torch's errors by how a rank must react."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tasks.worker.encoding_errors import Fatal, OutOfMemory, first_line


@contextmanager
def classified_errors() -> Iterator[None]:
    """Convert torch's errors within the block to `OutOfMemory` (try fewer rows) or `Fatal` (this process must exit).

    torch has an exception type for GPU memory and none for the CPU allocator, which is recognised by its message.
    After any other CUDA error the context is broken, and every later call would fail whatever its rows.
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
    """Explain in one line why weights cannot be loaded: torch gives the reason on the second line and the remedy on the last."""
    message = str(error)
    if "Weights only load failed" in message or "WeightsUnpickler" in message:
        return (
            "its weights are a pickle that holds more than tensors and could run code: save them as safetensors, or "
            "torch.save(model.state_dict(), path)"
        )
    if "loading state_dict" in message:
        details = [line.strip() for line in message.splitlines()[1:] if line.strip()]
        return f"its weights belong to another architecture: {details[0][:300] if details else first_line(error)}"
    return first_line(error)
