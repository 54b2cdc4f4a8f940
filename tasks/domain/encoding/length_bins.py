"""Histograms of row lengths, as seals and reports store them."""

from __future__ import annotations

from collections.abc import Sequence

SMALLEST_EDGE = 8


def upper_edge(size: int) -> int:
    """Return the upper edge of a length's bin: the smallest power of two, at least 8, that is not below it."""
    return max(SMALLEST_EDGE, 1 << max(0, size - 1).bit_length())


def histogram(sizes: Sequence[int]) -> dict[int, int]:
    """Count rows by length: upper edge of the bin to count, shortest first."""
    counts: dict[int, int] = {}
    for size in sizes:
        edge = upper_edge(size)
        counts[edge] = counts.get(edge, 0) + 1
    return dict(sorted(counts.items()))
