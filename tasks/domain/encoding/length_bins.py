"""Lengths of rows in bins, as seals and reports keep them."""

from __future__ import annotations

from collections.abc import Sequence

SMALLEST_EDGE = 8


def upper_edge(size: int) -> int:
    """The bin of a length: the smallest power of two, from 8, that is not below it."""
    return max(SMALLEST_EDGE, 1 << max(0, size - 1).bit_length())


def histogram(sizes: Sequence[int]) -> dict[int, int]:
    """Rows by length: the bin's upper edge to its count, shortest first."""
    counts: dict[int, int] = {}
    for size in sizes:
        edge = upper_edge(size)
        counts[edge] = counts.get(edge, 0) + 1
    return dict(sorted(counts.items()))
