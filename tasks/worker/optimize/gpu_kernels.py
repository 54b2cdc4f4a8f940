"""Selects torch's attention kernels for texts on GPUs: all except cuDNN's, which torch prefers on Hopper and Blackwell.

A cuDNN kernel is built for one shape: number of texts, number of tokens, longest text (torch caches kernels by these numbers, in
`native/cudnn/MHA.cpp`). Batches of texts rarely have equal shapes, so nearly every batch would wait for a build, which takes some tenths
of a second as others have measured, and keep its kernels in GPU memory. Flash attention and memory-efficient kernels accept any shape.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from torch.nn.attention import SDPBackend, sdpa_kernel

KERNELS_OF_ANY_SHAPE = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def any_shape(*, on_gpu: bool) -> AbstractContextManager[None]:
    """Make torch use attention kernels that accept any shape within the block; CPUs have no others."""
    return sdpa_kernel(KERNELS_OF_ANY_SHAPE) if on_gpu else nullcontext()
