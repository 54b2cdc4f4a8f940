"""torch's kernels of attention for texts on GPUs: all but cuDNN's, which torch prefers on Hopper and Blackwell.

cuDNN's kernels are built for one shape: how many texts, how many tokens, how long the longest (torch keeps them by these numbers, in
`native/cudnn/MHA.cpp`). Hardly two batches of texts have the same, so that nearly each would wait for a build, of some tenths of a second
as others have measured it, and leave its kernels in the card's memory. Flash attention and the memory-efficient kernels take any shape.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from torch.nn.attention import SDPBackend, sdpa_kernel

KERNELS_OF_ANY_SHAPE = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def any_shape(*, on_gpu: bool) -> AbstractContextManager[None]:
    """Within it torch computes attention with kernels that are not built for a shape; on CPUs it has no others."""
    return sdpa_kernel(KERNELS_OF_ANY_SHAPE) if on_gpu else nullcontext()
